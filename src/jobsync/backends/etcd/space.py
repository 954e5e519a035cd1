"""How much of its quota an etcd server uses, and how far back it keeps old versions of keys."""

from __future__ import annotations

from jobsync.backend import Space
from jobsync.backends.etcd.errors import Compacted
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.store import EtcdStore

__all__ = ['space_of']

USUAL_QUOTA = 2 << 30
"""etcd's own default in bytes. Servers before 3.6 do not report theirs."""
FILE_SHARE = 1.6
"""Bytes in the database file for each byte of a node's record: two records of the usual size fill a page of 4 KiB."""


def space_of(store: EtcdStore) -> Space:
    """Return what the server that answers uses. Members of a cluster differ little, except where one was not defragmented."""
    deadline = store.soon()
    status = store.connection.read('Maintenance.Status', MESSAGES['StatusRequest'](), deadline)
    cluster = store.read_cluster(deadline)
    sizes = [len(key) + len(value) for key, value in cluster.values.items() if key.startswith(store.keys.nodes)]
    oldest = _oldest(store, cluster.at, deadline)
    return Space(
        used_bytes=status.dbSizeInUse,
        quota_bytes=status.dbSizeQuota or USUAL_QUOTA,
        is_assumed=not status.dbSizeQuota,
        heartbeat_bytes=FILE_SHARE * sum(sizes) / max(1, len(sizes)),
        versions=cluster.at - oldest,
        is_trimmed=oldest > 1,
        alarms=tuple(status.errors),
    )


def _oldest(store: EtcdStore, newest: int, deadline: float) -> int:
    """Return the oldest revision of etcd that can be read. No call reports it, so it is searched by halves."""
    oldest = 1
    while oldest < newest:
        middle = (oldest + newest) // 2
        request = MESSAGES['RangeRequest'](key=store.keys.state, revision=middle, count_only=True)
        try:
            store.connection.read('KV.Range', request, deadline)
        except Compacted:
            oldest = middle + 1
        else:
            newest = middle
    return oldest
