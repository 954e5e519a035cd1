"""The keys of one namespace in etcd."""

from __future__ import annotations

import datetime as dt

from jobsync.backend import HistoryKind

__all__ = ['ROOT', 'EtcdKeys']

ROOT = b'jobsync/'
"""The prefix of every namespace."""


class EtcdKeys:
    """Keys and prefixes of one namespace: all begin with ``jobsync/<namespace>/``.

    The name of a namespace has no slash (``BackendOptions`` checks that), so no namespace is a prefix of another one's keys. As
    with tables, case alone does not separate two namespaces.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.root = ROOT + f'{namespace.lower()}/'.encode()
        self.state = self.root + b'state'
        """The record that every structural change writes. No other key sorts between ``nodes`` and this one."""
        self.concerned = self.root + b'state/concerned'
        """Which nodes the last change of the state concerns: for those that watch, and read by no other call."""
        self.nodes = self.root + b'node/'
        """Prefix of the nodes' records; the name follows."""
        self.tokens = self.root + b'token/'
        """Prefix of the assignment's records."""
        self.locks = self.root + b'lock/'
        """Prefix of the task locks' records."""
        self.nothing = self.root + b'history/nothing'
        """A key that no call reads."""

    def node(self, name: str) -> bytes:
        """Return the key of a node's record."""
        return self.nodes + name.encode()

    def completed(self, date: dt.date) -> bytes:
        """Return the key of the mark that each completion at a date changes."""
        return self.root + f'history/completed/{date.isoformat()}'.encode()

    def attempts(self, date: dt.date | None = None) -> bytes:
        """Return the prefix of the log of attempts, or of one date in it."""
        return self.root + f'history/attempt/{date.isoformat() + "/" if date else ""}'.encode()

    def purged(self, date: dt.date) -> bytes:
        """Return the key of the mark that a purge of a date's completions changes, or a forgetting of attempts that were lost."""
        return self.root + f'history/purged/{date.isoformat()}'.encode()

    def history(self, kind: HistoryKind, date: dt.date | None = None) -> bytes:
        """Return the prefix of one kind of history, or of one date in it; rebalances have no dates."""
        return self.root + f'history/{kind.value}/{date.isoformat() + "/" if date else ""}'.encode()
