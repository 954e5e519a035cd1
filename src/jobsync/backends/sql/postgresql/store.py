"""PostgreSQL: a server that nodes on any number of hosts reach."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    CursorResult,
    Executable,
    FromClause,
    QueuePool,
    Select,
    String,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from jobsync.backend import Backend, BackendInfo, BackendOptions, Reach, Settings
from jobsync.backends._common.forks import abandon
from jobsync.backends.sql import state as states
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.engine import autocommitting
from jobsync.backends.sql.postgresql.connection import BoundedConnection, translated
from jobsync.backends.sql.postgresql.connection import connect as connect_to
from jobsync.backends.sql.postgresql.ddl import FUNCTIONS, WRITER, functions_and_triggers
from jobsync.backends.sql.postgresql.listener import PostgresqlListener
from jobsync.backends.sql.postgresql.url import PostgresqlServer, server_of
from jobsync.backends.sql.postgresql.user_connection import connect_for_user
from jobsync.backends.sql.schema import Tables, UtcDateTime, tables_for
from jobsync.backends.sql.store import MAX_REMOVALS, Busy, Mode, SqlStore, SqlTransaction
from jobsync.errors import BackendUnavailable, SchemaMismatch

__all__ = ['PostgresqlStore', 'connect']

INFO = BackendInfo(
    'postgresql', durable=True, push=True, reach=Reach.NETWORK, max_tokens=1_000_000, max_removals=MAX_REMOVALS, sql=True
)
IDLE_CONNECTIONS = 1
"""Besides the one that listens."""
MORE_CONNECTIONS = -1
"""As many as threads are in a call at once: with a limit, a heartbeat would wait behind whatever the user's threads do."""
IDLE_SEC = 10.0
"""How long a process that is stopped, or cut off, in the middle of a transaction may hold its locks; a starved one needs time."""
GRACE_SEC = 0.5
"""What the server gets beyond its statement timeout to tell that it has cancelled."""

RIGHTS = {
    'SELECT, INSERT, UPDATE, DELETE': ('node', 'token', 'unowned', 'lock', 'claim'),
    'SELECT, INSERT, DELETE': ('change', 'rebalance', 'audit'),
    'SELECT, UPDATE': ('state',),
}
"""What a node's role must be allowed, with which tables."""

IDENTITY = """(SELECT system_identifier FROM pg_control_system()) || ':' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
 || ':' || (SELECT oid FROM pg_database WHERE datname = current_database()) || ':' || '{state}'::regclass::oid"""
