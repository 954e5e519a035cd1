"""The balance of placements, and the number of moves."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from benchmarks.libraries.placing import Change, Placing, change
from jobsync._core.hashing import tokenizer
from jobsync._core.planner.rebalance import FREE, rebalance
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario

__all__ = ['FIGURES', 'SCENARIO', 'ours', 'words_of']

_TOKENS = 10_000
_CASES = {f'{nodes} nodes, one {what}': (nodes, what) for nodes in (4, 10, 100) for what in ('joins', 'leaves')}

FIGURES: dict[str, Callable[[Mapping[str, float]], float]] = {
    'fullest node': lambda came: 100 * (came['most'] - 1),
    'moved': lambda came: came['moved'] / came['fewest'],
    'change': lambda came: came['change_sec'],
    'look': lambda came: came['look_sec'],
}
"""Figures, from the result of ``benchmarks.libraries.placing.change``."""


class Planned:
    """A placement by jobsync: a plan for a cluster without owners, or for an earlier placement."""

    def __init__(self, tokens: int, nodes: Sequence[str], before: Planned | None = None) -> None:
        names = list(before.names if before else [])
        names += [name for name in nodes if name not in names]
        place = array('i', before.place if before else [FREE]) * (1 if before else tokens)
        position = {name: number for number, name in enumerate(names)}
        plan = rebalance(dict.fromkeys(nodes, 1.0), names, place, array('i', [FREE]) * tokens, ())
        for name, moved in plan.moves.items():
            for token in moved:
                place[token] = position[name]
        self.names: list[str] = names
        self.place: array[int] = place
        self._token_of = tokenizer('xxh3', tokens)

    def placed(self, tokens: int) -> list[str]:
        """Return the node of each token."""
        return [self.names[self.place[token]] for token in range(tokens)]

    def look(self, key: str) -> str:
        """Return the node of a task, as ``can_claim_task`` finds it, without the lease."""
        return self.names[self.place[self._token_of(key)]]


def ours(nodes: int, tokens: int, what: Change) -> dict[str, float]:
    """Place the tokens by a plan: see ``placing.quality``."""
    placings: list[Planned] = []

    def place(names: Sequence[str]) -> Placing:
        placings.append(Planned(tokens, names, placings[-1] if placings else None))
        return placings[-1].placed, placings[-1].look

    return change(place, nodes, tokens, what)


def words_of(case: str) -> tuple[int, Change, int]:
    """Return the nodes, the change and the tokens of a case."""
    nodes, what = _CASES[case]
    return nodes, cast('Change', what), _TOKENS


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for case in list(_CASES)[: 4 if bench.quick else None]:
        nodes, what, tokens = words_of(case)
        came = ours(nodes, tokens, what)
        for name, of in FIGURES.items():
            bench.record(name, case, [of(came)])
            bench.record_baselines(name, case)


SCENARIO = Scenario(
    name='placement',
    title='How evenly, and how much moves',
    means="""
        The fullest node decides when all work is done. A token that moves has to be handed over, and its new worker starts
        with an empty cache. Tokens that move between two nodes that both stay were moved for nothing.
    """,
    bounds="""
        The placement of jobsync is planned and therefore exact. It costs a plan, which the leader makes and every node reads.
        The other libraries compute the node of a key from the names of the nodes, without a plan. Their price: two nodes do
        not agree on the names at every moment, and one node is a tenth or a half fuller than the mean.
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
