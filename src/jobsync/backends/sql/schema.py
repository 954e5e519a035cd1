"""The tables of a namespace: those the user's SQL knows, and ``state``.

The prefix of their names is the namespace, in lower case, so that a statement written without quotes finds them everywhere.
Columns with JSON are plain text, for people who read the rows. Commits patch ``state.members`` as JSON inside the database,
triggers write ``lock.patterns``, and the conditions of ``sound`` test what the columns contain. All other statements read and
write whole values.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator

import attrs
import sqlalchemy as sa
from sqlalchemy import BigInteger, CheckConstraint, Column, Float, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.schema import SchemaItem

from jobsync.backends.sql import sound
from jobsync.backends.sql.types import BigId, Day, UtcDateTime
from jobsync.errors import ConfigError

__all__ = ['IDENTIFIED', 'ROOMY', 'SCHEMA_VERSION', 'Tables', 'conditions', 'creation', 'tables_for']

SCHEMA_VERSION = 4
"""The version of the tables below, stored in ``state``. To change a table, add a step to ``migrations`` and raise this number."""

ROOMY = 'ALTER TABLE {table} SET (fillfactor = 45)'
"""Has PostgreSQL leave more than half of each page free. Tokens that move together are on the same pages, as they were written,
and a commit makes a new version of every row of a page. Without room for all of them it writes twice as much."""

IDENTIFIED = 'ALTER TABLE {table} REPLICA IDENTITY FULL'
"""For a table without a key. Where a publication has all tables of the database, for logical replication, PostgreSQL refuses to
delete rows that it could not name to a subscriber. Without a publication this costs nothing."""

LONGEST_NAMESPACE = 40
"""In characters. PostgreSQL cuts names off after 63 bytes, and the names of our tables, indexes and triggers add at most 22."""


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
    item: Table
    rebalance: Table
    claim: Table
    audit: Table
    state: Table

    def names(self) -> dict[str, str]:
        """Return each table's name in the database by its name in ``Tables``, capitalised."""
        tables = attrs.asdict(self, filter=lambda _, value: isinstance(value, Table), recurse=False)
        return {field.capitalize(): table.name for field, table in tables.items()}


@functools.lru_cache(16)
def tables_for(namespace: str) -> Tables:
    """Return the tables of a namespace; ``ConfigError`` if the namespace cannot be a prefix of table names.

    Stores in one process share them: to make them takes longer than to connect.
    """
    if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', namespace) or len(namespace) > LONGEST_NAMESPACE:
        raise ConfigError(
            f'appname={namespace!r} cannot begin the names of tables: letters, digits and underscores are allowed, '
            f'no digit first, at most {LONGEST_NAMESPACE} characters'
        )
    prefix, metadata = namespace.lower(), MetaData()
    columns = {
        'node': _node(),
        'token': _token(prefix + 'token'),
        'unowned': _unowned(),
        'change': _change(),
        'lock': _lock('task_id'),
        'item': _item(),
        'rebalance': _rebalance(),
        'claim': [*_history(prefix + 'claim'), *_attempts()],
        'audit': _history(prefix + 'audit'),
        'state': _state(),
    }
    tables = {name: Table(prefix + name, metadata, *items) for name, items in columns.items()}
    tables['rebalance'].info['sqlite_autoincrement'] = True
    for table in tables.values():
        sa.event.listen(table, 'before_create', _set_options)
    # Only SQLAlchemy 2.1 and later have an option of Table for the first of these.
    for name, setting in (('token', ROOMY), ('change', IDENTIFIED)):
        ddl = sa.DDL(setting.format(table='%(fullname)s'))  # type: ignore[no-untyped-call]
        sa.event.listen(tables[name], 'after_create', ddl.execute_if(dialect='postgresql'))
    return Tables(prefix, metadata, **tables)


def _set_options(table: Table, connection: sa.Connection, **_: object) -> None:
    """Give a table and its indexes the options in their ``info`` that are of the database in which they are created.

    SQLAlchemy loads the dialect of each option at once, and PostgreSQL's takes a process on SQLite a tenth of its start.
    """
    items: list[Table | Index] = [table, *table.indexes]
    for item in items:
        its = {name: value for name, value in item.info.items() if name.startswith(connection.dialect.name)}
        item.dialect_kwargs.update(its)


