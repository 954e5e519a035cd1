"""The context of a scenario: its store, its extent, and the place for its measurements."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol

import attrs

from jobsync_bench.figures import Figure, Series, Side
from jobsync_bench.interrupts import AwaitedThread, Interrupted
from jobsync_bench.progress import ProgressReporter

__all__ = ['Baselines', 'Bench', 'BenchStore', 'Party', 'Rounds', 'Run']

_QUICK_SEC = 3.0
"""How long the turns of a case take in a quick run, if the fewest rounds do not take longer."""
Run = Callable[[], float]
"""Does the work once and returns the measured number."""


@attrs.frozen
class BenchStore:
    """The store of a scenario. It need not be empty: each scenario draws namespaces of its own."""

    name: str
    """The kind of store, or the scheme of the URL. Tables show this name."""
    url: str
    cpu_seconds: Callable[[], float] | None = None
    """Returns the CPU seconds that the store's processes have used so far; None if they cannot be read."""
    version: str = ''
    """The server's version; empty if unknown."""

    def namespace(self) -> str:
        """Return a new name for ``appname``."""
        return f'bench_{secrets.token_hex(4)}_'


@attrs.frozen
class Rounds:
    """How often parties are measured in turns: ``most`` times, or fewer after ``seconds``, but at least ``least`` times."""

    most: int
    least: int = 3
    seconds: float = 20.0


@attrs.frozen
class Party:
    """A party of a measurement, with its way to do the work."""

    run: Run
    side: Side = Side.RIVAL
    times: int = 1
    """How often the party is run where there are no turns."""


Baselines = Callable[['Bench', str, str], Mapping[str, Party]]
"""Returns the other parties that can do the same work, by name, for a bench, a figure and a case.

Their processes end with the bench's ``stack``.
"""


class Subject(Protocol):
    """The part of a scenario that its bench reads."""

    @property
    def name(self) -> str:
        """Return the word that selects the scenario."""

    @property
    def title(self) -> str:
        """Return the heading of the scenario."""

    def figure(self, name: str) -> Figure:
        """Return the figure of that name."""


