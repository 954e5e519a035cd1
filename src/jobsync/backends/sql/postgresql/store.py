"""PostgreSQL: a server that nodes on any number of hosts reach."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa

from jobsync.backend import Backend, BackendOptions, Reach
from jobsync.backends._common.abandon import abandon
from jobsync.backends._common.probing import POSTGRESQL, refuse_other_server
from jobsync.backends.sql import state as states
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.engine import IdlePool, PrivatePool, autocommitting
from jobsync.backends.sql.postgresql.checking import SEARCH_PATH, Hosts, SchemaCheck
from jobsync.backends.sql.postgresql.connection import ELSEWHERE, BoundedConnection
from jobsync.backends.sql.postgresql.connection import connect as connect_to
from jobsync.backends.sql.postgresql.ddl import WRITER, drops_of_triggers, functions_and_triggers
from jobsync.backends.sql.postgresql.dialect import PostgresqlDialect
from jobsync.backends.sql.postgresql.errors import in_one_line, is_ended_alone, refused, translated
from jobsync.backends.sql.postgresql.listener import PostgresqlListener
from jobsync.backends.sql.postgresql.rights import lacking, needed, needed_at_once
from jobsync.backends.sql.postgresql.transaction import HOLD_MS, Framed
from jobsync.backends.sql.postgresql.url import PostgresqlServer, server_of
from jobsync.backends.sql.postgresql.user_connection import connect_for_user
from jobsync.backends.sql.schema import SCHEMA_VERSION, Tables, tables_for
from jobsync.backends.sql.store import Busy, Mode, OldRows, Portion, SqlStore, SqlTransaction
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch

__all__ = ['PostgresqlStore', 'connect']

IDLE_CONNECTIONS = 1
"""How many connections the pool keeps, besides the one that listens."""
MORE_CONNECTIONS = -1
"""No limit, so as many as threads are in a call at once. With a limit, a heartbeat would wait for the user's threads."""
IDLE_SEC = 10.0
"""How long a process that stops in the middle of a transaction may keep its locks. A starved process needs some of it."""
GRACE_SEC = 0.5
"""The time that the server gets after its statement timeout, to report that it has cancelled."""
LEAST_SEC, LEAST_PART = 1.0, 1 / 2
"""The time that a transaction has, if its call had as much, and the part of that, however long it then took to connect."""
NAMESPACES = """
SELECT prefix COLLATE "C" FROM (
    SELECT left(relname, -length(ending)) AS prefix, relnamespace
    FROM pg_catalog.pg_class JOIN (VALUES ('state'), ('rebalance'), ('unowned')) AS one (ending)
        ON right(relname, length(ending)) = ending
    WHERE relkind = 'r' AND pg_catalog.pg_table_is_visible(oid)
) AS found WHERE prefix <> '' GROUP BY prefix, relnamespace HAVING count(*) >= 2 ORDER BY 1
"""
"""Finds the tables in the search_path."""

ROWS_OF_A_PAGE = 128
"""About how many claims or audits a page holds."""
PAGES = "SELECT pg_relation_size('{table}'::regclass) / current_setting('block_size')::bigint"

FIRST_SCHEMA = f'SELECT quote_ident(nspname) {SEARCH_PATH} ORDER BY place LIMIT 1'
"""Returns the first schema of the search_path that exists, whether this user may use it or not, quoted where it has to be."""


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL, without connecting."""
    server = server_of(url, options.op_timeout_sec)
    return SqlBackend(PostgresqlStore(server, tables_for(options.namespace), options.op_timeout_sec), options)


def _raw(connection: sa.Connection) -> BoundedConnection:
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, BoundedConnection)
    return raw


def _end_if_read_only(failure: sa.engine.ExceptionContext) -> None:
    """End the session of a statement of the user's that was refused because the session only reads."""
    # t=0  an operator makes the database read-only (ALTER DATABASE … SET default_transaction_read_only); a statement connects
    # t=1  the operator takes that back, which is for the sessions that begin after it
    # t=2  without this, each later write of the user's would be refused in the session of t=0, which the pool keeps
    if isinstance(failure.original_exception, psycopg.errors.ReadOnlySqlTransaction):
        failure.is_disconnect = True


