"""Token groups of which a reader needs some tokens only."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable

import attrs

from jobsync.backend import TokenGroup

__all__ = ['only']


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
