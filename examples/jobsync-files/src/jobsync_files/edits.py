"""What a plan makes of the assignment, and an edit of the task locks."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

import attrs

from jobsync.core.model import LockEdit, LockFilter, TaskLock
from jobsync.core.tokens import Plan, TokenGroup
from jobsync_files.state import Locks, Table

__all__ = ['edited', 'planned']

Row = tuple[str | None, str | None, str | None, int]


def planned(table: Table, plan: Plan, number: int) -> Table:
    """The assignment after a commit at revision ``number``, which is the version of whatever changes its owner."""
    rows: dict[int, Row] = {t: (g.owner, g.target, g.home, g.version) for g in table.groups for t in g.tokens}
    for group in plan.groups:
        for token in group.tokens:
            old = rows.get(token)
            version = old[3] if old and old[0] == group.owner else number
            rows[token] = group.owner, group.target, group.home, version
    alike = defaultdict[Row, list[int]](list)
    for token in sorted(rows):
        alike[rows[token]].append(token)
    pins = {pin.id: pin for pin in table.pins if pin.id not in plan.unpinned}
    for pin in plan.pins:
        before = pins.get(pin.id)
        pins[pin.id] = attrs.evolve(pin, version=before.version if before and before.owner == pin.owner else number)
    groups = tuple(TokenGroup(tokens, *row) for row, tokens in alike.items())
    return Table(plan.members, groups, tuple(pins[id_] for id_ in sorted(pins)))


def edited(locks: Locks, edit: LockEdit, now: dt.datetime, number: int) -> Locks:
    """The task locks after an edit at revision ``number``."""
    before = {lock.task_id: lock for lock in locks.locks}
    after = {task: lock for task, lock in before.items() if edit.remove is None or not _meets(lock, edit.remove, now)}
    highest = locks.highest_id
    for put in edit.put:
        old = before.get(put.task_id) or after.get(put.task_id)
        highest += old is None
        after[put.task_id] = TaskLock(
            id=old.id if old else highest,
            task_id=put.task_id,
            patterns=put.patterns,
            reason=put.reason,
            created_by=put.created_by,
            created_at=old.created_at if old else now,
            expires_at=None if put.expires_in is None else now + put.expires_in,
            registered=old.registered if old else number,
        )
    return Locks(tuple(sorted(after.values(), key=lambda lock: lock.id)), highest)


def _meets(lock: TaskLock, condition: LockFilter, now: dt.datetime) -> bool:
    return (
        (condition.created_by is None or lock.created_by == condition.created_by)
        and (not condition.expired or (lock.expires_at is not None and lock.expires_at <= now))
        and (condition.task_ids is None or lock.task_id in condition.task_ids)
    )