class PostgresqlStore(SqlStore):
    """A database on a server."""

    namespaces_query = NAMESPACES

    def __init__(self, server: PostgresqlServer, tables: Tables, op_timeout_sec: float) -> None:
        super().__init__(PostgresqlDialect(tables), Reach.NETWORK)
        self.server = server
        self._op_timeout = op_timeout_sec
        self._closed = self._is_known = False
        self._schema_check = SchemaCheck(server, tables.state.name, [*tables.names().values()])
        self._listener = PostgresqlListener(server, tables.state.name, op_timeout_sec)
        self._set_up()

    def _set_up(self) -> None:
        self._hosts = Hosts(self.server, self.tables.state.name)
        self._engine = autocommitting(
            'postgresql+psycopg',
            self._connect,
            PrivatePool,
            pool_size=IDLE_CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=self._op_timeout,
            # Transactions are begun and ended by our own statements, with all that belongs to them in one message.
            pool_reset_on_return=None,
            use_native_hstore=False,
        )
        # In autocommit mode, because without it SQLAlchemy's ping swallows a signal handler's sys.exit.
        self._users = autocommitting(
            'postgresql+psycopg',
            lambda: connect_for_user(self.server),
            IdlePool,
            pool_size=1,
            max_overflow=-1,
            # The connection may have been idle for days, and cut off meanwhile.
            pool_pre_ping=True,
            use_native_hstore=False,
        )
        sa.event.listen(self._users, 'handle_error', _end_if_read_only)

    def _connect(self) -> BoundedConnection:
        """Connect, and raise ``ConfigError`` if this is not the one place of the namespace, or loses it in a crash."""
        connection = connect_to(self.server)
        try:
            connection.deadline = time.monotonic() + self._op_timeout
            with translated(self.server):
                self._schema_check.check(connection.execute)
            try:
                # t=0  a call is under way, or a connection idle; another call finds that a standby was promoted, and turns to it
                # t=1  the former primary, which runs on, answers there: this node works on with it, and others with the new one;
                #      or the user reads and writes what no other node has
                self._hosts.check(connection, self._end_sessions)
            except ConfigError:
                # t=0  two hosts accept writes, as this connection shows; another one of this node is at the first, in use or idle
                # t=1  heartbeats succeed there, and this node works on, as others do with the second host
                self._end_sessions()
                raise
            # The deadline stays, until a call sets its own: of an engine's first connection SQLAlchemy reads some settings.
        except BaseException:
            connection.close()
            raise
        return connection

    def _end_sessions(self) -> None:
        """Close the connections that are idle, and those in use as they are returned."""
        self._engine.dispose()
        self._users.dispose()

    def __repr__(self) -> str:
        return f'{self.server} {self.tables.namespace}'

    # Opening and closing

    def reach(self, create: bool, timeout_sec: float) -> None:  # noqa: ARG002 - no database is made
        """See ``SqlStore.reach``. Another kind of server would let libpq wait for its whole timeout."""
        if not self._is_known and (address := self.server.address) is not None:
            refuse_other_server(POSTGRESQL, *address, self.server, timeout_sec)
        self._is_known = True

    def lock_schema(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.lock_schema``; ``SchemaMismatch`` if there is no schema to create tables in."""
        # t=0  nodes a and b both find no table
        # t=1  a creates the tables, and has not committed yet
        # t=2  b creates them too, waits for a's commit, and fails with a violation of a system index, IF NOT EXISTS or not
        # This lock makes b wait before t=2, and then find the tables of a.
        tx.execute_text(f"SELECT pg_advisory_xact_lock(hashtextextended('jobsync {self.tables.namespace}', 0))")
        may_create = "has_schema_privilege(current_schema(), 'CREATE')"
        found: Sequence[Any] = tx.execute_text(
            f'SELECT quote_ident(current_schema()), {may_create}, quote_ident(current_user)'
        ).one()
        schema, user = found[0], found[2]
        if schema is None:
            # current_schema() passes over a schema that this user may not use.
            schema = tx.execute_text(FIRST_SCHEMA).scalar()
        if schema is None:
            path = tx.execute_text('SHOW search_path').scalar()
            raise SchemaMismatch(
                f'{self.server}: no schema of the search_path ({path}) exists, so there is none to make tables in: make one '
                '(CREATE SCHEMA), or name one that exists (ALTER ROLE … SET search_path)'
            )
        if not found[1]:
            raise ConfigError(
                f'{self.server}: this user may not make tables in the schema {schema}; let its owner run '
                f'GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};'
            )

    def existing_tables(self, tx: SqlTransaction) -> set[str]:
        # Not to_regclass: in a transaction that had to wait for another's DDL, its answers are from before that DDL.
        return self._schema_check.existing(tx.execute_text)

    def check_complete(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.check_complete``. Raise ``SchemaMismatch`` also if a trigger is gone."""
        super().check_complete(tx)
        made = sum('CREATE TRIGGER' in statement for statement in functions_and_triggers(self.tables, ''))
        if (gone := made - len(tx.execute_text(drops_of_triggers(self.tables)).all())) > 0:
            raise SchemaMismatch(
                f"{self!r} has lost {gone} of jobsync's {made} triggers, so manual changes go unnoticed: stop all nodes, set "
                f'schema_version in {self.tables.state.name} to {SCHEMA_VERSION - 1}, and start one, which makes them anew'
            )

    def check_rights(self, tx: SqlTransaction) -> None:
        assert isinstance(tx, Framed)
        table, grants = lacking(tx.raw, needed_at_once(self.tables))
        if table:
            raise refused(f'permission denied for table {table}', self.server, grants)

    def watch(self, tx: SqlTransaction) -> None:
        statements = functions_and_triggers(self.tables, self._schema(tx))
        tx.execute_texts(statement.replace('%', '%%') for statement in statements)

    def unwatch(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.unwatch``. The functions stay, and are replaced by ``watch``."""
        # A step would make a new table in the first schema of the search_path, which may be another one than that of the tables.
        schema = self._schema(tx).replace('%', '%%')
        tx.execute_text(f'SET LOCAL search_path = {schema}')
        # t=0  an operator moves the tables to another schema: their functions, which triggers know by their oids, stay behind
        # t=1  the tables of another namespace are made where those were. They share the functions
        # So nothing is dropped but the triggers of these tables.
        for (drop,) in tx.execute_text(drops_of_triggers(self.tables)).all():
            tx.execute_text(drop)

    def _schema(self, tx: SqlTransaction) -> str:
        """Return the schema of the tables, quoted."""
        state = self.tables.state.name
        query = f"SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '{state}'::regclass"  # noqa: S608 - our own
        schema: str = tx.execute_text(query).scalar_one()
        return schema

    def connection(self) -> sa.Connection:
        with translated(self.server):
            return self._users.connect()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        # Not those of the engines, which would have new pools afterwards, for the calls that are about to connect.
        self._engine.pool.dispose()
        self._users.pool.dispose()

    def forget(self) -> None:
        for of_the_parent in (self._engine, self._users):
            abandon(of_the_parent)
        self._set_up()

    # Transactions

    def _beginning(self, mode: Mode, raw: BoundedConnection, is_whole: bool) -> Sequence[str]:
        """Return the statements that begin a transaction; ``is_whole`` if it also ends in the message with these."""
        deadline = raw.deadline - GRACE_SEC
        left = max(1, math.ceil((deadline - time.monotonic()) * 1000))
        # t=0  a begins to make the tables, and b waits for the lock that a holds
        # t=1  a commits: b reads which tables there are
        # A role or a database may have another isolation by default, in which b would read what was there at t=0.
        level = 'READ COMMITTED'
        if mode is Mode.READ:
            # One statement sees one state anyway, and if it has waited for the lock of a table, the one of after that (``hold``).
            level = 'READ COMMITTED READ ONLY' if is_whole else 'REPEATABLE READ READ ONLY'
        parts = [f'BEGIN ISOLATION LEVEL {level}']
        # SET LOCAL: behind a proxy, other clients share the session.
        parts.append(f'SET LOCAL statement_timeout = {left}')
        # t=0  an operator makes a policy that hides node b's row from this user
        # t=1  this node, which leads, takes b for absent, and waits for its timeout
        # t=2  b, whose heartbeats succeed, owns its tokens, and the leader gives them away
        # So a statement that a policy would concern fails, as one without the right does.
        parts.append('SET LOCAL row_security = off')
        if not is_whole:
            # The server waits for this process between two messages of the transaction.
            parts.append(f'SET LOCAL idle_in_transaction_session_timeout = {min(left, math.ceil(IDLE_SEC * 1000))}')
        if mode is not Mode.READ:
            # Not in a transaction that reads: it sees the state of its first query, which is to come after ``hold``.
            parts += raw.same_server()
            parts.append('SET LOCAL synchronous_commit = on')
            # Of a commit that no standby has the server only warns (``check_confirmed``): a role or a database can forbid that.
            parts.append('SET LOCAL client_min_messages = warning')
        if mode is Mode.STRUCTURE:
            parts.append(f"SET LOCAL {WRITER} = '{self.tables.namespace}'")
            parts.append(f'SELECT 1 FROM {self.tables.state.name} FOR UPDATE')  # noqa: S608 - a name of our own
            # t=0  an operator's SELECT … FOR UPDATE has the row of node b, whose heartbeats wait for it until b's lease ends
            # t=1  the leader's commit, which evicts b, has the row of the state, and waits for that of b
            # t=2  no node joins or leaves, for as long as a bulk call may take
            # So the transaction ends after a moment, and begins anew behind those that wait for the state.
            parts.append(f'SET LOCAL lock_timeout = {HOLD_MS}')
        return parts

    @contextlib.contextmanager
    def transaction(self, mode: Mode, deadline: float) -> Iterator[SqlTransaction]:
        with translated(self.server), self._connected(deadline) as (connection, raw):
            try:
                # A COMMIT that announces waits for those of all other databases of the server: all was done but that.
                before_commit = ['SET LOCAL lock_timeout TO DEFAULT'] if mode is Mode.STRUCTURE else ()
                transaction = Framed(
                    connection,
                    self.dialect,
                    raw,
                    partial(self._beginning, mode, raw),
                    self.server,
                    before_commit,
                )
                yield transaction
                transaction.end()
            except BaseException as error:
                refusal = getattr(error, 'orig', error)
                is_elsewhere = isinstance(refusal, psycopg.errors.InvalidTextRepresentation) and ELSEWHERE in in_one_line(refusal)
                try:
                    raw.end()
                    # t=0  a switchover: the primary is made read-only, and keeps its connections
                    # t=1  another host of the URL is promoted
                    # t=2  calls go on to fail at the first host, for as long as that runs
                    # libpq chooses among the hosts when it connects. And:
                    # t=0  an operator renames the schema of the tables
                    # t=1  ALTER ROLE … SET search_path names the new one
                    # t=2  this session goes on to look for the tables in the schema of before
                    # A role's settings are for the sessions that begin after them.
                    if is_elsewhere or isinstance(
                        refusal, (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.UndefinedTable)
                    ):
                        raw.close()
                finally:
                    if raw.closed:
                        self._note_loss(error)
                        connection.invalidate()
                if is_elsewhere:
                    raise Busy(f'{self.server}: the pooler leads to another server than before, or it has crashed') from error
                if isinstance(refusal, psycopg.errors.InsufficientPrivilege) and not raw.closed:
                    _, grants = lacking(raw, needed(self.tables))
                    raise refused(in_one_line(refusal), self.server, grants) from error
                raise

    @contextlib.contextmanager
    def _connected(self, deadline: float) -> Iterator[tuple[sa.Connection, BoundedConnection]]:
        if self._closed:
            raise BackendUnavailable(f'this backend on {self.server} is closed')
        begun = time.monotonic()
        connection, raw = self._open_connection()
        try:
            # t=0  the first host of the URL is cut off: to find that out, and to connect to the second, takes all the call's time
            # t=1  the transaction has a millisecond, so the server ends it, or its session: the next call connects anew
            # t=2  the server is far away: each step of connecting is a round trip, and most of the call's time is over
            # t=3  a transaction of three round trips ends too early, and its connection with it; so does each that follows
            whole = deadline - begun
            least = max(min(LEAST_SEC, whole), LEAST_PART * whole)
            raw.deadline = max(deadline, time.monotonic() + least) + GRACE_SEC
            yield connection, raw
        finally:
            connection.close()

    def _open_connection(self) -> tuple[sa.Connection, BoundedConnection]:
        """Return a connection from the pool, or a new one if the server has closed that one while it was idle."""
        engine = self._engine
        connection = engine.connect()
        if _raw(connection).has_unread_data:
            try:
                self._note_loss(_raw(connection).last_word())
            finally:
                connection.invalidate()
                connection.close()
            connection = engine.connect()
        return connection, _raw(connection)

    def _note_loss(self, cause: BaseException | None) -> None:
        """Note that a connection was lost."""
        # t=0  idle_session_timeout, or a script of an operator's, ends each session after seconds. A standby is cut off
        # t=1  each call connects anew, and would compare for two seconds with a host that is silent: its session ends meanwhile
        # A server that goes on has not crashed, and of one that stops the time of its next start is another one.
        if not is_ended_alone(cause):
            self._hosts.note_loss()

    def portion(self, tx: SqlTransaction, old: OldRows) -> Portion:
        """See ``SqlStore.portion``: some pages after each other, which needs no index and touches nothing else of the table.

        PostgreSQL 13 reads the whole table for one portion, later versions only its pages. A purge reads the pages of before its
        first portion: one that read those that are appended meanwhile might never end.
        """
        tx.hold(tx.tables.state)
        states.read(tx)
        name = old.table.name
        first, pages = map(int, old.after.split()) if old.after else (0, tx.execute_text(PAGES.format(table=name)).scalar_one())
        if first >= pages:
            return Portion(None, '')
        end = first + max(1, old.limit // ROWS_OF_A_PAGE)
        rows = sa.literal_column(f"{name}.ctid >= '({first},0)' AND {name}.ctid < '({end},0)'", sa.Boolean)
        return Portion(rows, f'{end} {pages}' if end < pages else '')

    def wait(self, revision: int, timeout: float) -> int:
        return self._listener.wait(revision, timeout)
