"""The one row of ``state``: settings, timeline, revision, version and leadership, and how to read and change them."""

from __future__ import annotations

import datetime as dt
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from jobsync.backend import Leadership, Member, NodeRef, Revision, Settings, Timeline
from jobsync.backends._common.values import LAST, LONGEST_TIMEOUT_SEC
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.store import SqlTransaction
from jobsync.backends.sql.types import Spoilt
from jobsync.errors import BackendUnavailable, SchemaMismatch

__all__ = [
    'MOST',
    'SqlState',
    'check_version',
    'columns',
    'dump_members',
    'dump_revisions',
    'is_upto',
    'load_members',
    'load_revisions',
    'parse',
    'read',
    'save',
    'unreadable',
]

NUMBERS = (
    'schema_version',
    'total_tokens',
    'format',
    'generation',
    'revision',
    'stamp',
    'version',
    'version_stamp',
    'epoch',
    'locks_revision',
)
"""The columns of whole numbers that every state is read with."""

numbers_of = operator.attrgetter(*(f'state_{name}' for name in NUMBERS))
"""Return these numbers in a row of ``columns``."""

MOST = 2**62
"""The highest stamp. No other number comes near it, and one more than it fits its column."""


@attrs.frozen
class SqlState:
    """The row without the columns that ``columns`` leaves out, and the store's identity, position and time."""

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


def columns(dialect: Dialect) -> list[sa.ColumnElement[Any]]:
    """Return what ``parse`` needs in a row."""
    state = dialect.tables.state
    left_out = {'id', 'writer', 'builds_on', 'members', 'announced', 'store', 'last_lock'}
    return [
        *(column.label('state_' + column.name) for column in state.c if column.name not in left_out),
        state.c.store.label('timeline_store'),
        dialect.identity().label('store_now'),
        dialect.position().label('position_now'),
        dialect.clock().label('time_now'),
    ]


def parse(row: sa.Row[Any] | None) -> SqlState:
    """Return the state in a row of ``columns``; ``SchemaMismatch`` if there is no row, or one of another schema."""
    if row is None:
        raise SchemaMismatch(
            'the table of the state is empty: put its row back from a backup, or stop all nodes, drop the tables of this '
            'namespace, and start one, which makes them'
        )
    # t=0  a person sets the revision to 2**63 - 1; a node reads it
    # t=1  the person puts back what was there: for this node, the store has gone back
    # t=2  the node renews the timeline above all that it has read. No column takes that number, at each try
    for name, number in zip(NUMBERS, numbers_of(row), strict=True):
        if not (isinstance(number, int) and 0 <= number <= MOST):
            raise unreadable(f'{name} is {number!r}')
    if not is_upto(row.state_longest_timeout_sec, LONGEST_TIMEOUT_SEC):
        raise unreadable(f'longest_timeout_sec is {row.state_longest_timeout_sec!r}')
    last = row.state_last_created
    if last is not None and (isinstance(last, Spoilt) or last > LAST):
        raise unreadable('last_created is no moment of the years 1 to 9999')
    check_version(row.state_schema_version)
    leader = None if row.state_leader is None else NodeRef(row.state_leader, row.state_leader_incarnation)
    return SqlState(
        settings=Settings(row.state_total_tokens, row.state_hash_function, row.state_format),
        timeline=Timeline(row.state_generation, row.state_timeline, row.timeline_store),
        revision=Revision(row.state_revision, row.state_stamp),
        version=Revision(row.state_version, row.state_version_stamp),
        leadership=Leadership(row.state_epoch, leader),
        locks_revision=row.state_locks_revision,
        last_created=last,
        longest_timeout_sec=row.state_longest_timeout_sec,
        store=row.store_now,
        position=row.position_now,
        now=row.time_now,
    )


def unreadable(problem: object) -> BackendUnavailable:
    """Return the error for a state that a person has changed: SQLite takes any value for a number, and JSON is text."""
    return BackendUnavailable(
        f'the state of the namespace was changed manually and cannot be read ({problem}): put back what was there, or stop all '
        'nodes and drop the tables of the namespace'
    )


def check_version(found: int) -> None:
    """Raise ``SchemaMismatch`` unless this is the schema that this code knows."""
    if found > SCHEMA_VERSION:
        raise SchemaMismatch(
            f'the tables have schema version {found}, and this jobsync knows versions up to {SCHEMA_VERSION}: '
            'they were made by a newer jobsync; install that one here too'
        )
    if found < SCHEMA_VERSION:
        raise SchemaMismatch(
            f'the tables have schema version {found}, and this jobsync needs version {SCHEMA_VERSION}: '
            'start one node without skip_db_init, it migrates them, and older nodes own nothing from then on; to look or steer '
            'before that, use the jobsync of these nodes'
        )


def query(dialect: Dialect) -> sa.Select[Any]:
    """Select the state alone."""
    return sa.select(*columns(dialect))


def read(tx: SqlTransaction) -> SqlState:
    """Read the state. In a STRUCTURE transaction no other transaction changes it before the end."""
    return parse(tx.execute(query).one_or_none())


def save(tx: SqlTransaction, revision: Revision, concerned: Iterable[str] | None = None, **changes: Any) -> None:
    """Make ``revision``, which concerns these nodes (None: all), the namespace's, and change other columns of the row."""
    tx.announce(revision.number, concerned)
    tx.enqueue(sa.update(tx.tables.state).values(revision=revision.number, stamp=revision.stamp, **changes))


def dump_revisions(revisions: Sequence[Revision]) -> str:
    """Write the column ``builds_on``: versions that a difference may build on, oldest first; ``change`` has what came later."""
    return json.dumps([[revision.number, revision.stamp] for revision in revisions])


def load_revisions(text: str) -> list[Revision]:
    """Read the column ``builds_on``. One that a person has spoilt counts as empty: no difference can build on anything."""
    try:
        return [Revision(int(number), int(stamp)) for number, stamp in json.loads(text)]
    except (TypeError, ValueError, RecursionError):
        return []


def dump_members(members: Mapping[str, Member | None]) -> str:
    """Write a column ``members``: that of ``state`` has all members, one of ``change`` has those that a commit wrote."""
    return json.dumps({name: attrs.astuple(member) if member else None for name, member in members.items()})


def load_members(text: str) -> dict[str, Member | None]:
    """Read a column ``members``."""
    try:
        members = {name: Member(*fields) if fields else None for name, fields in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise unreadable(error) from error
    for name, member in members.items():
        if member and not (
            isinstance(member.incarnation, str)
            and is_upto(member.timeout_sec, LONGEST_TIMEOUT_SEC)
            and isinstance(member.since, int)
        ):
            raise unreadable(f'{name!r} is {member} in members')
    return members


def is_upto(value: object, most: float) -> bool:
    """Return whether a value is a number from 0 to ``most``, which NaN is not."""
    return isinstance(value, (int, float)) and 0 <= value <= most
