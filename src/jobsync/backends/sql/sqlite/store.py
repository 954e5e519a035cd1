"""SQLite: a file on this host, for any number of processes on it."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import sqlalchemy as sa

from jobsync.backend import Backend, BackendOptions, Reach
from jobsync.backends._common.abandon import abandon
from jobsync.backends._common.closed import Closed
from jobsync.backends._common.concerned import announcement
from jobsync.backends._common.values import utc_now
from jobsync.backends.sql import state as states
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.schema import Tables, tables_for
from jobsync.backends.sql.sqlite.connections import SqliteConnections
from jobsync.backends.sql.sqlite.ddl import MANUAL, triggers
from jobsync.backends.sql.sqlite.dialect import SqliteDialect
from jobsync.backends.sql.sqlite.errors import translated
from jobsync.backends.sql.sqlite.file import DatabaseFile
from jobsync.backends.sql.sqlite.fork_gate import in_sqlite
from jobsync.backends.sql.sqlite.hints import Hints, announced_since, news_query
from jobsync.backends.sql.sqlite.users import check_no_writer_here, writer_of
from jobsync.backends.sql.sqlite.write_queue import WriteQueue
from jobsync.backends.sql.store import Busy, Mode, OldRows, Portion, SqlStore, SqlTransaction, patiently
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

__all__ = ['SqliteStore', 'connect']

PULSE_SEC = (0.025, 0.15)
"""The pauses between two polls of ``wait``: just after a change, because a hand-over has several steps; and after a long calm."""
PULSE_OF_NODE_SEC = (0.0005, 0.001)
"""The pauses for each node, where there are so many that these are longer: all of them poll, on the processors of one host."""
SLOWING = 0.1
"""The pause grows to this share of the time since the last change."""
MUTEX_SEC = 0.1
"""How long a call waits for other processes, before the other threads of this one have their turn."""
USERS_SEC = 5.0
"""How long a statement of the user's waits until the file can be opened."""
CHECK_SEC = 1.0
"""How often ``wait`` checks whether its file is still the one at the path."""
PROGRESS_STEPS = 100_000
"""Steps of SQLite's machine, about a millisecond, between two comparisons of the clock with the deadline."""
NAMESPACES = """
SELECT substr(lower(name), 1, length(name) - length(ending)) AS prefix
FROM sqlite_master JOIN (SELECT 'state' AS ending UNION SELECT 'rebalance' UNION SELECT 'unowned')
    ON lower(name) LIKE '_%' || ending
WHERE type = 'table' GROUP BY prefix HAVING count(*) >= 2 ORDER BY 1
"""
OLDEST_SQLITE = (3, 33, 0)
"""The first with UPDATE FROM."""
RESERVED = 'sqlite_'


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL, without opening the file."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(f'this Python has SQLite {sqlite3.sqlite_version}; jobsync needs {".".join(map(str, OLDEST_SQLITE))}')
    if options.namespace.lower().startswith(RESERVED):
        raise ConfigError(f'appname={options.namespace!r}: SQLite keeps names of tables that begin with {RESERVED} for itself')
    return SqlBackend(SqliteStore(path_of(url), tables_for(options.namespace)), options)


def path_of(url: str) -> Path:
    """Return the file that a URL names. It is absolute, so that a change of the working directory does not matter."""
    scheme, _, rest = url.partition('://')
    name, question, _ = rest.partition('?')
    if scheme != 'sqlite' or question or '#' in rest:
        raise ConfigError(
            'a SQLite backend is sqlite:///relative.db or sqlite:////absolute/path.db, with no parameters, and '
            'no ? or # in the path'
        )
    if name in ('', '/', '/:memory:'):
        raise ConfigError('the SQLite URL names no file, and a database in memory has no second process: use memory:// for that')
    if not name.startswith('/'):
        raise ConfigError('SQLite has no host; write sqlite:///name for a relative path, sqlite:////name for an absolute')
    try:
        return Path(os.path.abspath(name[1:]))  # noqa: PTH100 - links in the path must be followed at each use, not now
    except FileNotFoundError as error:
        raise ConfigError(
            'the SQLite URL has a relative path, and the working directory of this process has been removed: start it in another '
            'one, or write sqlite:////absolute/path.db'
        ) from error


class SqliteTransaction(SqlTransaction):
    """A transaction that writes announcements into the file."""

    def execute_texts(self, statements: Iterable[str]) -> None:
        """See ``SqlTransaction``. Not by SQLAlchemy, which would take longer than SQLite for the forty that make the tables."""
        connection = self.connection.connection.dbapi_connection
        assert isinstance(connection, sqlite3.Connection)
        for statement in statements:
            connection.execute(statement)

    def announce(self, number: int, concerned: Iterable[str] | None) -> None:
        if names := announcement(concerned):
            state = self.tables.state
            before = self.execute(sa.select(state.c.announced)).scalar_one()
            self.execute(sa.update(state).values(announced=announced_since(before, f'{number}{names}')))


