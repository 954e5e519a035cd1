"""Claims, audits and rebalances: append only.

What one call appends is one record, so it is there whole or not at all. A record is a line of JSON, for operators to read, and
the items, compressed. A record of one chunk has a name made of its content: what is appended again takes the place of what it
repeats.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import attrs

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef, Rebalance
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import KeyValue, chunks
from jobsync.backends.etcd.json_form import UNREADABLE, from_form, to_json
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import CHUNKS_AT_ONCE, EtcdStore, Write
from jobsync.backends.single_writer import History

__all__ = ['EtcdHistory']

Row = Claim | Audit | Rebalance

ROWS: Mapping[HistoryKind, type[Claim | Audit]] = {HistoryKind.CLAIM: Claim, HistoryKind.AUDIT: Audit}
CHUNK_NAME = len(b'/000000')


@attrs.frozen
class Head:
    """What the items of a record share."""

    node: str
    at: dt.datetime


def record_chunks(prefix: bytes, head: Head, items: Sequence[str], *, is_new: bool = False) -> list[KeyValue]:
    """Return the keys and values of a record, in the place of an equal one unless ``is_new``."""
    content = to_json(list(dict.fromkeys(items)))
    parts = chunks(b'', packed(content))
    name = hashlib.sha256(f'{head.node}\0'.encode() + content).hexdigest()[:32]
    if is_new or len(parts) > 1:
        # t=0  a node appends a record again: it writes all chunks of it but the first
        # t=1  a purge, which read the record of before, finds it unchanged since, and deletes all its chunks
        # t=2  the node puts the first chunk: the record is spoilt
        # So a record of several chunks never takes another one's place.
        name = secrets.token_hex(16)
    first = to_json(head) + b'\n' + parts[0][1]
    return [(prefix + name.encode() + key, value) for key, value in [(parts[0][0], first), *parts[1:]]]


def rows_of(kind: HistoryKind, name: bytes, data: bytes) -> list[Row]:
    """Return what a record has; nothing if it cannot be read (rule R9), such as one whose first chunk was never written."""
    line, _, content = data.partition(b'\n')
    with contextlib.suppress(*UNREADABLE):
        if kind is HistoryKind.REBALANCE:
            return [from_form(Rebalance, json.loads(line))]
        date, head = dt.date.fromisoformat(name.split(b'/')[-2].decode()), from_form(Head, json.loads(line))
        return [ROWS[kind](item, head.node, date, head.at) for item in from_form(tuple[str, ...], json.loads(unpacked(content)))]
    return []


def time_of(row: Row) -> dt.datetime:
    """Return when a row was recorded."""
    return row.triggered_at if isinstance(row, Rebalance) else row.created_on


def identity_of(row: Row) -> Hashable:
    """Return what there is one row of: claims and audits of an item, date and node may be recorded several times."""
    return row if isinstance(row, Rebalance) else (type(row), row.item, row.date, row.node)


@attrs.frozen
class Removal:
    """Records in a row to delete, or one record to replace by what is left of it."""

    first: bytes
    end: bytes
    """The removal covers the keys from ``first`` on, before this one."""
    gone: frozenset[Hashable]
    """Identities of the rows that are deleted."""
    left: Sequence[KeyValue] = ()
    """The chunks of the record that takes the place."""

    def operation(self, since: int) -> object:
        """Return the operation, which does nothing if one of the keys was written after etcd's revision ``since``."""
        success = [requests.delete(self.first, self.end), *(requests.put(*chunk) for chunk in self.left[:1])]
        compares = [requests.unwritten(self.first, since, self.end)]
        return MESSAGES['RequestOp'](request_txn=requests.when(compares, success))


