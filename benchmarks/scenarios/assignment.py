"""The work of the core on a whole assignment."""

from __future__ import annotations

from benchmarks.scenarios.steps import item_steps, lock_steps, peak_mb, steps
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target
from jobsync_bench.timing import cpu_seconds

__all__ = ['SCENARIO']

_SIZES = ((10_000, 10), (1_000_000, 1_000))
_ITEMS = (10_000, 100)
_LOCKS, _FEW_LOCKS = (100_000, 5_000), (10_000, 500)
_COSTS = {'equal cost': (1.0,), 'different cost': (1.0, 2.0, 3.0, 4.0, 5.0)}


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for tokens, nodes in _SIZES[: 1 if bench.quick else None]:
        for step, run in steps(tokens, nodes):
            case = f'{step}: {tokens:,} x {nodes:,}'
            bench.record('step', case, [cpu_seconds(run) for _ in range(3 if tokens >= 1_000_000 else 9)])
            if tokens >= 1_000_000:
                bench.record('memory', case, [peak_mb(run)])
    for what, costs in _COSTS.items():
        for step, run in item_steps(*_ITEMS, costs):
            case = f'items of {what}, {step}: decide: {_ITEMS[0]:,} x {_ITEMS[1]:,}'
            bench.record('step', case, [cpu_seconds(run) for _ in range(9)])
    locks, nodes = _FEW_LOCKS if bench.quick else _LOCKS
    for step, run in lock_steps(locks, nodes):
        case = f'locks to one node each, {step}: decide: {locks:,} x {nodes:,}'
        bench.record('step', case, [cpu_seconds(run) for _ in range(5)])


SCENARIO = Scenario(
    name='assignment',
    title="The leader's decision, and each node's part in it",
    means="""
        The cost of a change in memory and CPU, without the store: the leader decides, and every node makes the next
        assignment from the last one and the changed rows, and derives its own tokens. In a quiet cluster only "nothing:
        decide" happens.
    """,
    bounds="""
        One pass over the tokens in the leader, and a copy of the owners in each node. The set of claimable tokens takes one
        byte per token.
    """,
    figures=(
        Figure('step', Unit.SECONDS, 'CPU time of one step. decide: the leader; apply, under, both: every node at each version.'),
        Figure('memory', Unit.MEGABYTES, 'The most memory of the step beyond that before the step, in a separate run.'),
    ),
    play=play,
    needs=Needs.NOTHING,
    targets=(
        Target('a decision: memory', Pick('memory', case='*: decide: *'), at_most=100),
        *(
            Target(
                f'a decision about 100,000 locks on 5,000 nodes, {step}, s',
                Pick('step', case=f'locks *, {step}: decide: {_LOCKS[0]:,} x {_LOCKS[1]:,}', statistic='least'),
                at_most=most,
            )
            for step, most in (('nothing', 0.5), ('one node changes', 0.5), ('join', 0.5), ('leave', 0.5), ('handed over', 1.0))
        ),
        Target('a decision about 10,000 items, s', Pick('step', case='items of *', statistic='least'), at_most=0.05),
    ),
)
