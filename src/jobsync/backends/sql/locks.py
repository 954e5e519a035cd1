"""Task locks and items, in a table each: the policy that only the leader reads (rule R7)."""

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

from jobsync.backend import LockEdit, LockReading, LockRequest, Revision, TaskLock, Unreadable
from jobsync.backends._common.values import next_revision
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.sound import is_text, text_bytes
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlTransaction
from jobsync.backends.sql.types import Spoilt, UtcDateTime

__all__ = ['edit_locks', 'read_locks']

COLUMNS = ('node_pattern', 'patterns', 'reason', 'created_by', 'expires_at', 'cost')
"""What a request sets. A lock has no cost."""

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
    try:
        found = json.loads(text)
    except RecursionError as error:  # brackets alone
        raise ValueError(f'patterns is nested too deeply: {text[:100]!r}') from error
    if not isinstance(found, list) or not found or not all(isinstance(pattern, str) for pattern in found):
        raise ValueError(f'patterns is {text!r}, which is no list of one text or more')
    ''.join(found).encode()  # half a surrogate pair, which JSON can escape, is no text to a database
    return tuple(found)


def parse(row: sa.Row[Any], *, is_item: bool) -> TaskLock:
    """Return a lock or an item from its row; ``ValueError`` if it cannot be read.

    A row written manually may have ``node_pattern`` and no ``patterns``.
    """
    # t=0  an operator inserts a lock with the id 2**63 - 1
    # t=1  the leader is to write its pin, whose number is higher: no column takes that, at each commit of every leader
    if row.id > states.MOST:
        raise ValueError(f'id is {row.id}, which is too high')
    patterns = load_patterns(row.patterns) if row.patterns else (row.node_pattern,)
    if not isinstance(row.task_id, str):
        raise ValueError(f'task_id is {row.task_id!r}, which is no text')  # noqa: TRY004 - a value of the store's
    if not is_text(row.task_id, getattr(row, 'text_bytes', None)):
        raise ValueError('task_id is no UTF-8')
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
        group=row.item_group if is_item else '',
        cost=row.cost if is_item else 1.0,
    )


def read_locks(tx: SqlTransaction) -> LockReading:
    """See ``Backend.read_locks``."""
    tx.hold(tx.tables.state, tx.tables.lock, tx.tables.item)
    states.read(tx)  # SchemaMismatch if the namespace is gone
    locks: list[TaskLock] = []
    reports: list[Unreadable] = []
    # The transaction ends before the rows are parsed: the server would end it if that takes long.
    found = {'lock': tx.execute(every_lock).all(), 'item': tx.conclude(every_item).all()}
    for kind, rows in found.items():
        for row in rows:
            try:
                locks.append(parse(row, is_item=kind == 'item'))
            except ValueError as error:
                reports.append(Unreadable(kind, str(row.task_id), f'{error}: left out, as if there were no such {kind}'))
    return LockReading(tuple(sorted(locks, key=attrgetter('id'))), tuple(reports))


def all_of(dialect: Dialect, *, is_item: bool) -> sa.Select[Any]:
    """Select every row of task locks or of items, as ``parse`` needs them."""
    table = table_of(dialect, is_item=is_item)
    task = sa.literal_column(text_bytes('task_id', dialect.name), sa.Integer)
    return sa.select(*table.c, task.label('text_bytes'))


every_lock, every_item = functools.partial(all_of, is_item=False), functools.partial(all_of, is_item=True)


