"""Purging the history, portion by portion.

A portion is some records of one date. What it may delete depends on the date's other history: a claim goes once its item is
completed, an audit once no claim of its item is left. So the first portions of a date read the other history of the date and
delete nothing, and later ones remember it. After the claims a purge goes through the log of attempts.
"""

from __future__ import annotations

import datetime as dt
import secrets
import threading
from collections.abc import Hashable, Iterator, Sequence

import attrs

from jobsync.backend import Audit, Claim, HistoryKind, Purged
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.attempts import attempts_of
from jobsync.backends.etcd.chunked_log import KeyValue
from jobsync.backends.etcd.history import Head, identity_of, rows_of
from jobsync.backends.etcd.item_records import FIRST, begun_at, joined, record_chunks, records_in
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import CHUNKS_AT_ONCE, EtcdStore
from jobsync.backends.single_writer import Row
from jobsync.backends.single_writer.history import time_of

__all__ = ['EtcdPurging']

PAGE = 100
"""Keys that one request reads at most: few enough that a server with large records answers others meanwhile."""
LONGEST_WRITING_SEC = 24 * 3600
"""How long one call may write a record, with room to spare: ``bulk_timeout_sec`` is an hour at most."""


@attrs.frozen
class Removal:
    """A record to delete, or to replace by what is left of it."""

    name: bytes
    gone: frozenset[Hashable] = frozenset()
    """Identities of the rows of a history that are deleted."""
    left: Sequence[KeyValue] = ()
    """The chunks of the record that takes the place."""
    is_unfinished: bool = False
    """Whether the record is to be without its first chunk, which its writer puts last: another that cannot be read stays."""

    def operation(self, since: int) -> object:
        """Return the operation, which does nothing if one of the keys was written after etcd's revision ``since``."""
        prefix = self.name + b'/'
        end = requests.end_of(prefix)
        success = [requests.delete(prefix, end), *(requests.put(*chunk) for chunk in self.left[:1])]
        # t=0  this handle reads a record of claims A and B: A is completed
        # t=1  another purge leaves a record of B alone in its place; B is completed, its claim purged, and its completion too
        # t=2  the removal arrives, and nothing is there that was written since t=0: it would put B's claim back, as an open one
        compares = [requests.unwritten(prefix, since, end)]
        compares += [requests.exists(self.name + FIRST)] * bool(self.left)
        compares += [requests.is_absent(self.name + FIRST)] * self.is_unfinished
        return MESSAGES['RequestOp'](request_txn=requests.when(compares, success))


WHOLE_AT_ONCE = 50
"""Records that one request deletes: a server takes 128 operations, and others wait meanwhile."""
ATTEMPTS = 'attempts '
"""How ``Purged.resume`` begins once the claims are done."""
MOST_READ = 4
"""For how many dates the other history is remembered."""
READ_AHEAD = 10
"""How many times ``limit`` rows of the other history a portion reads that deletes nothing: that is less work than deletions."""
READING = 'reading '
"""How ``Purged.resume`` begins while the other history of a date is being read."""


@attrs.define
class OtherHistory:
    """The items of one date in the history that decides which records of another kind may go, as far as they were read.

    What is remembered stays true of records that were there when the reading began: an audit remains until no claim of its item
    is left, and a completed item is not claimed again. So one reading may take several portions.
    """

    kind: HistoryKind | None
    """The kind that it decides on; None for attempts."""
    cluster: str
    at: int
    """etcd's revision at which the reading began."""
    to_read: list[HistoryKind]
    """The histories that were not read to their end."""
    after: str = ''
    """Where the first of them goes on."""
    items: set[str] = attrs.field(factory=set)

    @classmethod
    def begin(cls, kind: HistoryKind | None, reading: KeyReading) -> OtherHistory:
        """Return one of which nothing was read: of a date's audits for claims, its claims for audits, both for attempts."""
        claims, audits = HistoryKind.CLAIM, HistoryKind.AUDIT
        to_read = [claims, audits] if kind is None else [audits] if kind is claims else [claims]
        return cls(kind, reading.cluster, reading.at, to_read)

    def add(self, items: set[str]) -> None:
        """Add items of the history that is being read; for attempts what is open, which audits take away."""
        if self.kind is None and self.to_read[0] is HistoryKind.AUDIT:
            self.items -= items
        else:
            self.items |= items


