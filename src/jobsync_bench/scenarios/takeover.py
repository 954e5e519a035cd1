"""Joins, leaves and kills of real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

from jobsync_bench.bench import Bench
from jobsync_bench.churn import ChurnCluster, ChurnOutcome
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.scenarios.events import FIGURES, Limit, calls_of, record_events, set_beside
from jobsync_bench.targets import Pick, Target

__all__ = ['EVENTS', 'ROUND', 'SCENARIO', 'played']

ROUND = ('join', 'leave', 'join', 'kill follower', 'join', 'kill leader')
EVENTS: dict[str, Callable[[ChurnCluster], ChurnOutcome]] = {
    'join': ChurnCluster.join,
    'leave': ChurnCluster.leave,
    'kill follower': ChurnCluster.kill_follower,
    'kill leader': ChurnCluster.kill_leader,
}
_NODES = 3
_ROUNDS = 30
_DELAY_SEC = 0.5
"""The default of ``rebalance_delay_sec``."""
_LIMITS = {'join': Limit(4, _DELAY_SEC), 'leave': Limit(3), 'kill follower': Limit(3), 'kill leader': Limit(4)}


def played(cluster: ChurnCluster, rounds: int) -> Iterator[tuple[str, ChurnOutcome]]:
    """Form a cluster, play rounds of events, and yield each event's outcome."""
    cluster.form(_NODES)
    for name in chain.from_iterable(repeat(ROUND, rounds)):
        yield name, EVENTS[name](cluster)


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    call_sec = calls_of(bench)

    def others() -> None:
        for figure in FIGURES:
            for event in EVENTS:
                bench.record_baselines(figure, event)

    def events() -> Iterator[tuple[str, ChurnOutcome]]:
        place = {'backend': bench.store.url, 'appname': bench.store.namespace()}
        with ChurnCluster(place, check=bench.check) as cluster:
            yield from played(cluster, 3 if bench.quick else _ROUNDS)

    with bench.alongside(others):
        record_events(bench, [events], _LIMITS, call_sec)
    set_beside(bench)


_NETWORKED = ('postgresql', 'redis', 'etcd')

SCENARIO = Scenario(
    name='takeover',
    title='Joining, leaving, being killed',
    means="""
        How long tasks have no owner when workers join, leave and are killed, and whether two workers ever own one task. Three
        workers call can_claim_task for a thousand tasks, again and again, while others join, leave and are killed. Only the
        answers count. The workers are forks of one process, so that no start of an interpreter loads the machine; all stores are
        measured at once, because most of the time nothing happens. All settings are the defaults, and all workers run on one
        host, so that the others know at once of a kill. Where they do not, the timeout applies: see the scenario timeouts.
    """,
    bounds="""
        "the limit" is the time if jobsync itself took none: calls of the store that must follow one another, each at the median
        of a heartbeat in this run. A join: half a second in which the leader waits for further nodes (rebalance_delay_sec), and
        four calls: a commit, the old owner's acknowledgement, another commit, the newcomer's acknowledgement. A leave: the
        leaving node's report, a commit, an acknowledgement. A kill: the time in which the kernel ends the process, then the
        report of the death, a commit and an acknowledgement; if the leader is killed, also taking the lead. The logs of the
        workers add up to 0.05 s. Events during which other programs used more than a quarter of a core are set apart as "busy
        machine", and no target counts them.
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
        Figure(
            'other load', Unit.CORES, 'Cores that other programs, or other guests of the host, used during the event.', tail=True
        ),
    ),
    play=play,
    needs=Needs.PROCESSES,
    at_once=4,
    targets=(
        Target('join until it owns its share', Pick('settled', case='join', stores=_NETWORKED), at_most=1.0),
        *(
            Target(f'graceful leave, the longest gap, {what}', Pick('unowned', case='leave', statistic=statistic), at_most=bound)
            for what, statistic, bound in (('median', 'median', 0.3), ('99th percentile', 'p99', 1.0))
        ),
        *(
            Target(
                f'SIGKILL, until every token has an owner, {what}',
                Pick('settled', case='kill *er', statistic=statistic),
                at_most=bound,
            )
            for what, statistic, bound in (('median', 'median', 0.3), ('99th percentile', 'p99', 1.0))
        ),
        Target('tokens owned by two', Pick('owned by two', statistic='most'), at_most=0),
    ),
)
