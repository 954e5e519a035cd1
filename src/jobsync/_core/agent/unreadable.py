"""Records that cannot be read (rule R9): logged once by the leader, shown in the status, and skipped by the protocol."""

from __future__ import annotations

from collections.abc import Callable

from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.counting import counted
from jobsync._core.records import Unreadable

__all__ = ['UnreadableRecords']

_MOST_LINES = 10
"""How many records are logged one by one, of those found at once."""


class UnreadableRecords:
    """The unreadable records of a namespace as one node has last read them, through all its incarnations."""

    def __init__(self, emit: Callable[[Event], object]) -> None:
        self._emit = emit
        self._read: dict[str, tuple[Unreadable, ...]] = {}
        self._logged: dict[str, frozenset[Unreadable]] = {}
        self.all: tuple[Unreadable, ...] = ()
        """The unreadable records of every kind."""

    def take(self, kind: str, records: tuple[Unreadable, ...], leads: bool) -> None:
        """Take a reading of all records of one kind.

        Only a node that ``leads`` logs them, for one line in one log is enough: each record once, again if its problem changes,
        and once more when every record can be read again.
        """
        if records != self._read.get(kind, ()):
            self._read[kind] = records
            self.all = tuple(record for kind in sorted(self._read) for record in self._read[kind])
        now, before = frozenset(records), self._logged.get(kind, frozenset())
        if not leads or now == before:
            return
        self._logged[kind] = now
        new = sorted(now - before, key=lambda record: (record.key, record.problem))
        for record in new[:_MOST_LINES]:
            self._emit(LogMessage('warning', f'the record of {kind} {record.key!r} cannot be read in full: {record.problem}'))
        if len(new) > _MOST_LINES:
            more = counted(len(new) - _MOST_LINES, 'more record', 'more records')
            self._emit(LogMessage('warning', f'{more} of this kind cannot be read in full: {kind}'))
        if not now:
            self._emit(LogMessage('info', f'every record of a {kind} can be read again'))
