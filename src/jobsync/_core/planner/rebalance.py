"""The plan: which tokens and pins move, so that the cluster is balanced and nothing moves needlessly.

The plan is made in steps, each with its own module. ``items`` balances each group of items by itself. ``shares`` decides how many
tokens and other pins every node is to have besides, from counts alone. ``pins`` decides which pins those are, and ``selection``
which tokens, by where they came from. Here the counts are taken.

Nodes are numbered by name, so the outcome does not depend on the order of the arguments.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import attrs

from jobsync._core.planner.apportionment import QuotientScale
from jobsync._core.planner.items import share_items
from jobsync._core.planner.pins import PinPool, PinRequest, Places, arrange, gaining
from jobsync._core.planner.selection import STUCK, Homes, select_tokens
from jobsync._core.planner.transport import FREE

__all__ = ['FREE', 'STUCK', 'PinRequest', 'Placement', 'rebalance']


@attrs.frozen
class Placement:
    """The node of every token that moves, and of every pin."""

    moves: Mapping[str, array[int]]
    """For each node that gets any, the hash tokens, rising, that are to go there and are not there now."""
    pins: Mapping[int, str | None]
    """For every pin requested, its node; None if no live node is allowed."""


def rebalance(
    weights: Mapping[str, float],
    names: Sequence[str],
    place: array[int],
    home: array[int],
    pins: Iterable[PinRequest] = (),
    resting: Mapping[frozenset[str], Places] = MappingProxyType({}),
) -> Placement:
    """Balance tokens and pins over the nodes with the fewest moves (promise P5).

    ``weights`` are the live nodes', finite and at least 0; a node of weight 0 is to own nothing. ``place`` and ``home``, as
    long as the pool, hold positions in ``names`` (all different): where each token is or is about to be (or ``FREE``, or
    ``STUCK``; at a name without a weight it is free), and the node that lost it by leaving or dying, or -1. ``resting`` are
    further pins, which are no items and have no homes: their ids, by the nodes that they may be on and by the node that has them.

    Each group of items is balanced by itself first (see ``items``), and stays where it is put. Tokens and the other pins are
    balanced around that: no token or pin, and no chain of them each making room for the next, can be handed from node n to m with
    load(n) / weight(n) > (load(m) + 1) / weight(m), all items counted. Among balanced outcomes this is one with the fewest moves,
    and among those one with the fewest moves of pins to other nodes than their homes. Pins go home where that costs no move more,
    and then as many tokens as can be go to the node that once lost them.
    """
    nodes = sorted(name for name, weight in weights.items() if weight > 0)
    numbers = {name: number for number, name in enumerate(nodes)}
    items: list[PinRequest] = []
    pool = PinPool.of(pins, numbers, resting, items)
    if not nodes:
        return Placement({}, dict.fromkeys(chain(pool.ids(), [item.id for item in items])))
    seating = [numbers.get(name, FREE) for name in names] + [STUCK, FREE]
    counts = Counter(place)
    counts.pop(STUCK, None)
    here = [0] * len(nodes)
    for position, count in counts.items():
        if seating[position] >= 0:
            here[seating[position]] += count
    homes = Homes.find(seating, place, home)
    placed: dict[int, str | None] = share_items(items, nodes, weights) if items else {}
    load = Counter(placed.values())
    lock_pins, goals = arrange(
        pool,
        numbers,
        QuotientScale.of([weights[name] for name in nodes]),
        [load[name] for name in nodes],
        here,
        counts.total(),
        homes.away,
    )
    placed.update(lock_pins)
    lacking = gaining(goals, here)
    losing = _losing(goals, seating, counts)
    moves = select_tokens(place, home, seating, losing, lacking, homes) if lacking else {}
    return Placement({nodes[node]: tokens for node, tokens in moves.items()}, placed)


def _losing(goals: Sequence[int], seating: Sequence[int], counts: Mapping[int, int]) -> dict[int, int]:
    """Return how many tokens are to leave each position, of those that lose any: all tokens, where there is no node."""
    found = ((position, count, seating[position]) for position, count in counts.items())
    excess = {position: count if node == FREE else count - goals[node] for position, count, node in found}
    return {position: count for position, count in excess.items() if count > 0}
