"""Attempts at items: a log beside the claims, and what one handle has read of it.

A claim that counts attempts appends a record to the log, in the same transaction. A run that is registered has lost none, so a
handle reads the log only after the namespace's state has changed, as it does whenever a registration ends; and then only what is
new in it. A record that forgets attempts counts against those that were written before it.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Container, Iterable, Mapping, Sequence, Set

import attrs

from jobsync.backend import Claim, NodeRef, NodeState
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import KeyValue
from jobsync.backends.etcd.item_records import date_in, record_chunks, record_in
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite

__all__ = ['AttemptHead', 'AttemptLog', 'DateAttempts', 'attempts_of']


@attrs.frozen
class AttemptHead:
    """What the items of a record share: a run attempts them, or attempts at them are forgotten."""

    name: str
    incarnation: str
    """With ``name`` the run; both are empty if the attempts of every run are forgotten."""
    is_forgotten: bool
    at: dt.datetime
    items: tuple[str, ...] = ()
    """Empty: the items follow."""


def attempts_of(name: bytes, data: bytes) -> list[Claim]:
    """Return what a record attempts or forgets, in the form of claims; nothing if it cannot be read (rule R9)."""
    date, found = date_in(name), record_in(AttemptHead, data)
    return [Claim(item, found[0].name, date, found[0].at) for item in found[1]] if date and found else []


@attrs.frozen
class DateAttempts:
    """The attempts at one date as they were at some moment, without those at items that were completed by then."""

    seen: KeyReading | None = None
    """The state and the mark of purges and releases at that moment; None before anything was read."""
    _runs: Mapping[str, Set[NodeRef]] = attrs.field(factory=dict)
    _lost: Mapping[str, int] = attrs.field(factory=dict)

    def after(
        self,
        records: Iterable[tuple[AttemptHead, Sequence[str]]],
        seen: KeyReading,
        joined: Container[NodeRef],
        completed: Container[str],
    ) -> DateAttempts:
        """Return the attempts at a later moment, given the records since then, and the runs that are JOINED at it."""
        runs = {item: set(found) for item, found in self._runs.items()}
        for head, items in records:
            ref = NodeRef(head.name, head.incarnation)
            for item in items:
                if not head.is_forgotten:
                    runs.setdefault(item, set()).add(ref)
                elif head.name:
                    runs.get(item, set()).discard(ref)
                else:
                    runs.pop(item, None)
        runs = {item: found for item, found in runs.items() if found and item not in completed}
        counts = {item: sum(run not in joined for run in found) for item, found in runs.items()}
        return DateAttempts(seen, runs, {item: count for item, count in counts.items() if count})

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
        """Return the attempts at a date at the moment of a reading or later; those that are known, if it is a remembered one."""
        # t=0  this thread reads the state at etcd's revision 100
        # t=1  another node registers, and attempts item x; another thread of this handle reads all that at revision 110
        # t=2  what is known has the attempt, and the nodes of revision 100 do not have its node: it would be lost
        # So what is known counts, for it was read while this call goes on.
        seen, marks = known.seen, (self._keys.state, self._keys.purged(date))
        is_later = seen is not None and seen.cluster == reading.cluster and seen.at >= reading.at
        is_known = is_later or (seen is not None and reading.agrees(seen, *marks))
        return known if is_known or not reading.cluster else self.caught_up(known, completed, reading, date, deadline)

    def record(self, ref: NodeRef, date: dt.date, items: Sequence[str], *, is_forgotten: bool = False) -> list[KeyValue]:
        """Return the keys and values of a record: a run attempts items, or has its attempts forgotten."""
        time, of = self._store.time, f'{ref.name}\0{ref.incarnation}\0{is_forgotten}'
        head = AttemptHead(ref.name, ref.incarnation, is_forgotten, time.earliest())
        return record_chunks(self._keys.attempts(date), of, head, items, time.latest())

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        """See ``Backend.forget_attempts``."""
        deadline, run = self._store.later(), ref or NodeRef('', '')
        self._store.read_time(deadline)
        parts, key = self.record(run, date, items, is_forgotten=True), self._keys.node(run.name)

        def decide(reading: KeyReading) -> EtcdWrite[None] | None:
            reading.check_namespace()
            node = reading.node(run.name) if ref else None
            is_joined = node is not None and node.ref == ref and node.state is NodeState.JOINED
            # The attempts of a run that is registered are lost for no handle. Of others, handles have counted what is forgotten
            # here: they notice by this mark.
            marks = [] if is_joined else [requests.put(self._keys.purged(date), secrets.token_bytes(12))]
            compares = [requests.exists(self._keys.state), *([reading.same(key)] if ref else [])]
            return EtcdWrite(compares, marks, None, [parts]) if items else None

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
        joined = {found.node.ref for found in cluster.records()[0] if found.node.state is NodeState.JOINED}
        since = known.seen.at if known.seen else 0
        new = self._store.items_since(AttemptHead, self._keys.attempts(date), reading.at, deadline, since)
        return known.after(new, reading, joined, completed)
