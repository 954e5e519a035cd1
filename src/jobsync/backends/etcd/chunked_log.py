"""A chunked log: one record of the whole, then records of what changed since, each in values that one request carries.

The state names the records that count. A record is never rewritten: a writer puts a new one, then swings the state to it in the
transaction that compares the state. A reader reads state and records at one revision of etcd, so no record that the state names
is gone at that moment.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import accumulate, islice
from typing import NamedTuple

import attrs

from jobsync.backend import Revision
from jobsync.backends.etcd import requests

__all__ = ['EMPTY', 'ChunkedLog', 'Draft', 'KeyValue', 'LogEntry', 'chunks']

KeyValue = tuple[bytes, bytes]

CHUNK = 250_000
"""Bytes in one value."""
MOST_CHANGES = 32
"""Records of changes before the whole is written anew. A node that is further behind reads the whole."""
LEAST_WHOLE = 64 * 1024
"""Bytes that the records of changes may have in any case. With more than these and the whole has, the whole is written anew."""
LARGEST = 1 << 30
"""Bytes of a record. No record of jobsync is larger."""


def chunks(name: bytes, data: bytes) -> list[KeyValue]:
    """Return the keys and values that hold a record: at least one."""
    starts = range(0, max(1, len(data)), CHUNK)
    return [(b'%s/%06x' % (name, number), data[start : start + CHUNK]) for number, start in enumerate(starts)]


class LogEntry(NamedTuple):
    """One record. JSON stores a named tuple as a row: the state has up to 33 entries, and each heartbeat reads the state."""

    number: int
    stamp: int
    """With ``number``, the revision that made the record."""
    size: int = 0
    """Bytes; 0 means that there is no record, because there was nothing to write."""
    place: str = ''
    """The record's name. Names of later records are higher."""

    @property
    def revision(self) -> Revision:
        """The revision that made the record."""
        return Revision(self.number, self.stamp)

    def name(self, prefix: bytes) -> bytes:
        """Return how the keys of the record's chunks begin, before a slash."""
        return prefix + self.place.encode()

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return the keys of the record's chunks."""
        return [b'%s/%06x' % (self.name(prefix), number) for number in range(-(-self.size // CHUNK))]


@attrs.frozen
class ChunkedLog:
    """The records that count."""

    entries: tuple[LogEntry, ...]
    """In order of their revisions. The first is the record of the whole."""

    def __attrs_post_init__(self) -> None:
        """Check the sizes. No validator does: a program may disable those."""
        if not self.entries or not all(0 <= entry.size <= LARGEST for entry in self.entries):
            raise ValueError(f'no records have the sizes {[entry.size for entry in self.entries]}')

    @property
    def is_long(self) -> bool:
        """Whether the whole is to be written anew."""
        whole, *changes = self.entries
        return len(changes) >= MOST_CHANGES or sum(entry.size for entry in changes) > max(whole.size, LEAST_WHOLE)

    def after(self, revision: Revision | None) -> int:
        """Return how many records lead to a revision; 0 if the log does not have it."""
        return next((place for place, entry in enumerate(self.entries, 1) if entry.revision == revision), 0)

    @property
    def outdated(self) -> int:
        """How many records, the whole among them, to write anew as one of the whole: those that few readers still need."""
        # t=0  there are 33 records: the leader writes the whole anew, and with it a record of what changes now
        # t=1  five hundred nodes have read up to one of the last few records: if the whole had replaced them, each would read it
        # So later records stay, up to half of as many as there may be.
        whole, *changes = self.entries
        sizes = accumulate(entry.size for entry in islice(reversed(changes), MOST_CHANGES // 2))
        return len(self.entries) - sum(2 * size <= max(whole.size, LEAST_WHOLE) for size in sizes)

    def draft(self, prefix: bytes, data: bytes) -> Draft:
        """Return a record of changes to append, whose keys begin with ``prefix``."""
        place = f'{self.entries[-1].number:016x}-{secrets.randbits(62):016x}'
        entry = LogEntry(0, 0, len(data), place)
        return Draft(self.entries, entry, prefix, [chunks(entry.name(prefix), data)])

    def draft_whole(self, prefix: bytes, data: bytes) -> Draft:
        """Return a record of the whole to append, in place of all records."""
        return attrs.evolve(self.draft(prefix, data), before=(), is_rewritten=True)

    def draft_rewritten(self, prefix: bytes, data: bytes, whole: bytes) -> Draft:
        """Return a record of changes to append, with a record of the whole in place of those that are ``outdated``."""
        last, *later = self.entries[self.outdated - 1 :]
        # A plus sign comes before a hyphen: this is the record before those that have been written since, and after all others.
        first = LogEntry(last.number, last.stamp, len(whole), f'{last.number:016x}+{secrets.randbits(62):016x}')
        draft = self.draft(prefix, data)
        records = [chunks(first.name(prefix), whole), *draft.records]
        return attrs.evolve(draft, before=(first, *later), records=records, is_rewritten=True)


EMPTY = ChunkedLog((LogEntry(0, 0),))
"""The log in which nothing has happened."""


@attrs.frozen
class Draft:
    """A record that is not in the log yet. Its name is drawn before its revision, so that each attempt writes the same keys."""

    before: tuple[LogEntry, ...]
    """The entries before it."""
    entry: LogEntry
    prefix: bytes
    records: Sequence[Sequence[KeyValue]]
    """What to write: the chunks of each record."""
    is_rewritten: bool = False
    """Whether the first entry of the log is a new one."""

    def appended(self, revision: Revision) -> ChunkedLog:
        """Return the log with this record."""
        return ChunkedLog((*self.before, self.entry._replace(number=revision.number, stamp=revision.stamp)))

    def clean_up(self) -> list[object]:
        """Return the operations that remove the records before a new first one, those of writers that lost or died included."""
        first, *_ = (*self.before, self.entry)
        return [requests.delete(self.prefix, first.name(self.prefix))] if self.is_rewritten else []