class EtcdHistory:
    """Appends to the history, reads it and purges it. Thread-safe."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self._keys = store.keys

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_claims``: one transaction, if the node's record is as this handle left it."""
        key, deadline = self._keys.node(ref.name), self._store.later()
        record = self._record(HistoryKind.CLAIM, ref.name, items, date, deadline)

        def decide(reading: KeyReading) -> Write[None] | None:
            reading.joined(ref)
            # t=0  this handle remembers its node as registered
            # t=1  the leader commits the node's eviction, and another node may own its tasks
            # t=2  the claims arrive: the node's record is not the remembered one, and they are refused
            return Write([requests.exists(self._keys.state), reading.same(key)], (), None, record) if items else None

        wanted = [requests.get(self._keys.state), requests.get(key)]
        self._store.change(wanted, decide, deadline, self._store.remembered(key))

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        deadline = self._store.later()
        record = self._record(HistoryKind.AUDIT, node, items, date, deadline)
        key = record[0][0]

        def decide(reading: KeyReading) -> Write[None] | None:
            if reading.cluster:
                reading.state  # noqa: B018 - raises SchemaMismatch where there is no namespace
            if not items or key in reading.values:
                return None
            return Write([requests.exists(self._keys.state), requests.is_absent(key)], (), None, record)

        wanted = [requests.get(self._keys.state), requests.get(key)]
        self._store.change(wanted, decide, deadline, KeyReading({}, self._keys))

    def _record(self, kind: HistoryKind, node: str, items: Sequence[str], date: dt.date, deadline: float) -> list[KeyValue]:
        self._store.read_time(deadline)
        return record_chunks(self._keys.history(kind, date), Head(node, self._store.time.earliest()), items)

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        """See ``Backend.history``."""
        deadline = self._store.later()
        return self._store.look(lambda reading: self._read(reading, [kind], date, deadline), deadline).history(
            kind, limit, date, item
        )

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        deadline = self._store.later()
        self._store.read_time(deadline)
        before = self._store.time.earliest() - older_than
        kinds = [HistoryKind.CLAIM, HistoryKind.AUDIT]
        return self._store.look(lambda reading: self._read(reading, kinds, date, deadline), deadline).incomplete(date, before)

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """See ``Backend.purge``. Thousands of records take several steps."""
        deadline, gone = self._store.later(), set[Hashable]()

        def find(reading: KeyReading) -> tuple[int, list[Removal]]:
            return reading.at, list(self._removals(reading, kind, before, deadline))

        while True:
            at, removals = self._store.look(find, deadline)
            if not removals:
                return len(gone)
            for start in range(0, len(removals), CHUNKS_AT_ONCE):
                part = removals[start : start + CHUNKS_AT_ONCE]
                for removal in part:
                    self._store.put_ahead(removal.left, deadline)
                # t=0  this handle reads a claim that is old enough to go, at etcd's revision 100
                # t=1  its node claims the item again: the record is written, at revision 101
                # t=2  the removal arrives, is skipped because of revision 101, and the next round reads anew
                request = requests.when((), (removal.operation(at) for removal in part))
                answer = self._store.connection.write('KV.Txn', request, deadline)
                for removal, response in zip(part, answer.responses, strict=True):
                    if response.response_txn.succeeded:
                        gone |= removal.gone

    def _removals(self, reading: KeyReading, kind: HistoryKind, before: dt.datetime, deadline: float) -> Iterator[Removal]:
        """Yield what to remove of one kind, as little as possible at a time, and records in a row together."""
        kinds = [kind, HistoryKind.AUDIT] if kind is HistoryKind.CLAIM else [kind]
        kept = set(map(identity_of, self._read(reading, kinds, None, deadline).purged(kind, before)))
        prefix = self._keys.history(kind)
        found = [
            (name, rows, [row for row in rows if identity_of(row) in kept])
            for name, rows in self._records(reading, kind, prefix, deadline)
        ]
        for is_whole, run in groupby(found, key=lambda record: bool(record[1]) and not record[2]):
            records = list(run)
            if is_whole:
                gone = frozenset(identity_of(row) for _, rows, _ in records for row in rows)
                yield Removal(records[0][0] + b'/', records[-1][0] + b'0', gone)
                continue
            for name, rows, left in records:
                if len(left) < len(rows):
                    gone = frozenset(map(identity_of, rows)).difference(map(identity_of, left))
                    yield Removal(name + b'/', name + b'0', gone, self._left(name, left))

    def _left(self, name: bytes, rows: Sequence[Any]) -> list[KeyValue]:
        """Return the record of the rows that are left of another one."""
        head = Head(rows[0].node, rows[0].created_on)
        return record_chunks(name.rpartition(b'/')[0] + b'/', head, [row.item for row in rows], is_new=True)

    def _read(self, reading: KeyReading, kinds: Sequence[HistoryKind], date: dt.date | None, deadline: float) -> History:
        """Return the history of some kinds, of one date or all, at the moment of a reading."""
        reading.state  # noqa: B018 - raises SchemaMismatch where there is no namespace
        history = History()
        for kind in kinds:
            records = self._records(reading, kind, self._keys.history(kind, date), deadline)
            history.add(sorted((row for _, rows in records for row in rows), key=time_of))
        return history

    def _records(
        self, reading: KeyReading, kind: HistoryKind, prefix: bytes, deadline: float
    ) -> Iterator[tuple[bytes, list[Row]]]:
        """Yield the name of each record with a prefix, and its rows."""
        found = self._store.range(prefix, reading.at, deadline)
        for name, parts in groupby(found, key=lambda keyed: keyed[0][:-CHUNK_NAME]):
            yield name, rows_of(kind, name, b''.join(value for _, value in parts))
