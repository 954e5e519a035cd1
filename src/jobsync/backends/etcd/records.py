"""Reading the records of a chain."""

from __future__ import annotations

from collections.abc import Sequence

from jobsync.backends.etcd import kv
from jobsync.backends.etcd.chain import CHUNK, Chain, Entry, chunks_of
from jobsync.backends.etcd.store import Gone, Store

__all__ = ['Records']

CHUNKS_AT_ONCE = 8
"""In one answer, which a client of the user's may not take if it exceeds 4 MiB."""
KEYS_AT_ONCE = 64


class Records:
    """Those of one chain."""

    def __init__(self, store: Store, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix

    def read(self, entries: Sequence[Entry], deadline: float) -> list[tuple[Entry, bytes]]:
        """What the entries name, those apart that name nothing; ``Gone`` if one is not there any more."""
        keys = [key for entry in entries for key in entry.keys(self._prefix)]
        large = any(entry.size > CHUNK // 2 for entry in entries)
        at_once = CHUNKS_AT_ONCE if large else KEYS_AT_ONCE
        values: dict[bytes, bytes] = {}
        for start in range(0, len(keys), at_once):
            values |= self._store.read([kv.get(key) for key in keys[start : start + at_once]], deadline).values
        if len(values) < len(keys):
            raise Gone('a record was replaced while it was read')
        return [(entry, b''.join(values[key] for key in entry.keys(self._prefix))) for entry in entries if entry.size]

    def chunks(self, entry: Entry, data: bytes) -> list[tuple[bytes, bytes]]:
        """What to write for a new record."""
        return chunks_of(entry, self._prefix, data)

    def clean_up(self, chain: Chain) -> list[object]:
        """What to do beside writing the state: remove what no longer counts, if the chain has just begun anew.

        Left over from a writer that lost or died, too; not what another is about to swing to, or at worst what it then will not.
        """
        whole, *changes = chain.entries
        return [] if changes else [kv.delete_all(self._prefix, whole.key(self._prefix))]
