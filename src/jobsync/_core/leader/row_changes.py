"""The rows of a plan: what it means for a token's row that the token is to be somewhere (rules R3 and R5).

Tokens by the hundred thousand share all that decides about their rows. So they are sorted by it first, in the one loop over
them, and each sort is judged once.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping, Set
from functools import cached_property

import attrs

from jobsync._core.assignment import ABSENT, Assignment, TokenGroup
from jobsync._core.leader.owners import OwnerTable
from jobsync._core.records import NOBODY

__all__ = ['RowChanges', 'row_changes']

_Place = tuple[str | None, str | None, str | None]
"""Owner, target, home."""
_Row = tuple[str | None, str | None, str | None, int]
"""Owner, target, home, version."""
_Sort = tuple[int, int, str | None, bool, str | None]
"""The present row (positions of owner and home, and the target), whether it was handed over, and whose it is to be."""


@attrs.frozen
class RowChanges:
    """The rows that change."""

    old: Assignment = attrs.field(repr=False)
    """What they change."""
    groups: tuple[TokenGroup, ...]
    moved: int
    """How many tokens pass to a new owner at once."""

    @cached_property
    def _owners(self) -> Mapping[int, str | None]:
        return {token: group.owner for group in self.groups for token in group.tokens}

    def owner_of(self, token: int) -> tuple[str | None, bool]:
        """Who owns a hash token from then on, and whether that is known."""
        if token in self._owners:
            return self._owners[token], True
        position = self.old.owner[token]
        return (self.old.names[position] if position >= 0 else None), position != ABSENT or not self.old.members


def row_changes(
    old: Assignment,
    owner_table: OwnerTable,
    handed_over: Set[int],
    moves: Mapping[str, array[int]],
    receivers: Set[str],
    number: int,
) -> RowChanges:
    """Return the rows to write: for every token that moves, was handed over, or has a target that no longer holds.

    ``number`` becomes the version of the rows whose owner changes. ``handed_over`` are the tokens, of those with a target, that a
    present owner has let go of. ``moves`` gives the tokens that each of the ``receivers`` is to have and has not. Without
    receivers everybody is to let go of everything.
    """
    sorts: defaultdict[_Sort, array[int]] = defaultdict(_no_tokens)
    owner, home, targets = old.owner, old.home, old.targets
    moving: set[int] = set()
    for place in sorted(moves):
        tokens = moves[place]
        if not targets:
            for token in tokens:
                sorts[owner[token], home[token], None, False, place].append(token)
            continue
        for token in tokens:
            sorts[owner[token], home[token], targets.get(token), token in handed_over, place].append(token)
        moving.update(targets.keys() & tokens)
    waiting = {position for position, name in enumerate(old.names) if owner_table.is_waiting(name)}
    receiving = {position for position, name in enumerate(old.names) if name in receivers}
    for token, target in targets.items():
        at = owner[token]
        if token in moving or at == ABSENT or at in waiting:
            continue
        handed = token in handed_over
        if target in receivers:
            sorts[at, home[token], target, handed, target].append(token)
        elif at in receiving and not handed:
            sorts[at, home[token], target, handed, old.names[at]].append(token)
        elif not receivers:
            sorts[at, home[token], target, handed, None].append(token)
    if not receivers:
        for token, at in enumerate(owner):
            if at >= 0 and token not in targets and at not in waiting:
                sorts[at, home[token], None, False, None].append(token)
    return _judged(old, owner_table, sorts, number)


def _judged(old: Assignment, owner_table: OwnerTable, sorts: Mapping[_Sort, array[int]], number: int) -> RowChanges:
    rows: defaultdict[_Row, array[int]] = defaultdict(_no_tokens)
    moved = 0
    for (owner_at, home_at, target, handed, place), tokens in sorts.items():
        owner = old.names[owner_at] if owner_at >= 0 else None
        home = old.names[home_at] if home_at >= 0 else None
        if owner is not None and owner_table.is_present(owner) and not handed:
            after: _Place = (owner, NOBODY if place is None else None if place == owner else place, home)
        else:
            left_by = home if owner is None else None if handed else owner
            after = (place, None, None if left_by == place else left_by)
            if place is not None and place != owner:
                moved += len(tokens)
        if owner_at == ABSENT or after[0] != owner:
            rows[*after, number].extend(tokens)
        elif after != (owner, target, home):
            for token in tokens:
                rows[*after, old.since[token]].append(token)
    groups = (TokenGroup(array('i', sorted(tokens)), *row) for row, tokens in rows.items())
    return RowChanges(old, tuple(groups), moved)


def _no_tokens() -> array[int]:
    return array('i')