class SqliteStore(SqlStore):
    """The database in one file."""

    dialect: SqliteDialect
    namespaces_query = NAMESPACES

    def __init__(self, path: Path, tables: Tables) -> None:
        super().__init__(SqliteDialect(tables), Reach.HOST, folder=str(path.parent))
        self.file = DatabaseFile(path)
        self.now = utc_now
        self._mutex = threading.Lock()
        self._closed = Closed()
        self._connections: SqliteConnections | None = None
        self._queue = WriteQueue()
        self._hints = Hints()
        self._news = news_query(tables)
        self._revised = time.monotonic()
        self._watch_off = sa.update(tables.state).values(writer=1)
        self._watch_on = sa.update(tables.state).values(writer=0)

    def __repr__(self) -> str:
        return f'sqlite:///{self.file.path} {self.tables.namespace}'

    # Opening and closing

    def reach(self, create: bool, timeout_sec: float) -> None:
        deadline = time.monotonic() + timeout_sec
        patiently(deadline, lambda: self._reach(create, deadline))

    def _reach(self, create: bool, deadline: float) -> None:
        """Open the file, and create it if ``create``; ``Busy`` while another process holds its lock for a moment."""
        with in_sqlite(), translated(self.file.path, opening=True):
            self.file.check_writable()
            if create and self.file.identity() is None:
                with self.file.held(deadline):
                    self.file.make()
            self._current(deadline, create=create)

    def existing_tables(self, tx: SqlTransaction) -> set[str]:
        rows = tx.connection.exec_driver_sql("SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')")
        return {name for (name,) in rows} & set(self.tables.names().values())

    def watch(self, tx: SqlTransaction) -> None:
        tx.execute_texts(triggers(self.tables))

    def unwatch(self, tx: SqlTransaction) -> None:
        ours = MANUAL.format(state=self.tables.state.name)
        for row in tx.execute_text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all():
            if ours in row.sql:
                tx.execute_text(f'DROP TRIGGER "{row.name}"')

    def _current(self, deadline: float, *, create: bool = False) -> SqliteConnections:
        """Return the connections to the file that is at the path now; ``Busy`` while they cannot be opened for a moment.

        Unless the namespace is to be created there, a file without it is left as it is: it may be another program's.
        """
        with self._mutex:
            if self._closed.is_set():
                raise BackendUnavailable(f'this backend on {self.file.path} is closed')
            connections = self._connections
            if connections is not None and connections.is_current and (connections.anchor.in_wal or not create):
                return connections
            # t=0   another process holds the -lock; a bulk call, which may wait for minutes, waits for it, and has the mutex
            # t=5   a heartbeat has waited for the mutex as long as it may; or the handle is to be closed
            # So each waits for the -lock for a moment at a time, and releases the mutex in between.
            until = min(deadline, time.monotonic() + MUTEX_SEC)
            if connections is not None:
                self._connections = None
                try:
                    with self.file.held(until):
                        # Once the anchor is closed, another file may have the inode of one of its own.
                        if not connections.is_disposed:
                            self._connections = connections  # for the next call, if their log cannot be let go
                            connections.let_go()
                            self._connections = None
                        connections.dispose_of_all()
                except Busy:
                    self._connections = connections  # for the next attempt
                    raise
                finally:
                    if self._connections is None:
                        connections.dispose()
            if self.file.identity() is None:
                raise self.file.gone()
            only_with = None if create else self.tables.state.name
            self._connections = SqliteConnections.open(self.file, until, only_with=only_with)
            return self._connections

    def connection(self) -> sa.Connection:
        def connect() -> sa.Connection:
            with in_sqlite(), translated(self.file.path):
                return self._current(deadline).users.connect()

        deadline = time.monotonic() + USERS_SEC
        return patiently(deadline, connect)

    def check_no_writer_here(self) -> None:
        check_no_writer_here(self.file.path)

    def close(self) -> None:
        self._closed.set()
        with self._mutex:
            connections, self._connections = self._connections, None
        if connections is not None:
            with in_sqlite():
                connections.dispose()

    def forget(self) -> None:
        """See ``SqlStore.forget``.

        Closing one of the parent's connections here would release locks that SQLite in the parent takes for held. So not even the
        garbage collector may do so.
        """
        if self._connections is not None:
            abandon(self._connections)
        closed = self._closed.is_set()
        self._mutex, self._closed, self._connections = threading.Lock(), Closed(), None
        self._hints = Hints()
        if closed:
            self._closed.set()

    # Transactions

    @contextlib.contextmanager
    def transaction(self, mode: Mode, deadline: float) -> Iterator[SqlTransaction]:
        if mode is not Mode.READ:
            self.check_no_writer_here()
        with in_sqlite(), translated(self.file.path):
            connections = self._current(deadline)
            with connections.connected() as connection:
                raw = connection.connection.dbapi_connection
                assert isinstance(raw, sqlite3.Connection)
                # What a signal's handler raises in a function that SQLite calls is lost. No line of Python runs in this one.
                raw.set_progress_handler(map(deadline.__lt__, iter(time.monotonic, None)).__next__, PROGRESS_STEPS)
                try:
                    if mode is Mode.READ:
                        raw.execute('BEGIN')
                    else:
                        self._begin(raw, deadline)
                    self.dialect.here.identity, self.dialect.here.time = connections.anchor.identity, self.now()
                    if mode is Mode.STRUCTURE:
                        connection.execute(self._watch_off)
                    yield SqliteTransaction(connection, self.dialect)
                    if mode is Mode.STRUCTURE:
                        connection.execute(self._watch_on)
                    if mode is not Mode.READ:
                        self._check(connections)
                    connection.exec_driver_sql('COMMIT')
                    if mode is not Mode.READ:
                        self._queue.wrote()
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        raw.rollback()
                    raise

    def _begin(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Begin to write; if a transaction of the user's in this process keeps all others out, the error names it."""
        try:
            self._queue.begin(connection, deadline)
        except sqlite3.OperationalError as error:
            if (writer := writer_of(self.file.path)) is None:
                raise
            raise Busy(
                f'{self.file.path} is locked by an open transaction of this process, over job._cn or another connection: '
                f'{writer.about}'
            ) from error

    def _check(self, connections: SqliteConnections) -> None:
        if not connections.is_current:
            raise BackendUnavailable(f'{self.file.path} was replaced or deleted meanwhile; nothing was written')

    def portion(self, tx: SqlTransaction, old: OldRows) -> Portion:
        """See ``SqlStore.portion``: the oldest rows, by the index of their times; rows of one time follow by their rowid."""
        states.read(tx)
        rowid = sa.literal_column(f'{old.table.name}.rowid', sa.Integer)
        made = sa.type_coerce(old.made, sa.String)
        query = sa.select(rowid.label('rowid'), made.label('made'), old.may_go.label('may_go')).where(old.made < old.before)
        if old.after:
            last, _, number = old.after.rpartition(' ')
            query = query.where(made >= last, sa.or_(made > last, rowid > int(number)))
        found = tx.execute(query.order_by(old.made, rowid).limit(old.limit)).all()
        old_ids = [row.rowid for row in found if row.may_go]
        rows = rowid.in_(old_ids) if old_ids else None
        is_full = len(found) == old.limit
        return Portion(rows, f'{found[-1].made} {found[-1].rowid}' if is_full else '')

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        connections: SqliteConnections | None = None
        seen: int | None = None
        checked = -math.inf
        number, is_another = revision, False
        while not self._closed.is_set():
            now = time.monotonic()
            with contextlib.suppress(JobsyncError), in_sqlite(), translated(self.file.path):
                if connections is None or connections.is_disposed or now >= checked:
                    checked = now + CHECK_SEC
                    before, connections = connections, self._current(deadline + 1)
                    if connections is not before:
                        seen = None
                        if before is not None:
                            is_another = True
                            self._hints.forget()
                # t=0  a commit writes the log, and waits for the disk; no reader sees it yet
                # t=1  this poll finds the log written, and reads the state of before
                # t=2  the disk has it: the commit is seen, and nothing is written for that
                # So what counts is the count of commits, and not the size or the time of the log.
                if (news := connections.peek(self._news, seen)) is not None:
                    seen, row = news
                    if row is not None and not isinstance(row[0], int):
                        raise states.unreadable(f'revision is {row[0]!r}')
                    number = revision if row is None else row[0]
                    if row is not None:
                        self._hints.note(row)
                    if number > revision or is_another:
                        self._revised = now
                        return number if is_another else self._hints.hint(number, revision)
            left = deadline - now
            if left <= 0:
                break
            quickest, slowest = (
                max(pulse, self._hints.nodes * each) for pulse, each in zip(PULSE_SEC, PULSE_OF_NODE_SEC, strict=True)
            )
            self._closed.wait(min(max(SLOWING * (now - self._revised), quickest), slowest, left))
        return number
