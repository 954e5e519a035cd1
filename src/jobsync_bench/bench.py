"""What a scenario is given: the store it takes place on, how much it may do, and where its numbers go."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import attrs

from jobsync_bench.figures import Series, Side
from jobsync_bench.interrupts import Interrupted
from jobsync_bench.progress import ProgressReporter
from jobsync_bench.scenario import Scenario
from jobsync_bench.threads import Awaited

__all__ = ['Baselines', 'Bench', 'Party', 'Rounds', 'Run', 'Store']

Run = Callable[[], float]
"""Does the work once and gives the number that was measured."""


@attrs.frozen
class Store:
    """Where a scenario takes place. It need not be empty: everything is in namespaces drawn for it."""

    name: str
    """In tables: the kind of store, or the scheme of the URL."""
    url: str
    cpu_seconds: Callable[[], float] | None = None
    """CPU that the store's own processes have used so far, where they can be seen."""
    version: str = ''
    """Of the store, where it is known."""

    def namespace(self) -> str:
        """A name for ``appname`` that nobody else has."""
        return f'bench_{secrets.token_hex(4)}_'


@attrs.frozen
class Rounds:
    """How often things are measured in turns: ``most`` times, but no longer than ``seconds``, unless that is ``least`` times."""

    most: int
    least: int = 3
    seconds: float = 20.0


@attrs.frozen
class Party:
    """Somebody else who does the same work."""

    run: Run
    side: Side = Side.RIVAL
    times: int = 1
    """How often it is run where there are no turns."""


Baselines = Callable[['Bench', str, str], Mapping[str, Party]]
"""Given the bench, a figure and a case: the other parties that can do the same work, by name.

What they need in order to run ends with the bench's ``stack``.
"""


@attrs.define
class Bench:
    """One scenario on one store, while it is played."""

    scenario: Scenario
    _store: Store | None
    quick: bool
    progress: ProgressReporter
    _baselines: Baselines | None
    """None: only jobsync is measured."""
    stack: ExitStack
    """Ends when the scenario is over, well or not."""
    series: list[Series] = attrs.field(factory=list)
    """What has been measured so far."""
    notes: list[str] = attrs.field(factory=list)
    """What a reader must know of it."""
    _stops: Sequence[threading.Event] = attrs.field(factory=list)
    """Any of them set: the run is to end."""

    @property
    def store(self) -> Store:
        """Of a scenario that needs one."""
        assert self._store is not None, f'{self.scenario.name} needs a store'
        return self._store

    @property
    def place(self) -> str:
        """The store's name; empty without one."""
        return '' if self._store is None else self._store.name

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        self.progress.say(text)

    def note(self, text: str) -> None:
        """Tell it, and have it in the report."""
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
        """Note what was measured."""
        self.scenario.figure(figure)
        self.series.append(Series(self.scenario.name, figure, self.place, case, who, side, list(values), at))

    def record_baselines(self, figure: str, case: str) -> None:
        """Measure whoever is beside us, and note it: where turns make no sense, as whole minutes are measured."""
        for who, other in self._others(figure, case).items():
            if values := [value for _ in range(other.times) if (value := self._run(who, other)) is not None]:
                self.record(figure, case, values, who=who, side=other.side)

    def _others(self, figure: str, case: str) -> Mapping[str, Party]:
        return {} if self._baselines is None else self._baselines(self, figure, case)

    def _run(self, who: str, contestant: Party) -> float | None:
        """Have one run made. A failure of ours is one of the scenario; another's is noted, and gives None."""
        try:
            return contestant.run()
        except Exception as error:
            if contestant.side is Side.OURS:
                raise
            self.note(f'{self.scenario.name}: {who} failed: {type(error).__name__}: {error}')
            return None

    def check(self) -> None:
        """Raise ``Interrupted`` if the run is to end: for what is played on a thread of its own, which signals do not reach."""
        if any(stop.is_set() for stop in self._stops):
            raise Interrupted(signal.SIGTERM)

    @contextmanager
    def alongside(self, action: Callable[[], object]) -> Iterator[None]:
        """Have something done at the same time, on a thread of its own, and wait for it; if the block fails, it is to end."""

        def act() -> None:
            try:
                action()
            except Interrupted:
                pass
            except Exception as error:  # noqa: BLE001  (another's failure is none of ours)
                self.note(f'{self.scenario.name}: {type(error).__name__}: {error}')

        stop, before = threading.Event(), self._stops
        self._stops = [*before, stop]
        thread = Awaited(f'alongside-{self.scenario.name}', act)
        try:
            yield
            thread.wait()
        finally:
            stop.set()
            thread.wait()
            self._stops = before

    def pause(self, seconds: float) -> None:
        """Wait, and say so now and then."""
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
        """Measure ours, the floors, and whoever is beside us, each once a round, and note it all.

        Each round begins with another one. So whatever else the machine does meanwhile meets them all alike.
        """
        all_of_them = {who: Party(run, Side.OURS) for who, run in ours.items()}
        all_of_them |= self._others(figure, case)
        all_of_them |= {who: Party(run, Side.FLOOR) for who, run in (floors or {}).items()}
        taken: dict[str, list[float]] = {who: [] for who in all_of_them}
        names, started, done = list(all_of_them), time.monotonic(), 0
        while done < rounds.most and (done < rounds.least or time.monotonic() - started < rounds.seconds):
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
