"""The connections of a process to one database file: the anchor, a pool for jobsync, and those for its users."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import attrs
from sqlalchemy import Connection, Engine, NullPool

from jobsync.backends.sql.engine import PrivatePool, autocommitting
from jobsync.backends.sql.sqlite.file import Anchor, DatabaseFile, readable
from jobsync.backends.sql.sqlite.fork_gate import close_before_fork
from jobsync.backends.sql.sqlite.statements import ClosingConnection
from jobsync.backends.sql.sqlite.users import UsersConnection
from jobsync.errors import BackendUnavailable

__all__ = ['SqliteConnections']

IDLE_CONNECTIONS = 2
_open: dict[int, weakref.ref[SqliteConnections]] = {}
"""All connections that were not disposed of, by their ``id``: in a forked child those of the parent as well."""
USERS_BUSY_MS = 5000


@attrs.define(eq=False)
class SqliteConnections:
    """Connections to the file that was at the path when this was made."""

    anchor: Anchor
    engine: Engine
    _file: DatabaseFile
    _pid: int = attrs.field(factory=os.getpid)
    _lock: Any = attrs.field(factory=threading.RLock)
    """Reentrant, for a signal's handler may fork in the midst of ``dispose_before_fork``."""
    is_disposed: bool = False

    def __attrs_post_init__(self) -> None:
        _open[id(self)] = weakref.ref(self)

    @classmethod
    def open(cls, file: DatabaseFile, deadline: float, *, only_with: str | None = None) -> SqliteConnections:
        """Open the file at the path. One without the table ``only_with`` is left as it is, with nothing beside it."""
        anchor = file.anchor(deadline, only_with=only_with)
        return cls(anchor, pool(file, anchor.identity), file)

    @functools.cached_property
    def users(self) -> Engine:
        """The engine for the user's own statements. Few have any, and to make it takes a twelfth of the time to open a store."""
        return users_engine(self._file)

    @property
    def is_current(self) -> bool:
        """Whether the file at the path is the one that is open here."""
        return not self.is_disposed and self._file.is_still(self.anchor)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """Lend a connection of the pool. It is closed at the end of the block if ``dispose`` was called meanwhile."""
        connection = self.engine.connect()
        try:
            yield connection
        finally:
            with self._lock:
                if self.is_disposed:
                    connection.detach()
                connection.close()

    def peek(self, query: str, seen: int | None) -> tuple[int, tuple[Any, ...] | None] | None:
        """Return the count of commits and the row that ``query`` reads, if any; None while the count is still ``seen``."""
        with self._lock:
            if self.is_disposed:
                return None
            # SQLite reads from shared memory whether any process has committed: a few microseconds.
            commits: int = self.anchor.connection.execute('PRAGMA data_version').fetchone()[0]
            if commits == seen:
                return None
            return commits, self.anchor.connection.execute(query).fetchone()

    def let_go(self) -> None:
        """See ``DatabaseFile.let_go``."""
        with self._lock:
            self._file.let_go(self.anchor)

    def dispose(self) -> None:
        """Close everything; a connection in use is closed when it is returned."""
        with self._lock:
            self._dispose()

    def _dispose(self) -> None:
        if not self.is_disposed:
            self.is_disposed = True
            # t=0  a thread that forks closes these
            # t=1  another one forks as well: it finds these here, and waits for the lock, until nothing is open
            try:
                self.anchor.connection.close()
                self.engine.dispose()
            finally:
                _open.pop(id(self), None)

    def dispose_before_fork(self) -> None:
        """Close everything, unless the file is another one by now: what is beside it is known by what is open here."""
        with self._lock:
            if self.is_current:
                self._dispose()

    def dispose_of_all(self) -> None:
        """Close everything here, and what other handles of this process have open of the same file, unless that is current.

        t=0  -wal and -shm are removed under the workers. A ``Cluster`` in the process of node a is idle
        t=1  a closes its connections, and opens others. Within a process SQLite shares one -shm between all connections to a file
             for as long as there is any, so a goes on with the -shm that was removed
        t=2  node b, in another process, makes a new -shm. Each of the two writes to the log as if it were alone
        """
        for other in _open_here():
            if other.anchor.identity == self.anchor.identity and not self._file.is_still(other.anchor):
                other.dispose()
        self.dispose()


def _open_here() -> list[SqliteConnections]:
    """Return all connections that this process has opened, and not disposed of."""
    found = [reference() for reference in list(_open.values())]
    return [each for each in found if each is not None and each._pid == os.getpid()]


def _close_before_fork() -> None:
    for each in _open_here():
        each.dispose_before_fork()


close_before_fork(_close_before_fork)


def pool(file: DatabaseFile, identity: str) -> Engine:
    """Return an engine with a few connections, all to the file of this identity."""

    def creator() -> sqlite3.Connection:
        connection, found = file.connect(ClosingConnection)
        if found != identity:
            connection.close()
            raise BackendUnavailable(f'{file.path} has just been replaced by another file')
        connection.text_factory = readable
        return connection

    return autocommitting(
        'sqlite',
        creator,
        PrivatePool,
        pool_size=IDLE_CONNECTIONS,
        max_overflow=-1,
        # Transactions are begun and ended by our own statements, IMMEDIATE or not.
        pool_reset_on_return=None,
        # SQLAlchemy does not recognise a table that is joined by its key being in another's list, and warns of a product.
        enable_from_linting=False,
    )


def users_engine(file: DatabaseFile) -> Engine:
    """Return an engine for the user's statements, which commit by themselves, and wait for writers for some seconds."""

    def creator() -> sqlite3.Connection:
        connection, _ = file.connect(UsersConnection)
        connection.path = file.path
        connection.execute(f'PRAGMA busy_timeout = {USERS_BUSY_MS}')
        return connection

    return autocommitting('sqlite', creator, NullPool)
