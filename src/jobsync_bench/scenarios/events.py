"""Events of clusters of real processes, recorded beside their limit and the load of the machine."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from threading import Lock

import attrs

from jobsync_bench.bench import Bench
from jobsync_bench.churn import ChurnOutcome
from jobsync_bench.figures import Side
from jobsync_bench.leader_driver import LeaderDriver
from jobsync_bench.other_load import CALM_CORES
from jobsync_bench.timing import seconds

__all__ = ['BUSY', 'FIGURES', 'LIMIT', 'Limit', 'calls_of', 'record_events', 'set_beside']

FIGURES: dict[str, Callable[[ChurnOutcome], float]] = {
    'settled': lambda outcome: outcome.settled_sec,
    'unowned': lambda outcome: outcome.unowned_sec,
    'owned by two': lambda outcome: float(outcome.doubles),
}
"""The figures that other libraries have as well."""
BUSY, LIMIT = 'busy machine', 'the limit'
_CALLS = 30


@attrs.frozen
class Limit:
    """What has to happen after an event, one thing after the other, until all is settled."""

    calls: int
    """Calls of the store."""
    wait_sec: float = 0.0
    """What the settings say."""

    def of(self, outcome: ChurnOutcome, call_sec: float) -> float:
        """Return the least seconds of an event where a call takes ``call_sec``: also the kernel takes time to end a process."""
        return self.wait_sec + outcome.ended_sec + self.calls * call_sec


def calls_of(bench: Bench) -> float:
    """Return the median seconds of a heartbeat, which is a call that the store has to confirm."""
    with closing(LeaderDriver(bench.store.url, bench.store.namespace(), 10_000, 3)) as leader:
        version = leader.backend.snapshot().version
        beat = partial(leader.backend.heartbeat, leader.me, version, frozenset())
        return statistics.median(seconds(beat) for _ in range(_CALLS))


def set_beside(bench: Bench) -> None:
    """Name the rows of other libraries as ours of the same event, where all of ours are of a busy machine, as theirs are then."""
    here = [
        (number, each)
        for number, each in enumerate(bench.series)
        if (each.scenario, each.store) == (bench.scenario.name, bench.place)
    ]
    ours = {(each.figure, each.case) for _, each in here if each.side is Side.OURS}
    for number, each in here:
        busy = f'{each.case}, {BUSY}'
        if each.side is Side.RIVAL and (each.figure, each.case) not in ours and (each.figure, busy) in ours:
            bench.series[number] = attrs.evolve(each, case=busy)


def record_events(
    bench: Bench,
    clusters: Sequence[Callable[[], Iterator[tuple[str, ChurnOutcome]]]],
    limits: Mapping[str, Limit],
    call_sec: float,
) -> None:
    """Play the events of clusters side by side, and record their outcomes, also those before a failure."""
    outcomes: dict[str, list[ChurnOutcome]] = defaultdict(list)
    lock = Lock()

    def take(events: Callable[[], Iterator[tuple[str, ChurnOutcome]]]) -> None:
        for name, outcome in events():
            bench.say(
                f'{bench.place}: {name}: settled after {outcome.settled_sec:.2f} s, others used {outcome.other_cores:.2f} cores'
            )
            with lock:
                outcomes[name].append(outcome)

    try:
        bench.together(bench.scenario.name, [partial(take, events) for events in clusters])
    finally:
        _record(bench, outcomes, limits, call_sec)


def _record(bench: Bench, outcomes: Mapping[str, Sequence[ChurnOutcome]], limits: Mapping[str, Limit], call_sec: float) -> None:
    busy = 0
    for is_busy in (False, True):
        for event in limits:
            these = [each for each in outcomes.get(event, ()) if (each.other_cores > CALM_CORES) is is_busy]
            if not these:
                continue
            case = f'{event}, {BUSY}' if is_busy else event
            busy += len(these) if is_busy else 0
            for figure, of in FIGURES.items():
                if values := [value for each in these if not math.isnan(value := of(each))]:
                    bench.record(figure, case, values)
            bench.record('settled', case, [limits[event].of(each, call_sec) for each in these], who=LIMIT, side=Side.FLOOR)
            bench.record('other load', case, [each.other_cores for each in these])
    if busy:
        count = sum(map(len, outcomes.values()))
        bench.note(
            f'{bench.scenario.name}, {bench.place}: during {busy} of {count} events other programs used more than {CALM_CORES:g} '
            f'cores; they are the rows "{BUSY}", which no target counts'
        )
