"""Joins, leaves and kills of real processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import cycle

from jobsync_bench.bench import Bench
from jobsync_bench.churn import ChurnCluster, ChurnOutcome
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['FIGURES', 'ROUND', 'SCENARIO', 'case_of', 'played']

ROUND = ('join', 'leave', 'join', 'kill follower', 'join', 'kill leader')
_NODES = 3
_TIMINGS: dict[str, tuple[tuple[str, ...], dict[str, bool]]] = {
    'default timings': ((), {}),
    'default timings, deaths not known': ((), {'known_death': False}),
    'fast timings': (('fast',), {'known_death': False}),
}
"""Options of the workers, 5 s between heartbeats and a timeout of 15 s, or 1 s and 3 s; and settings."""

FIGURES: dict[str, Callable[[ChurnOutcome], float]] = {
    'settled': lambda outcome: outcome.settled_sec,
    'unowned': lambda outcome: outcome.unowned_sec,
    'owned by two': lambda outcome: float(outcome.doubles),
}


def case_of(event: str, timing: str) -> str:
    """Return the case of an event at a timing."""
    return f'{event}, {timing}'


def played(cluster: ChurnCluster, seconds: float, rounds: int) -> Iterator[tuple[str, ChurnOutcome]]:
    """Play rounds of events until the time or the number of rounds is over, at least one, and yield each event's outcome."""
    cluster.form(_NODES)
    events = {
        'join': cluster.join,
        'leave': cluster.leave,
        'kill follower': cluster.kill_follower,
        'kill leader': cluster.kill_leader,
    }
    started = time.monotonic()
    for number, name in enumerate(cycle(ROUND)):
        if number >= rounds * len(ROUND) or (number >= len(ROUND) and time.monotonic() - started > seconds):
            return
        yield name, events[name]()


def take(bench: Bench, timing: str, outcomes: Iterator[tuple[str, ChurnOutcome]]) -> None:
    """Record the outcomes of events, also those before a failure."""
    values: dict[tuple[str, str], list[float]] = {}
    try:
        for name, outcome in outcomes:
            bench.say(f'{bench.place}: {name}, {timing}: settled after {outcome.settled_sec:.2f} s')
            for figure, of in FIGURES.items():
                if not math.isnan(value := of(outcome)):
                    values.setdefault((figure, case_of(name, timing)), []).append(value)
    finally:
        for (figure, case), these in values.items():
            bench.record(figure, case, these)


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""

    def others() -> None:
        for figure in FIGURES:
            for event in dict.fromkeys(ROUND):
                bench.record_baselines(figure, case_of(event, 'default timings'))

    with bench.alongside(others):
        for timing, (options, settings) in _TIMINGS.items():
            if bench.quick and settings and not options:
                continue
            place = {'backend': bench.store.url, 'appname': bench.store.namespace(), **settings}
            with ChurnCluster(place, options, check=bench.check) as cluster:
                take(bench, timing, played(cluster, 10.0 if bench.quick else 70.0, 99))


_NETWORKED = ('postgresql', 'redis', 'etcd')

SCENARIO = Scenario(
    name='takeover',
    title='Joining, leaving, being killed',
    means="""
        How long tasks have no owner when workers join and leave, and whether two workers ever own one task. Three workers
        call can_claim_task for a thousand tasks, again and again, while others join, leave and are killed. Only the answers
        count.
    """,
    bounds="""
        A join: half a second in which the leader waits for further nodes (rebalance_delay_sec), and two commits with each
        worker's acknowledgement between them. A leave has no such wait. A kill: where another worker runs on the host, the two
        commits of a new leader or the one of the old; where deaths are not known, a dead worker cannot be distinguished from a
        slow one before heartbeat_timeout_sec is over.
    """,
    figures=(
        Figure('settled', Unit.SECONDS, 'From the event until every token has one owner and all shares are even.', tail=True),
        Figure(
            'unowned',
            Unit.SECONDS,
            'The longest time that a token was seen without an owner; up to 0.05 s too long.',
            tail=True,
        ),
        Figure(
            'owned by two', Unit.COUNT, 'Tokens, of the thousand, that two workers certainly owned at one instant.', tail=True
        ),
    ),
    play=play,
    needs=Needs.PROCESSES,
    at_once=2,
    targets=(
        Target(
            'join until it owns its share, default timings',
            Pick('settled', case=case_of('join', 'default timings'), stores=_NETWORKED),
            at_most=1.0,
        ),
        *(
            Target(
                f'graceful leave, the longest gap, {what}', Pick('unowned', case='leave, *', statistic=statistic), at_most=bound
            )
            for what, statistic, bound in (('median', 'median', 0.3), ('99th percentile', 'p99', 1.0))
        ),
        *(
            Target(
                f'SIGKILL, the longest gap, 99th percentile, {timing} (timeout {timeout} s)',
                Pick('unowned', case=f'kill *, {timing}', statistic='p99'),
                at_most=timeout + 1.0,
            )
            for timing, timeout in (('default timings, deaths not known', 15), ('fast timings', 3))
        ),
        *(
            Target(
                f'SIGKILL, until every token has an owner, {what}',
                Pick('settled', case='kill *, default timings', statistic=statistic),
                at_most=bound,
            )
            for what, statistic, bound in (('median', 'median', 0.3), ('99th percentile', 'p99', 1.0))
        ),
        Target('tokens owned by two', Pick('owned by two', statistic='most'), at_most=0),
    ),
)
