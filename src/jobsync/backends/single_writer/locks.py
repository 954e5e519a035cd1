"""The task locks and items of a namespace as a value."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import attrs

from jobsync.backend import LockEdit, LockFilter, LockReading, TaskLock, Unreadable, lock_key

__all__ = ['LockTable']


@attrs.frozen
class LockTable:
    """All task locks and items at one revision. Its mappings are never written to."""

    by_task: Mapping[str, TaskLock] = attrs.field(factory=dict)
    """The locks by task, and the items by ``TaskLock.key``."""
    highest_id: int = 0
    """The highest id ever given in this namespace."""
    unreadable: Mapping[str, Unreadable] = attrs.field(factory=dict)
    """What cannot be read, by its key; no such key is in ``by_task``."""

    def reading(self) -> LockReading:
        """Return what ``Backend.read_locks`` returns."""
        locks = tuple(sorted(self.by_task.values(), key=lambda lock: lock.id))
        return LockReading(locks, tuple(self.unreadable.values()))

    def edit(self, edit: LockEdit, now: dt.datetime, revision: int, latest: dt.datetime | None = None) -> LockTable:
        """Return the locks after ``Backend.edit_locks``, at the revision with this number.

        ``latest`` is the latest that the store's time may be, where the store has no clock: a new lock ends late, not early.
        """
        before, locks, unreadable, highest = self.by_task, dict(self.by_task), dict(self.unreadable), self.highest_id
        if edit.remove is not None:
            unreadable = {key: found for key, found in unreadable.items() if not _names(edit, key)}
            locks = {key: lock for key, lock in before.items() if lock.group != edit.group or not _meets(lock, edit.remove, now)}
        for put in edit.put:
            key = lock_key(edit.group, put.task_id)
            old = before.get(key) or locks.get(key)
            unreadable.pop(key, None)
            if old is None:
                highest += 1
            locks[key] = TaskLock(
                id=old.id if old else highest,
                task_id=put.task_id,
                patterns=tuple(put.patterns),
                reason=put.reason,
                created_by=put.created_by,
                created_at=old.created_at if old else now,
                expires_at=None if put.expires_in is None else (latest or now) + put.expires_in,
                registered=old.registered if old else revision,
                group=edit.group,
                cost=put.cost,
            )
        return LockTable(locks, highest, unreadable)


def _meets(lock: TaskLock, condition: LockFilter, now: dt.datetime) -> bool:
    """Return whether a filter removes this lock."""
    return (
        (condition.created_by is None or lock.created_by == condition.created_by)
        and (not condition.expired or (lock.expires_at is not None and lock.expires_at <= now))
        and (condition.task_ids is None or lock.task_id in condition.task_ids)
    )


def _names(edit: LockEdit, key: str) -> bool:
    """Return whether an edit removes the lock or item of this key without reading it."""
    group, _, task_id = key.rpartition('\0')
    condition = edit.remove
    if condition is None or group != edit.group or condition != LockFilter(task_ids=condition.task_ids):
        return False
    return condition.task_ids is None or task_id in condition.task_ids
