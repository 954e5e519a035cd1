"""The one row of ``state``: settings, timeline, revision, version, leadership, and how they change."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import ColumnElement, Row, Select, delete, insert, select, update

from jobsync.backend import INITIAL, Leadership, Member, NodeRef, NodeState, Opened, Revision, Settings, Timeline
from jobsync.backends._common.values import draw_id, draw_stamp
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.sound import is_readable
from jobsync.backends.sql.store import SqlStore, SqlTransaction
from jobsync.errors import SchemaMismatch

__all__ = [
    'SqlState',
    'check_version',
    'columns',
    'dump_members',
    'first',
    'load_members',
    'open_namespace',
    'parse',
    'raised',
    'read',
    'renew',
    'save',
]


@attrs.frozen
class SqlState:
    """The row but for ``members``, ``builds_on`` and ``last_lock``, with the store's identity, position and time."""

    settings: Settings
    timeline: Timeline
    revision: Revision
    version: Revision
    leadership: Leadership
    locks_revision: int
    last_created: dt.datetime | None
    longest_timeout_sec: float
    store: str
    position: int | None
    now: dt.datetime


def columns(store: SqlStore) -> list[ColumnElement[Any]]:
    """What ``parse`` needs in a row."""
    state = store.tables.state
    left_out = {'id', 'writer', 'builds_on', 'members', 'store', 'last_lock'}
    return [
        *(column.label('state_' + column.name) for column in state.c if column.name not in left_out),
        state.c.store.label('timeline_store'),
        store.identity().label('store_now'),
        store.position().label('position_now'),
        store.clock().label('time_now'),
    ]


def parse(row: Row[Any] | None) -> SqlState:
    """The state in a row of ``columns``; ``SchemaMismatch`` if there is no row, or one of another schema."""
    if row is None:
        raise SchemaMismatch('the state of the namespace is gone: somebody emptied its table; open it anew')
    check_version(row.state_schema_version)
    leader = None if row.state_leader is None else NodeRef(row.state_leader, row.state_leader_incarnation)
    return SqlState(
        settings=Settings(row.state_total_tokens, row.state_hash_function, row.state_format),
        timeline=Timeline(row.state_generation, row.state_timeline, row.timeline_store),
        revision=Revision(row.state_revision, row.state_stamp),
        version=Revision(row.state_version, row.state_version_stamp),
        leadership=Leadership(row.state_epoch, leader),
        locks_revision=row.state_locks_revision,
        last_created=row.state_last_created,
        longest_timeout_sec=row.state_longest_timeout_sec,
        store=row.store_now,
        position=row.position_now,
        now=row.time_now,
    )


def check_version(found: int) -> None:
    """``SchemaMismatch`` unless this is the schema that this code knows."""
    if found > SCHEMA_VERSION:
        raise SchemaMismatch(
            f'the tables have schema version {found}, and this jobsync knows versions up to {SCHEMA_VERSION}: '
            'they were made by a newer jobsync; install that one here too'
        )
    if found < SCHEMA_VERSION:
        raise SchemaMismatch(
            f'the tables have schema version {found}, and this jobsync needs version {SCHEMA_VERSION}: '
            'start one node without skip_db_init, it migrates them'
        )


def query(store: SqlStore) -> Select[Any]:
    """The state alone."""
    return select(*columns(store))


def read(tx: SqlTransaction) -> SqlState:
    """The state. In a STRUCTURE transaction it stays as read until the end."""
    return parse(tx.execute(tx.store.built(query)).one_or_none())


def raised(state: SqlState, at_least: int = 0) -> Revision:
    """The revision of a change to ``state``, above both its present number and ``at_least``."""
    return Revision(max(state.revision.number, at_least) + 1, draw_stamp())


def save(tx: SqlTransaction, revision: Revision, **changes: Any) -> None:
    """Make ``revision`` the namespace's, with other columns of the row."""
    tx.execute(update(tx.tables.state).values(revision=revision.number, stamp=revision.stamp, **changes))


def dump_revisions(revisions: Sequence[Revision]) -> str:
    """The column ``builds_on``: versions that a difference may build on, oldest first; ``change`` has what came after it."""
    return json.dumps([[revision.number, revision.stamp] for revision in revisions])


def load_revisions(text: str) -> list[Revision]:
    """See ``dump_revisions``."""
    return [Revision(number, stamp) for number, stamp in json.loads(text)]


def dump_members(members: Mapping[str, Member | None]) -> str:
    """The columns ``members``: all of them in ``state``, and in ``change`` those that a commit wrote."""
    return json.dumps({name: attrs.astuple(member) if member else None for name, member in members.items()})


def load_members(text: str) -> dict[str, Member | None]:
    """See ``dump_members``."""
    return {name: Member(*fields) if fields else None for name, fields in json.loads(text).items()}


def new_timeline(generation: int, store: str) -> dict[str, Any]:
    """The columns of a timeline that begins."""
    return {'generation': generation, 'timeline': draw_id(), 'store': store}


def first(tx: SqlTransaction, settings: Settings) -> None:
    """Insert the row of a namespace in which nothing has happened."""
    identity = tx.execute(select(tx.store.identity())).scalar_one()
    tx.execute(
        insert(tx.tables.state).values(
            id=1,
            schema_version=SCHEMA_VERSION,
            **setting_columns(settings),
            **new_timeline(0, identity),
            revision=INITIAL.number,
            stamp=INITIAL.stamp,
            version=INITIAL.number,
            version_stamp=INITIAL.stamp,
            epoch=0,
            locks_revision=0,
            last_lock=0,
            longest_timeout_sec=0.0,
            writer=0,
            builds_on=dump_revisions([INITIAL]),
            members='{}',
        )
    )


def setting_columns(settings: Settings) -> dict[str, Any]:
    """The columns of the settings."""
    return {'total_tokens': settings.total_tokens, 'hash_function': settings.hash_function, 'format': settings.format}


def open_namespace(tx: SqlTransaction, settings: Settings, dead: Collection[tuple[str, int]]) -> Opened:
    """``Backend.open`` where the schema is there: put other settings in force if no node is joined that is not ``dead``."""
    state = read(tx)
    node, lock = tx.tables.node, tx.tables.lock
    joined = select(node.c.incarnation, node.c.heartbeat)
    joined = joined.where(node.c.state == NodeState.JOINED.value, tx.store.is_sound(is_readable, node.name))
    # Nor may one of the dead beat before the end of this transaction.
    if state.settings == settings or not all(beat in dead for beat in map(tuple, tx.execute(joined.with_for_update()))):
        return Opened(state.settings, state.timeline)
    renew(tx, state.timeline, 0, **setting_columns(settings))
    tx.execute(update(lock).values(token_id=lock.c.id + settings.total_tokens))
    return Opened(settings, read(tx).timeline)


def renew(tx: SqlTransaction, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0, **changes: Any) -> None:
    """See ``Backend.renew_timeline``."""
    state = read(tx)
    if state.timeline != expected:
        return
    revision = raised(state, at_least)
    for table in (tx.tables.node, tx.tables.token, tx.tables.unowned, tx.tables.change):
        tx.execute(delete(table))
    save(
        tx,
        revision,
        version=revision.number,
        version_stamp=revision.stamp,
        leader=None,
        leader_incarnation=None,
        members='{}',
        builds_on=dump_revisions([revision]),
        longest_timeout_sec=max(state.longest_timeout_sec, longest_timeout_sec),
        **new_timeline(state.timeline.generation + 1, state.store),
        **changes,
    )
