"""Task locks: records in a chain."""

from __future__ import annotations

import datetime as dt
import json
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from jobsync.backend import LockEdit, LockFilter, LockReading, Revision, TaskLock, Unreadable
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import ChunkedLog, Entry
from jobsync.backends.etcd.nodes import EtcdNodes
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.backends.etcd.records import Records
from jobsync.backends.etcd.state import EtcdState
from jobsync.backends.etcd.store import EtcdStore, Gone, KeyReading, Write
from jobsync.backends.etcd.storetime import StoreTime

__all__ = ['EtcdLocks']


def encoded(rows: Iterable[Any], gone: Iterable[str]) -> bytes:
    """Return a record: the locks that were written, and the tasks whose locks went."""
    return packed(json.dumps([list(rows), list(gone)], separators=(',', ':')).encode())


def row_of(lock: TaskLock) -> list[Any]:
    """Return the form in which a lock is stored."""
    expires = lock.expires_at and lock.expires_at.isoformat()
    return [*attrs.astuple(lock)[:5], lock.created_at.isoformat(), expires, lock.registered]


def lock_of(row: Any) -> TaskLock:
    """Return the lock that a row is of; raise ``ValueError`` or ``TypeError`` for one that ``row_of`` did not make."""
    id_, task, patterns, reason, by, created, expires, registered = row
    lock = TaskLock(
        id=id_,
        task_id=task,
        patterns=tuple(patterns),
        reason=reason,
        created_by=by,
        created_at=dt.datetime.fromisoformat(created),
        expires_at=None if expires is None else dt.datetime.fromisoformat(expires),
        registered=registered,
    )
    numbers, texts = (id_, registered), (task, by, *lock.patterns, *(() if reason is None else (reason,)))
    times = (lock.created_at, *(() if lock.expires_at is None else (lock.expires_at,)))
    if not (
        isinstance(patterns, list)
        and all(isinstance(number, int) for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and all(time.tzinfo for time in times)
    ):
        raise ValueError('a field of another kind')
    return lock


def meets(lock: TaskLock, condition: LockFilter, now: dt.datetime) -> bool:
    """Return whether a filter removes this lock."""
    return (
        (condition.created_by is None or lock.created_by == condition.created_by)
        and (not condition.expired or (lock.expires_at is not None and lock.expires_at <= now))
        and (condition.task_ids is None or lock.task_id in condition.task_ids)
    )


@attrs.frozen
class WholeLocks:
    """All locks at one revision of the chain. What it holds is never written to."""

    revision: Revision
    locks: Mapping[str, TaskLock] = attrs.field(factory=dict)
    """By task."""
    spoilt: Mapping[str, Any] = attrs.field(factory=dict)
    """Rows that are no locks, by task (rule R9). They stay until their task has a lock again, or none."""
    problems: tuple[str, ...] = ()
    """Of records that cannot be read at all."""

    def after(self, entry: Entry, data: bytes | None) -> WholeLocks:
        """Return all locks after one more record."""
        rows, gone, problems = [], [], self.problems
        try:
            if entry.size:
                rows, gone = json.loads(unpacked(data or b''))
            over = {*gone, *(row[1] for row in rows)}
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            problems = (
                *problems,
                f'the record of revision {entry.revision.number} cannot be read ({reprlib.repr(error)}): its locks are left out',
            )
            rows, over = [], set()
        locks = {task: lock for task, lock in self.locks.items() if task not in over}
        spoilt = {task: row for task, row in self.spoilt.items() if task not in over}
        for row in rows:
            try:
                locks[row[1]] = lock_of(row)
            except (ValueError, TypeError):
                spoilt[row[1]] = row
        return WholeLocks(entry.revision, locks, spoilt, problems)

    def reading(self) -> LockReading:
        """Return what ``Backend.read_locks`` answers."""
        lost = [Unreadable('lock', '', problem) for problem in self.problems]
        spoilt = [
            Unreadable('lock', str(task), f'{reprlib.repr(row)} is no lock: it is left out') for task, row in self.spoilt.items()
        ]
        return LockReading(tuple(sorted(self.locks.values(), key=lambda lock: lock.id)), (*lost, *spoilt))

    def removed(self, edit: LockEdit) -> set[str]:
        """Return the tasks whose spoilt rows an edit does away with."""
        gone = {put.task_id for put in edit.put}
        if edit.remove and edit.remove.created_by is None and not edit.remove.expired:
            gone |= self.spoilt.keys() if edit.remove.task_ids is None else edit.remove.task_ids
        return gone & self.spoilt.keys()


class EtcdLocks:
    """Reads and edits the task locks. Thread-safe: what it remembers is one value, replaced as a whole."""

    def __init__(self, store: EtcdStore, nodes: EtcdNodes) -> None:
        self._store = store
        self._nodes = nodes
        self._records = Records(store, store.keys.locks)
        self._last: WholeLocks | None = None

    def at(self, state: EtcdState, deadline: float) -> WholeLocks:
        """Return the locks in this state: what is remembered, and the records since then."""
        chain, last = state.locks, self._last
        start = chain.after(last.revision) if last and last.revision.number else 0
        whole = last if last and start else WholeLocks(chain.entries[0].revision)
        entries = chain.entries[start:]
        contents = self._records.read(entries, deadline)
        if None in contents and self._store.read([requests.get(self._store.keys.state)], deadline).state.locks != chain:
            raise Gone('a record was replaced while it was read')
        for entry, data in zip(entries, contents, strict=True):
            whole = whole.after(entry, data)
        self._last = whole
        return whole

    def read(self, deadline: float) -> LockReading:
        """See ``Backend.read_locks``."""
        wanted = [requests.get(self._store.keys.state)]
        return self._store.look(wanted, lambda reading: self.at(reading.state, deadline).reading(), deadline)

    def edit(self, edit: LockEdit, deadline: float) -> int:
        """See ``Backend.edit_locks``."""

        def decide(reading: KeyReading) -> int | Write[int]:
            state = reading.state
            before = self.at(state, deadline)
            revision = state.next_revision()
            locks, ids = after_edit(before.locks, edit, self._store.time, revision.number, state.lock_ids)
            gone, mended = before.locks.keys() - locks.keys(), before.removed(edit)
            if locks == before.locks and not mended:
                return 0
            spoilt = [row for task, row in before.spoilt.items() if task not in mended]
            is_whole = state.locks.is_long or not (locks or spoilt)
            if is_whole:
                rows = [*map(row_of, locks.values()), *spoilt]
                data = encoded(rows, ()) if rows else b''
            else:
                data = encoded((row_of(lock) for task, lock in locks.items() if lock != before.locks.get(task)), gone | mended)
            entry = Entry(revision, len(data), state.locks.new_place())
            chain = ChunkedLog((entry,) if is_whole else (*state.locks.entries, entry))
            after = attrs.evolve(state, revision=revision, locks_revision=revision.number, locks=chain, lock_ids=ids)
            return Write(
                [reading.same(reading.keys.state)],
                [requests.put(reading.keys.state, after.encoded()), *self._records.clean_up(chain)],
                lambda _: len(gone),
                self._records.chunks(entry, data),
            )

        if any(put.expires_in is not None for put in edit.put):
            self._nodes.watch_time(deadline)
        else:
            self._nodes.read_time(deadline)
        return self._store.change([requests.get(self._store.keys.state)], decide, deadline)


def after_edit(
    before: Mapping[str, TaskLock], edit: LockEdit, time: StoreTime, revision: int, ids: int
) -> tuple[dict[str, TaskLock], int]:
    """Return the locks after an edit, and the highest id then given. A lock ends late rather than early."""
    locks, now, latest = dict(before), time.earliest(), time.latest()
    if edit.remove is not None:
        locks = {task: lock for task, lock in before.items() if not meets(lock, edit.remove, now)}
    for put in edit.put:
        old = before.get(put.task_id) or locks.get(put.task_id)
        if old is None:
            ids += 1
        fields: dict[str, Any] = {
            'patterns': tuple(put.patterns),
            'reason': put.reason,
            'created_by': put.created_by,
            'expires_at': None if put.expires_in is None else latest + put.expires_in,
        }
        if old is None:
            locks[put.task_id] = TaskLock(id=ids, task_id=put.task_id, created_at=now, registered=revision, **fields)
        else:
            locks[put.task_id] = attrs.evolve(old, **fields)
    return locks, ids
