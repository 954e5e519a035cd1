"""The time to plan the owners of all tokens."""

from __future__ import annotations

from functools import partial

from benchmarks.scenarios import plans
from benchmarks.scenarios.steps import peak_mb
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target
from jobsync_bench.timing import seconds

__all__ = ['SCENARIO', 'SIZES', 'case_of']

SIZES = ((10_000, 10), (100_000, 100), (1_000_000, 1_000))
_QUICK = ('one joins', 'one leaves', 'one joins, weights', 'one joins, pins on 1 node')
_ITEMS = (10_000, 100)
_SMALL = {'crowded pins, few tokens': 100_000}
"""The largest sizes of tasks that are not measured at all sizes."""


def case_of(task: str, tokens: int, nodes: int) -> str:
    """Return the case of a task at a size."""
    return f'{task}: {tokens:,} x {nodes:,}'


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for tokens, nodes in SIZES:
        for name, make in plans.TASKS.items():
            if (bench.quick and name not in _QUICK) or tokens > _SMALL.get(name, tokens):
                continue
            task = make(nodes, tokens)
            case = case_of(name, tokens, nodes)
            bench.in_turns(
                'plan', case, {'ours': partial(seconds, task.plan)}, Rounds(5 if bench.quick else 15, least=3, seconds=2)
            )
            if tokens == max(SIZES)[0] and not bench.quick:
                bench.record('memory', case, [peak_mb(task.plan)])
    tokens, nodes = _ITEMS
    for name, make in plans.ITEMS.items():
        ours = {'ours': partial(seconds, make(nodes, tokens).plan)}
        bench.in_turns('items', case_of(name, tokens, nodes), ours, Rounds(15, least=3, seconds=2))


_LARGEST = case_of('{}', 1_000_000, 1_000).format

SCENARIO = Scenario(
    name='plan',
    title='Planning who gets what',
    means="""
        How long the leader needs for a plan when a node joins, leaves or comes back, or when task locks change. Meanwhile
        every node goes on with its tokens. The plan is exactly balanced, and moves no token that need not move.
    """,
    bounds="""
        Each token's owner has to be read and copied once: that is the cost of a plan that changes nothing. Pins are a flow
        through a network of their groups, so the cost depends on the number of groups of nodes that they name, and not on the
        number of pins.
    """,
    figures=(
        Figure('plan', Unit.SECONDS, 'One plan, from the present owners to the planned owners.'),
        Figure('items', Unit.SECONDS, 'One plan of a cluster with as many items as tokens.'),
        Figure('memory', Unit.MEGABYTES, 'The most memory of one plan beyond that before the plan, in a separate run.'),
    ),
    play=play,
    needs=Needs.NOTHING,
    targets=(
        Target(
            'plan, 1 M tokens on 1,000 nodes, one joins: times the peer',
            Pick('plan', who='peer', case=_LARGEST('one joins')),
            at_least=3,
            against=Pick('plan', case=_LARGEST('one joins')),
        ),
        *(
            Target(
                f'the same, 5 % of the tokens pinned to {what}: times the plan without pins',
                Pick('plan', case=_LARGEST(f'one joins, pins {where}')),
                at_most=1.5,
                against=Pick('plan', case=_LARGEST('one joins')),
            )
            for what, where in (('one node each', 'on 1 node'), ('20 groups of nodes', 'in 20 groups'))
        ),
        Target('plan: 10,000 items on 100 nodes', Pick('items'), at_most=0.05),
        Target('plan: memory', Pick('memory'), at_most=100),
    ),
)
