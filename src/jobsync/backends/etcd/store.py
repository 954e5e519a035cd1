"""Reading some keys, deciding what becomes of them, and writing that if they are still the same."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from jobsync.backends.etcd import requests
from jobsync.backends.etcd.connection import Connection
from jobsync.backends.etcd.errors import Compacted, TooLarge
from jobsync.backends.etcd.keys import EtcdKeys
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.state import EtcdState, state_of
from jobsync.backends.etcd.storetime import StoreTime
from jobsync.errors import BackendUnavailable, JobsyncError, SchemaMismatch

__all__ = ['EtcdStore', 'Gone', 'KeyReading', 'Write']

T = TypeVar('T')
T_co = TypeVar('T_co', covariant=True)

AT_ONCE = 1024 * 1024
"""Bytes that go into one request. A server takes 1.5 MiB, names of keys and all included."""
PAGE = 1000
"""Keys asked for at once; fewer on a channel that refuses so large an answer."""
PAUSE_SEC = 0.002
"""After an attempt that was lost to another; times the attempts so far, up to ten, and up to that at random."""


def shown(cluster_id: int) -> str:
    """The store's own identity (rule R8): drawn when a cluster is made, from a snapshot or from nothing."""
    return f'{cluster_id:016x}'


class Gone(JobsyncError):
    """A record was replaced while it was read: the state that named it is no longer the present one."""


@attrs.frozen
class KeyReading:
    """The keys that were asked for, as they were at one moment."""

    values: Mapping[bytes, bytes]
    keys: EtcdKeys
    cluster: str = ''
    """The store's own identity then; empty if this was put together from what is remembered."""
    at: int = 0
    """etcd's own revision of that moment."""

    @property
    def state(self) -> EtcdState:
        """The namespace's; ``SchemaMismatch`` if there is none."""
        value = self.values.get(self.keys.state)
        if value is None:
            raise SchemaMismatch(f'there is no namespace {self.keys.namespace!r} in this etcd; open it with create=True')
        return state_of(value)

    def same(self, key: bytes) -> Any:
        """Compare: the key is as it was read."""
        value = self.values.get(key)
        return requests.is_absent(key) if value is None else requests.is_value(key, value)


@attrs.frozen
class Write(Generic[T_co]):
    """What is to be written, if what it goes by is still the same."""

    compares: Sequence[Any]
    operations: Sequence[Any]
    result: Callable[[KeyReading], T_co]
    """What the call comes to once it is written, given what the operations have read."""
    chunks: Sequence[tuple[bytes, bytes]] = ()
    """Keys that nobody looks for until the operations are done: written before them if they do not fit beside them, and once for
    all attempts that have this very sequence."""

    @property
    def is_large(self) -> bool:
        """Whether the chunks do not fit beside the operations."""
        return sum(len(key) + len(value) for key, value in self.chunks) > AT_ONCE


