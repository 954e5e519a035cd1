"""The tables of a namespace: those the user's SQL knows, and ``state``.

The prefix of their names is the namespace, in lower case, so that a statement written without quotes finds them everywhere.
Columns that hold JSON are plain text: people read them, and no statement of ours looks inside one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from jobsync.backends.sql.sound import (
    NODE_TYPES,
    is_day,
    is_expiry,
    is_list_of_numbers,
    is_list_of_patterns,
    is_list_of_texts,
    is_moment,
    is_timeout,
    is_weight,
)
from jobsync.errors import ConfigError

__all__ = ['SCHEMA_VERSION', 'Spoilt', 'Tables', 'UtcDateTime', 'moment_as_text', 'tables_for']

SCHEMA_VERSION = 3
"""Of the tables below, stored in ``state``. A change of them needs a step in ``migrations`` and a new number here."""

LONGEST_NAMESPACE = 40
"""PostgreSQL cuts names off after 63 bytes; ours add at most 22."""


def moment_as_text(moment: dt.datetime) -> str:
    """How SQLite has it."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(' ', 'microseconds')


@attrs.frozen
class Spoilt:
    """In the place of a value that cannot be read: what was found."""

    value: object


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A moment, always with a timezone in Python.

    SQLite has no type for it: there it is text in UTC, ``YYYY-MM-DD HH:MM:SS.ffffff``, which sorts as time does and which
    SQLite's own date functions understand. An operator's shorter text (``datetime('now')``) is read as well.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, ``timestamptz`` elsewhere."""
        if dialect.name == 'sqlite':
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        """To the store."""
        if value is None or dialect.name != 'sqlite':
            return value
        return moment_as_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - prescribed
        """From the store; ``Spoilt`` if it is no moment that Python can have."""
        if value is None:
            return None
        try:
            moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
            return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        except (AttributeError, OverflowError, ValueError):
            return Spoilt(value)


class Day(TypeDecorator[dt.date]):
    """A day, which SQLite has as text."""

    impl = Date
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, ``date`` elsewhere."""
        return dialect.type_descriptor(Text() if dialect.name == 'sqlite' else Date())

    def process_bind_param(self, value: dt.date | None, dialect: Dialect) -> Any:
        """To the store."""
        return value if value is None or dialect.name != 'sqlite' else value.isoformat()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - prescribed
        """From the store; ``Spoilt`` if it is no day that Python can have."""
        try:
            return dt.date.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            return Spoilt(value)


BigId = BigInteger().with_variant(Integer(), 'sqlite')
"""SQLite's row ids must be declared INTEGER."""


@attrs.frozen
class Tables:
    """The tables of one namespace."""

    namespace: str
    metadata: MetaData
    node: Table
    token: Table
    unowned: Table
    change: Table
    lock: Table
    rebalance: Table
    claim: Table
    audit: Table
    state: Table

    def names(self) -> dict[str, str]:
        """What SQL users look names up in."""
        fields = ('node', 'token', 'unowned', 'change', 'lock', 'rebalance', 'claim', 'audit', 'state')
        return {field.capitalize(): getattr(self, field).name for field in fields}


def tables_for(namespace: str) -> Tables:
    """The tables of a namespace; ``ConfigError`` if it cannot be a prefix of table names."""
    if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', namespace) or len(namespace) > LONGEST_NAMESPACE:
        raise ConfigError(
            f'appname={namespace!r} cannot begin the names of tables: letters, digits and underscores are allowed, '
            f'no digit first, at most {LONGEST_NAMESPACE} characters'
        )
    prefix, metadata = namespace.lower(), MetaData()
    return Tables(
        namespace=prefix,
        metadata=metadata,
        node=_node(prefix, metadata),
        token=_token(prefix, metadata),
        unowned=_unowned(prefix, metadata),
        change=_change(prefix, metadata),
        lock=_lock(prefix, metadata),
        rebalance=_rebalance(prefix, metadata),
        claim=_trail(prefix + 'claim', metadata),
        audit=_trail(prefix + 'audit', metadata),
        state=_state(prefix, metadata),
    )


