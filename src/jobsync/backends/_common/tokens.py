"""Token groups: their compact form, what successive ones come to, and those of which a reader needs some tokens only."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import Any

import attrs

from jobsync.backend import TokenGroup, is_run, rising

__all__ = ['latest', 'only', 'packed_groups', 'unpacked_groups']

_TAKEN, _OPPOSITE = bytes([1]), bytes([1, 0]) + bytes(254)


def packed_groups(groups: Iterable[TokenGroup]) -> tuple[list[list[Any]], bytes]:
    """Return groups as rows for JSON, and the numbers of the tokens of all groups, four bytes each."""
    rows, numbers = list[list[Any]](), array('i')
    for group in groups:
        rows.append([group.owner, group.target, group.home, group.version, len(group.tokens)])
        numbers.extend(group.tokens)
    return rows, _little_endian(numbers).tobytes()


def unpacked_groups(rows: Iterable[Sequence[Any]], numbers: bytes) -> Iterator[TokenGroup]:
    """Yield the groups that were given to ``packed_groups``."""
    tokens, at = _little_endian(array('i', numbers)), 0
    for owner, target, home, version, count in rows:
        yield TokenGroup(tokens[at : (at := at + count)], owner, target, home, version)


def _little_endian(numbers: array[int]) -> array[int]:
    """Return numbers in the byte order of a store, or back in that of this machine."""
    if sys.byteorder == 'big':
        numbers.byteswap()
    return numbers


def latest(newest_first: Iterable[TokenGroup]) -> tuple[TokenGroup, ...]:
    """Return the rows of successive groups, each token as the first given group has it, and each row in one group.

    The groups of one commit, which have each token once, come in any order, and before those of the commits before it. Thousands
    of groups that exist at the same time would have Python collect garbage for a third of the time, so they are best made one by
    one. The tokens of a node are mostly runs of numbers, which are taken in one step each.
    """
    rows: dict[tuple[str | None, str | None, str | None, int], list[TokenGroup]] = {}
    taken = bytearray()  # for each token 1 if a group that was given before has it
    for group in newest_first:
        tokens, size = group.tokens, len(group.tokens)
        if not size:
            continue
        first, end = tokens[0], tokens[-1] + 1
        if end > len(taken):
            taken.extend(bytes(end - len(taken)))
        if is_run(tokens):
            if taken.find(1, first, end) >= 0:
                if taken.find(0, first, end) < 0:
                    continue
                group = _without(group, taken[first:end])
            taken[first:end] = _TAKEN * size
        else:
            mask = bytes(map(taken.__getitem__, tokens))
            if 1 in mask:
                if 0 not in mask:
                    continue
                group = _without(group, mask)
            for token in group.tokens:
                taken[token] = 1
        rows.setdefault((group.owner, group.target, group.home, group.version), []).append(group)
    return tuple(parts[0] if len(parts) == 1 else _joined(parts) for parts in rows.values())


def _without(group: TokenGroup, taken: bytes | bytearray) -> TokenGroup:
    """Return the group without those of its tokens that are taken, by a mask of these tokens."""
    tokens = array('i', compress(group.tokens, taken.translate(_OPPOSITE)))
    return TokenGroup(tokens, group.owner, group.target, group.home, group.version)


def _joined(parts: Sequence[TokenGroup]) -> TokenGroup:
    """Return groups with one row and different tokens as one group."""
    return attrs.evolve(parts[0], tokens=rising(array('i', chain.from_iterable(part.tokens for part in parts))))


def only(groups: Iterable[TokenGroup], wanted: Collection[int] | None) -> Iterable[TokenGroup]:
    """Return the groups with the wanted tokens alone, without groups that have none of them; all groups for None.

    The tokens of a group rise, so each wanted token is searched for: a reader of one token in a million does not go through them.
    """
    return groups if wanted is None else _only(groups, sorted(set(wanted)))


def _only(groups: Iterable[TokenGroup], numbers: Sequence[int]) -> Iterator[TokenGroup]:
    for group in groups:
        if tokens := [number for number in numbers if _has(group, number)]:
            yield attrs.evolve(group, tokens=array('i', tokens))


def _has(group: TokenGroup, number: int) -> bool:
    at = bisect_left(group.tokens, number)
    return at < len(group.tokens) and group.tokens[at] == number
