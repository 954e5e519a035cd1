"""Items: each group of them is shared out by itself, so that the nodes' shares of it differ by at most one item.

A group is balanced as tokens are (see ``shares``), as if there were nothing else: within what the patterns of its items allow,
and with the fewest moves. If its items differ in cost, the costs are balanced instead (see ``costs``).

Where a share of one more is a tie, the node with the fewest items of other groups wins. So groups of few items do not all end up
on the first node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from jobsync._core.planner.apportionment import QuotientScale
from jobsync._core.planner.costs import share_costs
from jobsync._core.planner.pins import PinPool, PinRequest, arrange

__all__ = ['share_items']

_PLACE = attrgetter('place')


def share_items(items: Iterable[PinRequest], nodes: Sequence[str], weights: Mapping[str, float]) -> dict[int, str | None]:
    """Return the node of each item; None for an item that is allowed on no node.

    ``nodes`` are the names of those that may have items, in their order, and ``weights`` gives the weight of each.
    """
    groups: defaultdict[str, list[PinRequest]] = defaultdict(list)
    for item in items:
        groups[item.group].append(item)
    has_others = len(groups) > 1
    before = {name: Counter(map(_PLACE, group)) for name, group in groups.items()} if has_others else {}
    load: Counter[str | None] = Counter()
    for counts in before.values():
        load.update(counts)
    placed: dict[int, str | None] = {}
    for name, group in sorted(groups.items()):
        load.subtract(before.get(name, {}))
        order = sorted(nodes, key=lambda node: load[node] / weights[node])
        numbers = {node: number for number, node in enumerate(order)}
        chosen = _share(group, numbers, QuotientScale.of([weights[name] for name in order]))
        if has_others:
            load.update(Counter(chosen.values()))
        placed.update(chosen)
    return placed


def _share(group: Sequence[PinRequest], numbers: Mapping[str, int], scale: QuotientScale) -> dict[int, str | None]:
    if len({item.cost for item in group}) > 1:
        names = [*numbers, None]  # so that ``FREE``, which is -1, is nowhere
        return {item: names[node] for item, node in share_costs(group, numbers, scale.weights).items()}
    none = [0] * len(numbers)
    return arrange(PinPool.of(group, numbers), numbers, scale, none, none)[0]
