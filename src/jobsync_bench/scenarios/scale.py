"""From five hundred nodes to two thousand on one store."""

from __future__ import annotations

from jobsync_bench.bench import Bench
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.scenarios.growth import FIGURES, NETWORKED, PROCESSES, case_of, grow
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    if bench.quick:
        grow(bench, (20, 60), PROCESSES, intervals=2, moves=3, every_sec=2.0, at_once=20)
    else:
        grow(
            bench, _SIZES, PROCESSES, intervals=3, moves=10, every_sec=2.0, at_once=_AT_ONCE, pause_sec=3.0, limit_sec=_LIMIT_SEC
        )


_SIZES, _AT_ONCE, _LIMIT_SEC = (500, 1000, 1500, 2000), 100, 120.0
_MANY = case_of(2000)

SCENARIO = Scenario(
    name='scale',
    title='From five hundred nodes to two thousand',
    means="""
        What becomes of the heartbeats, the leader and the store when one namespace has four times as many nodes as the
        documentation advises. The nodes are simulated as in the growth to five hundred.
    """,
    bounds="""
        All simulated nodes and the server share the processors of one machine, and real nodes have machines of their own. So to
        settle takes the CPU of all nodes together, for which a hundred come at once, and a heartbeat also waits for other nodes.
        A growth that is not settled after two minutes ends the scenario on that store: the calls of a growth, and their CPU, then
        show with what the processors were busy. Two processors carried all 2,000 nodes
        on each of the three stores.
    """,
    figures=FIGURES,
    play=play,
    needs=Needs.NETWORK,
    by_default=False,
    targets=tuple(
        target
        for store in NETWORKED
        for target in (
            Target(
                f'2,000 nodes: heartbeats, the 99th percentile: {store}',
                Pick('heartbeat', case=_MANY, stores=(store,), statistic='p99'),
                at_most=0.1,
            ),
            Target(
                f'2,000 nodes, a task moves every other second: heartbeats, the 99th percentile: {store}',
                Pick('heartbeat, changes', case=_MANY, stores=(store,), statistic='p99'),
                at_most=0.1,
            ),
            Target(
                f'2,000 nodes, a task moves every other second: CPU of the leader: {store}',
                Pick('leader, changes', case=_MANY, stores=(store,)),
                at_most=50,
            ),
        )
    ),
)