"""The cluster, its timeline (a promoted standby begins another), the database (a copy under its name is another) and the table
(a restored dump makes another)."""


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for a URL; nothing is reached yet."""
    server = server_of(url, options.op_timeout_sec)
    return SqlBackend(PostgresqlStore(server, tables_for(options.namespace), options.op_timeout_sec), options)


def _raw(connection: Connection) -> BoundedConnection:
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, BoundedConnection)
    return raw


def array_literal(values: Iterable[Any]) -> str:
    """Numbers, or texts, as PostgreSQL writes an array: made in a third of the time that the driver takes for a list of them."""
    texts = list(values)
    if not texts:
        return '{}'
    if not isinstance(texts[0], str):
        return '{' + ','.join(map(str, texts)) + '}'
    together = ''.join(texts)
    if '"' in together or '\\' in together:
        texts = [text.replace('\\', '\\\\').replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(texts) + '"}'


@attrs.frozen
class Framed(SqlTransaction):
    """A transaction that begins with its first statement, in the same message, and may end with its last."""

    raw: BoundedConnection
    beginning: Callable[[], Sequence[str]]

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """See ``SqlTransaction.execute``."""
        with self._framing():
            return super().execute(statement, parameters)

    def execute_text(self, statement: str) -> CursorResult[Any]:
        """See ``SqlTransaction.execute_text``."""
        with self._framing():
            return super().execute_text(statement)

    def conclude(self, statement: Executable, parameters: Mapping[str, Any]) -> CursorResult[Any]:
        """See ``SqlTransaction.conclude``."""
        with self._framing('COMMIT'):
            return super().execute(statement, parameters)

    @contextlib.contextmanager
    def _framing(self, *after: str) -> Iterator[None]:
        begins = not self.raw.is_in_transaction
        self.raw.before, self.raw.after = self.beginning() if begins else (), after
        try:
            yield
        except DBAPIError as error:
            if begins and not after and self.raw.closed:
                # Nothing can have happened yet: another connection may do.
                raise Busy(f'the connection was lost: {error.orig}') from error
            raise


class PostgresqlStore(SqlStore):
    """A database on a server."""

    writes_in_with = True
    looks_before_it_puts = True

    def __init__(self, server: PostgresqlServer, tables: Tables, op_timeout_sec: float) -> None:
        super().__init__(INFO, tables)
        self.server = server
        self._op_timeout = op_timeout_sec
        self._closed = False
        self._set_up()

    def _set_up(self) -> None:
        self._listener = PostgresqlListener(self.server, self.tables.state.name, self._op_timeout)
        self._engine = autocommitting(
            'postgresql+psycopg',
            lambda: connect_to(self.server),
            QueuePool,
            pool_size=IDLE_CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=self._op_timeout,
            # Transactions are begun and ended by our own statements, with all that belongs to them in one message.
            pool_reset_on_return=None,
            use_native_hstore=False,
        )
        # Of a connection that is not in autocommit mode, SQLAlchemy's ping swallows a signal handler's sys.exit.
        self._users = autocommitting(
            'postgresql+psycopg',
            lambda: connect_for_user(self.server),
            QueuePool,
            pool_size=1,
            max_overflow=-1,
            # Nobody knows how long it was idle, nor what cut it off meanwhile.
            pool_pre_ping=True,
            use_native_hstore=False,
        )

    def __repr__(self) -> str:
        return f'{self.server} {self.tables.namespace}'

    @property
    def grants(self) -> str:
        """The statements that give a node's role its rights, and no more than it needs."""
        return ' '.join(
            f'GRANT {rights} ON {", ".join(getattr(self.tables, field).name for field in fields)} TO …;'
            for rights, fields in RIGHTS.items()
        )

    # Opening and closing

    def prepare(self, settings: Settings, create: bool, timeout_sec: float) -> None:
        """See ``SqlStore.prepare``."""
        if self.run(Mode.READ, timeout_sec, self.has_schema):
            return
        if not create:
            raise SchemaMismatch(
                f'{self.server} has no tables of the namespace {self.tables.namespace!r}, and skip_db_init forbids to make them'
            )
        self.run(Mode.WRITE, timeout_sec, lambda tx: self._make_schema(tx, settings))

    def tables_there(self, tx: SqlTransaction) -> set[str]:
        """See ``SqlStore.tables_there``."""
        # Not to_regclass: in a transaction that had to wait for another's DDL it answers from before that.
        query: Select[Any] = select(literal_column('relname')).select_from(text('pg_catalog.pg_class'))
        named = literal_column('relname').in_(self.tables.names().values())
        return set(tx.execute(query.where(named, text('pg_catalog.pg_table_is_visible(oid)'))).scalars())

    def _make_schema(self, tx: SqlTransaction, settings: Settings) -> None:
        # Without it, two that create at once fail with a violation of a system index, whatever IF NOT EXISTS says.
        tx.execute_text(f"SELECT pg_advisory_xact_lock(hashtextextended('jobsync {self.tables.namespace}', 0))")
        if self.has_schema(tx):
            return
        if tx.execute_text('SELECT current_schema()').scalar_one() is None:
            raise SchemaMismatch(f'{self.server}: no schema of the search_path exists, so there is none to make tables in')
        self.tables.metadata.create_all(tx.connection, checkfirst=False)
        self.watch(tx)
        states.first(tx, settings)

    def watch(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.watch``."""
        for statement in functions_and_triggers(self.tables, self._schema(tx)):
            tx.execute_text(statement.replace('%', '%%'))

    def unwatch(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.unwatch``: the triggers go with their functions."""
        for name in FUNCTIONS:
            tx.execute_text(f'DROP FUNCTION IF EXISTS {self._schema(tx)}.{self.tables.namespace}{name}() CASCADE')

    def _schema(self, tx: SqlTransaction) -> str:
        """Where the tables are, quoted."""
        state = self.tables.state.name
        query = f"SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '{state}'::regclass"  # noqa: S608 - our own
        schema: str = tx.execute_text(query).scalar_one()
        return schema

    def connection(self) -> Connection:
        """See ``SqlStore.connection``."""
        with translated(self.server, self.grants):
            return self._users.connect()

    def close(self) -> None:
        """See ``SqlStore.close``."""
        self._closed = True
        self._listener.close()
        self._engine.dispose()
        self._users.dispose()

    def forget(self) -> None:
        """See ``SqlStore.forget``."""
        for of_the_parent in (self._engine, self._users, self._listener):
            abandon(of_the_parent)
        self._set_up()

    # Transactions

    def _beginning(self, mode: Mode, deadline: float) -> Sequence[str]:
        """All that a transaction begins with."""
        left = max(1, math.ceil((deadline - time.monotonic()) * 1000))
        parts = ['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' if mode is Mode.READ else 'BEGIN']
        # For this transaction only: behind a proxy the session is not ours alone.
        parts.append(f'SET LOCAL statement_timeout = {left}')
        parts.append(f'SET LOCAL idle_in_transaction_session_timeout = {min(left, math.ceil(IDLE_SEC * 1000))}')
        if mode is not Mode.READ:
            parts.append('SET LOCAL synchronous_commit = on')
        if mode is Mode.STRUCTURE:
            parts.append(f"SET LOCAL {WRITER} = '{self.tables.namespace}'")
            parts.append(f'SELECT 1 FROM {self.tables.state.name} FOR UPDATE')  # noqa: S608 - a name of our own
        return parts

    @contextlib.contextmanager
    def transaction(self, mode: Mode, deadline: float) -> Iterator[SqlTransaction]:
        """See ``SqlStore.transaction``."""
        with translated(self.server, self.grants), self._connected(deadline) as (connection, raw):
            try:
                yield Framed(connection, self.tables, self, raw, partial(self._beginning, mode, deadline))
                if raw.is_in_transaction:
                    raw.execute('COMMIT')
            except BaseException:
                raw.end()
                if raw.closed:
                    connection.invalidate()
                raise

    @contextlib.contextmanager
    def _connected(self, deadline: float) -> Iterator[tuple[Connection, BoundedConnection]]:
        if self._closed:
            raise BackendUnavailable(f'this backend on {self.server} is closed')
        connection, raw = self._open_connection()
        try:
            raw.deadline = deadline + GRACE_SEC
            yield connection, raw
        finally:
            if self._closed and not connection.invalidated:
                connection.detach()
            connection.close()

    def _open_connection(self) -> tuple[Connection, BoundedConnection]:
        """One from the pool, or a new one if the server has given that one up while it was idle."""
        engine = self._engine
        connection = engine.connect()
        if _raw(connection).has_heard_more:
            connection.invalidate()
            connection.close()
            connection = engine.connect()
        return connection, _raw(connection)

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        return self._listener.wait(revision, timeout_sec)

    # Expressions

    def identity(self) -> ColumnElement[str]:
        """See ``SqlStore.identity``."""
        return literal_column('(' + IDENTITY.format(state=self.tables.state.name) + ')', String)

    def position(self) -> ColumnElement[Any]:
        """See ``SqlStore.position``: the end of the write-ahead log on disk; what is only inserted, a crash takes back."""
        return literal_column("(pg_current_wal_flush_lsn() - '0/0')::bigint", BigInteger)

    def clock(self) -> ColumnElement[Any]:
        """See ``SqlStore.clock``: the server's."""
        return func.clock_timestamp(type_=UtcDateTime)

    def elements(self, name: str, type_: TypeEngine[Any]) -> FromClause:
        """See ``SqlStore.elements``."""
        return func.unnest(cast(bindparam(name, type_=Text), ARRAY(type_))).table_valued('value').render_derived()

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """See ``SqlStore.among``."""
        # From a subquery: an array that it sees takes the planner long, and by its length, or by how it takes disks to be, it
        # may choose to read the whole table, which is all in memory.
        return column == func.any(func.array(select(self.elements(name, column.type).c.value).scalar_subquery()))

    def within(self, column: ColumnElement[Any], elements: ColumnElement[str]) -> ColumnElement[bool]:
        """See ``SqlStore.within``."""
        return column == func.any(cast(elements, ARRAY(column.type)))

    def listed(self, values: Iterable[Any]) -> Any:
        """See ``SqlStore.listed``."""
        return array_literal(values)

    def rows(self, name: str, types: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """See ``SqlStore.rows``."""
        rows = func.json_to_recordset(cast(bindparam(name, type_=Text), JSON))
        return rows.table_valued(*(column(key, type_) for key, type_ in types.items())).render_derived(with_types=True)

    def joined(self, texts: ColumnElement[Any]) -> ColumnElement[str]:
        """See ``SqlStore.joined``."""
        return func.string_agg(texts, literal_column("','"))

    def patched(self, text: ColumnElement[str], changes: ColumnElement[str]) -> ColumnElement[str]:
        """See ``SqlStore.patched``."""
        return cast(func.jsonb_strip_nulls(cast(text, JSONB).concat(cast(changes, JSONB))), Text)

    def json_elements(self, texts: ColumnElement[Any]) -> tuple[FromClause, ColumnElement[str], ColumnElement[int]]:
        """See ``SqlStore.json_elements``."""
        found = func.json_array_elements_text(texts).table_valued('value', with_ordinality='nth').render_derived().lateral()
        return found, found.c.value, found.c.nth

    def insert(self, table: Table) -> Any:
        """See ``SqlStore.insert``."""
        return postgresql_insert(table)
