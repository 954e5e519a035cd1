"""Claims, audits and rebalances: append only.

What one call appends is one record, so it is there whole or not at all, however much it is. The record's key is made of its
content: what is appended again takes the place of what it repeats, and costs no space.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef, Rebalance
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.claim_log import Work, read_work, rebalance_of
from jobsync.backends.etcd.nodes import EtcdNodes, joined
from jobsync.backends.etcd.purging import Removal, purge
from jobsync.backends.etcd.store import EtcdStore, KeyReading, Write

__all__ = ['EtcdHistory']

Key = tuple[str, dt.date, str]
"""Item, date and node: what there is one claim and one audit of."""


class EtcdHistory:
    """Appends to the trails, and reads and purges them."""

    def __init__(self, store: EtcdStore, nodes: EtcdNodes) -> None:
        self._store = store
        self._keys = store.keys
        self._nodes = nodes

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, deadline: float) -> None:
        """See ``Backend.append_claims``: one transaction, if the node's record is as this handle left it."""
        self._nodes.read_time(deadline)

        def decide(reading: KeyReading) -> Write[None] | None:
            joined(reading, ref)
            if not items:
                return None
            head, chunks = Work(ref.name, date, self._store.time.earliest(), items).encoded(self._keys.claims)
            return Write(self._nodes.still(reading, ref.name), [requests.put(*head)], lambda _: None, chunks)

        wanted = [requests.get(self._keys.state), requests.get(self._keys.node(ref.name))]
        self._store.change(wanted, decide, deadline, self._nodes.last_known(ref.name))

    def append_audits(self, node: str, items: Sequence[str], date: dt.date, deadline: float) -> None:
        """See ``Backend.append_audits``."""
        self._nodes.read_time(deadline)
        head, chunks = Work(node, date, self._store.time.earliest(), items).encoded(self._keys.audits)

        def decide(reading: KeyReading) -> Write[None] | None:
            if reading.cluster:
                reading.state  # noqa: B018 - raises if there is none
            if not items or head[0] in reading.values:
                return None
            compares = [requests.exists(self._keys.state), requests.is_absent(head[0])]
            return Write(compares, [requests.put(*head)], lambda _: None, chunks)

        wanted = [requests.get(self._keys.state), requests.get(head[0])]
        self._store.change(wanted, decide, deadline, KeyReading({}, self._keys))

    def history(
        self, kind: HistoryKind, limit: int | None, date: dt.date | None, item: str | None, deadline: float
    ) -> tuple[Claim | Audit | Rebalance, ...]:
        """See ``Backend.history``."""

        def read(reading: KeyReading) -> list[Claim | Audit | Rebalance]:
            if kind is HistoryKind.REBALANCE:
                return [rebalance for _, rebalance in self._rebalances(reading, deadline) if rebalance]
            times = self._times(kind, reading, date, deadline)
            record = Claim if kind is HistoryKind.CLAIM else Audit
            return [record(key[0], key[2], key[1], at) for key, at in times.items() if item in (None, key[0])]

        found = self._look(read, deadline)
        found.sort(key=lambda record: record.triggered_at if isinstance(record, Rebalance) else record.created_on)
        return tuple(found[::-1][:limit])

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta, deadline: float) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""

        def read(reading: KeyReading) -> dict[tuple[str, dt.date], Claim]:
            audited = {key[:2] for key in self._times(HistoryKind.AUDIT, reading, date, deadline)}
            newest: dict[tuple[str, dt.date], Claim] = {}
            for (item, on, node), at in self._times(HistoryKind.CLAIM, reading, date, deadline).items():
                if (item, on) not in audited and ((item, on) not in newest or newest[item, on].created_on < at):
                    newest[item, on] = Claim(item, node, on, at)
            return newest

        self._nodes.read_time(deadline)
        before = self._store.time.earliest() - older_than
        found = [claim for claim in self._look(read, deadline).values() if claim.created_on <= before]
        return tuple(sorted(found, key=lambda claim: claim.created_on))

    def purge(self, kind: HistoryKind, before: dt.datetime, deadline: float) -> int:
        """See ``Backend.purge``. A trail of thousands of records goes in several steps."""

        def old_rebalances(reading: KeyReading) -> Iterator[Removal | None]:
            for key, rebalance in self._rebalances(reading, deadline):
                is_old = rebalance is not None and rebalance.triggered_at < before
                yield Removal(key, key + b'\0', frozenset({key})) if is_old else None

        def old_work(reading: KeyReading) -> Iterator[Removal | None]:
            gone = self._old(kind, reading, before, deadline)
            prefix = self._keys.claims if kind is HistoryKind.CLAIM else self._keys.audits
            for key, work in read_work(self._store, prefix, reading.at, deadline):
                items = [item for item in work.items if (item, work.date, work.node) not in gone] if work else []
                if work is None or len(items) == len(work.items):
                    yield None
                else:
                    left = work.of(items).encoded(prefix, new_key=True) if items else None
                    yield Removal(key, key + b'0', frozenset(gone.intersection(work.keys)), left)

        find = old_rebalances if kind is HistoryKind.REBALANCE else old_work
        return purge(self._store, lambda: self._look(lambda reading: (reading.at, list(find(reading))), deadline), deadline)

    def _old(self, kind: HistoryKind, reading: KeyReading, before: dt.datetime, deadline: float) -> set[Key]:
        """What is to go."""
        old = {key for key, at in self._times(kind, reading, None, deadline).items() if at < before}
        if kind is HistoryKind.CLAIM:
            audited = {key[:2] for key in self._times(HistoryKind.AUDIT, reading, None, deadline)}
            old = {key for key in old if key[:2] in audited}
        return old

    def _times(self, kind: HistoryKind, reading: KeyReading, date: dt.date | None, deadline: float) -> Mapping[Key, dt.datetime]:
        """When each was done: of what was recorded more than once, the last claim and the first audit."""
        is_claim = kind is HistoryKind.CLAIM
        prefix = self._keys.of_date(self._keys.claims if is_claim else self._keys.audits, date)
        times: dict[Key, dt.datetime] = {}
        for work in filter(None, (work for _, work in read_work(self._store, prefix, reading.at, deadline))):
            for key in work.keys:
                at = times.get(key)
                if at is None or (work.at > at if is_claim else work.at < at):
                    times[key] = work.at
        return times

    def _rebalances(self, reading: KeyReading, deadline: float) -> Iterator[tuple[bytes, Rebalance | None]]:
        for key, value in self._store.range(self._keys.rebalances, reading.at, deadline):
            yield key, rebalance_of(value)

    def _look(self, read: Any, deadline: float) -> Any:
        """What ``read`` makes of the trails at one moment."""

        def checked(reading: KeyReading) -> Any:
            reading.state  # noqa: B018 - raises if there is none
            return read(reading)

        return self._store.look([requests.get(self._keys.state)], checked, deadline)
