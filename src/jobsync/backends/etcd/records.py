"""Reading and writing the records of a chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import CHUNK, ChunkedLog, Entry
from jobsync.backends.etcd.store import EtcdStore

__all__ = ['Records']

KEYS_AT_ONCE = 64
BYTES_AT_ONCE = 2 * 1024 * 1024
"""In one answer: gRPC's own limit, which a client of the user's may have, is twice as much."""


class Records:
    """The records of one chain, in a store."""

    def __init__(self, store: EtcdStore, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix

    def read(self, entries: Sequence[Entry], deadline: float) -> list[bytes | None]:
        """Return the content of records: empty for an entry that has none, None for one that is not there any more."""
        sizes = [
            (key, min(CHUNK, entry.size - CHUNK * number))
            for entry in entries
            for number, key in enumerate(entry.keys(self._prefix))
        ]
        values: dict[bytes, bytes] = {}
        for keys in portions(sizes):
            values |= self._store.read([requests.get(key) for key in keys], deadline).values
        chunks = ([values.get(key) for key in entry.keys(self._prefix)] for entry in entries)
        return [None if None in parts else b''.join(filter(None, parts)) for parts in chunks]

    def chunks(self, entry: Entry, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return what to write for a new record: keys and values."""
        keys = enumerate(entry.keys(self._prefix))
        return [(key, data[number * CHUNK : (number + 1) * CHUNK]) for number, key in keys]

    def clean_up(self, chain: ChunkedLog) -> list[object]:
        """Return what to do beside writing the state: remove what no longer counts, if the chain has just begun anew.

        Left over from a writer that lost or died, too; not what another is about to swing to, or at worst what it then will not.
        """
        whole, *changes = chain.entries
        return [] if changes else [requests.delete_all(self._prefix, whole.key(self._prefix))]


def portions(sizes: Sequence[tuple[bytes, int]]) -> Iterator[list[bytes]]:
    """Yield keys as they fit into one answer, given the size of each value."""
    keys: list[bytes] = []
    total = 0
    for key, size in sizes:
        if keys and (len(keys) == KEYS_AT_ONCE or total + size > BYTES_AT_ONCE):
            yield keys
            keys, total = [], 0
        keys.append(key)
        total += size
    if keys:
        yield keys