def _node(prefix: str, metadata: MetaData) -> Table:
    return Table(
        prefix + 'node',
        metadata,
        Column('name', String, primary_key=True),
        Column('created_on', UtcDateTime, nullable=False),
        Column('last_heartbeat', UtcDateTime),
        Column('state', String, nullable=False),
        Column('incarnation', String, nullable=False),
        Column('heartbeat', BigInteger, nullable=False),
        Column('seen', BigInteger, nullable=False),
        Column('seen_stamp', BigInteger, nullable=False),
        Column('holding', Text, nullable=False),
        Column('replaces', Text, nullable=False),
        Column('weight', Float, nullable=False),
        Column('timeout_sec', Float, nullable=False),
        Column('host', String, nullable=False),
        Column('pid', BigInteger, nullable=False),
        Column('candidate', Boolean, nullable=False),
        CheckConstraint("state IN ('joined', 'left')"),
        *_sound('created_on', is_moment),
        *_sound('last_heartbeat', is_moment, or_null=True),
        *_sound('holding', is_list_of_numbers),
        *_sound('replaces', is_list_of_texts),
        *_sound('weight', is_weight),
        *_sound('timeout_sec', is_timeout),
        *(check for kind, columns in NODE_TYPES.items() for check in _sqlite_type(kind, *columns)),
    )


IS_PIN = text('task_id IS NOT NULL')
"""Every node reads the pins at every version, and without an index of theirs would read the whole table for it."""


def _token(prefix: str, metadata: MetaData) -> Table:
    """A row per token and per pin that somebody owns: so whoever counts rows counts what nodes have.

    A pin is a row with a ``task_id``; ``changed`` is the revision that last wrote a row. No index has a column that commits
    write, so that PostgreSQL can write a row anew on its own page, which has room, and leave the indexes alone.
    """
    table = Table(
        prefix + 'token',
        metadata,
        Column('token_id', BigId, primary_key=True, autoincrement=False),
        Column('node', String, CheckConstraint("node <> ''"), nullable=False),
        Column('target', String),
        Column('home', String),
        Column('version', BigInteger, nullable=False, server_default='0'),
        Column('changed', BigInteger, nullable=False, server_default='0'),
        Column('task_id', String),
        Column('pattern', String),
        *_sqlite_type('integer', 'version', 'changed'),
        *_sqlite_type('text', 'node'),
        Index(prefix + 'token_pins', 'token_id', postgresql_where=IS_PIN, sqlite_where=IS_PIN),
    )
    # A Table has had an option for this since SQLAlchemy 2.1 only.
    roomy = DDL('ALTER TABLE %(fullname)s SET (fillfactor = 85)')  # type: ignore[no-untyped-call]
    event.listen(table, 'after_create', roomy.execute_if(dialect='postgresql'))
    return table


def _unowned(prefix: str, metadata: MetaData) -> Table:
    """A row per token and per pin that is known to be nobody's: a pin no node matches, what a drained cluster has let go of.

    A token that has a row neither here nor in ``token`` is absent: whoever had it last may still hold it.
    """
    return Table(
        prefix + 'unowned',
        metadata,
        Column('token_id', BigId, primary_key=True, autoincrement=False),
        Column('target', String),
        Column('home', String),
        Column('version', BigInteger, nullable=False),
        Column('task_id', String),
        Column('pattern', String),
    )


def _change(prefix: str, metadata: MetaData) -> Table:
    """What the latest commits wrote into ``token``, pins apart: who has an older version reads this instead of all tokens.

    A row is a group of tokens that share everything but their number; ``numbers`` is a list of the store's own. Or it has the
    ``members`` that a commit wrote, and neither owner nor tokens.
    """
    return Table(
        prefix + 'change',
        metadata,
        Column('revision', BigInteger, nullable=False),
        Column('owner', String),
        Column('target', String),
        Column('home', String),
        Column('version', BigInteger, nullable=False),
        Column('numbers', Text, nullable=False),
        Column('members', Text),
    )


