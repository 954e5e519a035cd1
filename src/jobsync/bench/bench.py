"""What a scenario is given: the store it takes place on, how much it may do, and where its numbers go."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Protocol

import attrs

from jobsync.bench.figures import Series, Side
from jobsync.bench.scenario import Scenario
from jobsync.bench.telling import Teller

__all__ = ['Bench', 'Beside', 'Nobody', 'Rounds', 'Run', 'Store']

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

    def namespace(self) -> str:
        """A name for ``appname`` that nobody else has."""
        return f'bench_{secrets.token_hex(4)}_'


@attrs.frozen
class Rounds:
    """How often things are measured in turns: ``most`` times, but no longer than ``seconds``, unless that is ``least`` times."""

    most: int
    least: int = 3
    seconds: float = 20.0


class Beside(Protocol):
    """What is measured in the same turns as ours."""

    def runs(self, bench: Bench, figure: str, case: str) -> Mapping[str, Run]:
        """Whoever can do the same work, by name; what they need to run ends with the bench's ``stack``."""


class Nobody:
    """Ours alone."""

    def runs(self, bench: Bench, figure: str, case: str) -> Mapping[str, Run]:  # noqa: ARG002
        """See ``Beside``."""
        return {}


@attrs.define
class Bench:
    """One scenario on one store, while it is played."""

    scenario: Scenario
    _store: Store | None
    quick: bool
    teller: Teller
    beside: Beside
    stack: ExitStack
    """Ends when the scenario is over, well or not."""
    series: list[Series] = attrs.field(factory=list)
    """What has been measured so far."""

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
        self.teller.say(text)

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

    def record_beside(self, figure: str, case: str, times: int = 1) -> None:
        """Measure whoever is beside us, and note it: where turns make no sense, as whole minutes are measured."""
        for who, run in self.beside.runs(self, figure, case).items():
            self.record(figure, case, [run() for _ in range(times)], who=who, side=Side.RIVAL)

    def pause(self, seconds: float) -> None:
        """Wait, and say so now and then."""
        start = time.monotonic()
        while (over := time.monotonic() - start) < seconds:
            self.teller.turn(f'{self.scenario.title}, {self.place}: seconds', round(over), round(seconds))
            time.sleep(min(1.0, seconds - over))

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
        beside = self.beside.runs(self, figure, case)
        sides = dict.fromkeys(beside, Side.RIVAL) | dict.fromkeys(floors or {}, Side.FLOOR) | dict.fromkeys(ours, Side.OURS)
        runs = {**ours, **beside, **(floors or {})}
        taken: dict[str, list[float]] = {who: [] for who in runs}
        names, started, done = list(runs), time.monotonic(), 0
        while done < rounds.most and (done < rounds.least or time.monotonic() - started < rounds.seconds):
            first = done % len(names)
            for who in names[first:] + names[:first]:
                taken[who].append(runs[who]())
            done += 1
            self.teller.turn(f'{case}, {figure}', done, rounds.most)
        for who, values in taken.items():
            self.record(figure, case, values, who=who, side=sides[who], at=at)
