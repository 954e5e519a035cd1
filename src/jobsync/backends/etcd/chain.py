"""Large things: a record of the whole, then records of what changed since, each in chunks under a name of its own.

The state says which records count. They are never rewritten, only left behind: a writer puts new ones, then swings the state to
them in the same step that looks whether anyone was faster. A reader that finds one gone reads the state again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from jobsync.core.model import Revision

__all__ = ['Chain', 'Entry', 'chunks_of']

CHUNK = 250_000
"""Bytes in one value."""
MOST_CHANGES = 32
"""Records of changes before the whole is written anew: a node that is further behind reads the whole at little more cost."""
LEAST_WHOLE = 64 * 1024
"""Bytes that the records of changes may come to in any case; more than these and the whole, and it is written anew."""


@attrs.frozen
class Entry:
    """One record, named by the revision that made it."""

    revision: Revision
    size: int = 0
    """Bytes; none means that there is no record, as nothing was there to write."""

    def key(self, prefix: bytes) -> bytes:
        """How the keys of its chunks begin. Later records have higher keys."""
        return prefix + f'{self.revision.number:016x}-{self.revision.stamp:016x}/'.encode()

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """The keys of its chunks."""
        for number in range(-(-self.size // CHUNK)):
            yield self.key(prefix) + f'{number:06x}'.encode()


def chunks_of(entry: Entry, prefix: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
    """A record's chunks, each with its key."""
    return [(key, data[number * CHUNK : (number + 1) * CHUNK]) for number, key in enumerate(entry.keys(prefix))]


@attrs.frozen
class Chain:
    """The records that count."""

    entries: tuple[Entry, ...]
    """The first is of the whole; in order of their revisions."""

    @property
    def is_long(self) -> bool:
        """Whether the whole is to be written anew."""
        whole, *changes = self.entries
        return len(changes) >= MOST_CHANGES or sum(entry.size for entry in changes) > max(whole.size, LEAST_WHOLE)

    def with_changes(self, entry: Entry) -> Chain:
        """The chain with a record more."""
        return Chain((*self.entries, entry))

    def since(self, revision: Revision | None) -> tuple[Entry, ...] | None:
        """The records after one of these revisions; None if it is not among them."""
        for place, entry in enumerate(self.entries, 1):
            if entry.revision == revision:
                return self.entries[place:]
        return None

    def encoded(self) -> list[list[int]]:
        """As the state holds it."""
        return [[entry.revision.number, entry.revision.stamp, entry.size] for entry in self.entries]

    @classmethod
    def of(cls, data: Sequence[Sequence[Any]]) -> Chain:
        """From what the state holds."""
        return cls(tuple(Entry(Revision(number, stamp), size) for number, stamp, size in data))
