"""Token groups: their compact form, what successive ones come to, and those of which a reader needs some tokens only."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import attrs

from jobsync.backend import TokenGroup

__all__ = ['latest', 'only', 'packed_groups', 'unpacked_groups']


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
    for *row, count in rows:
        yield TokenGroup(tokens[at : (at := at + count)], *row)


def _little_endian(numbers: array[int]) -> array[int]:
    """Return numbers in the byte order of a store, or back in that of this machine."""
    if sys.byteorder == 'big':
        numbers.byteswap()
    return numbers


def latest(groups: Iterable[TokenGroup]) -> tuple[TokenGroup, ...]:
    """Return the rows of successive groups, each token as the last group has it, and each row in one group.

    Thousands of groups that exist at the same time would have Python collect garbage for a third of the time, so the given ones
    are best made one by one.
    """
    rows: dict[tuple[str | None, str | None, str | None, int], int] = {}
    last: list[int] = []  # written to in half the time of an array
    for group in groups:
        number = rows.setdefault((group.owner, group.target, group.home, group.version), len(rows))
        if group.tokens and group.tokens[-1] >= len(last):
            last.extend([-1] * (group.tokens[-1] + 1 - len(last)))
        for token in group.tokens:
            last[token] = number
    found = [array('i') for _ in (*rows, None)]  # the last one has the tokens of no row
    add = [tokens.append for tokens in found]
    for token, number in enumerate(last):
        add[number](token)
    return tuple(TokenGroup(tokens, *row) for row, tokens in zip(rows, found, strict=False) if tokens)


def only(groups: Iterable[TokenGroup], wanted: Collection[int] | None) -> Iterator[TokenGroup]:
    """Yield the groups with the wanted tokens alone, without groups that have none of them; all groups for None.

    The tokens of a group rise, so each wanted token is searched for: a reader of one token in a million does not go through them.
    """
    if wanted is None:
        yield from groups
        return
    numbers = sorted(set(wanted))
    for group in groups:
        if tokens := [number for number in numbers if _has(group, number)]:
            yield attrs.evolve(group, tokens=array('i', tokens))


def _has(group: TokenGroup, number: int) -> bool:
    at = bisect_left(group.tokens, number)
    return at < len(group.tokens) and group.tokens[at] == number
