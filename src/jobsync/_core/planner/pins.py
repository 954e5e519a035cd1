"""Pins: the nodes they go to, given how many of them each node is to have.

There may be a hundred thousand pins, so they are counted as they come and not kept (see ``PinPool``). Pins with equal choices of
nodes are grouped. Of each group those with the lowest ids stay, and the others are dealt out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

import attrs

from jobsync._core.planner.apportionment import QuotientScale
from jobsync._core.planner.selection import ways_home
from jobsync._core.planner.shares import target_shares
from jobsync._core.planner.transport import FREE, Group, TransportProblem

__all__ = ['PinPool', 'PinRequest', 'Places', 'arrange', 'gaining']

Places = dict[str | None, list[int]]
"""The ids of pins by where they are: a node, a name without a weight, or None."""


class PinRequest(NamedTuple):
    """A pin that needs a place, or may keep the one it has."""

    id: int
    place: str | None
    """The node that has it or is about to have it; None, or a name without a weight: it needs a place, at no cost."""
    allowed: frozenset[str]
    """The nodes it may be on. Pins of one pattern had best share one set, which is then hashed and compared once."""
    home: str | None = None
    """The node that lost it by leaving or dying, if any."""
    group: str = ''
    """The group of items that it is balanced with; empty: it is balanced with the tokens."""
    cost: float = 1.0
    """How much it takes of its node's share of the group."""


@attrs.frozen
class PinPool:
    """Pins, counted by the live nodes that they may be on and by where they are."""

    places: Mapping[tuple[int, ...], Places]
    """By the numbers of the nodes that the pins may be on."""
    homes: Mapping[int, int]
    """For each pin that has a home among the live nodes: that node."""

    @classmethod
    def of(
        cls,
        pins: Iterable[PinRequest],
        numbers: Mapping[str, int],
        counted: Mapping[frozenset[str], Places] = MappingProxyType({}),
        items: list[PinRequest] | None = None,
    ) -> PinPool:
        """Count the pins, and add those that are ``counted`` already, by the nodes that they may be on.

        ``numbers`` gives the live nodes by name. Given a list, the pins that are items are added to it and not counted. This is
        the planner's only loop over each pin.
        """
        alike: defaultdict[frozenset[str], Places] = defaultdict(lambda: defaultdict(list))
        homes: dict[int, int] = {}
        for pin in pins:
            pin_id, place, allowed, home, group, _ = pin
            if group and items is not None:
                items.append(pin)
                continue
            alike[allowed][place].append(pin_id)
            if home is not None and home in numbers:
                homes[pin_id] = numbers[home]
        pool: defaultdict[tuple[int, ...], Places] = defaultdict(lambda: defaultdict(list))
        for allowed, places in chain(alike.items(), counted.items()):
            pooled = pool[tuple(sorted([numbers[name] for name in allowed if name in numbers]))]
            for place, ids in places.items():
                pooled[place if len(allowed) > 1 else None] += ids  # where there is no choice, the place is none
        return cls(pool, homes)

    def ids(self) -> Iterator[int]:
        """Yield the id of every pin."""
        return chain.from_iterable(ids for places in self.places.values() for ids in places.values())


def arrange(
    pins: PinPool,
    numbers: Mapping[str, int],
    scale: QuotientScale,
    load: Sequence[int],
    here: Sequence[int],
    tokens: int = 0,
    homes: Mapping[tuple[int, int], int] | None = None,
) -> tuple[dict[int, str | None], Sequence[int]]:
    """Return the node of each pin (None for a pin that is allowed on none), and how many tokens each node is to have.

    ``numbers`` gives the nodes by name, in the order in which they win ties. ``load`` is what they have besides, and keep; see
    ``TransportProblem`` for the rest.
    """
    pool, names = pins.places, [*numbers, None]  # so that ``FREE``, which is -1, is nowhere
    choices = sorted(allowed for allowed in pool if len(allowed) > 1)
    goals, shares = target_shares(
        TransportProblem(
            scale=scale,
            fixed=[load[node] + _size(pool.get((node,), {})) for node in range(len(numbers))],
            here=here,
            tokens=tokens,
            groups=[_group(allowed, pool[allowed], numbers) for allowed in choices],
            homes=homes or {},
        )
    )
    placed = _placed(pool, dict(zip(choices, shares, strict=True)), names, numbers, pins.homes)
    if pins.homes:
        return placed, _homeward(pool, placed, list(goals), here, names, numbers, pins.homes)
    return placed, goals


