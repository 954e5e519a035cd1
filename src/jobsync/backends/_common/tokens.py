"""Token groups: what successive ones come to, and those of which a reader needs some tokens only."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

import attrs

from jobsync.backend import TokenGroup

__all__ = ['latest', 'only']


def latest(layers: Iterable[Sequence[TokenGroup]]) -> tuple[TokenGroup, ...]:
    """Return the rows of successive layers, each token as the last layer that has it.

    No two groups of a layer have a token in common. Of several layers each row comes in one group.
    """
    written = [layer for layer in layers if layer]
    if len(written) < 2:
        return tuple(*written)
    groups = [group for layer in written for group in layer if group.tokens]
    rows: dict[tuple[str | None, str | None, str | None, int], int] = {}
    last = [-1] * (1 + max((group.tokens[-1] for group in groups), default=-1))  # written to in half the time of an array
    for group in groups:
        number = rows.setdefault((group.owner, group.target, group.home, group.version), len(rows))
        for token in group.tokens:
            last[token] = number
    found = [array('i') for _ in (*rows, None)]  # the last one has the tokens of no row
    add = [tokens.append for tokens in found]
    for token, number in enumerate(last):
        add[number](token)
    return tuple(TokenGroup(tokens, *row) for row, tokens in zip(rows, found, strict=False) if tokens)


def only(groups: Iterable[TokenGroup], wanted: Collection[int] | None) -> tuple[TokenGroup, ...]:
    """Return the groups with the wanted tokens alone, without groups that have none of them; all groups for None.

    The tokens of a group rise, so each wanted token is searched for: a reader of one token in a million does not go through them.
    """
    if wanted is None:
        return tuple(groups)
    numbers = sorted(set(wanted))
    found = ((group, [number for number in numbers if _has(group, number)]) for group in groups)
    return tuple(attrs.evolve(group, tokens=array('i', tokens)) for group, tokens in found if tokens)


def _has(group: TokenGroup, number: int) -> bool:
    at = bisect_left(group.tokens, number)
    return at < len(group.tokens) and group.tokens[at] == number
