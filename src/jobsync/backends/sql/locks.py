"""Task locks."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, FromClause, Insert, Row, Update, bindparam, delete, insert, or_, select, update

from jobsync.backends.sql import state as states
from jobsync.backends.sql.schema import UtcDateTime
from jobsync.backends.sql.store import Store, Transaction
from jobsync.core.model import LockEdit, LockFilter, LockRequest, TaskLock

__all__ = ['edit', 'read']

COLUMNS = ('node_pattern', 'patterns', 'reason', 'created_by', 'expires_at')
"""What a request sets."""

UNKNOWN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""When a lock was made whose row, written by hand, does not say."""


@functools.lru_cache
def dump_patterns(patterns: tuple[str, ...]) -> str:
    """The column ``patterns``. Thousands of locks have the same few."""
    return json.dumps(patterns)


@functools.lru_cache
def load_patterns(text: str) -> tuple[str, ...]:
    """See ``dump_patterns``."""
    return tuple(json.loads(text))


def parse(row: Row[Any]) -> TaskLock:
    """A lock from its row. One written by hand may have ``node_pattern`` alone."""
    return TaskLock(
        id=row.id,
        task_id=row.task_id,
        patterns=load_patterns(row.patterns) if row.patterns else (row.node_pattern,),
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
        old, values = present.get(task), columns(request, state.now)
        if old is None:
            new.append({'task_id': task, **values})
        elif differs(old, request, values):
            changed.append({'id': old.id, **values})
    if not (gone or new or changed):
        return 0
    revision = states.raised(state)
    states.save(tx, revision, locks_revision=revision.number)
    if gone:
        tx.execute(delete(lock).where(tx.store.among(lock.c.id, 'ids')), {'ids': tx.store.listed(gone)})
    if changed:
        tx.execute(tx.store.built(change_locks), {'locks': tx.store.listed_rows(changed)})
    if new:
        made = {'made_at': state.now, 'made_in': revision.number}
        tx.execute(tx.store.built(add_locks), {'locks': tx.store.listed_rows(new), **made})
        # The pin's number follows from the id, which the database has just given.
        pin = lock.c.id + state.settings.total_tokens
        tx.execute(update(lock).where(or_(lock.c.token_id.is_(None), lock.c.token_id != pin)).values(token_id=pin))
    return len(gone)


def columns(request: LockRequest, now: dt.datetime) -> dict[str, Any]:
    """The ``COLUMNS`` of a request."""
    return {
        'node_pattern': request.patterns[0],
        'patterns': dump_patterns(request.patterns),
        'reason': request.reason,
        'created_by': request.created_by,
        'expires_at': None if request.expires_in is None else now + request.expires_in,
    }


def given(store: Store, key: str) -> FromClause:
    """The rows of an edit: a key, and ``COLUMNS``."""
    lock = store.tables.lock
    return store.rows('locks', {name: lock.c[name].type for name in (key, *COLUMNS)})


def add_locks(store: Store) -> Insert:
    """Insert the rows given; their ids are the database's to choose."""
    lock, row = store.tables.lock, given(store, 'task_id')
    made = [bindparam('made_at', type_=UtcDateTime), bindparam('made_in', type_=BigInteger)]
    return insert(lock).from_select(['task_id', *COLUMNS, 'created_at', 'registered'], select(*row.c, *made))


def change_locks(store: Store) -> Update:
    """Put the rows given in the place of those of these ids."""
    lock, row = store.tables.lock, given(store, 'id')
    return update(lock).where(lock.c.id == row.c.id).values({name: row.c[name] for name in COLUMNS})


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
