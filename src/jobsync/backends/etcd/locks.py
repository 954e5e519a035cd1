"""Task locks: records in a chain."""

from __future__ import annotations

import datetime as dt
import json
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from jobsync.backends.etcd import kv
from jobsync.backends.etcd.chain import Chain, Entry
from jobsync.backends.etcd.records import Records
from jobsync.backends.etcd.state import State
from jobsync.backends.etcd.store import Reading, Store, Write
from jobsync.core.model import LockEdit, LockFilter, Revision, TaskLock

__all__ = ['Locks']


def encoded(put: Iterable[TaskLock], gone: Iterable[str]) -> bytes:
    """A record: the locks that were written, and the tasks whose locks went."""
    rows = [
        [*attrs.astuple(lock)[:5], lock.created_at.isoformat(), lock.expires_at and lock.expires_at.isoformat(), lock.registered]
        for lock in put
    ]
    return zlib.compress(json.dumps([rows, list(gone)], separators=(',', ':')).encode(), 1)


def decoded(data: bytes) -> tuple[list[TaskLock], list[str]]:
    """The opposite."""
    rows, gone = json.loads(zlib.decompress(data))
    return [lock_of(*row) for row in rows], gone


def lock_of(
    id_: int, task: str, patterns: list[str], reason: str | None, by: str, created: str, expires: str | None, registered: int
) -> TaskLock:
    """A lock from its row."""
    return TaskLock(
        id=id_,
        task_id=task,
        patterns=tuple(patterns),
        reason=reason,
        created_by=by,
        created_at=dt.datetime.fromisoformat(created),
        expires_at=None if expires is None else dt.datetime.fromisoformat(expires),
        registered=registered,
    )


def meets(lock: TaskLock, condition: LockFilter, now: dt.datetime) -> bool:
    """Whether a filter removes this lock."""
    return (
        (condition.created_by is None or lock.created_by == condition.created_by)
        and (not condition.expired or (lock.expires_at is not None and lock.expires_at <= now))
        and (condition.task_ids is None or lock.task_id in condition.task_ids)
    )


@attrs.frozen
class Whole:
    """All locks at one revision of the chain."""

    revision: Revision
    locks: Mapping[str, TaskLock]
    """By task."""


class Locks:
    """Reads and edits the task locks. Thread-safe: what it remembers is one value, replaced as a whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records = Records(store, store.keys.locks)
        self._last: Whole | None = None

    def at(self, state: State, deadline: float) -> Mapping[str, TaskLock]:
        """The locks in this state: what is remembered, and the records since then."""
        chain, last = state.locks, self._last
        later = chain.since(last.revision) if last and last.revision.number else None
        locks = dict(last.locks) if last and later is not None else {}
        for _, data in self._records.read(chain.entries if later is None else later, deadline):
            put, gone = decoded(data)
            for task in gone:
                locks.pop(task, None)
            locks.update((lock.task_id, lock) for lock in put)
        found = Whole(chain.entries[-1].revision, MappingProxyType(locks))
        self._last = found
        return found.locks

    def read(self, state: State, deadline: float) -> tuple[TaskLock, ...]:
        """See ``Backend.read_locks``."""
        return tuple(sorted(self.at(state, deadline).values(), key=lambda lock: lock.id))

    def edit(self, edit: LockEdit, deadline: float) -> int:
        """See ``Backend.edit_locks``."""

        def decide(reading: Reading) -> int | Write[int]:
            state, now = reading.state, self._store.now()
            before = self.at(state, deadline)
            revision = state.next_revision()
            locks, ids = after_edit(before, edit, now, revision.number, state.lock_ids)
            gone = before.keys() - locks.keys()
            if locks == before:
                return 0
            chain, data, entry = self._written(state.locks, before, locks, revision)
            after = attrs.evolve(state, revision=revision, locks_revision=revision.number, locks=chain, lock_ids=ids)
            return Write(
                [reading.same(reading.keys.state)],
                [kv.put(reading.keys.state, after.encoded()), *self._records.clean_up(chain)],
                lambda _: len(gone),
                self._records.chunks(entry, data),
            )

        return self._store.change([kv.get(self._store.keys.state)], decide, deadline)

    def _written(
        self, chain: Chain, before: Mapping[str, TaskLock], locks: Mapping[str, TaskLock], revision: Revision
    ) -> tuple[Chain, bytes, Entry]:
        """The chain after an edit, and the record to put there for it."""
        if locks and not chain.is_long:
            changed = (lock for task, lock in locks.items() if (old := before.get(task)) is not lock and old != lock)
            data = encoded(changed, before.keys() - locks.keys())
            entry = Entry(revision, len(data))
            return chain.with_changes(entry), data, entry
        data = encoded(locks.values(), ()) if locks else b''
        entry = Entry(revision, len(data))
        return Chain((entry,)), data, entry


def after_edit(
    before: Mapping[str, TaskLock], edit: LockEdit, now: dt.datetime, revision: int, ids: int
) -> tuple[dict[str, TaskLock], int]:
    """The locks after an edit, and the highest id then given."""
    locks = dict(before)
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
            'expires_at': None if put.expires_in is None else now + put.expires_in,
        }
        if old is None:
            locks[put.task_id] = TaskLock(id=ids, task_id=put.task_id, created_at=now, registered=revision, **fields)
        else:
            locks[put.task_id] = attrs.evolve(old, **fields)
    return locks, ids