def edit_locks(tx: SqlTransaction, change: LockEdit) -> int:
    """See ``Backend.edit_locks``."""
    row = tx.execute(numbered_state).one_or_none()
    state, lock = states.parse(row), table_of(tx.dialect, is_item=bool(change.group))
    assert row is not None
    revision = next_revision(state.revision)
    wanted = {request.task_id: request for request in change.put}
    if wanted and not (isinstance(row.last_lock, int) and 0 <= row.last_lock <= states.MOST):
        raise states.unreadable(f'last_lock is {row.last_lock!r}')
    # t=0  a subscription of logical replication, or an operator who restores this table alone, writes the state of another time
    # t=1  last_lock is below the ids that there are: the next lock, and each try of it, would be refused as a duplicate, or get
    #      the number of another task's pin
    last = max(row.last_lock, row.last_row or 0, row.last_item or 0, row.last_pin or 0) if wanted else 0
    removed = matching(tx, lock, change, state.now)
    gone = [lock_id for task, lock_id in removed.items() if task not in wanted]
    if gone:
        tx.enqueue(sa.delete(lock).where(tx.dialect.among(lock.c.id, 'ids')), {'ids': tx.dialect.listed(gone)})
    added, changed = put(tx, change.group, wanted, state, revision, last) if wanted else (0, 0)
    if gone or added or changed:
        numbered = {'last_lock': last + len(wanted)} if wanted else {}
        states.save(tx, revision, (), locks_revision=revision.number, **numbered)
    return len(gone)


def numbered_state(dialect: Dialect) -> sa.Select[Any]:
    """Select the state with the last id that a lock was given, as it is counted and as rows of locks, items and pins have it."""
    tables = dialect.tables
    numbers = {
        'last_row': (tables.lock.c.id, sa.literal_column('0', sa.BigInteger)),
        'last_item': (tables.item.c.id, sa.literal_column('0', sa.BigInteger)),
        'last_pin': (tables.token.c.token_id, tables.state.c.total_tokens),
    }
    # One whose number is too high is left out as it is read.
    found = [
        (sa.select(sa.func.max(number)).where(number <= sa.literal_column(str(states.MOST))).scalar_subquery() - first).label(
            name
        )
        for name, (number, first) in numbers.items()
    ]
    return sa.select(*states.columns(dialect), tables.state.c.last_lock, *found)


def table_of(dialect: Dialect, *, is_item: bool) -> sa.Table:
    """Return the table of task locks or of items."""
    return dialect.tables.item if is_item else dialect.tables.lock


def columns_of(table: sa.Table) -> tuple[str, ...]:
    """Return the columns of a table of locks or items that a request sets."""
    return tuple(name for name in COLUMNS if name in table.c)


def put(
    tx: SqlTransaction, group: str, wanted: Mapping[str, LockRequest], state: SqlState, revision: Revision, last_lock: int
) -> tuple[int, int]:
    """Put locks, and return how many are new and how many existing ones are changed.

    Most edits make new locks. So those are inserted first, by a statement that finds out which of them are new.
    """
    tx.dialect.check_ids(wanted)
    given: list[dict[str, Any]] = []
    place = last_lock
    for kind, requests in groupby(wanted.values(), kind_of):
        tasks = [request.task_id for request in requests]
        given.append({'place': place, 'tasks': tx.dialect.listed(tasks), **columns(kind, state.now)})
        place += len(tasks)
    lock = table_of(tx.dialect, is_item=bool(group))
    shared = {'tokens': state.settings.total_tokens, 'made_at': state.now, 'made_in': revision.number}
    in_group = {'item_group': group} if group else {}
    parameters = {'locks': tx.dialect.listed_rows(given), **shared, **in_group}
    added = tx.execute(add_items if group else add_locks, parameters).rowcount
    if added == len(wanted):
        return added, 0
    changed: list[dict[str, Any]] = []
    there = sa.select(lock).where(tx.dialect.among(lock.c.task_id, 'tasks'), is_in_group(lock))
    for row in tx.execute(there, {'tasks': tx.dialect.listed(wanted), **in_group}):
        request = wanted[row.task_id]
        values = columns(kind_of(request), state.now)
        if not group and row.node_pattern in request.patterns:  # still in effect: a leader that chooses it again writes nothing
            values['node_pattern'] = row.node_pattern
        if row.registered != revision.number and differs(row, request, values, is_item=bool(group)):
            changed.append({'id': row.id, **values})
    if changed:
        tx.enqueue(change_items if group else change_locks, {'locks': tx.dialect.listed_rows(changed)})
    return added, len(changed)


RequestKind = tuple[tuple[str, ...], str | None, str, dt.timedelta | None, float]
"""A request without its task. Most of thousands of requests are of the same kind as the one before."""

kind_of = attrgetter('patterns', 'reason', 'created_by', 'expires_in', 'cost')
"""Return the ``RequestKind`` of a request."""


