"""Which tokens move, given how many.

Every token without a place is picked, and from each node as many as it has too many. Tokens that would come home (to the
node that lost them by leaving or dying) are picked first, as many as can be: a maximum flow from where they are to their
homes. Then tokens without a home, in rising order; last those whose home is absent, so that they stay spread until it
returns. The picked tokens that do not come home are dealt out to the nodes in rising order, those of one owner together: each
node gets its tokens from few others, and the plan has few groups.

The pool may have a million tokens and few of them move, so it is only ever scanned in C, or in stretches that contain a wanted
position.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter

import attrs

from jobsync._core.planner.min_cost_flow import FlowNetwork
from jobsync._core.tokens import no_tokens, rising

__all__ = ['STUCK', 'Homes', 'select_tokens', 'ways_home']

STUCK = -2
"""In place of a node: tokens there are not to be touched or counted."""

_STRETCH = 512
_FEW = 32
"""At most so many positions, wanted for at most one token in so many, are searched one by one, by one byte of each: a fraction of
the time of a loop over all tokens."""
_NOT_NEGATIVE = re.compile(rb'[\x00-\x7f]')


@attrs.frozen
class Homes:
    """Where the tokens came from that may go home or whose home is absent."""

    away: Mapping[tuple[int, int], int]
    """How many tokens are on the first node (or ``FREE``) and have their home on the second, another node."""
    absent: array[int]
    """The tokens, rising, that are on a node and whose home is no live node."""

    @classmethod
    def find(cls, seating: Sequence[int], place: array[int], home: array[int]) -> Homes:
        """Sort the tokens that have a home. ``seating`` is the node at each position; see ``select_tokens``."""
        away: dict[tuple[int, int], int] = {}
        absent = array('i')
        for token in _having(home):
            way = at, to = seating[place[token]], seating[home[token]]
            if at in (STUCK, to):
                continue
            if to < 0:
                absent.append(token)
            else:
                away[way] = away.get(way, 0) + 1
        return cls(away, absent)


def select_tokens(
    place: array[int],
    home: array[int],
    seating: Sequence[int],
    surplus: Mapping[int, int],
    lacking: Mapping[int, int],
    homes: Homes,
) -> dict[int, array[int]]:
    """Return the tokens, rising, that each lacking node gets.

    ``seating`` gives the node at each position that occurs in ``place`` and ``home``, negative positions counted from its
    end, or ``FREE`` or ``STUCK``. ``surplus`` (the tokens to take from a position) and ``lacking`` (the tokens to
    give to a node) have the same sum.
    """
    quota = [0] * len(seating)
    for position, count in surplus.items():
        quota[position] = count
    held = bytearray(len(place))
    giving: dict[int, int] = {}
    for position, count in surplus.items():
        giving[seating[position]] = giving.get(seating[position], 0) + count
    ways = ways_home(homes.away, giving, lacking)
    homeward = _homeward(place, home, seating, ways) if ways else {}
    for token in chain(*homeward.values()):
        quota[place[token]] -= 1
        held[token] = 1
    for token in homes.absent:
        held[token] = 1
    rest = _lowest(place, quota, held)
    for token in homes.absent:
        position = place[token]
        if quota[position]:
            quota[position] -= 1
            rest.setdefault(position, no_tokens()).append(token)
    return _dealt(map(rising, rest.values()) if homes.absent else rest.values(), lacking, homeward)


def _having(home: array[int]) -> Iterator[int]:
    """Return the tokens whose entry is not negative, rising, by the byte that holds the sign."""
    size = home.itemsize
    sign = size - 1 if sys.byteorder == 'little' else 0
    if home == array('i', (-1,)) * len(home):
        return iter(())
    return (found.start() for found in _NOT_NEGATIVE.finditer(home.tobytes()[sign::size]))


def ways_home(
    away: Mapping[tuple[int, int], int], giving: Mapping[int, int], lacking: Mapping[int, int]
) -> dict[tuple[int, int], int]:
    """Return how many items go home from each node to each: in all, as many as can.

    ``away`` says how many of the first node's items have their home on the second; ``giving`` and ``lacking`` are the limits of
    the nodes. As a rule it is enough to take the ways one by one: then every giver has given, or every taker got, all it can.
    """
    wanted = {way: away[way] for way in sorted(away) if way[0] in giving and way[1] in lacking}
    given: dict[int, int] = {}
    taken: dict[int, int] = {}
    ways: dict[tuple[int, int], int] = {}
    for way, count in wanted.items():
        at, to = way
        going = ways[way] = min(count, giving[at] - given.get(at, 0), lacking[to] - taken.get(to, 0))
        given[at] = given.get(at, 0) + going
        taken[to] = taken.get(to, 0) + going
    if _used_up(wanted, 0, giving, given) or _used_up(wanted, 1, lacking, taken):
        return ways
    givers = {node: point for point, node in enumerate(given, start=2)}
    takers = {node: point for point, node in enumerate(taken, start=2 + len(givers))}
    network = FlowNetwork(2 + len(givers) + len(takers))
    for node, point in givers.items():
        network.add(0, point, giving[node], flow=given[node])
    for node, point in takers.items():
        network.add(point, 1, lacking[node], flow=taken[node])
    arcs = {way: network.add(givers[way[0]], takers[way[1]], wanted[way], flow=ways[way]) for way in wanted}
    network.send(0, 1)
    return {way: network.flow(arc) for way, arc in arcs.items()}


def _used_up(wanted: Mapping[tuple[int, int], int], end: int, limits: Mapping[int, int], used: Mapping[int, int]) -> bool:
    """Return whether each node at this end of the ways has used all that its limit and its ways offer."""
    offered: dict[int, int] = {}
    for way, count in wanted.items():
        offered[way[end]] = offered.get(way[end], 0) + count
    return all(used[node] == min(limits[node], count) for node, count in offered.items())


def _homeward(
    place: array[int], home: array[int], seating: Sequence[int], ways: dict[tuple[int, int], int]
) -> dict[int, array[int]]:
    """Return the tokens, rising, that go home to each node: the first of each way, as many as ``ways`` says."""
    homeward: dict[int, array[int]] = {}
    for token in _having(home):
        way = _, to = seating[place[token]], seating[home[token]]
        if ways.get(way):
            ways[way] -= 1
            homeward.setdefault(to, array('i')).append(token)
    return homeward


def _lowest(place: array[int], quota: list[int], held: bytearray) -> dict[int, array[int]]:
    """Return by position the first tokens there that are not held, rising, as many as its quota, and use up the quota."""
    size = len(quota)
    wanted = {position - size if position >= size - 2 else position for position, count in enumerate(quota) if count}
    picked = {position: no_tokens() for position in wanted}
    for start in range(0, len(place), _STRETCH):
        if not wanted:
            break
        if len(wanted) <= _FEW and sum(quota[position] for position in wanted) <= len(place) // _FEW:
            _search(place, wanted, quota, held, start, picked)
            break
        stretch = place[start : start + _STRETCH]
        if wanted.isdisjoint(stretch):
            continue
        first, end = stretch[0], start + len(stretch)
        if quota[first] > len(stretch) == stretch.count(first) and not any(held[start:end]):
            picked[first].extend(range(start, end))
            quota[first] -= len(stretch)
            continue
        for token, position in enumerate(stretch, start):
            if quota[position] and not held[token]:
                picked[position].append(token)
                quota[position] -= 1
                if not quota[position]:
                    wanted.discard(position)
    return {position: tokens for position, tokens in picked.items() if tokens}


def _search(
    place: array[int], wanted: set[int], quota: list[int], held: bytearray, start: int, picked: dict[int, array[int]]
) -> None:
    """Pick what ``_lowest`` returns of the tokens from ``start`` on, one position after the other."""
    size = place.itemsize
    lowest_bytes = place.tobytes()[0 if sys.byteorder == 'little' else size - 1 :: size]
    for position in wanted:
        token = start - 1
        while quota[position] and (token := lowest_bytes.find(position & 255, token + 1)) >= 0:
            if place[token] == position and not held[token]:
                picked[position].append(token)
                quota[position] -= 1


def _dealt(groups: Iterable[array[int]], lacking: Mapping[int, int], homeward: Mapping[int, array[int]]) -> dict[int, array[int]]:
    """Return the tokens that each node gets, rising: those that come home, and its run of the groups.

    The groups are taken in the order of their first tokens, which is the same for every leader: the numbers of positions are not.
    """
    dealt, rest = {}, iter(sorted(groups, key=itemgetter(0)))
    group, start = no_tokens(), 0
    for node in sorted(lacking):
        parts = [homeward[node]] if node in homeward else []
        missing = lacking[node] - sum(map(len, parts))
        while missing:
            if start == len(group):
                group, start = next(rest), 0
            parts.append(group[start : start + missing])
            start += len(parts[-1])
            missing -= len(parts[-1])
        dealt[node] = parts[0] if len(parts) == 1 else rising(array('i', chain.from_iterable(parts)))
    return dealt
