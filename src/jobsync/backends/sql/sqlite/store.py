"""SQLite: a file on this host, for any number of processes on it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, String, Table, bindparam, func, literal_column, null, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.types import TypeEngine

from jobsync.backend import Backend, BackendInfo, BackendOptions, Reach, Settings
from jobsync.backends._common.forks import abandon
from jobsync.backends._common.values import utc_now
from jobsync.backends.sql import state as states
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.schema import Tables, UtcDateTime, tables_for
from jobsync.backends.sql.sqlite.connection import SqliteConnection
from jobsync.backends.sql.sqlite.ddl import triggers
from jobsync.backends.sql.sqlite.errors import translated
from jobsync.backends.sql.sqlite.file import DatabaseFile
from jobsync.backends.sql.sqlite.write_queue import WriteQueue
from jobsync.backends.sql.store import MAX_REMOVALS, Mode, SqlStore, SqlTransaction, patiently
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = ['SqliteStore', 'connect']

INFO = BackendInfo('sqlite', durable=True, push=True, reach=Reach.HOST, max_tokens=1_000_000, max_removals=MAX_REMOVALS, sql=True)
PULSE_SEC = (0.025, 0.15)
"""How often ``wait`` looks: soon after a change, for a hand-over has several steps; and when there was none for a while."""
SLOWING = 0.1
"""The share of the time without a change that may pass before the next look."""
THOROUGH_SEC = 1.0
"""How often it looks at more than the time at which the log was last written."""
PROGRESS_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the deadline, about a millisecond."""
OLDEST_SQLITE = (3, 31, 0)


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for a URL; nothing is opened yet."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(f'this Python has SQLite {sqlite3.sqlite_version}; jobsync needs {".".join(map(str, OLDEST_SQLITE))}')
    return SqlBackend(SqliteStore(path_of(url), tables_for(options.namespace)), options)


def path_of(url: str) -> Path:
    """The file that a URL names, absolute, so that a change of the working directory does not matter."""
    scheme, _, rest = url.partition('://')
    name, question, _ = rest.partition('?')
    if scheme != 'sqlite' or question or '#' in rest:
        raise ConfigError('a SQLite backend is sqlite:///relative.db or sqlite:////absolute/path.db, with no parameters')
    if name in ('', '/', '/:memory:'):
        raise ConfigError('the SQLite URL names no file, and a database in memory has no second process: use memory:// for that')
    if not name.startswith('/'):
        raise ConfigError('SQLite has no host; write sqlite:///name for a relative path, sqlite:////name for an absolute')
    return Path(os.path.abspath(name[1:]))  # noqa: PTH100 - links in the path must be followed at each use, not now


