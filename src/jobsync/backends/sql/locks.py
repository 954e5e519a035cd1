"""Task locks."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, or_, select, update

from jobsync.backends.sql import state as states
from jobsync.backends.sql.store import Transaction
from jobsync.core.model import LockEdit, LockFilter, LockRequest, TaskLock

__all__ = ['edit', 'read']

COLUMNS = ('node_pattern', 'patterns', 'reason', 'created_by', 'expires_at')
"""What a request sets."""

UNKNOWN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""When a lock was made whose row, written by hand, does not say."""


def parse(row: Row[Any]) -> TaskLock:
    """A lock from its row. One written by hand may have ``node_pattern`` alone."""
    return TaskLock(
        id=row.id,
        task_id=row.task_id,
        patterns=tuple(json.loads(row.patterns)) if row.patterns else (row.node_pattern,),
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at or UNKNOWN,
        expires_at=row.expires_at,
        registered=row.registered,
    )


def read(tx: Transaction) -> tuple[TaskLock, ...]:
    """See ``Backend.read_locks``."""
    states.read(tx)
    lock = tx.tables.lock
    return tuple(map(parse, tx.execute(select(lock).order_by(lock.c.id))))


def edit(tx: Transaction, change: LockEdit) -> int:
    """See ``Backend.edit_locks``."""
    state, lock = states.read(tx), tx.tables.lock
    wanted = {request.task_id: request for request in change.put}
    removed = matching(tx, change.remove, state.now) if change.remove is not None else {}
    present = of_tasks(tx, wanted) if wanted else {}
    gone = [lock_id for task, lock_id in removed.items() if task not in wanted]
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for task, request in wanted.items():
        old = present.get(task)
        values = columns(request, state.now)
        if old is None:
            new.append({'task_id': task, 'created_at': state.now, **values})
        elif differs(old, request, values):
            changed.append({'which': old.id, **{f'new_{name}': value for name, value in values.items()}})
    if not (gone or new or changed):
        return 0
    revision = states.raised(state)
    states.save(tx, revision, locks_revision=revision.number)
    if gone:
        tx.execute(delete(lock).where(tx.store.among(lock.c.id, 'ids')), {'ids': tx.store.listed(gone)})
    if changed:
        tx.execute(
            update(lock).where(lock.c.id == bindparam('which')).values({name: bindparam(f'new_{name}') for name in COLUMNS}),
            changed,
        )
    if new:
        tx.execute(insert(lock).values(registered=revision.number), new)
        # The pin's number follows from the id, which the database has just given.
        pin = lock.c.id + state.settings.total_tokens
        tx.execute(update(lock).where(or_(lock.c.token_id.is_(None), lock.c.token_id != pin)).values(token_id=pin))
    return len(gone)


def columns(request: LockRequest, now: dt.datetime) -> dict[str, Any]:
    """The ``COLUMNS`` of a request."""
    return {
        'node_pattern': request.patterns[0],
        'patterns': json.dumps(request.patterns),
        'reason': request.reason,
        'created_by': request.created_by,
        'expires_at': None if request.expires_in is None else now + request.expires_in,
    }


def differs(old: TaskLock, request: LockRequest, values: dict[str, Any]) -> bool:
    """Whether a request changes the lock. ``node_pattern`` is not compared: it follows the pin."""
    return (old.patterns, old.reason, old.created_by, old.expires_at) != (
        tuple(request.patterns),
        request.reason,
        request.created_by,
        values['expires_at'],
    )


def matching(tx: Transaction, condition: LockFilter, now: dt.datetime) -> dict[str, int]:
    """The ids of the locks that a filter removes, by task."""
    lock = tx.tables.lock
    query, parameters = select(lock.c.task_id, lock.c.id), {}
    if condition.created_by is not None:
        query = query.where(lock.c.created_by == condition.created_by)
    if condition.expired:
        query = query.where(lock.c.expires_at <= now)
    if condition.task_ids is not None:
        query, parameters = query.where(tx.store.among(lock.c.task_id, 'tasks')), {'tasks': tx.store.listed(condition.task_ids)}
    return {row.task_id: row.id for row in tx.execute(query, parameters)}


def of_tasks(tx: Transaction, tasks: Iterable[str]) -> dict[str, TaskLock]:
    """The locks that these tasks have, by task."""
    lock = tx.tables.lock
    rows = tx.execute(select(lock).where(tx.store.among(lock.c.task_id, 'tasks')), {'tasks': tx.store.listed(tasks)})
    return {row.task_id: parse(row) for row in rows}
