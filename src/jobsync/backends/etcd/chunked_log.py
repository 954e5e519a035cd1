"""Large things: a record of the whole, then records of what changed since, each in chunks under a name of its own.

The state says which records count. They are never rewritten, only left behind: a writer puts new ones, then swings the state to
them in the same step that looks whether anyone was faster. A reader that finds one gone reads the state again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from jobsync.backend import INITIAL, Revision

__all__ = ['CHUNK', 'NOTHING', 'ChunkedLog', 'Entry']

CHUNK = 250_000
"""Bytes in one value."""
MOST_CHANGES = 32
"""Records of changes before the whole is written anew: a node that is further behind reads the whole at little more cost."""
LEAST_WHOLE = 64 * 1024
"""Bytes that the records of changes may come to in any case; more than these and the whole, and it is written anew."""
LARGEST = 1 << 30
"""Bytes of a record. A larger one is not jobsync's."""


@attrs.frozen
class Entry:
    """One record, made by one revision."""

    revision: Revision
    size: int = 0
    """Bytes; none means that there is no record, as nothing was there to write."""
    place: str = ''
    """How the names of its chunks begin. It is drawn before the revision is known, so that an attempt that is made again finds
    what it wrote; those of later records are higher."""

    def key(self, prefix: bytes) -> bytes:
        """Return how the keys of its chunks begin."""
        return prefix + f'{self.place}/'.encode()

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """Yield the keys of its chunks."""
        for number in range(-(-self.size // CHUNK)):
            yield self.key(prefix) + f'{number:06x}'.encode()


@attrs.frozen
class ChunkedLog:
    """The records that count."""

    entries: tuple[Entry, ...]
    """The first is of the whole; in order of their revisions."""

    @property
    def is_long(self) -> bool:
        """Whether the whole is to be written anew."""
        whole, *changes = self.entries
        return len(changes) >= MOST_CHANGES or sum(entry.size for entry in changes) > max(whole.size, LEAST_WHOLE)

    def after(self, revision: Revision | None) -> int:
        """Return how many records lead to a revision; 0 if the chain does not have it."""
        return next((place for place, entry in enumerate(self.entries, 1) if entry.revision == revision), 0)

    def new_place(self) -> str:
        """Return a place above those of all records so far."""
        return f'{self.entries[-1].revision.number:016x}-{secrets.randbits(62):016x}'

    def encoded(self) -> list[list[Any]]:
        """Return the form that the state holds."""
        return [[*attrs.astuple(entry.revision), entry.size, entry.place] for entry in self.entries]

    @classmethod
    def of(cls, data: Sequence[Sequence[Any]]) -> ChunkedLog:
        """Return the chain that the state holds; raise ``ValueError`` for one that jobsync did not write."""
        entries = tuple(Entry(Revision(number, stamp), size, place) for number, stamp, size, place in data)
        if not entries or not all(0 <= entry.size <= LARGEST for entry in entries):
            raise ValueError(f'no record can have these sizes: {[entry.size for entry in entries]}')
        return cls(entries)


NOTHING = ChunkedLog((Entry(INITIAL),))
"""The chain in which nothing has happened."""