@attrs.define
class Bench:
    """One scenario on one store, while the scenario is played."""

    scenario: Subject
    _store: BenchStore | None
    quick: bool
    progress: ProgressReporter
    _baselines: Baselines | None
    """None: only jobsync is measured."""
    stack: ExitStack
    """Ends with the scenario, whether or not the scenario fails."""
    series: list[Series] = attrs.field(factory=list)
    """All series so far."""
    notes: list[str] = attrs.field(factory=list)
    """Notes for the reader of the report."""
    _stops: Sequence[threading.Event] = attrs.field(factory=list)
    """Events that end the run as soon as one of them is set."""
    _turn: threading.RLock = attrs.field(factory=threading.RLock)
    """Held by the bench that has the machine for itself. One for all stores that the scenario is played on at once."""

    @property
    def store(self) -> BenchStore:
        """The store of a scenario that needs one."""
        assert self._store is not None, f'{self.scenario.name} needs a store'
        return self._store

    @property
    def place(self) -> str:
        """The store's name; empty without a store."""
        return '' if self._store is None else self._store.name

    def say(self, text: str) -> None:
        """Show a line to the user."""
        self.progress.say(text)

    def note(self, text: str) -> None:
        """Show a line to the user, and add it to the report."""
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def record(
        self,
        figure: str,
        case: str,
        values: Iterable[float],
        *,
        who: str = 'ours',
        side: Side = Side.OURS,
        at: float | None = None,
    ) -> None:
        """Record a series."""
        self.scenario.figure(figure)
        self.series.append(Series(self.scenario.name, figure, self.place, case, who, side, list(values), at))

    def record_baselines(self, figure: str, case: str) -> None:
        """Measure the other parties alone: for figures that take minutes, for which turns make no sense."""
        for who, other in self._others(figure, case).items():
            if values := [value for _ in range(other.times) if (value := self._run(who, other)) is not None]:
                self.record(figure, case, values, who=who, side=other.side)

    def _others(self, figure: str, case: str) -> Mapping[str, Party]:
        return {} if self._baselines is None else self._baselines(self, figure, case)

    def _run(self, who: str, contestant: Party) -> float | None:
        """Run a party once. A failure of jobsync's own passes on; a failure of another party is noted, and None is returned."""
        try:
            return contestant.run()
        except Exception as error:
            if contestant.side is Side.OURS:
                raise
            self.note(f'{self.scenario.name}: {who} failed: {type(error).__name__}: {error}')
            return None

    def check(self) -> None:
        """Raise ``Interrupted`` if the run is to end. For threads other than the main thread, which signals do not reach."""
        if any(stop.is_set() for stop in self._stops):
            raise Interrupted(signal.SIGTERM)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the machine for the block, where the scenario is played on several stores at once: the blocks do not overlap.

        For parts that need the processors. What is outside of such blocks goes on meanwhile, so it must wait most of its time.
        May be nested.
        """
        while not self._turn.acquire(timeout=0.5):
            self.check()
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def alongside(self, action: Callable[[], object]) -> Iterator[None]:
        """Run an action on another thread during the block, and wait for its end. If the block fails, the action is ended."""

        def act() -> None:
            try:
                action()
            except Interrupted:
                pass
            except Exception as error:  # noqa: BLE001  (a failure of another party does not fail the scenario)
                self.note(f'{self.scenario.name}: {type(error).__name__}: {error}')

        stop, before = threading.Event(), self._stops
        self._stops = [*before, stop]
        thread = AwaitedThread(f'alongside-{self.scenario.name}', act)
        try:
            yield
            thread.wait()
        finally:
            stop.set()
            thread.wait()
            self._stops = before

    def together(self, name: str, actions: Sequence[Callable[[], object]]) -> None:
        """Run actions at the same time, each on a thread of its own. If one fails, all are ended, and its failure is raised."""
        stop, before, failures = threading.Event(), self._stops, list[BaseException]()
        self._stops = [*before, stop]

        def act(action: Callable[[], object]) -> None:
            try:
                action()
            except BaseException as failure:  # noqa: BLE001  (raised below)
                failures.append(failure)
                stop.set()

        threads: list[AwaitedThread] = []
        try:
            threads += (AwaitedThread(name, partial(act, action)) for action in actions)
            for thread in threads:
                thread.wait()
        except BaseException:
            stop.set()
            raise
        finally:
            for thread in threads:
                thread.wait()
            self._stops = before
        if failures:
            raise failures[0]

    def pause(self, seconds: float) -> None:
        """Wait, and show the progress."""
        start = time.monotonic()
        while (over := time.monotonic() - start) < seconds:
            self.check()
            self.progress.turn(f'{self.scenario.title}, {self.place}: seconds', round(over), round(seconds))
            time.sleep(min(0.5, seconds - over))

    def in_turns(
        self,
        figure: str,
        case: str,
        ours: Mapping[str, Run],
        rounds: Rounds,
        *,
        floors: Mapping[str, Run] | None = None,
        at: float | None = None,
    ) -> None:
        """Measure jobsync, the floors and the other parties, each once a round, and record all series.

        Each round begins with another party, so other load on the machine meets all of them alike.
        """
        all_of_them = {who: Party(run, Side.OURS) for who, run in ours.items()}
        all_of_them |= self._others(figure, case)
        all_of_them |= {who: Party(run, Side.FLOOR) for who, run in (floors or {}).items()}
        taken: dict[str, list[float]] = {who: [] for who in all_of_them}
        names, started, done = list(all_of_them), time.monotonic(), 0
        enough_sec = min(rounds.seconds, _QUICK_SEC) if self.quick else rounds.seconds
        while done < rounds.most and (done < rounds.least or time.monotonic() - started < enough_sec):
            first = done % len(names)
            for who in names[first:] + names[:first]:
                value = self._run(who, all_of_them[who])
                if value is None:
                    names.remove(who)
                else:
                    taken[who].append(value)
            done += 1
            self.progress.turn(f'{case}, {figure}', done, rounds.most)
        for who, values in taken.items():
            if values:
                self.record(figure, case, values, who=who, side=all_of_them[who].side, at=at)