def gaining(goals: Sequence[int], here: Sequence[int]) -> dict[int, int]:
    """Return how many tokens each node is to get, of the nodes that get any."""
    return {node: goal - has for node, (goal, has) in enumerate(zip(goals, here, strict=True)) if goal > has}


def _size(places: Places) -> int:
    return sum(map(len, places.values()))


def _group(allowed: tuple[int, ...], places: Places, numbers: Mapping[str, int]) -> Group:
    at = {numbers[name]: len(ids) for name, ids in places.items() if name is not None and name in numbers}
    return Group(_size(places), allowed, {node: at[node] for node in allowed if node in at})


def _placed(
    pool: Mapping[tuple[int, ...], Places],
    shares: Mapping[tuple[int, ...], Mapping[int, int]],
    names: Sequence[str | None],
    numbers: Mapping[str, int],
    homes: Mapping[int, int],
) -> dict[int, str | None]:
    """Return every pin's node, or None for a pin that is allowed on none."""
    placed: dict[int, str | None] = {}
    for allowed, places in pool.items():
        if len(allowed) > 1:
            _deal(placed, places, shares[allowed], names, numbers, homes)
        else:
            placed.update(dict.fromkeys(chain(*places.values()), names[allowed[0] if allowed else FREE]))
    return placed


def _deal(
    placed: dict[int, str | None],
    places: Places,
    target_shares: Mapping[int, int],
    names: Sequence[str | None],
    numbers: Mapping[str, int],
    homes: Mapping[int, int],
) -> None:
    """Place each pin of a group, given the group's shares: on each node the pins with the lowest ids stay.

    The other pins go where pins are lacking. Pins that would come home by moving move first, and moving pins go home where they
    can.
    """
    loose: list[int] = []
    lacking = dict(target_shares)
    surplus: list[tuple[str | None, int, list[int]]] = []
    for name, ids in places.items():
        node = numbers.get(name, FREE) if name is not None else FREE
        stay = min(len(ids), target_shares.get(node, 0))
        if stay:
            lacking[node] -= stay
        if stay == len(ids):
            placed.update(dict.fromkeys(ids, name))
        else:
            surplus.append((name, stay, sorted(ids)))
    for name, stay, ids in surplus:
        if homes:
            ids.sort(key=lambda pin: lacking.get(homes.get(pin, FREE), 0) > 0)
        loose += ids[stay:]
        placed.update(dict.fromkeys(ids[:stay], name))
    loose.sort()
    if homes:
        away: list[int] = []
        for pin in loose:
            home = homes.get(pin, FREE)
            if lacking.get(home, 0) > 0:
                lacking[home] -= 1
                placed[pin] = names[home]
            else:
                away.append(pin)
        loose = away
    start = 0
    for node in sorted(lacking):
        end = start + lacking[node]
        placed.update(dict.fromkeys(loose[start:end], names[node]))
        start = end


def _homeward(
    pool: Mapping[tuple[int, ...], Places],
    placed: dict[int, str | None],
    goals: list[int],
    here: Sequence[int],
    names: Sequence[str | None],
    numbers: Mapping[str, int],
    homes: Mapping[int, int],
) -> list[int]:
    """Let pins go home in the place of others, or of tokens, that would go the same way; return each node's goal of tokens then.

    Neither the balance nor the number of moves changes by that: where a node was to lose a token and another to get one, the one
    loses a pin and the other gets it. As many pins as can be go: see ``ways_home``.
    """
    staying: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    passing: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for allowed, places in pool.items():
        for name, ids in places.items():
            node = numbers.get(name, FREE) if name is not None else FREE
            for pin in ids:
                home, chosen = homes.get(pin, FREE), placed[pin]
                to = FREE if chosen is None else numbers[chosen]
                if to not in (node, home) and node in allowed:
                    passing[node, to].append(pin)
                elif to == node != home and home in allowed:
                    staying[node, home].append(pin)
    for (node, home), pins in staying.items():
        pins.sort(reverse=True)
        for other in sorted(passing[node, home])[: len(pins)]:
            placed[other], placed[pins.pop()] = names[node], names[home]
    giving = {node: has - goal for node, (goal, has) in enumerate(zip(goals, here, strict=True)) if goal < has}
    going = ways_home({way: len(pins) for way, pins in staying.items()}, giving, gaining(goals, here))
    for (node, home), count in going.items():
        for pin in staying[node, home][len(staying[node, home]) - count :]:
            placed[pin] = names[home]
        goals[node] += count
        goals[home] -= count
    return goals
