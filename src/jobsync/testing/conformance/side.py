"""One of two backends that are compared: its answers, without the values that it chooses for itself.

Stamps, ids, numbers and times may differ between two backends that both keep the contract. ``Side`` replaces each number and each
id by the order in which it first appeared on this side, and leaves out the fields in ``IGNORED``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import attrs

from jobsync.backend import Assignment, Backend, Pin, Pulse, Revision, Settings, Snapshot, TaskLock, Timeline, TokenRow
from jobsync.errors import JobsyncError, NameTaken
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['Side']

NUMBERS = {(Revision, 'number'), (TokenRow, 'version'), (Pin, 'version'), (TaskLock, 'registered'), (Snapshot, 'locks_revision')}
CHOSEN = {(Revision, 'stamp'), (Timeline, 'id'), (TaskLock, 'id')}
IGNORED = {
    (Timeline, 'store'),
    (Snapshot, 'store'),
    (Pulse, 'store'),
    (Snapshot, 'position'),
    (Pulse, 'position'),
    (Snapshot, 'now'),
    (Pulse, 'leader_age_sec'),
}


class Side:
    """One of the two backends, with a reader that follows it."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self.backend = backend
        self.namespace = Namespace(backend, settings)
        self.follower = Assignment.empty(settings.total_tokens)
        """The assignment of a reader that reads differences."""
        self.before = backend.snapshot()
        """An earlier snapshot, for calls that come late."""
        self._met: dict[object, int] = {}

    def outcome(self, call: Callable[[Side], object]) -> object:
        """Return what a call returns or raises, in a form that can be compared with the other side's."""
        try:
            return self.plain(call(self))
        except NameTaken as error:
            return 'NameTaken', self.plain(error.record)
        except JobsyncError as error:
            return type(error).__name__

    def plain(self, value: Any) -> Any:
        """Return a value without the parts that this side chose for itself."""
        kind: Any = type(value)
        if attrs.has(kind):
            return kind.__name__, *(self._field(kind, field.name, getattr(value, field.name)) for field in attrs.fields(kind))
        if isinstance(value, dt.datetime):
            return 'a time'
        if isinstance(value, (tuple, list)):
            return tuple(map(self.plain, value))
        if isinstance(value, frozenset):
            return frozenset(map(self.plain, value))
        if isinstance(value, dict):
            return {key: self.plain(part) for key, part in value.items()}
        return value

    def _field(self, kind: type, name: str, value: Any) -> Any:
        if (kind, name) in IGNORED:
            return None
        if (kind, name) in NUMBERS:
            return value and self._met.setdefault(('number', value), len(self._met))
        if (kind, name) in CHOSEN:
            return value and self._met.setdefault((kind, name, value), len(self._met))
        return self.plain(value)
