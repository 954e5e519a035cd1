"""The assignment as a value that keeps, for each token, the revision that last wrote its row."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial

import attrs

from jobsync.backend import INITIAL, Changes, Member, Pin, Plan, Revision, TokenGroup, members_after

__all__ = ['AssignmentTable', 'SharedRow']

REMEMBERED = 64
"""Versions on which a difference can build. A node reads every version or is far behind; then a whole reading is as cheap."""
FEW = 100
"""The most tokens that are read one by one."""

_no_tokens: Callable[[], array[int]] = partial(array, 'i')


@attrs.frozen(eq=False)
class SharedRow:
    """A token's row. Tokens written together share one, so a pool of a million tokens has a few thousand rows."""

    owner: str | None
    target: str | None
    home: str | None
    version: int
    written: int
    """The number of the revision that wrote the row: what a difference goes by."""


@attrs.frozen(eq=False)
class AssignmentTable:
    """The assignment at one version. Never changed, except for the readings that it caches."""

    version: Revision = INITIAL
    members: Mapping[str, Member] = attrs.field(factory=dict)
    rows: list[SharedRow | None] = attrs.field(factory=list)
    """By token; shorter than the pool while the last tokens have no row."""
    pins: Mapping[int, Pin] = attrs.field(factory=dict)
    builds_on: tuple[Revision, ...] = (INITIAL,)
    """Versions of this history since which no row was deleted, oldest first."""
    touched: Mapping[str, int] = attrs.field(factory=dict)
    """The members that changed since the first of ``builds_on``, with the number of the revision that changed each."""
    _readings: dict[Revision | None, Changes] = attrs.field(factory=dict)

    @classmethod
    def empty(cls, version: Revision) -> AssignmentTable:
        """Return a table without rows, on whose version alone a difference can build."""
        return cls(version, builds_on=(version,))

    @classmethod
    def of(cls, changes: Changes) -> AssignmentTable:
        """Return the table of a whole reading, on whose version alone a difference can build."""
        rows = _written([], changes.groups, changes.version.number)
        pins = {pin.id: pin for pin in changes.pins}
        return cls(changes.version, members_after({}, changes.members), rows, pins, (changes.version,))

    def commit(self, plan: Plan, revision: Revision) -> AssignmentTable:
        """Return the table with a plan written at ``revision``."""
        pins = {id_: pin for id_, pin in self.pins.items() if id_ not in plan.unpinned}
        pins.update({pin.id: pin for pin in plan.pins})
        builds_on = (*self.builds_on[1 - REMEMBERED :], revision)
        touched = {name: at for name, at in self.touched.items() if at > builds_on[0].number}
        touched.update(dict.fromkeys(plan.members, revision.number))
        rows, members = _written(self.rows, plan.groups, revision.number), members_after(self.members, plan.members)
        return AssignmentTable(revision, members, rows, dict(sorted(pins.items())), builds_on, touched)

    def without_rows(self, tokens: Iterable[int], revision: Revision) -> AssignmentTable:
        """Return the table with rows deleted manually at ``revision``, on which alone a difference can build. Pins stay."""
        gone = frozenset(tokens)
        rows = [None if token in gone else row for token, row in enumerate(self.rows)]
        return AssignmentTable(revision, self.members, rows, self.pins, (revision,))

    def read(self, since: Revision | None, tokens: Collection[int] | None = None) -> Changes:
        """Return what ``Backend.read_assignment`` returns."""
        if since not in self.builds_on:
            since = None
        if since is None and tokens is not None and len(tokens) <= FEW:
            return Changes(self.version, None, self.members, tuple(self._rows(tokens)), tuple(self.pins.values()))
        reading = self._readings.get(since)
        if reading is None:
            after = -1 if since is None else since.number
            reading = Changes(self.version, since, self._members(after), self._groups(after), tuple(self.pins.values()))
            self._readings[since] = reading
        return reading

    def _members(self, after: int) -> Mapping[str, Member | None]:
        return self.members if after < 0 else {name: self.members.get(name) for name, at in self.touched.items() if at > after}

    def _rows(self, tokens: Collection[int]) -> Iterator[TokenGroup]:
        for token in sorted(set(tokens)):
            row = self.rows[token] if token < len(self.rows) else None
            if row is not None:
                yield TokenGroup((token,), row.owner, row.target, row.home, row.version)

    def _groups(self, after: int) -> tuple[TokenGroup, ...]:
        by_row: defaultdict[SharedRow, array[int]] = defaultdict(_no_tokens)
        for token, row in enumerate(self.rows):
            if row is not None and row.written > after:
                by_row[row].append(token)
        alike: defaultdict[tuple[str | None, str | None, str | None, int], array[int]] = defaultdict(_no_tokens)
        for row, tokens in by_row.items():
            alike[row.owner, row.target, row.home, row.version] += tokens
        return tuple(TokenGroup(array('i', sorted(tokens)), *key) for key, tokens in alike.items())


def _written(rows: list[SharedRow | None], groups: Iterable[TokenGroup], number: int) -> list[SharedRow | None]:
    """Return the rows after the revision ``number`` has written these groups."""
    rows = rows[:]
    for group in groups:
        row = SharedRow(group.owner, group.target, group.home, group.version, number)
        for token in group.tokens:
            if token >= len(rows):
                rows.extend([None] * (token + 1 - len(rows)))
            rows[token] = row
    return rows
