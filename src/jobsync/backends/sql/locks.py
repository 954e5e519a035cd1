"""Task locks: the policy that only the leader reads (rule R7)."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from jobsync.backend import LockEdit, LockFilter, LockReading, LockRequest, Revision, TaskLock, Unreadable
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlTransaction
from jobsync.backends.sql.types import Spoilt, UtcDateTime

__all__ = ['edit', 'read']

COLUMNS = ('node_pattern', 'patterns', 'reason', 'created_by', 'expires_at')
"""What a request sets."""

NEVER = 'infinity'
"""What PostgreSQL returns for a moment that never comes."""

UNKNOWN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The creation of a lock whose row, written manually, has no readable one."""


@functools.lru_cache
def dump_patterns(patterns: tuple[str, ...]) -> str:
    """Write the column ``patterns``. Thousands of locks share a few values."""
    return json.dumps(patterns)


@functools.lru_cache
def load_patterns(text: str) -> tuple[str, ...]:
    """Read the column ``patterns``; ``ValueError`` if it contains something else than a list of texts."""
    found = json.loads(text)
    if not isinstance(found, list) or not found or not all(isinstance(pattern, str) for pattern in found):
        raise ValueError(f'patterns is {text!r}, which is no list of one text or more')
    ''.join(found).encode()  # half a surrogate pair, which JSON can escape, is no text to a database
    return tuple(found)


def parse(row: sa.Row[Any]) -> TaskLock:
    """Return a lock from its row; ``ValueError`` if it cannot be read.

    A row written manually may have ``node_pattern`` and no ``patterns``.
    """
    patterns = load_patterns(row.patterns) if row.patterns else (row.node_pattern,)
    if not isinstance(row.task_id, str):
        raise ValueError(f'task_id is {row.task_id!r}, which is no text')  # noqa: TRY004 - a value of the store's
    expires_at = row.expires_at
    if isinstance(expires_at, Spoilt):
        if expires_at.value != NEVER:
            raise ValueError(f'expires_at is {expires_at.value!r}, which is no moment of the years 1 to 9999')
        expires_at = None
    return TaskLock(
        id=row.id,
        task_id=row.task_id,
        patterns=patterns,
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at if isinstance(row.created_at, dt.datetime) else UNKNOWN,
        expires_at=expires_at,
        registered=row.registered,
    )


def read(tx: SqlTransaction) -> LockReading:
    """See ``Backend.read_locks``."""
    states.read(tx)  # SchemaMismatch if the namespace is gone
    lock = tx.tables.lock
    locks: list[TaskLock] = []
    reports: list[Unreadable] = []
    for row in tx.execute(sa.select(lock).order_by(lock.c.id)):
        try:
            locks.append(parse(row))
        except ValueError as error:
            reports.append(Unreadable('lock', str(row.task_id), f'{error}: left out, as if there were no such lock'))
    return LockReading(tuple(locks), tuple(reports))


def edit(tx: SqlTransaction, change: LockEdit) -> int:
    """See ``Backend.edit_locks``."""
    row = tx.execute(numbered_state).one_or_none()
    state, lock = states.parse(row), tx.tables.lock
    assert row is not None
    revision = states.raised(state)
    wanted = {request.task_id: request for request in change.put}
    removed = matching(tx, change.remove, state.now) if change.remove is not None else {}
    gone = [lock_id for task, lock_id in removed.items() if task not in wanted]
    if gone:
        tx.enqueue(sa.delete(lock).where(tx.dialect.among(lock.c.id, 'ids')), {'ids': tx.dialect.listed(gone)})
    added, changed = put(tx, wanted, state, revision, row.last_lock) if wanted else (0, 0)
    if gone or added or changed:
        states.save(tx, revision, locks_revision=revision.number, last_lock=row.last_lock + len(wanted))
    return len(gone)


def numbered_state(dialect: Dialect) -> sa.Select[Any]:
    """Select the state with the last id that a lock was given."""
    return sa.select(*states.columns(dialect), dialect.tables.state.c.last_lock)