class EtcdStore:
    """One namespace in a cluster."""

    def __init__(self, connection: Connection, keys: EtcdKeys) -> None:
        self.connection = connection
        self.keys = keys
        self.time = StoreTime()

    def reading(self, answer: Any) -> KeyReading:
        """What the operations of a transaction have read."""
        values = {
            kv.key: kv.value
            for response in answer.responses
            if response.HasField('response_range')
            for kv in response.response_range.kvs
        }
        return KeyReading(values, self.keys, shown(answer.header.cluster_id), answer.header.revision)

    def read(self, wanted: Sequence[Any], deadline: float) -> KeyReading:
        """Read at one moment.

        A server whose space is used up refuses every transaction, also one that only reads.
        """
        try:
            return self.reading(self.connection.read('KV.Txn', requests.when((), wanted), deadline))
        except TooLarge:
            values, cluster, at = dict[bytes, bytes](), 0, 0
            for operation in wanted:
                request = MESSAGES['RangeRequest'](revision=at)
                request.MergeFrom(operation.request_range)
                answer = self.connection.read('KV.Range', request, deadline)
                cluster, at = answer.header.cluster_id, at or answer.header.revision
                values.update((found.key, found.value) for found in answer.kvs)
            return KeyReading(values, self.keys, shown(cluster), at)

    def look(self, wanted: Sequence[Any], work: Callable[[KeyReading], T], deadline: float) -> T:
        """What ``work`` makes of a reading; of a new one if a record that the first leads to is gone meanwhile."""
        reading = self.read(wanted, deadline)
        while True:
            try:
                return work(reading)
            except Gone:
                reading = self._later(reading, wanted, deadline)
            except Compacted:
                reading = self.read(wanted, deadline)

    def _later(self, before: KeyReading, wanted: Sequence[Any], deadline: float) -> KeyReading:
        """Another reading, for want of a record; ``SchemaMismatch`` if nothing has changed: then it will never be found."""
        reading = self.read(wanted, deadline)
        if reading.values.get(self.keys.state) == before.values.get(self.keys.state):
            raise SchemaMismatch(f'a part of the namespace {self.keys.namespace!r} is missing: somebody has deleted it by hand')
        return reading

    def change(
        self,
        wanted: Sequence[Any],
        decide: Callable[[KeyReading], T | Write[T]],
        deadline: float,
        known: KeyReading | None = None,
    ) -> T:
        """Have ``decide`` make of a reading what is to be written or, if nothing is, the result; again if others were faster.

        ``known`` is an earlier reading that is probably still true: an error or a result that it leads to does not count.
        ``BackendUnavailable`` at the deadline.
        """
        reading = known or self.read(wanted, deadline)
        is_fresh, lost = known is None, 0
        there: Sequence[tuple[bytes, bytes]] = ()
        while True:
            try:
                decision = decide(reading)
            except Gone:
                reading = self._later(reading, wanted, deadline)
                continue
            except JobsyncError:
                if is_fresh:
                    raise
                decision = None
            if isinstance(decision, Write):
                if decision.chunks is not there and decision.is_large:
                    self.put_ahead(decision.chunks, deadline)
                    there = decision.chunks
                puts = (requests.put(*chunk) for chunk in decision.chunks if not decision.is_large)
                request = requests.when(decision.compares, [*decision.operations, *puts], wanted)
                answer = self.connection.write('KV.Txn', request, deadline)
                if answer.succeeded:
                    return decision.result(self._checked(reading, self.reading(answer)))
                lost += 1
                reading = self.reading(answer)
            elif is_fresh:
                return decision  # type: ignore[return-value]
            else:
                reading = self.read(wanted, deadline)
            is_fresh = True
            if lost > 1:
                time.sleep(random.uniform(0, PAUSE_SEC * min(lost, 10)))
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f'others kept changing the namespace {self.keys.namespace!r}: gave up after {lost} attempts'
                )

    def put_ahead(self, chunks: Iterable[tuple[bytes, bytes]], deadline: float) -> None:
        """Write what does not fit beside the operations that will make it count."""
        for batch in batches(chunks):
            self.connection.write('KV.Txn', requests.when((), (requests.put(*chunk) for chunk in batch)), deadline)

    def _checked(self, before: KeyReading, after: KeyReading) -> KeyReading:
        if before.cluster not in ('', after.cluster):
            raise BackendUnavailable(
                f'another etcd cluster answers than a moment ago ({after.cluster}), and nobody knows what it has'
            )
        return after

    def read_all(self, key: bytes, prefix: bytes, deadline: float) -> KeyReading:
        """Read a key, and all keys that begin with ``prefix``, at one moment: in one answer, unless that would be too large."""
        while True:
            last = b''
            try:
                answer = self.connection.read(
                    'KV.Txn', requests.when((), [requests.get(key), requests.get_all(prefix, PAGE)]), deadline
                )
                reading, page = self.reading(answer), answer.responses[1].response_range
                if not page.more:
                    return reading
                last = page.kvs[-1].key
            except TooLarge:
                reading = self.read([requests.get(key)], deadline)
            with contextlib.suppress(Compacted):
                rest = self.range(prefix, reading.at, deadline, after=last)
                return attrs.evolve(reading, values={**reading.values, **dict(rest)})

    def range(self, prefix: bytes, at: int, deadline: float, after: bytes = b'') -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys that begin so, as they were at etcd's revision ``at``. In pieces, for there may be many."""
        first, limit = (after and after + b'\0') or prefix, PAGE
        while True:
            request = MESSAGES['RangeRequest'](key=first, range_end=requests.after(prefix), limit=limit, revision=at)
            try:
                answer = self.connection.read('KV.Range', request, deadline)
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)
                continue
            for found in answer.kvs:
                yield found.key, found.value
            if not answer.more:
                return
            first = answer.kvs[-1].key + b'\0'


def batches(chunks: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Chunks as they fit into one request."""
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in chunks:
        if batch and size + len(key) + len(value) > AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append((key, value))
        size += len(key) + len(value)
    yield batch