@functools.lru_cache(16)
def creation(tables: Tables, url: str) -> tuple[str, ...]:
    """Return the statements that create the tables and their indexes, for the driver of a URL.

    Kept, because to render them takes longer than to run them.
    """
    statements: list[str] = []

    def render(ddl: sa.Executable, *_: object, **__: object) -> None:
        statements.append(str(ddl.compile(dialect=engine.dialect)))  # type: ignore[attr-defined]

    engine = sa.create_mock_engine(url, render)
    tables.metadata.create_all(engine, checkfirst=False)
    return tuple(statements)


def _node() -> list[SchemaItem]:
    return [
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
        Column('candidate', sa.Boolean, nullable=False),
        Column('settings', Text, nullable=False, server_default='{}'),
        Column('stalled', sa.Boolean, nullable=False, server_default=sa.false()),
        CheckConstraint("state IN ('joined', 'left')"),
        *_sound('created_on', sound.is_moment),
        *_sound('last_heartbeat', sound.is_moment, or_null=True),
        *_sound('holding', sound.is_list_of_numbers),
        *_sound('replaces', sound.is_list_of_texts),
        *_sound('weight', sound.is_weight),
        *_sound('timeout_sec', sound.is_timeout),
        *(check for kind, columns in sound.NODE_TYPES.items() for check in _sqlite_type(kind, *columns)),
    ]


IS_PIN = sa.text('task_id IS NOT NULL')
"""The rows of ``token`` that are pins. Every node reads them at every version; without an index it would read the whole table."""


def _token(name: str) -> list[SchemaItem]:
    """Return the columns of ``token``: one row for each token and pin that has an owner, so the rows of a node are its tokens.

    A pin is a row with a ``task_id``; ``changed`` is the revision that last wrote a row. No index contains a column that commits
    write. So PostgreSQL writes the new version of a row on the same page, which has room, and leaves the indexes alone.
    """
    return [
        Column('token_id', BigId, primary_key=True, autoincrement=False),
        Column('node', String, CheckConstraint("node <> ''"), nullable=False),
        Column('target', String),
        Column('home', String),
        Column('version', BigInteger, nullable=False, server_default='0'),
        Column('changed', BigInteger, nullable=False, server_default='0'),
        Column('task_id', String),
        Column('pattern', String),
        Column('item_group', String),
        *_sqlite_type('integer', 'version', 'changed'),
        *_sqlite_type('text', 'node'),
        Index(name + '_pins', 'token_id', info={'postgresql_where': IS_PIN, 'sqlite_where': IS_PIN}),
    ]


def _unowned() -> list[SchemaItem]:
    """Return the columns of ``unowned``: one row for each token and pin that is known to have no owner.

    A token without a row here and in ``token`` is absent: its last owner may still hold it.
    """
    return [
        Column('token_id', BigId, primary_key=True, autoincrement=False),
        Column('target', String),
        Column('home', String),
        Column('version', BigInteger, nullable=False),
        Column('task_id', String),
        Column('pattern', String),
        Column('item_group', String),
    ]


def _change() -> list[SchemaItem]:
    """Return the columns of ``change``: what the latest commits wrote of tokens.

    A node with an older version reads this instead of all tokens. A row is a group of tokens that share everything except their
    number; ``numbers`` is a value of ``Dialect.listed``. Or it has the ``members`` that a commit wrote, perhaps none, and as
    ``numbers`` the ids of the pins that the commit wrote or removed; each commit writes one such row. What the pins are is not
    here.
    """
    return [
        Column('revision', BigInteger, nullable=False),
        Column('owner', String),
        Column('target', String),
        Column('home', String),
        Column('version', BigInteger, nullable=False),
        Column('numbers', Text, nullable=False),
        Column('members', Text),
    ]


def _lock(*key: str, pattern: str | None = None) -> list[SchemaItem]:
    """Return the columns of ``lock``: ``patterns`` (JSON) is the policy, ``node_pattern`` the one of them that is in effect.

    No two rows have the same ``key``. ``pattern`` is that of a row which an operator inserts without one.
    """
    return [
        Column('id', BigId, primary_key=True, autoincrement=False),
        Column('token_id', BigInteger),
        Column('task_id', String, nullable=False),
        Column('node_pattern', String, nullable=False, server_default=pattern),
        Column('patterns', Text),
        Column('reason', String),
        Column('created_by', String, nullable=False, server_default=''),
        Column('created_at', UtcDateTime),
        Column('expires_at', UtcDateTime),
        Column('registered', BigInteger, nullable=False, server_default='0'),
        sa.UniqueConstraint(*key),
        *_sound('created_at', sound.is_moment, or_null=True),
        *_sound('expires_at', sound.is_expiry, or_null=True),
        *_sound('patterns', sound.is_list_of_patterns, or_null=True),
        *_sqlite_type('text', 'task_id', 'node_pattern', 'created_by'),
        *_sqlite_type('integer', 'registered'),
    ]


