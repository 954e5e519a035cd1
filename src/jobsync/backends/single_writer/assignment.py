"""The assignment as a value that knows when each of its rows was last written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

import attrs

from jobsync.backend import INITIAL, Changes, Member, Pin, Plan, Revision, TokenGroup, members_after

__all__ = ['AssignmentTable', 'Row']

REMEMBERED = 64
"""Versions a difference can build on. A node reads every version or is far behind; then a complete reading is as cheap."""


@attrs.frozen(eq=False)
class Row:
    """A token's row. Tokens written together share one, so a pool of a million holds a few thousand."""

    owner: str | None
    target: str | None
    home: str | None
    version: int
    written: int
    """The number of the revision that wrote the row: what a difference goes by."""


@attrs.frozen(eq=False)
class AssignmentTable:
    """The assignment at one version. Never changed, but for the readings it remembers."""

    version: Revision = INITIAL
    members: Mapping[str, Member] = attrs.field(factory=dict)
    rows: list[Row | None] = attrs.field(factory=list)
    """By token; shorter than the pool while the last tokens have no row."""
    pins: Mapping[int, Pin] = attrs.field(factory=dict)
    builds_on: tuple[Revision, ...] = (INITIAL,)
    """Versions of this history since which no row was deleted, oldest first."""
    touched: Mapping[str, int] = attrs.field(factory=dict)
    """The members that changed since the first of ``builds_on``, and at the number of which revision."""
    _readings: dict[Revision | None, Changes] = attrs.field(factory=dict)

    @classmethod
    def empty(cls, version: Revision) -> AssignmentTable:
        """Without rows, at the start of a history: nothing older can be built on."""
        return cls(version, builds_on=(version,))

    @classmethod
    def of(cls, changes: Changes) -> AssignmentTable:
        """The table of which this is a complete reading. That reading is all that can be built on."""
        rows: list[Row | None] = []
        for group in changes.groups:
            row = Row(group.owner, group.target, group.home, group.version, changes.version.number)
            for token in group.tokens:
                if token >= len(rows):
                    rows.extend([None] * (token + 1 - len(rows)))
                rows[token] = row
        members = members_after({}, changes.members)
        return cls(changes.version, members, rows, {pin.id: pin for pin in changes.pins}, (changes.version,))

    def after(self, plan: Plan, revision: Revision) -> AssignmentTable:
        """The table with a plan written at ``revision``."""
        number, rows = revision.number, self.rows[:]
        for group in plan.groups:
            row = Row(group.owner, group.target, group.home, group.version, number)
            for token in group.tokens:
                if token >= len(rows):
                    rows.extend([None] * (token + 1 - len(rows)))
                rows[token] = row
        pins = {id_: pin for id_, pin in self.pins.items() if id_ not in plan.unpinned}
        pins.update({pin.id: pin for pin in plan.pins})
        builds_on = (*self.builds_on[1 - REMEMBERED :], revision)
        touched = {name: at for name, at in self.touched.items() if at > builds_on[0].number}
        touched.update(dict.fromkeys(plan.members, number))
        return AssignmentTable(
            revision, members_after(self.members, plan.members), rows, dict(sorted(pins.items())), builds_on, touched
        )

    def without(self, tokens: Iterable[int], revision: Revision) -> AssignmentTable:
        """The table with rows of tokens deleted by hand at ``revision``: nothing older can be built on. Pins stay."""
        rows = self.rows[:]
        for token in tokens:
            if token < len(rows):
                rows[token] = None
        return AssignmentTable(revision, self.members, rows, self.pins, (revision,))

    def read(self, since: Revision | None) -> Changes:
        """Everything, or what was written after ``since`` where that is a version to build on."""
        if since not in self.builds_on:
            since = None
        reading = self._readings.get(since)
        if reading is None:
            after = -1 if since is None else since.number
            reading = Changes(self.version, since, self._members(after), self._groups(after), tuple(self.pins.values()))
            self._readings[since] = reading
        return reading

    def _members(self, after: int) -> Mapping[str, Member | None]:
        return self.members if after < 0 else {name: self.members.get(name) for name, at in self.touched.items() if at > after}

    def _groups(self, after: int) -> tuple[TokenGroup, ...]:
        by_row: dict[int, tuple[Row, array[int]]] = {}
        for token, row in enumerate(self.rows):
            if row is None or row.written <= after:
                continue
            if id(row) in by_row:
                by_row[id(row)][1].append(token)
            else:
                by_row[id(row)] = row, array('i', [token])
        alike: dict[tuple[str | None, str | None, str | None, int], array[int]] = {}
        for row, tokens in by_row.values():
            key = row.owner, row.target, row.home, row.version
            alike[key] = array('i', sorted(alike[key] + tokens)) if key in alike else tokens
        return tuple(TokenGroup(tokens, *key) for key, tokens in alike.items())