def put(
    tx: SqlTransaction, wanted: Mapping[str, LockRequest], state: SqlState, revision: Revision, last_lock: int
) -> tuple[int, int]:
    """Put locks, and return how many are new and how many existing ones are changed.

    Most edits make new locks. So those are inserted first, by a statement that finds out which of them are new.
    """
    given: list[dict[str, Any]] = []
    place = last_lock
    for kind, requests in groupby(wanted.values(), kind_of):
        tasks = [request.task_id for request in requests]
        given.append({'place': place, 'tasks': tx.dialect.listed(tasks), **columns(kind, state.now)})
        place += len(tasks)
    lock = tx.tables.lock
    shared = {'tokens': state.settings.total_tokens, 'made_at': state.now, 'made_in': revision.number}
    added = tx.execute(add_locks, {'locks': tx.dialect.listed_rows(given), **shared}).rowcount
    if added == len(wanted):
        return added, 0
    changed: list[dict[str, Any]] = []
    there = sa.select(lock).where(tx.dialect.among(lock.c.task_id, 'tasks'))
    for row in tx.execute(there, {'tasks': tx.dialect.listed(wanted)}):
        request = wanted[row.task_id]
        values = columns(kind_of(request), state.now)
        if row.node_pattern in request.patterns:  # still in effect: a leader that chooses it again writes nothing
            values['node_pattern'] = row.node_pattern
        if row.registered != revision.number and differs(row, request, values):
            changed.append({'id': row.id, **values})
    if changed:
        tx.enqueue(change_locks, {'locks': tx.dialect.listed_rows(changed)})
    return added, len(changed)


Kind = tuple[tuple[str, ...], str | None, str, dt.timedelta | None]
"""A request without its task. Most of thousands of requests are of the same kind as the one before."""

kind_of = attrgetter('patterns', 'reason', 'created_by', 'expires_in')
"""Return the ``Kind`` of a request."""


def columns(kind: Kind, now: dt.datetime) -> dict[str, Any]:
    """Return the ``COLUMNS`` of a request."""
    patterns, reason, created_by, expires_in = kind
    return {
        'node_pattern': patterns[0],
        'patterns': dump_patterns(patterns),
        'reason': reason,
        'created_by': created_by,
        'expires_at': None if expires_in is None else now + expires_in,
    }


def add_locks(dialect: Dialect) -> sa.Insert:
    """Insert the locks of those tasks that have none, numbered in their order. Each row given has the tasks of one kind."""
    lock = dialect.tables.lock
    types: dict[str, TypeEngine[Any]] = {
        'place': sa.BigInteger(),
        'tasks': sa.Text(),
        **{name: lock.c[name].type for name in COLUMNS},
    }
    kind = dialect.rows('locks', types)
    tasks = dialect.elements(kind.c.tasks, sa.String())
    number = kind.c.place + tasks.c.key + (1 - dialect.first_key)
    shared = [kind.c[name] for name in COLUMNS]
    made = [sa.bindparam('made_at', type_=UtcDateTime), sa.bindparam('made_in', type_=sa.BigInteger)]
    rows = sa.select(number, number + sa.bindparam('tokens', type_=sa.BigInteger), tasks.c.value, *shared, *made)
    rows = rows.select_from(kind.join(tasks, sa.true()))
    rows = rows.where(~sa.exists(sa.select(lock.c.id).where(lock.c.task_id == tasks.c.value)))
    add = sa.insert(lock).from_select(['id', 'token_id', 'task_id', *COLUMNS, 'created_at', 'registered'], rows)
    return add.execution_options(preserve_rowcount=True)


def change_locks(dialect: Dialect) -> sa.Update:
    """Update the locks of these ids to the rows given."""
    lock = dialect.tables.lock
    row = dialect.rows('locks', {name: lock.c[name].type for name in ('id', *COLUMNS)})
    return sa.update(lock).where(lock.c.id == row.c.id).values({name: row.c[name] for name in COLUMNS})


def differs(row: sa.Row[Any], request: LockRequest, values: dict[str, Any]) -> bool:
    """Return whether a request changes a lock, ``node_pattern`` apart, which follows the pin. An unreadable lock is changed."""
    try:
        old = parse(row)
    except ValueError:
        return True
    wanted = (tuple(request.patterns), request.reason, request.created_by, values['expires_at'])
    return (old.patterns, old.reason, old.created_by, old.expires_at) != wanted


def matching(tx: SqlTransaction, condition: LockFilter, now: dt.datetime) -> dict[str, int]:
    """Return the ids of the locks that a filter removes, by task."""
    lock = tx.tables.lock
    query, parameters = sa.select(lock.c.task_id, lock.c.id), {}
    if condition.created_by is not None:
        query = query.where(lock.c.created_by == condition.created_by)
    if condition.expired:
        query = query.where(lock.c.expires_at <= now)
    if condition.task_ids is not None:
        query = query.where(tx.dialect.among(lock.c.task_id, 'tasks'))
        parameters['tasks'] = tx.dialect.listed(condition.task_ids)
    return {row.task_id: row.id for row in tx.execute(query, parameters)}
