"""How evenly keys are placed, and how many move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

from benchmarks import placement

from jobsync.bench.bench import Bench
from jobsync.bench.figures import Figure, Unit
from jobsync.bench.scenario import Needs, Scenario

__all__ = ['FIGURES', 'SCENARIO', 'words_of']

_TOKENS = 10_000
_CASES = {f'{nodes} nodes, one {what}': (nodes, what) for nodes in (4, 10, 100) for what in ('joins', 'leaves')}

FIGURES: dict[str, Callable[[Mapping[str, float]], float]] = {
    'fullest node': lambda came: 100 * (came['most'] - 1),
    'moved': lambda came: came['moved'] / came['fewest'],
    'change': lambda came: came['change_sec'],
    'look': lambda came: came['look_sec'],
}
"""Each figure, of what ``benchmarks.rivals.placing.change`` tells."""


def words_of(case: str) -> tuple[int, Literal['joins', 'leaves'], int]:
    """Nodes, what happens to them, and tokens."""
    nodes, what = _CASES[case]
    return nodes, cast('Literal["joins", "leaves"]', what), _TOKENS


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for case in list(_CASES)[: 4 if bench.quick else None]:
        nodes, what, tokens = words_of(case)
        came = placement.ours(nodes, tokens, what)
        for name, of in FIGURES.items():
            bench.record(name, case, [of(came)])
            bench.record_beside(name, case)


SCENARIO = Scenario(
    name='placement',
    title='How evenly, and how much moves',
    means="""
        The fullest node decides when all work is done. What moves is what has to be handed over, and what a worker kept in memory
        for it is lost: tokens that move between two nodes that both stay were moved for nothing.
    """,
    bounds="""
        Ours is planned and therefore exact; it costs a plan, which the leader makes and every node reads. The others compute the
        node of a key from the names of the nodes, and nobody has to read anything: what they give up is that no two nodes agree
        on the names at every moment, and a node that is a tenth or a half fuller than the mean.
    """,
    figures=(
        Figure('fullest node', Unit.PERCENT, 'How much more than the mean the fullest node has after the change.'),
        Figure('moved', Unit.TIMES, 'Tokens that change their node, as a multiple of the fewest that must.'),
        Figure('change', Unit.SECONDS, 'Making the placement for the nodes after the change.'),
        Figure('look', Unit.SECONDS, 'CPU time to find the node of one key.'),
    ),
    play=play,
    needs=Needs.NOTHING,
)