def columns(kind: RequestKind, now: dt.datetime) -> dict[str, Any]:
    """Return the ``COLUMNS`` of a request."""
    patterns, reason, created_by, expires_in, cost = kind
    return {
        'node_pattern': patterns[0],
        'patterns': dump_patterns(patterns),
        'reason': reason,
        'created_by': created_by,
        'expires_at': None if expires_in is None else now + expires_in,
        'cost': cost,
    }


def is_in_group(lock: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether a row is of the group in the parameter ``item_group``; true of all locks."""
    return lock.c.item_group == sa.bindparam('item_group', type_=sa.String) if 'item_group' in lock.c else sa.true()


def insert_of(dialect: Dialect, *, is_item: bool) -> sa.Insert:
    """Insert locks or items of those tasks that have none, numbered in their order. Each row given has the tasks of one kind."""
    lock = table_of(dialect, is_item=is_item)
    types: dict[str, TypeEngine[Any]] = {
        'place': sa.BigInteger(),
        'tasks': sa.Text(),
        **{name: lock.c[name].type for name in columns_of(lock)},
    }
    kind = dialect.rows('locks', types)
    tasks = dialect.elements(kind.c.tasks, sa.String())
    number = kind.c.place + tasks.c.key + (1 - dialect.first_key)
    shared = [kind.c[name] for name in columns_of(lock)]
    made = [sa.bindparam('made_at', type_=UtcDateTime), sa.bindparam('made_in', type_=sa.BigInteger)]
    group = {'item_group': sa.bindparam('item_group', type_=sa.String)} if is_item else {}
    rows = sa.select(number, number + sa.bindparam('tokens', type_=sa.BigInteger), tasks.c.value, *shared, *made, *group.values())
    rows = rows.select_from(kind.join(tasks, sa.true()))
    rows = rows.where(~sa.exists(sa.select(lock.c.id).where(lock.c.task_id == tasks.c.value, is_in_group(lock))))
    columns = ['id', 'token_id', 'task_id', *columns_of(lock), 'created_at', 'registered', *group]
    return sa.insert(lock).from_select(columns, rows).execution_options(preserve_rowcount=True)


def update_of(dialect: Dialect, *, is_item: bool) -> sa.Update:
    """Update the locks or items of these ids to the rows given."""
    lock = table_of(dialect, is_item=is_item)
    row = dialect.rows('locks', {name: lock.c[name].type for name in ('id', *columns_of(lock))})
    return sa.update(lock).where(lock.c.id == row.c.id).values({name: row.c[name] for name in columns_of(lock)})


# A statement is built once for each function object.
add_locks, add_items = (functools.partial(insert_of, is_item=is_item) for is_item in (False, True))
change_locks, change_items = (functools.partial(update_of, is_item=is_item) for is_item in (False, True))


def differs(row: sa.Row[Any], request: LockRequest, values: dict[str, Any], *, is_item: bool) -> bool:
    """Return whether a request changes a lock, ``node_pattern`` apart, which follows the pin. An unreadable lock is changed."""
    try:
        old = parse(row, is_item=is_item)
    except ValueError:
        return True
    cost = request.cost if old.group else old.cost
    wanted = (tuple(request.patterns), request.reason, request.created_by, values['expires_at'], cost)
    return (old.patterns, old.reason, old.created_by, old.expires_at, old.cost) != wanted


def matching(tx: SqlTransaction, lock: sa.Table, change: LockEdit, now: dt.datetime) -> dict[str, int]:
    """Return the ids of the locks or items that an edit removes, by task."""
    condition = change.remove
    if condition is None:
        return {}
    query = sa.select(lock.c.task_id, lock.c.id).where(is_in_group(lock))
    parameters = {'item_group': change.group} if change.group else {}
    if condition.created_by is not None:
        query = query.where(lock.c.created_by == condition.created_by)
    if condition.expired:
        query = query.where(tx.dialect.as_time(lock.c.expires_at) <= now)
    if condition.task_ids is not None:
        query = query.where(tx.dialect.among(lock.c.task_id, 'tasks'))
        parameters['tasks'] = tx.dialect.listed(condition.task_ids)
    return {row.task_id: row.id for row in tx.execute(query, parameters)}
