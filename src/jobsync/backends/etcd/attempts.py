"""Attempts at items: a log beside the claims, and what one handle has read of it.

A claim that counts attempts appends a record to the log, in the same transaction. A run that is registered has lost none, so a
handle reads the log only after the namespace's state has changed, as it does whenever a registration ends; and then only what is
new in it. A record that forgets attempts counts against those that were written before it.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import groupby

import attrs

from jobsync.backend import NodeRef, NodeState
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import KeyValue
from jobsync.backends.etcd.item_records import FIRST, joined, record_chunks, record_name
from jobsync.backends.etcd.json_form import UNREADABLE, from_form
from jobsync.backends.etcd.packing import unpacked
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite

__all__ = ['AttemptLog', 'AttemptRecord', 'DateAttempts']


@attrs.frozen
class AttemptRecord:
    """A run attempts items, or attempts are forgotten."""

    name: str
    incarnation: str
    """With ``name`` the run; both are empty if the attempts of every run are forgotten."""
    is_forgotten: bool
    at: dt.datetime
    items: tuple[str, ...] = ()

    def chunks(self, prefix: bytes, now: dt.datetime) -> list[KeyValue]:
        """Return the keys and values of the record, in the place of an equal one if it is small."""
        run = f'{self.name}\0{self.incarnation}\0{self.is_forgotten}'
        return record_chunks(prefix, run, attrs.evolve(self, items=()), self.items, now)


def record_of(data: bytes) -> AttemptRecord | None:
    """Return a record; None if it cannot be read (rule R9)."""
    line, _, content = data.partition(b'\n')
    try:
        return attrs.evolve(
            from_form(AttemptRecord, json.loads(line)), items=from_form(tuple[str, ...], json.loads(unpacked(content)))
        )
    except UNREADABLE:
        return None


@attrs.define
class DateAttempts:
    """The attempts at one date as they were at some moment, without those at items that were completed by then."""

    at: int = 0
    """etcd's revision at that moment."""
    state: bytes | None = None
    """The value of the namespace's state at that moment; None before anything was read."""
    purged: bytes | None = None
    """The mark of purges and releases, not younger than that moment."""
    _runs: dict[str, set[NodeRef]] = attrs.field(factory=dict)
    _lost: dict[str, int] = attrs.field(factory=dict)

    def add(self, record: AttemptRecord, completed: Container[str]) -> None:
        """Add a record that was written after all that were added before."""
        ref = NodeRef(record.name, record.incarnation)
        for item in record.items:
            if not record.is_forgotten:
                if item not in completed:
                    self._runs.setdefault(item, set()).add(ref)
            elif record.name:
                self._runs.get(item, set()).discard(ref)
            else:
                self._runs.pop(item, None)

    def count(self, joined: Container[NodeRef], completed: Container[str]) -> None:
        """Count the attempts of runs that are over, and drop those at completed items."""
        for item in [item for item, runs in self._runs.items() if not runs or item in completed]:
            del self._runs[item]
        counts = {item: sum(run not in joined for run in runs) for item, runs in self._runs.items()}
        self._lost = {item: count for item, count in counts.items() if count}

    def copy(self, at: int, state: bytes | None, purged: bytes | None) -> DateAttempts:
        """Return a copy as of another moment, to which records can be added while other threads read this one."""
        return DateAttempts(at, state, purged, {item: set(runs) for item, runs in self._runs.items()})

    def lost(self, at_least: int, items: Sequence[str] | None = None) -> Mapping[str, int]:
        """Return the items, or those among ``items``, with at least so many lost attempts."""
        if items is None:
            return {item: count for item, count in self._lost.items() if count >= at_least}
        return {item: self._lost[item] for item in items if self._lost.get(item, 0) >= at_least} if self._lost else {}


