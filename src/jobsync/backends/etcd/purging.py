"""Deleting old records of a trail, each only if it is as it was when it was found to be old."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import attrs

from jobsync.backends.etcd import requests
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.store import AT_ONCE, EtcdStore

__all__ = ['Removal', 'purge']

KeyValue = tuple[bytes, bytes]
MOST_AT_ONCE = 60
"""Removals in one transaction, each of which is one of its own inside it."""


@attrs.frozen
class Removal:
    """One record, or several in a row, to be deleted whole, or but for what is left of it."""

    first: bytes
    end: bytes
    """The keys from ``first`` on, before this one."""
    gone: frozenset[Hashable]
    """What is counted as deleted."""
    left: tuple[KeyValue, list[KeyValue]] | None = None
    """What is put in its place: a record and its chunks."""

    @property
    def size(self) -> int:
        """Bytes to be written."""
        return 0 if self.left is None else sum(len(value) for _, value in (self.left[0], *self.left[1]))

    def operation(self, since: int) -> object:
        """All of it, unless something of it was written after etcd's revision ``since``."""
        puts = [] if self.left is None else [self.left[0], *self.left[1]]
        success = [requests.delete_all(self.first, self.end), *(requests.put(*put) for put in puts)]
        compares = [requests.unwritten(self.first, since, self.end)]
        return MESSAGES['RequestOp'](request_txn=requests.when(compares, success))


def purge(store: EtcdStore, find: Callable[[], tuple[int, Sequence[Removal | None]]], deadline: float) -> int:
    """Delete what ``find`` finds at the revision it tells, until it finds nothing; how many that were.

    It tells of every record there is: None is one that stays.
    """
    gone: set[Hashable] = set()
    while True:
        at, removals = find()
        if not any(removals):
            return len(gone)
        for part in parts(joined(removals)):
            for removal in part:
                if removal.left is not None and removal.size > AT_ONCE:
                    store.put_ahead(removal.left[1], deadline)
            part = [attrs.evolve(r, left=(r.left[0], [])) if r.left and r.size > AT_ONCE else r for r in part]
            answer = store.connection.write('KV.Txn', requests.when((), (removal.operation(at) for removal in part)), deadline)
            for removal, response in zip(part, answer.responses, strict=True):
                if response.response_txn.succeeded:
                    gone |= removal.gone


def joined(removals: Sequence[Removal | None]) -> Iterator[Removal]:
    """The same, with those that follow each other in one."""
    last: Removal | None = None
    for removal in (*removals, None):
        if last and removal and last.left is removal.left is None:
            last = attrs.evolve(last, end=removal.end, gone=last.gone | removal.gone)
            continue
        if last:
            yield last
        last = removal


def parts(removals: Iterator[Removal]) -> Iterator[list[Removal]]:
    """As many as one transaction takes."""
    part: list[Removal] = []
    for removal in removals:
        if part and (len(part) == MOST_AT_ONCE or sum(r.size for r in part) + removal.size > AT_ONCE):
            yield part
            part = []
        part.append(removal)
    if part:
        yield part
