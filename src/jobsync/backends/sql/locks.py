"""Task locks."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import JSON, BigInteger, Insert, Row, Select, Update, bindparam, delete, exists, insert, select, true, update

from jobsync.backend import LockEdit, LockFilter, LockReading, LockRequest, Revision, TaskLock, Unreadable
from jobsync.backends.sql import state as states
from jobsync.backends.sql.schema import Spoilt, UtcDateTime
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlStore, SqlTransaction

__all__ = ['edit', 'read']

COLUMNS = ('node_pattern', 'patterns', 'reason', 'created_by', 'expires_at')
"""What a request sets."""

NEVER = 'infinity'
"""How PostgreSQL writes a moment that does not come."""

UNKNOWN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""When a lock was made whose row, written by hand, does not tell."""


@functools.lru_cache
def dump_patterns(patterns: tuple[str, ...]) -> str:
    """The column ``patterns``. Thousands of locks have the same few."""
    return json.dumps(patterns)


@functools.lru_cache
def load_patterns(text: str) -> tuple[str, ...]:
    """Return what ``dump_patterns`` was given; ``ValueError`` if ``text`` is something else."""
    found = json.loads(text)
    if not isinstance(found, list) or not found or not all(isinstance(pattern, str) for pattern in found):
        raise ValueError(f'patterns is {text!r}, which is no list of one text or more')
    ''.join(found).encode()  # half a surrogate pair, which JSON can escape, is no text to a database
    return tuple(found)


def parse(row: Row[Any]) -> TaskLock:
    """Return a lock from its row, of which one written by hand may have ``node_pattern`` alone.

    Raises ``ValueError`` if it cannot be read.
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
    states.read(tx)
    lock = tx.tables.lock
    locks: list[TaskLock] = []
    reports: list[Unreadable] = []
    for row in tx.execute(select(lock).order_by(lock.c.id)):
        try:
            locks.append(parse(row))
        except ValueError as error:
            reports.append(Unreadable('lock', str(row.task_id), f'{error}: left out, as if there were no such lock'))
    return LockReading(tuple(locks), tuple(reports))


Kind = tuple[tuple[str, ...], str | None, str, dt.timedelta | None]
"""What a request asks for, its task apart: of thousands of requests most are of the kind of the one before."""


def edit(tx: SqlTransaction, change: LockEdit) -> int:
    """See ``Backend.edit_locks``."""
    row = tx.execute(tx.store.built(numbered_state)).one_or_none()
    state, lock = states.parse(row), tx.tables.lock
    assert row is not None
    revision = states.raised(state)
    wanted = {request.task_id: request for request in change.put}
    removed = matching(tx, change.remove, state.now) if change.remove is not None else {}
    gone = [lock_id for task, lock_id in removed.items() if task not in wanted]
    if gone:
        tx.execute(delete(lock).where(tx.store.among(lock.c.id, 'ids')), {'ids': tx.store.listed(gone)})
    added, changed = put(tx, wanted, state, revision, row.last_lock) if wanted else (0, 0)
    if gone or added or changed:
        states.save(tx, revision, locks_revision=revision.number, last_lock=row.last_lock + len(wanted))
    return len(gone)


def numbered_state(store: SqlStore) -> Select[Any]:
    """The state with the last id that a lock was given."""
    return select(*states.columns(store), store.tables.state.c.last_lock)


def put(
    tx: SqlTransaction, wanted: Mapping[str, LockRequest], state: SqlState, revision: Revision, last_lock: int
) -> tuple[int, int]:
    """Put locks; how many are new, and how many are there and become others.

    Most edits make new locks. So those are inserted first, by the statement that looks which of them are new.
    """
    given: list[dict[str, Any]] = []
    place = last_lock
    for kind, requests in groupby(wanted.values(), kind_of):
        tasks = [request.task_id for request in requests]
        given.append({'place': place, 'tasks': tasks, **columns(kind, state.now)})
        place += len(tasks)
    lock = tx.tables.lock
    added = tx.execute(
        tx.store.built(add_locks),
        {
            'locks': tx.store.listed_rows(given),
            'tokens': state.settings.total_tokens,
            'made_at': state.now,
            'made_in': revision.number,
        },
    ).rowcount
    if added == len(wanted):
        return added, 0
    changed: list[dict[str, Any]] = []
    for row in tx.execute(select(lock).where(tx.store.among(lock.c.task_id, 'tasks')), {'tasks': tx.store.listed(wanted)}):
        request = wanted[row.task_id]
        values = columns(kind_of(request), state.now)
        if row.node_pattern in request.patterns:  # in force still: a leader that chooses it again writes nothing
            values['node_pattern'] = row.node_pattern
        if row.registered != revision.number and differs(row, request, values):
            changed.append({'id': row.id, **values})
    if changed:
        tx.execute(tx.store.built(change_locks), {'locks': tx.store.listed_rows(changed)})
    return added, len(changed)


kind_of = attrgetter('patterns', 'reason', 'created_by', 'expires_in')
"""The ``Kind`` of a request."""


def columns(kind: Kind, now: dt.datetime) -> dict[str, Any]:
    """The ``COLUMNS`` of a request."""
    patterns, reason, created_by, expires_in = kind
    return {
        'node_pattern': patterns[0],
        'patterns': dump_patterns(patterns),
        'reason': reason,
        'created_by': created_by,
        'expires_at': None if expires_in is None else now + expires_in,
    }


def add_locks(store: SqlStore) -> Insert:
    """Insert the locks of those tasks that have none, numbered in their order. Each row given has the tasks of one kind."""
    lock = store.tables.lock
    kind = store.rows('locks', {'place': BigInteger(), 'tasks': JSON(), **{name: lock.c[name].type for name in COLUMNS}})
    tasks, task, nth = store.json_elements(kind.c.tasks)
    number = kind.c.place + nth
    shared = [kind.c[name] for name in COLUMNS]
    made = [bindparam('made_at', type_=UtcDateTime), bindparam('made_in', type_=BigInteger)]
    rows = select(number, number + bindparam('tokens', type_=BigInteger), task, *shared, *made)
    rows = rows.select_from(kind.join(tasks, true()))
    rows = rows.where(~exists(select(lock.c.id).where(lock.c.task_id == task)))
    add = insert(lock).from_select(['id', 'token_id', 'task_id', *COLUMNS, 'created_at', 'registered'], rows)
    return add.execution_options(preserve_rowcount=True)


def change_locks(store: SqlStore) -> Update:
    """Put the rows given in the place of those of these ids."""
    lock = store.tables.lock
    row = store.rows('locks', {name: lock.c[name].type for name in ('id', *COLUMNS)})
    return update(lock).where(lock.c.id == row.c.id).values({name: row.c[name] for name in COLUMNS})


def differs(row: Row[Any], request: LockRequest, values: dict[str, Any]) -> bool:
    """Whether a request changes a lock, as it does one that cannot be read; ``node_pattern`` apart, which follows the pin."""
    try:
        old = parse(row)
    except ValueError:
        return True
    return (old.patterns, old.reason, old.created_by, old.expires_at) != (
        tuple(request.patterns),
        request.reason,
        request.created_by,
        values['expires_at'],
    )


def matching(tx: SqlTransaction, condition: LockFilter, now: dt.datetime) -> dict[str, int]:
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