@attrs.frozen
class PurgePortion:
    """What a portion deletes, and where the next one begins."""

    removals: Sequence[Removal]
    since: int
    """Records written after this revision stay."""
    date: dt.date | None
    resume: str


class EtcdPurging:
    """Purges the history of one namespace. Thread-safe."""

    def __init__(self, store: EtcdStore) -> None:
        self._store, self._keys = store, store.keys
        self._rows_of_a_key: dict[HistoryKind | None, float] = dict.fromkeys((*HistoryKind, None), 1.0)
        """In the record of each kind that was read last; None for attempts."""
        self.forget()
        forget_in_child(self)

    def forget(self) -> None:
        """See ``Forgetful``: no thread of a forked child would release what a thread of the parent holds, or end what it adds."""
        self._other: dict[tuple[HistoryKind | None, dt.date], OtherHistory] = {}
        """What portions have read, by the kind that it decides on and the date; the oldest first."""
        self._reads = threading.Lock()
        """Held while a portion adds to it: a leader's purge and one of a person continue the same reading."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        deadline, gone = self._store.later(), set[Hashable]()
        if not after:
            self._forget(kind)
        after = after.removeprefix(READING)
        portion = self._store.with_state(lambda reading: self._portion(reading, kind, before, limit, after, deadline), deadline)
        whole = [removal for removal in portion.removals if not removal.left]
        partly = [removal for removal in portion.removals if removal.left]
        for removals, most in ((whole, WHOLE_AT_ONCE), (partly, CHUNKS_AT_ONCE)):
            for start in range(0, len(removals), most):
                gone |= self._remove(removals[start : start + most], kind, portion, deadline)
        if not portion.resume:
            self._forget(kind)
        return Purged(len(gone), portion.resume)

    def _remove(self, removals: Sequence[Removal], kind: HistoryKind, portion: PurgePortion, deadline: float) -> set[Hashable]:
        """Remove, in one request, what was not written since it was read; return the identities of the rows that are gone."""
        for removal in removals:
            self._store.put_ahead(removal.left, deadline)
        # t=0  this handle reads a claim that is old enough to go, at etcd's revision 100
        # t=1  its node claims the item again: the record is written, at revision 101
        # t=2  the removal arrives, and is skipped because of revision 101
        # In a transaction within a transaction older servers check no rights (GHSA-rfx7-8w68-q57q). So there is one operation
        # beside them, the removal of a key that no call reads: a user who may only read is refused all of it.
        operations = [requests.delete(self._keys.nothing), *(removal.operation(portion.since) for removal in removals)]
        if kind is HistoryKind.AUDIT and portion.date is not None:
            operations.append(requests.put(self._keys.purged(portion.date), secrets.token_bytes(12)))
        answer = self._store.connection.write('KV.Txn', requests.when((), operations), deadline)
        gone = set[Hashable]()
        for removal, response in zip(removals, answer.responses[1:], strict=False):
            done = response.response_txn
            if done.succeeded and done.responses[0].response_delete_range.deleted:  # not by another purge before
                gone |= removal.gone
        return gone

    def _forget(self, kind: HistoryKind) -> None:
        """Forget what was read for a kind of history, and what for the attempts, which go with the claims."""
        for key in [key for key in list(self._other) if key[0] in (kind, None)]:
            self._other.pop(key, None)

    def _portion(
        self, reading: KeyReading, kind: HistoryKind, before: dt.datetime, limit: int, after: str, deadline: float
    ) -> PurgePortion:
        """Read one portion of a history, or after the claims of the log of attempts, at the moment of a reading."""
        reading.check_namespace()
        judged = None if after.startswith(ATTEMPTS) else kind
        prefix, found = self._prefix(judged), list[tuple[bytes, list[Row]]]()
        date: dt.date | None = None
        seen, resume = 0, ATTEMPTS if judged is HistoryKind.CLAIM else ''
        for name, rows in self._records(reading, judged, after.removeprefix(ATTEMPTS), limit, deadline):
            if seen >= limit or (rows and date not in (None, date_of(rows[0]))):
                resume = ('' if judged else ATTEMPTS) + name.removeprefix(prefix).decode('latin-1')
                break
            if rows:
                date = date_of(rows[0])
            found.append((name, rows))
            seen += max(1, len(rows))
        is_any_old = any(rows and time_of(rows[0]) < before for _, rows in found)  # the rows of a record have one time
        other = self._other_history(reading, judged, date, limit, deadline) if date and is_any_old else None
        if other is not None and other.to_read:
            return PurgePortion((), reading.at, None, READING + after)

        def stays(row: Row) -> bool:
            if time_of(row) >= before:
                return True
            if other is None or not isinstance(row, (Claim, Audit)):
                return False
            return (row.item in other.items) is (judged is not HistoryKind.CLAIM)

        removals, now = list[Removal](), self._store.time.latest()
        for name, rows in found:
            left = [row for row in rows if stays(row)]
            if judged is None and rows and not left:
                removals.append(Removal(name))
            elif judged and len(left) < len(rows):
                gone = frozenset(map(identity_of, rows)).difference(map(identity_of, left))
                removals.append(Removal(name, gone, _left(name, left, now) if left else ()))
            elif not rows and is_left_over(name, before):
                removals.append(Removal(name, is_unfinished=True))
        return PurgePortion(removals, other.at if other else reading.at, date, resume)

    def _prefix(self, kind: HistoryKind | None, date: dt.date | None = None) -> bytes:
        """Return the prefix of a history, or of the log of attempts, or of one date in it."""
        return self._keys.history(kind, date) if kind else self._keys.attempts(date)

    def _records(
        self, reading: KeyReading, kind: HistoryKind | None, after: str, limit: int, deadline: float, date: dt.date | None = None
    ) -> Iterator[tuple[bytes, list[Row]]]:
        """Yield the name of each record from ``after`` on, and its rows, about ``limit`` of which one request reads."""
        prefix = self._prefix(kind, date)
        page = min(PAGE, max(1, round(limit / self._rows_of_a_key[kind])))
        chunks = self._store.range(prefix, reading.at, deadline, prefix + after.encode('latin-1'), page=page)
        for name, parts in records_in(chunks):
            rows = rows_of(kind, name, joined(parts)) if kind else list[Row](attempts_of(name, joined(parts)))
            self._rows_of_a_key[kind] = max(1.0, len(rows) / len(parts))
            yield name, rows

    def _other_history(
        self, reading: KeyReading, kind: HistoryKind | None, date: dt.date, limit: int, deadline: float
    ) -> OtherHistory:
        """Return the date's claims for a purge of audits, its audits for one of claims, what is incomplete for one of attempts.

        Reads about ``READ_AHEAD`` times ``limit`` rows more of it, if it was not read to its end.
        """
        with self._reads:
            other = self._other.pop((kind, date), None)
            if other is None or other.cluster != reading.cluster or other.at > reading.at:
                other = OtherHistory.begin(kind, reading)
            # Of several, because the leader and a person may purge at once: neither is to make the other begin again.
            # t=0  four are remembered; t=1  another purge ends, and forgets some; t=2  the oldest is gone: a copy has it still
            remembered = list(self._other.copy())
            for oldest in remembered[: max(0, len(remembered) - MOST_READ + 1)]:
                self._other.pop(oldest, None)
            self._other[kind, date] = other
            seen = 0
            while other.to_read:
                which = other.to_read[0]
                prefix = self._keys.history(which, date)
                for name, rows in self._records(reading, which, other.after, limit, deadline, date):
                    if seen >= READ_AHEAD * limit:
                        other.after = name.removeprefix(prefix).decode('latin-1')
                        return other
                    other.add({row.item for row in rows if isinstance(row, (Claim, Audit))})
                    seen += max(1, len(rows))
                other.after = ''
                del other.to_read[0]
            return other


def date_of(row: Row) -> dt.date | None:
    """Return the date of a claim or audit; None for a rebalance."""
    return row.date if isinstance(row, (Claim, Audit)) else None


def is_left_over(name: bytes, before: dt.datetime) -> bool:
    """Return whether a record that cannot be read was begun so long before a time that its writer is gone."""
    return begun_at(name) + LONGEST_WRITING_SEC < before.timestamp()


def _left(name: bytes, rows: Sequence[Row], now: dt.datetime) -> list[KeyValue]:
    """Return the record of the rows that are left of another one."""
    kept = [row for row in rows if isinstance(row, (Claim, Audit))]
    head = Head(kept[0].node, kept[0].created_on)
    return record_chunks(name.rpartition(b'/')[0] + b'/', head.node, head, [row.item for row in kept], now, is_new=True)
