"""Records that cannot be read (rule R9): known to people, and in nobody's way."""

from __future__ import annotations

from collections.abc import Callable

from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.records import Unreadable

__all__ = ['UnreadableRecords']

_MOST_LINES = 10
"""How many records are told of one by one, of those found at once."""


class UnreadableRecords:
    """The spoilt records of a namespace as one node has last read them, through all its incarnations."""

    def __init__(self, tell: Callable[[Event], object]) -> None:
        self._tell = tell
        self._read: dict[str, tuple[Unreadable, ...]] = {}
        self._told: dict[str, frozenset[Unreadable]] = {}
        self.all: tuple[Unreadable, ...] = ()
        """Those of every kind."""

    def take(self, kind: str, records: tuple[Unreadable, ...], leads: bool) -> None:
        """Take a reading of all records of one kind.

        Only a node that ``leads`` tells of them, for one line in one log is enough: of each record once, again if what is wrong
        with it changes, and when none is spoilt any more.
        """
        if records != self._read.get(kind, ()):
            self._read[kind] = records
            self.all = tuple(record for kind in sorted(self._read) for record in self._read[kind])
        now, before = frozenset(records), self._told.get(kind, frozenset())
        if not leads or now == before:
            return
        self._told[kind] = now
        new = sorted(now - before, key=lambda record: (record.key, record.problem))
        for record in new[:_MOST_LINES]:
            self._tell(LogMessage('warning', f'the record of {kind} {record.key!r} cannot be read in full: {record.problem}'))
        if len(new) > _MOST_LINES:
            self._tell(
                LogMessage('warning', f'{len(new) - _MOST_LINES} more records of this kind cannot be read in full: {kind}')
            )
        if not now:
            self._tell(LogMessage('info', f'every record of a {kind} can be read again'))