class AttemptLog:
    """The log of attempts at all dates."""

    def __init__(self, store: EtcdStore) -> None:
        self._store, self._keys = store, store.keys

    def at(
        self, known: DateAttempts, completed: Container[str], reading: KeyReading, date: dt.date, deadline: float
    ) -> DateAttempts:
        """Return the attempts at a date at the moment of a reading; those that were known, if it is a remembered one."""
        marks = reading.values.get(self._keys.state), reading.values.get(self._keys.purged(date))
        if not reading.cluster or marks == (known.state, known.purged):
            return known
        return self.caught_up(known, completed, reading, date, deadline)

    def put(self, ref: NodeRef, date: dt.date, items: Sequence[str], deadline: float) -> object:
        """Return the operation that records that a run attempts items."""
        record = AttemptRecord(ref.name, ref.incarnation, False, self._store.time.earliest(), tuple(dict.fromkeys(items)))
        parts = record.chunks(self._keys.attempts(date), self._store.time.latest())
        self._store.put_ahead(parts, deadline)
        return requests.put(*parts[0])

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        """See ``Backend.forget_attempts``."""
        deadline, run = self._store.later(), ref or NodeRef('', '')
        self._store.read_time(deadline)
        at = self._store.time.earliest()
        record = AttemptRecord(run.name, run.incarnation, True, at, tuple(dict.fromkeys(items)))
        parts, key = record.chunks(self._keys.attempts(date), self._store.time.latest()), self._keys.node(run.name)

        def decide(reading: KeyReading) -> EtcdWrite[None] | None:
            if reading.cluster:
                reading.check_namespace()
            node = reading.node(run.name) if ref else None
            is_joined = node is not None and node.ref == ref and node.state is NodeState.JOINED
            # The attempts of a run that is registered are lost for no handle. Of others, handles have counted what is forgotten
            # here: they notice by this mark.
            marks = [] if is_joined else [requests.put(self._keys.purged(date), secrets.token_bytes(12))]
            compares = [requests.exists(self._keys.state), *([reading.same(key)] if ref else [])]
            return EtcdWrite(compares, marks, None, parts) if items else None

        wanted = [requests.get(self._keys.state), *([requests.get(key)] if ref else [])]
        self._store.change(wanted, decide, deadline)

    def caught_up(
        self, known: DateAttempts, completed: Container[str], reading: KeyReading, date: dt.date, deadline: float
    ) -> DateAttempts:
        """Return the attempts at a date at the moment of a reading, from what was known before and what was completed by then."""
        # t=0  the completions are read: item x is not among them
        # t=1  node a completes x, and leaves
        # t=2  the nodes are read, and the log. Read as of t=2, they would make x an item with a lost attempt.
        cluster = self._store.read_cluster(deadline, reading.at)
        after = known.copy(reading.at, cluster.values.get(self._keys.state), reading.values.get(self._keys.purged(date)))
        for record in self._written(reading, date, known.at, deadline):
            after.add(record, completed)
        joined = {found.node.ref for found in cluster.records()[0] if found.node.state is NodeState.JOINED}
        after.count(joined, completed)
        return after

    def records(self, at: int, after: str, page: int, deadline: float) -> Iterator[tuple[bytes, dt.date, AttemptRecord | None]]:
        """Yield name and date of each record from ``after`` on, and the record; None for one that cannot be read."""
        prefix = self._keys.attempts()
        found = self._store.range(prefix, at, deadline, prefix + after.encode('latin-1'), page=page)
        for name, parts in groupby(found, key=record_name):
            try:
                date = dt.date.fromisoformat(name.split(b'/')[-2].decode())
            except ValueError:
                continue  # no key of jobsync's
            yield name, date, record_of(joined(parts))

    def _written(self, reading: KeyReading, date: dt.date, since: int, deadline: float) -> Iterator[AttemptRecord]:
        """Yield the records of a date that were written after etcd's revision ``since``, in their order."""
        prefix = self._keys.attempts(date)
        for _, key, value in sorted(self._store.written(prefix, reading.at, deadline, since)):
            if key.endswith(FIRST):
                name = key[: -len(FIRST)]
                # Most chunks of a large record were written before its first one.
                record = record_of(value) or record_of(joined(self._store.range(name + b'/', reading.at, deadline)))
                if record is not None:
                    yield record