def _item() -> list[SchemaItem]:
    """Return the columns of ``item``: those of ``lock``, with a group and a cost. A task has one row for each group it is in."""
    return [
        Column('item_group', String, CheckConstraint("item_group <> ''"), nullable=False),
        *_lock('item_group', 'task_id', pattern='%'),
        Column('cost', Float, nullable=False, server_default='1'),
        *_sound('cost', sound.is_cost),
        *_sqlite_type('text', 'item_group'),
    ]


def _rebalance() -> list[SchemaItem]:
    return [
        Column('id', BigId, sa.Identity(), primary_key=True),
        Column('triggered_at', UtcDateTime, nullable=False),
        Column('trigger_reason', String, nullable=False),
        Column('leader_node', String, nullable=False),
        Column('nodes_before', BigInteger, nullable=False),
        Column('nodes_after', BigInteger, nullable=False),
        Column('tokens_moved', BigInteger, nullable=False),
        Column('duration_ms', BigInteger, nullable=False),
        Column('version', BigInteger, nullable=False, server_default='0'),
        *_sound('triggered_at', sound.is_moment),
    ]


def _history(name: str) -> list[SchemaItem]:
    return [
        Column('item', String, primary_key=True),
        Column('date', Day, primary_key=True),
        Column('node', String, primary_key=True),
        Column('created_on', UtcDateTime, nullable=False),
        *_sound('date', sound.is_day),
        *_sound('created_on', sound.is_moment),
        # Rows are added in the order of both columns: BRIN, a summary for each range of pages, is enough, and cheap to write.
        Index(name + '_by_date', 'date', info={'postgresql_using': 'brin'}),
        Index(name + '_by_time', 'created_on', info={'postgresql_using': 'brin'}),
    ]


def _attempts() -> list[SchemaItem]:
    """Return the columns of ``claim`` that count attempts, which only nodes with ``max_attempts`` write."""
    return [
        # The run that attempts the item; null if its attempts are not counted, or were forgotten.
        Column('incarnation', String),
        # How many earlier runs of this node attempted the item, and were lost.
        Column('lost', BigInteger, nullable=False, server_default='0'),
        *_sqlite_type('integer', 'lost'),
    ]


def _state() -> list[SchemaItem]:
    """Return the columns of ``state``, of one row. Most statements leave out ``builds_on`` and ``members``, which may be long.

    ``announced`` has, on SQLite, a line for each of the latest revisions that names the nodes which it concerns.
    """
    return [
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
        Column('announced', Text),
        Column('longest_timeout_sec', Float, nullable=False),
    ]


def _sound(column: str, condition: Callable[[str, str], str], *, or_null: bool = False) -> Iterator[CheckConstraint]:
    """Yield the constraint that a column meets a condition, for each dialect: an operator's slip is refused when it is made."""
    for dialect in ('postgresql', 'sqlite'):
        found = condition(column, dialect)
        # On SQLite a condition tests the type, and null has one.
        yield _check(column, f'{column} IS NULL OR {found}' if or_null and dialect == 'sqlite' else found, dialect)


def _sqlite_type(kind: str, *columns: str) -> Iterator[CheckConstraint]:
    """Yield the constraint that columns hold what they are declared to hold, which PostgreSQL ensures by itself."""
    for column in columns:
        yield _check(column, f"typeof({column}) = '{kind}'", 'sqlite')


def _check(column: str, condition: str, dialect: str) -> CheckConstraint:
    constraint = CheckConstraint(condition, name=f'{column}_is_sound', info={'column': column, 'dialect': dialect})
    constraint.ddl_if(dialect=dialect)
    return constraint


def conditions(table: Table, dialect: str) -> dict[str, str]:
    """Return the conditions that a table's columns must meet on a dialect so that nodes can read them, by column."""
    found = (check for check in table.constraints if isinstance(check, CheckConstraint))
    checks = [check for check in found if check.info.get('dialect') == dialect]
    return {check.info['column']: str(check.sqltext) for check in sorted(checks, key=lambda check: check.info['column'])}
