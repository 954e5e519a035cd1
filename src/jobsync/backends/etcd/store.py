"""Reading some keys, deciding what to write, and writing it if the keys are still what they were."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, TypeVar

import attrs

from jobsync._random import RANDOM
from jobsync.backend import BackendOptions
from jobsync.backends._common.concerned import announcement
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import KeyValue, LogEntry
from jobsync.backends.etcd.connection import EtcdConnection
from jobsync.backends.etcd.errors import Compacted, Late, TooLarge
from jobsync.backends.etcd.item_records import FIRST, joined, record_in, record_name
from jobsync.backends.etcd.keys import ROOT, EtcdKeys
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.state import EtcdState
from jobsync.backends.etcd.storetime import StoreTime
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['CHUNKS_AT_ONCE', 'EtcdStore', 'EtcdWrite']

T = TypeVar('T')
T_co = TypeVar('T_co', covariant=True)

CHUNKS_AT_ONCE = 4
"""Chunks in one request: a megabyte. A server takes 1.5 MiB, keys included."""
PAGE = 1000
"""Keys in one answer; fewer where so large an answer is refused, or comes too late."""
PAUSE_SEC = 0.002
"""Longest pause after an attempt that lost to another writer, times the attempts so far, at most ten."""
WATCH_EVERY_SEC = 0.25
WATCH_ENDS_SEC = 5.0
"""How long before its deadline a call ends to watch the nodes for the time."""


@attrs.frozen
class EtcdWrite(Generic[T_co]):
    """What to write if the comparisons hold, and what the call returns then."""

    compares: Sequence[Any]
    operations: Sequence[Any]
    result: T_co
    records: Sequence[Sequence[KeyValue]] = ()
    """The chunks of each record that counts once the transaction is done. The first one goes into the transaction, further ones
    are written before it, once for all attempts that have this very sequence."""


class EtcdStore:
    """One namespace in an etcd cluster."""

    def __init__(self, connection: EtcdConnection, keys: EtcdKeys, options: BackendOptions) -> None:
        self.connection = connection
        self.keys = keys
        self.time = StoreTime()
        self._options = options
        self._remembered: dict[bytes, bytes] = {}

    def soon(self) -> float:
        """Return the deadline of a call that begins now, on ``time.monotonic``."""
        return time.monotonic() + self._options.op_timeout_sec

    def later(self) -> float:
        """Return the deadline of a bulk call that begins now."""
        return time.monotonic() + self._options.bulk_timeout_sec

    # The records that this handle wrote last

    def remember(self, key: bytes, value: bytes | None) -> None:
        """Remember a value as the one this handle wrote, or None once the key is another writer's."""
        if value is None:
            self._remembered.pop(key, None)
        else:
            self._remembered[key] = value

    def remembered(self, key: bytes) -> KeyReading | None:
        """Return the value that this handle wrote last, most likely still the present one."""
        value = self._remembered.get(key)
        return None if value is None else KeyReading({key: value}, self.keys)

    # Reading

    def read(self, wanted: Sequence[Any], deadline: float) -> KeyReading:
        """Read at one moment: operations that read the state and nodes.

        A server whose space is used up refuses every transaction, one that only reads too, but answers a range.
        """
        try:
            return self._reading(self.connection.read('KV.Txn', requests.when((), wanted), deadline))
        except TooLarge:
            return self.read_cluster(deadline)

    def read_state(self, deadline: float) -> KeyReading:
        """Read the state."""
        return self.read([requests.get(self.keys.state)], deadline)

    def read_cluster(self, deadline: float, at: int = 0) -> KeyReading:
        """Read the state and all nodes at one moment: now, or at etcd's revision ``at``, with ``Compacted`` if that is gone."""
        while True:
            with contextlib.suppress(*(() if at else (Compacted,))):
                answers = list(self._pages(self.keys.nodes, self.keys.state + b'\0', at, deadline))
                values = {found.key: found.value for answer in answers for found in answer.kvs}
                header = answers[0].header
                return KeyReading(values, self.keys, _identity(header), at or header.revision)

    def range(
        self, prefix: bytes, at: int, deadline: float, first: bytes = b'', page: int = PAGE, end: bytes = b''
    ) -> Iterator[KeyValue]:
        """Yield all keys with a prefix, from ``first`` on, before ``end``, in order, and their values, at etcd's revision ``at``.

        ``page``: how many keys one request reads.
        """
        for answer in self._pages(first or prefix, end or requests.end_of(prefix), at, deadline, limit=page):
            yield from ((found.key, found.value) for found in answer.kvs)

    def items_since(self, head: type[T], prefix: bytes, at: int, deadline: float, since: int) -> list[tuple[T, tuple[str, ...]]]:
        """Return head and items of each record that was written after etcd's revision ``since``, in their order."""
        answers, found = self._pages(prefix, requests.end_of(prefix), at, deadline, since), list[tuple[int, Any]]()
        for name, parts in groupby((kv for answer in answers for kv in answer.kvs), key=lambda kv: record_name(kv.key)):
            chunks = list(parts)
            if chunks[0].key.endswith(FIRST):
                # Most chunks of a large record were written before its first one, and maybe before ``since``.
                record = record_in(head, b''.join(chunk.value for chunk in chunks)) or record_in(
                    head, joined(self.range(name + b'/', at, deadline))
                )
                found += [(chunks[0].mod_revision, record)] if record else []
        return [record for _, record in sorted(found, key=itemgetter(0))]

    def records(self, prefix: bytes, entries: Sequence[LogEntry], at: int, deadline: float) -> list[bytes | None]:
        """Return the records of successive entries of a chunked log at etcd's revision ``at``; None for one that is missing."""
        first = next((entry.name(prefix) for entry in entries if entry.size), None)
        values = dict(self.range(prefix, at, deadline, first)) if first else {}
        contents = ([values.get(key) for key in entry.keys(prefix)] for entry in entries)
        return [None if None in parts else b''.join(filter(None, parts)) for parts in contents]

    def namespaces(self, deadline: float) -> Iterator[str]:
        """Yield the names of the cluster's namespaces, in order. Each takes a request, however many keys it has."""
        first, end = ROOT, requests.end_of(ROOT)
        while True:
            request = MESSAGES['RangeRequest'](key=first, range_end=end, limit=1, keys_only=True)
            answer = self.connection.read('KV.Range', request, deadline)
            if not answer.kvs:
                return
            name = answer.kvs[0].key[len(ROOT) :].partition(b'/')[0]
            yield name.decode(errors='replace')
            first = requests.end_of(ROOT + name + b'/')

    def with_state(self, work: Callable[[KeyReading], T], deadline: float) -> T:
        """Return what ``work`` makes of the state and of what etcd held at that moment."""
        while True:
            # t=0  the state is read at etcd's revision 100
            # t=1  other nodes write, and etcd is compacted up to revision 120
            # t=2  ``work`` reads records at revision 100, which etcd no longer has: the state is read again
            with contextlib.suppress(Compacted):
                return work(self.read_state(deadline))

    def read_time(self, deadline: float, *, until_sure: bool = False) -> None:
        """Read what the nodes say about the time, unless the time is known.

        ``until_sure`` reads again until the time is certain: at most for the longest heartbeat timeout.
        """
        if self.time.wants_reading:
            self.time.read_all(self.read_cluster(deadline).records()[0])
        while until_sure and not self.time.is_sure and time.monotonic() < deadline - WATCH_ENDS_SEC:
            time.sleep(WATCH_EVERY_SEC)
            self.time.read_all(self.read_cluster(deadline).records()[0])

    def _pages(self, first: bytes, end: bytes, at: int, deadline: float, since: int = 0, limit: int = PAGE) -> Iterator[Any]:
        """Yield the answers that hold all keys from ``first`` on, before ``end``, at etcd's revision ``at`` (0: now)."""
        while True:
            request = MESSAGES['RangeRequest'](
                key=first, range_end=end, limit=limit, revision=at, min_mod_revision=since and since + 1
            )
            try:
                answer = self.connection.read('KV.Range', request, deadline)
            except (TooLarge, Late):
                # t=0  over a slow line comes an answer of a megabyte, and not all of it in the time for one request
                # t=1  each later try for as much ends in the same way: this call never succeeds, however long it may take
                if limit == 1 or time.monotonic() >= deadline:
                    raise
                limit = max(1, limit // 8)
                continue
            yield answer
            if not answer.more:
                return
            first, at = answer.kvs[-1].key + b'\0', at or answer.header.revision

    def _reading(self, answer: Any) -> KeyReading:
        found = (kv for response in answer.responses for kv in response.response_range.kvs)
        return KeyReading({kv.key: kv.value for kv in found}, self.keys, _identity(answer.header), answer.header.revision)

    # Writing

    def put_state(self, state: EtcdState, concerned: Iterable[str] | None = None) -> list[Any]:
        """Return the operations that put a new state; those that watch learn which nodes it concerns (None: all)."""
        names = announcement(concerned)
        said = [requests.put(self.keys.concerned, f'{state.revision.number}{names}'.encode())] if names else []
        return [requests.put(self.keys.state, state.encoded()), *said]

    def change(
        self,
        wanted: Sequence[Any],
        decide: Callable[[KeyReading], EtcdWrite[T] | T],
        deadline: float,
        known: KeyReading | None = None,
    ) -> tuple[T, KeyReading]:
        """Write what ``decide`` makes of a reading, and decide again whenever another writer was faster.

        Returns the result of the write, or the result that ``decide`` returned because there is nothing to write; and what the
        write's operations read, or the last reading. ``known`` is an earlier reading that is probably still true: an error or a
        result that comes of it does not count. Raises ``BackendUnavailable`` at the deadline.
        """
        reading = known or self.read(wanted, deadline)
        is_fresh, lost = known is None, 0
        there = list[Sequence[KeyValue]]()
        while True:
            decision: T | EtcdWrite[T] | None = None
            try:
                decision = decide(reading)
            except Compacted:
                is_fresh = False
            except JobsyncError:
                if is_fresh:
                    raise
            if isinstance(decision, EtcdWrite):
                for record in decision.records:
                    if all(record is not other for other in there):
                        self.put_ahead(record, deadline)
                        there.append(record)
                # t=0  this handle reads a key and decides what to write
                # t=1  another writer changes the key
                # t=2  this transaction arrives: the comparison fails, and in the same step the keys are read anew
                operations = [*decision.operations, *(requests.put(*record[0]) for record in decision.records)]
                answer = self.connection.write('KV.Txn', requests.when(decision.compares, operations, wanted), deadline)
                before, reading, is_fresh = reading, self._reading(answer), True
                if answer.succeeded:
                    if before.cluster not in ('', reading.cluster):
                        raise BackendUnavailable(
                            f'another etcd cluster answers than a moment ago ({reading.cluster}): its content is unknown'
                        )
                    return decision.result, reading
                lost += 1
            elif is_fresh:
                return decision, reading  # type: ignore[return-value]
            else:
                reading, is_fresh = self.read(wanted, deadline), True
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f'other writers kept changing the namespace {self.keys.namespace!r}: gave up (attempts: {lost})'
                )
            if lost > 1:
                # t=0  this handle has lost once more, and with that attempt has read what the keys are
                # t=1  it pauses; a writer that makes one call after the other changes them a hundred times
                # t=2  an attempt that builds on t=0 would lose again, and so would each that follows
                time.sleep(RANDOM.uniform(0, PAUSE_SEC * 2 ** min(lost, 5)))
                reading, is_fresh = self.read(wanted, deadline), True

    def put_ahead(self, chunks: Sequence[KeyValue], deadline: float) -> None:
        """Write all chunks of a record but the first, without which no reader takes them for a record."""
        for start in range(1, len(chunks), CHUNKS_AT_ONCE):
            puts = (requests.put(*chunk) for chunk in chunks[start : start + CHUNKS_AT_ONCE])
            self.connection.write('KV.Txn', requests.when((), puts), deadline)


def _identity(header: Any) -> str:
    """Return the store's own identity (rule R8): etcd draws it when a cluster is made, also from a snapshot."""
    return f'{header.cluster_id:016x}'
