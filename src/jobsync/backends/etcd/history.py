"""Claims, audits and rebalances: they grow by appending, and shrink by a purge.

What one call appends is one record, so it is there whole or not at all. A record is a line of JSON, for operators to read, and
the items, compressed. A record of one chunk has a name made of its content: what is appended again takes the place of what it
repeats.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import secrets
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain

import attrs

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef, Rebalance, Unclaimed
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.attempts import AttemptLog, DateAttempts
from jobsync.backends.etcd.chunked_log import KeyValue
from jobsync.backends.etcd.item_records import ALONE, date_in, joined, place_of, record_chunks, record_in, records_in
from jobsync.backends.etcd.json_form import UNREADABLE, from_form
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite
from jobsync.backends.single_writer import History, Row
from jobsync.backends.single_writer.history import time_of

__all__ = ['EtcdHistory', 'Head', 'identity_of', 'rows_of']

ROWS: Mapping[HistoryKind, type[Claim | Audit]] = {HistoryKind.CLAIM: Claim, HistoryKind.AUDIT: Audit}
MOST_ATTEMPTS = 8
"""After so many attempts that lost to completions of other nodes, a claim goes by what the last attempt has read."""
MOST_DATES = 3
"""For how many dates is remembered what is complete: a job's, and those of its ticks, of which time zones make two."""


@attrs.frozen
class Head:
    """What the items of a record share."""

    node: str
    at: dt.datetime


def rows_of(kind: HistoryKind, name: bytes, data: bytes) -> list[Row]:
    """Return what a record has; nothing if it cannot be read (rule R9), such as one whose first chunk was never written."""
    if kind is HistoryKind.REBALANCE:
        with contextlib.suppress(*UNREADABLE):
            return [from_form(Rebalance, json.loads(data.partition(b'\n')[0]))]
    elif (date := date_in(name)) and (found := record_in(Head, data)):
        head, items = found
        return [ROWS[kind](item, head.node, date, head.at) for item in items]
    return []


def identity_of(row: Row) -> Hashable:
    """Return what there is one row of: claims and audits of an item, date and node may be recorded several times."""
    return row if isinstance(row, Rebalance) else (type(row), row.item, row.date, row.node)


@attrs.define
class CompletedItems:
    """The items of one date that were completed up to some moment. Thread-safe: it only grows.

    Each run of a node begins with an empty object. After the store has gone back in time the node is another run (rule R8), so
    nothing of another history is here.
    """

    ref: NodeRef
    date: dt.date
    seen: KeyReading | None = None
    """The marks of the date's completions and of purges at that moment; None before anything was read."""
    attempts: DateAttempts = attrs.field(factory=DateAttempts)
    """The attempts at the date, as the last claim that counted them has read them."""
    _items: set[str] = attrs.field(factory=set)

    def is_of(self, ref: NodeRef, date: dt.date) -> bool:
        """Return whether this is for a run and date."""
        return (self.ref, self.date) == (ref, date)

    def add(self, items: Iterable[str], seen: KeyReading) -> None:
        """Add the items of all completions that were recorded between ``self.seen`` and ``seen``."""
        self._items.update(items)
        # Last: a thread that reads ``seen`` before the items has all that were completed by then, and maybe more.
        self.seen = seen

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def among(self, items: Collection[str]) -> frozenset[str]:
        """Return those of the items that are completed."""
        return frozenset(self._items.intersection(items))