class SqliteStore(SqlStore):
    """The database in one file."""

    def __init__(self, path: Path, tables: Tables, clock: Callable[[], dt.datetime] = utc_now) -> None:
        super().__init__(INFO, tables)
        self.file = DatabaseFile(path)
        self.now = clock
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._link: SqliteConnection | None = None
        self._here = threading.local()
        self._turns = WriteQueue()
        self._revised = time.monotonic()
        self._watch_off = update(tables.state).values(writer=1)
        self._watch_on = update(tables.state).values(writer=0)

    def __repr__(self) -> str:
        return f'sqlite:///{self.file.path} {self.tables.namespace}'

    # Opening and closing

    def prepare(self, settings: Settings, create: bool, timeout_sec: float) -> None:
        """See ``SqlStore.prepare``."""
        deadline = time.monotonic() + timeout_sec
        patiently(deadline, lambda: self._reach(create, deadline))
        with translated(self.file.path, opening=True):
            if self.run(Mode.READ, timeout_sec, self.has_schema):
                return
            if not create:
                raise SchemaMismatch(
                    f'{self.file.path} has no tables of the namespace {self.tables.namespace!r}, '
                    'and skip_db_init forbids to make them'
                )
            self.run(Mode.WRITE, timeout_sec, lambda tx: self._make_schema(tx, settings))

    def _reach(self, create: bool, deadline: float) -> None:
        """Open the file, which is made if it may be; ``Busy`` while another process has it all to itself for a moment."""
        with translated(self.file.path, opening=True):
            self.file.check_writable()
            if create and self.file.identity() is None:
                with self.file.held(deadline):
                    self.file.make()
            self._current(deadline)

    def tables_there(self, tx: SqlTransaction) -> set[str]:
        """See ``SqlStore.tables_there``."""
        rows = tx.connection.exec_driver_sql("SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')")
        return {name for (name,) in rows} & set(self.tables.names().values())

    def _make_schema(self, tx: SqlTransaction, settings: Settings) -> None:
        if self.has_schema(tx):
            return
        self.tables.metadata.create_all(tx.connection, checkfirst=False)
        self.watch(tx)
        states.first(tx, settings)

    def watch(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.watch``."""
        for statement in triggers(self.tables):
            tx.connection.exec_driver_sql(statement)

    def unwatch(self, tx: SqlTransaction) -> None:
        """See ``SqlStore.unwatch``."""
        rows = tx.connection.exec_driver_sql("SELECT name, lower(tbl_name) FROM sqlite_master WHERE type = 'trigger'").all()
        for name, table in rows:
            if table in self.tables.names().values():
                tx.connection.exec_driver_sql(f'DROP TRIGGER "{name}"')

    def _current(self, deadline: float) -> SqliteConnection:
        """The link to the file that is at the path now."""
        with self._mutex:
            if self._closed.is_set():
                raise BackendUnavailable(f'this backend on {self.file.path} is closed')
            link = self._link
            if link is not None and link.is_current(self.file):
                return link
            if link is not None:
                self._link = None
                try:
                    with self.file.held(deadline):
                        self.file.remove_sidecars(link.anchor.sidecars)
                finally:
                    link.dispose()
            if self.file.identity() is None:
                raise self.file.gone()
            self._link = SqliteConnection.open(self.file, deadline)
            return self._link

    def connection(self) -> Connection:
        """See ``SqlStore.connection``."""
        with translated(self.file.path):
            return self._current(time.monotonic() + 5).users.connect()

    def close(self) -> None:
        """See ``SqlStore.close``."""
        self._closed.set()
        with self._mutex:
            link, self._link = self._link, None
        if link is not None:
            link.dispose()

    def forget(self) -> None:
        """In a forked child: use nothing of the parent's.

        To close a connection of the parent's here would release locks that SQLite believes it holds, so not even the
        garbage collector may do it.
        """
        if self._link is not None:
            abandon(self._link)
        closed = self._closed.is_set()
        self._mutex, self._closed, self._link = threading.Lock(), threading.Event(), None
        if closed:
            self._closed.set()

    # Transactions

    @contextlib.contextmanager
    def transaction(self, mode: Mode, deadline: float) -> Iterator[SqlTransaction]:
        """See ``SqlStore.transaction``."""
        with translated(self.file.path):
            link = self._current(deadline)
            with link.connected() as connection:
                raw = connection.connection.dbapi_connection
                assert isinstance(raw, sqlite3.Connection)
                raw.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
                try:
                    if mode is Mode.READ:
                        raw.execute('BEGIN')
                    else:
                        self._turns.begin(raw, deadline)
                    self._here.identity, self._here.time = link.identity, self.now()
                    if mode is Mode.STRUCTURE:
                        connection.execute(self._watch_off)
                    yield SqlTransaction(connection, self.tables, self)
                    if mode is Mode.STRUCTURE:
                        connection.execute(self._watch_on)
                    if mode is not Mode.READ:
                        self._check(link)
                    connection.exec_driver_sql('COMMIT')
                    if mode is not Mode.READ:
                        self._turns.wrote()
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        raw.rollback()
                    raise

    def _check(self, link: SqliteConnection) -> None:
        if not link.is_current(self.file):
            raise BackendUnavailable(f'{self.file.path} was replaced or deleted meanwhile; nothing was written')

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout_sec
        query = str(select(self.tables.state.c.revision))
        link: SqliteConnection | None = None
        seen: int | None = None
        written: tuple[int, int, int] | None = None
        thorough = -math.inf
        number = revision
        while not self._closed.is_set():
            now, last = time.monotonic(), written
            written = self.file.log_written()
            # A commit within the tick of the clock in which we looked may not show: hence the thorough look now and then.
            if written is None or written != last or now >= thorough:
                thorough = now + THOROUGH_SEC
                with contextlib.suppress(JobsyncError), translated(self.file.path):
                    before, link = link, self._current(deadline + 1)
                    if link is not before:
                        seen = None
                    if (news := link.peek(query, seen)) is not None:
                        seen, number = news[0], revision if news[1] is None else news[1]
                        if number > revision or before not in (None, link):
                            self._revised = now
                            return number
            left = deadline - now
            if left <= 0:
                break
            pulse = min(max(SLOWING * (now - self._revised), PULSE_SEC[0]), PULSE_SEC[1])
            self._closed.wait(min(pulse, left))
        return number

    # Expressions

    def identity(self) -> ColumnElement[str]:
        """See ``SqlStore.identity``: the file that the transaction began on, which is looked at again before it commits."""
        return bindparam('identity_now', type_=String, callable_=lambda: self._here.identity)

    def position(self) -> ColumnElement[Any]:
        """See ``SqlStore.position``: a file has none."""
        return null()

    def clock(self) -> ColumnElement[Any]:
        """See ``SqlStore.clock``: one moment for the whole transaction."""
        return bindparam('time_now', type_=UtcDateTime, callable_=lambda: self._here.time)

    def elements(self, name: str, type_: TypeEngine[Any]) -> FromClause:  # noqa: ARG002 - JSON knows its types
        """See ``SqlStore.elements``. A list as JSON is one parameter, however long it is."""
        return func.json_each(bindparam(name)).table_valued('value')

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """See ``SqlStore.among``."""
        return column.in_(select(self.elements(name, column.type).c.value))

    def listed(self, values: Iterable[Any]) -> Any:
        """See ``SqlStore.listed``."""
        return json.dumps(list(values))

    def rows(self, name: str, types: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """See ``SqlStore.rows``."""
        row = func.json_each(bindparam(name)).table_valued('value')
        columns = [func.json_extract(row.c.value, f'$.{column}').label(column) for column in types]
        # A limit, though none, makes SQLite take the columns out of the JSON once, and not for each row this is joined with.
        return select(*columns).select_from(row).limit(-1).subquery()

    def joined(self, texts: ColumnElement[Any]) -> ColumnElement[str]:
        """See ``SqlStore.joined``."""
        return func.group_concat(texts, literal_column("','"))

    def patched(self, text: ColumnElement[str], changes: ColumnElement[str]) -> ColumnElement[str]:
        """See ``SqlStore.patched``."""
        return func.json_patch(text, changes)

    def json_elements(self, texts: ColumnElement[Any]) -> tuple[FromClause, ColumnElement[str], ColumnElement[int]]:
        """See ``SqlStore.json_elements``."""
        found = func.json_each(texts).table_valued('key', 'value')
        return found, found.c.value, found.c.key + 1

    def insert(self, table: Table) -> Any:
        """See ``SqlStore.insert``."""
        return sqlite_insert(table)