def _lock(prefix: str, metadata: MetaData) -> Table:
    """``patterns`` (JSON) is the policy; ``node_pattern`` shows the one of them that is in effect. ``state`` counts the ids."""
    return Table(
        prefix + 'lock',
        metadata,
        Column('id', BigId, primary_key=True, autoincrement=False),
        Column('token_id', BigInteger),
        Column('task_id', String, nullable=False),
        Column('node_pattern', String, nullable=False),
        Column('patterns', Text),
        Column('reason', String),
        Column('created_by', String, nullable=False, server_default=''),
        Column('created_at', UtcDateTime),
        Column('expires_at', UtcDateTime),
        Column('registered', BigInteger, nullable=False, server_default='0'),
        UniqueConstraint('task_id'),
        *_sound('created_at', is_moment, or_null=True),
        *_sound('expires_at', is_expiry, or_null=True),
        *_sound('patterns', is_list_of_patterns, or_null=True),
        *_sqlite_type('text', 'task_id', 'node_pattern', 'created_by'),
        *_sqlite_type('integer', 'registered'),
    )


def _rebalance(prefix: str, metadata: MetaData) -> Table:
    return Table(
        prefix + 'rebalance',
        metadata,
        Column('id', BigId, Identity(), primary_key=True),
        Column('triggered_at', UtcDateTime, nullable=False),
        Column('trigger_reason', String, nullable=False),
        Column('leader_node', String, nullable=False),
        Column('nodes_before', BigInteger, nullable=False),
        Column('nodes_after', BigInteger, nullable=False),
        Column('tokens_moved', BigInteger, nullable=False),
        Column('duration_ms', BigInteger, nullable=False),
        *_sound('triggered_at', is_moment),
        sqlite_autoincrement=True,
    )


def _trail(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column('item', String, primary_key=True),
        Column('date', Day, primary_key=True),
        Column('node', String, primary_key=True),
        Column('created_on', UtcDateTime, nullable=False),
        *_sound('date', is_day),
        *_sound('created_on', is_moment),
        # Rows come in the order of both, so a summary of each stretch of the table finds them, and costs a writer nothing.
        Index(name + '_by_date', 'date', postgresql_using='brin'),
        Index(name + '_by_time', 'created_on', postgresql_using='brin'),
    )


def _state(prefix: str, metadata: MetaData) -> Table:
    """One row. ``builds_on`` and ``members`` may be long, and most readings leave them out."""
    return Table(
        prefix + 'state',
        metadata,
        Column('id', Integer, CheckConstraint('id = 1'), primary_key=True, autoincrement=False),
        Column('schema_version', Integer, nullable=False),
        Column('total_tokens', BigInteger, nullable=False),
        Column('hash_function', String, nullable=False),
        Column('format', Integer, nullable=False),
        Column('generation', BigInteger, nullable=False),
        Column('timeline', String, nullable=False),
        Column('store', String, nullable=False),
        Column('revision', BigInteger, nullable=False),
        Column('stamp', BigInteger, nullable=False),
        Column('version', BigInteger, nullable=False),
        Column('version_stamp', BigInteger, nullable=False),
        Column('epoch', BigInteger, nullable=False),
        Column('leader', String),
        Column('leader_incarnation', String),
        Column('last_created', UtcDateTime),
        Column('locks_revision', BigInteger, nullable=False),
        Column('last_lock', BigInteger, nullable=False),
        Column('writer', Integer, nullable=False),
        Column('builds_on', Text, nullable=False),
        Column('members', Text, nullable=False),
        Column('longest_timeout_sec', Float, nullable=False),
    )


def _sound(column: str, condition: Callable[[str, str], str], *, or_null: bool = False) -> Iterator[CheckConstraint]:
    """Yield the constraint that a column meets a condition, for each dialect: it refuses an operator's slip where it is made."""
    for dialect in ('postgresql', 'sqlite'):
        found = condition(column, dialect)
        # On SQLite a condition looks at the type, and null has one.
        yield _check(column, f'{column} IS NULL OR {found}' if or_null and dialect == 'sqlite' else found, dialect)


def _sqlite_type(kind: str, *columns: str) -> Iterator[CheckConstraint]:
    """Yield the constraint that columns hold what they are declared to hold, which PostgreSQL ensures by itself."""
    for column in columns:
        yield _check(column, f"typeof({column}) = '{kind}'", 'sqlite')


def _check(column: str, condition: str, dialect: str) -> CheckConstraint:
    constraint = CheckConstraint(condition, name=f'{column}_is_sound')
    constraint.ddl_if(dialect=dialect)
    return constraint
