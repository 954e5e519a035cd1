"""The token rows of a plan, given the node that each token is to have (rules R3 and R5).

Hundreds of thousands of tokens share everything that decides about their rows. So one loop sorts the tokens by that, and the new
row is worked out once for each kind.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping, Set
from functools import cached_property

import attrs

from jobsync._core.assignment import ABSENT, Assignment, TokenGroup
from jobsync._core.leader.handover import Released
from jobsync._core.leader.owners import OwnerTable
from jobsync._core.records import NOBODY
from jobsync._core.tokens import no_tokens, rising

__all__ = ['RowChanges', 'row_changes']

_Place = tuple[str | None, str | None, str | None]
"""Owner, target, home."""
_Row = tuple[str | None, str | None, str | None, int]
"""Owner, target, home, version."""
_Kind = tuple[int, int, int, bool, str | None]
"""The present row (positions of owner, home and target), whether its owner has released it, and its new owner."""
_NOWHERE = -1
"""The position of no target."""


@attrs.frozen
class RowChanges:
    """The token rows that a plan changes."""

    old: Assignment = attrs.field(repr=False)
    """The assignment that they change."""
    groups: tuple[TokenGroup, ...]
    moved: int
    """How many tokens pass to a new owner in this commit."""

    @cached_property
    def _group_of(self) -> array[int]:
        """For each token the position of its group, or -1."""
        found = array('i', [-1]) * self.old.total_tokens
        for position, group in enumerate(self.groups):
            for token in group.tokens:
                found[token] = position
        return found

    def owner_of(self, token: int) -> tuple[str | None, bool]:
        """Return the owner of a hash token after the changes, and whether it is known: not if the token has no row."""
        if (group := self._group_of[token]) >= 0:
            return self.groups[group].owner, True
        position = self.old.owner[token]
        return (self.old.names[position] if position >= 0 else None), position != ABSENT or not self.old.members


def row_changes(
    old: Assignment,
    owner_table: OwnerTable,
    released: Released,
    moves: Mapping[str, array[int]],
    receivers: Set[str],
    number: int,
) -> RowChanges:
    """Return the rows to write: of every token that moves, was released, or has a target that is no longer valid.

    ``number`` becomes the version of the rows whose owner changes. ``released`` says which tokens with a target their
    present owners have released. ``moves`` gives the tokens that each of the ``receivers`` is to have and has not.
    Without receivers every owner is to release every token.
    """
    kinds: defaultdict[_Kind, array[int]] = defaultdict(no_tokens)
    owner, home, targets = old.owner, old.home, old.targets
    holding, target_at = released.at(old), targets.at
    moving = bytearray(old.total_tokens if targets else 0)
    for place in sorted(moves):
        tokens = moves[place]
        if not targets:
            for token in tokens:
                kinds[owner[token], home[token], _NOWHERE, False, place].append(token)
            continue
        for token in tokens:
            at, to = owner[token], target_at[token]
            is_released = to >= 0 and (held := holding[at]) is not None and token not in held
            kinds[at, home[token], to, is_released, place].append(token)
            moving[token] = 1
    waiting = {position for position, name in enumerate(old.names) if owner_table.is_waiting(name)}
    receiving = {position for position, name in enumerate(old.names) if name in receivers}
    valid = [name in receivers for name in targets.names]
    for token, (at, to) in zip(targets.tokens, targets.beside(owner), strict=True):
        if moving[token] or at == ABSENT or at in waiting:
            continue
        held = holding[at]
        is_released = held is not None and token not in held
        if valid[to]:
            kinds[at, home[token], to, is_released, targets.names[to]].append(token)
        elif at in receiving and not is_released:
            kinds[at, home[token], to, is_released, old.names[at]].append(token)
        elif not receivers:
            kinds[at, home[token], to, is_released, None].append(token)
    if not receivers:
        # t=0  a node of weight 0 is alone, and makes the first distribution
        # t=9  b joins: tokens without a row would wait for a timeout, as if an operator had deleted their rows
        is_first = not old.members
        for token, at in enumerate(owner):
            if (at >= 0 or is_first) and not (targets and targets.at[token] >= 0) and at not in waiting:
                kinds[at, home[token], _NOWHERE, False, None].append(token)
    return _rows_of(old, owner_table, kinds, number)


def _rows_of(old: Assignment, owner_table: OwnerTable, kinds: Mapping[_Kind, array[int]], number: int) -> RowChanges:
    rows: defaultdict[_Row, array[int]] = defaultdict(no_tokens)
    moved = 0
    for (owner_at, home_at, target_at, is_released, place), tokens in kinds.items():
        target = old.targets.names[target_at] if target_at >= 0 else None
        owner = old.names[owner_at] if owner_at >= 0 else None
        home = old.names[home_at] if home_at >= 0 else None
        if owner is not None and owner_table.is_present(owner) and not is_released:
            after: _Place = (owner, NOBODY if place is None else None if place == owner else place, home)
        else:
            left_by = home if owner is None else None if is_released else owner
            after = (place, None, None if left_by == place else left_by)
            if place is not None and place != owner:
                moved += len(tokens)
        if owner_at == ABSENT or after[0] != owner:
            rows[*after, number].extend(tokens)
        elif after != (owner, target, home):
            for token in tokens:
                rows[*after, old.since[token]].append(token)
    groups = (TokenGroup(rising(tokens), *row) for row, tokens in rows.items())
    return RowChanges(old, tuple(groups), moved)