class EtcdHistory:
    """Appends to the history and reads it. Thread-safe."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self._keys = store.keys
        self._completed: tuple[CompletedItems, ...] = ()
        """The items known to be complete, for the runs and dates of the last claims, the last one first."""
        self.attempts = AttemptLog(store)

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        """See ``Backend.append_claims``: one transaction, if the node and what is completed are as this handle knows them."""
        key, deadline = self._keys.node(ref.name), self._store.later()
        marks = self._keys.completed(date), self._keys.purged(date)
        self._remember(last := self._last(ref, date))
        records = dict[frozenset[str], list[list[KeyValue]]]()
        tries = itertools.count()

        def decide(reading: KeyReading) -> EtcdWrite[Unclaimed] | Unclaimed:
            reading.joined(ref)
            known = self._caught_up(ref, date, reading, deadline)
            seen = known.seen
            if seen is None:
                # t=0  this handle has read what is completed at this date, and goes by what it remembers
                # t=1  other threads claim at so many other dates that this one is forgotten
                # t=2  nothing is known, and nothing to compare. What comes of a remembered reading does not count: all is read
                return Unclaimed(frozenset())
            completed, as_read, lost = known.among(items), [*map(seen.same, marks)], dict[str, int]()
            if tolerated is not None:
                attempts = known.attempts = self.attempts.at(known.attempts, known, reading, date, deadline)
                if attempts.seen is None:
                    return Unclaimed(frozenset())  # as above
                # A registration that ends, and with it attempts that are lost, changes the state.
                # t=0  lost attempts at an item are forgotten, and the mark of purges changes
                # t=1  a claim that counts none, as that of a task that waits for its turn, reads the mark and what is completed
                # t=2  this one knows the attempts of before t=0: by the marks of the completions, the lost ones would count
                as_read += [attempts.seen.same(each) for each in (self._keys.state, self._keys.purged(date))]
                lost = {item: count for item, count in attempts.lost(tolerated + 1, items).items() if item not in completed}
            unclaimed, left = Unclaimed(completed, lost), [item for item in items if item not in completed and item not in lost]
            if not left:
                return unclaimed
            if (which := frozenset(left)) not in records:
                records[which] = [self._record(HistoryKind.CLAIM, ref.name, left, date, deadline)]
                records[which] += [self.attempts.record(ref, date, left)] if tolerated is not None else []
            # t=0  this handle remembers its node as registered
            # t=1  the leader commits the node's eviction, and another node may own its tasks
            # t=2  the claims arrive: the node's record is not the remembered one, and they are refused
            compares = [requests.exists(self._keys.state), reading.same(key)]
            # t=0  this handle has read which items are completed
            # t=1  another node completes one of the items, and changes the mark with it
            # t=2  the claims arrive: the mark is not the one that was read, and what is new is read before the next attempt
            # Where nodes complete items faster than a call arrives, the reading of the attempt before is enough in the end.
            if next(tries) < MOST_ATTEMPTS:
                compares += as_read
            return EtcdWrite(compares, [], unclaimed, records[which])

        wanted = [requests.get(each) for each in (self._keys.state, key, *marks)]
        is_known = last.seen and (tolerated is None or last.attempts.seen)
        return self._store.change(wanted, decide, deadline, self._store.remembered(key) if is_known else None)[0]

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        deadline = self._store.later()

        def read(reading: KeyReading) -> DateAttempts:
            completed = {item for item, _ in self._at([HistoryKind.AUDIT], date, reading, deadline).audited}
            return self.attempts.caught_up(DateAttempts(), completed, reading, date, deadline)

        return self._store.with_state(read, deadline).lost(at_least)

    def _caught_up(self, ref: NodeRef, date: dt.date, reading: KeyReading, deadline: float) -> CompletedItems:
        """Return what is completed at the moment of a reading of the marks; as known, if the reading is a remembered one."""
        known, prefix = self._last(ref, date), self._keys.history(HistoryKind.AUDIT, date)
        if reading.cluster:
            if known.seen and not reading.agrees(known.seen, self._keys.purged(date)):
                known = CompletedItems(ref, date, attempts=known.attempts)
            since = known.seen.at if known.seen else 0
            new = self._store.items_since(Head, prefix, reading.at, deadline, since)
            known.add([item for _, items in new for item in items], reading)
            self._remember(known)
        return known

    def _last(self, ref: NodeRef, date: dt.date) -> CompletedItems:
        """Return what is known to be complete, for a run and date."""
        return next((known for known in self._completed if known.is_of(ref, date)), CompletedItems(ref, date))

    def _remember(self, known: CompletedItems) -> None:
        others = [other for other in self._completed if not other.is_of(known.ref, known.date)]
        self._completed = (known, *others)[:MOST_DATES]

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        deadline = self._store.later()
        record = self._record(HistoryKind.AUDIT, node, items, date, deadline)
        key, marks = record[0][0], (self._keys.completed(date), self._keys.purged(date))
        known = next((known for known in self._completed if known.date == date), None)
        seen = known.seen if known else None

        def decide(reading: KeyReading) -> EtcdWrite[bool] | bool:
            reading.check_namespace()
            if not items or key in reading.values:
                return False
            operations = [*map(requests.get, marks), requests.put(marks[0], token)]
            return EtcdWrite([requests.exists(self._keys.state), requests.is_absent(key)], operations, True, [record])

        token = secrets.token_bytes(12)
        wanted = [requests.get(self._keys.state), requests.get(key)]
        is_new, before = self._store.change(wanted, decide, deadline, KeyReading({}, self._keys))
        # The operations have read the marks just before this write. As they were known, only these items are new: the next claim
        # needs not read them.
        if is_new and known and seen and before.agrees(seen, *marks):
            known.add(items, attrs.evolve(before, values={**before.values, marks[0]: token}))

    def _record(self, kind: HistoryKind, node: str, items: Sequence[str], date: dt.date, deadline: float) -> list[KeyValue]:
        self._store.read_time(deadline)
        time = self._store.time
        return record_chunks(self._keys.history(kind, date), node, Head(node, time.earliest()), items, time.latest())

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        day = None if kind is HistoryKind.REBALANCE else date  # rebalances have no date
        return self._read([kind], day, self._store.later(), item).history(kind, limit, date, item)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        deadline = self._store.later()
        self._store.read_time(deadline)
        before = self._store.time.earliest() - older_than
        return self._read([HistoryKind.CLAIM, HistoryKind.AUDIT], date, deadline).incomplete(date, before)

    def _read(self, kinds: Sequence[HistoryKind], date: dt.date | None, deadline: float, item: str | None = None) -> History:
        """Return the history of some kinds, of one date or all, at one moment; see ``_at`` for ``item``."""
        return self._store.with_state(lambda reading: self._at(kinds, date, reading, deadline, item), deadline)

    def _at(
        self, kinds: Sequence[HistoryKind], date: dt.date | None, reading: KeyReading, deadline: float, item: str | None = None
    ) -> History:
        """Return the history of some kinds, of one date or all, at the moment of a reading.

        Given an item and a date, records that have another item alone are not read.
        """
        reading.check_namespace()
        history = History()
        for kind in kinds:
            prefix = self._keys.history(kind, date)
            chunks = self._store.range(prefix, reading.at, deadline, end=b'' if item is None or date is None else prefix + ALONE)
            if item is not None and date is not None:
                chunks = chain(chunks, self._store.range(prefix + place_of(item), reading.at, deadline))
            rows = [row for name, parts in records_in(chunks) for row in rows_of(kind, name, joined(parts))]
            if kind is not HistoryKind.REBALANCE:  # whose keys are in the order of their revisions
                rows.sort(key=time_of)
            history.add(rows)
        return history
