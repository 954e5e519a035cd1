"""What a process has open of one database file: the anchor, a pool for jobsync, and connections for its users."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import attrs
from sqlalchemy import Connection, Engine, NullPool, QueuePool

from jobsync.backends.sql.engine import autocommitting
from jobsync.backends.sql.sqlite.file import Anchor, DatabaseFile
from jobsync.errors import BackendUnavailable

__all__ = ['SqliteConnection']

IDLE_CONNECTIONS = 2
USERS_BUSY_MS = 5000


@attrs.define(eq=False)
class SqliteConnection:
    """Connections to the file that was at the path when this was made."""

    identity: str
    anchor: Anchor
    engine: Engine
    users: Engine
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _disposed: bool = False

    @classmethod
    def open(cls, file: DatabaseFile, deadline: float) -> SqliteConnection:
        """Open what is at the path."""
        with file.held(deadline):
            anchor, identity = file.anchor(deadline)
        return cls(identity, anchor, pool(file, identity), users_engine(file))

    def is_current(self, file: DatabaseFile) -> bool:
        """Whether the path still leads to what is open here."""
        return file.is_still(self.identity, self.anchor)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection of the pool, which is really closed at the end if the link was disposed of meanwhile."""
        connection = self.engine.connect()
        try:
            yield connection
        finally:
            with self._lock:
                if self._disposed:
                    connection.detach()
                connection.close()

    def peek(self, query: str, seen: int | None) -> tuple[int, int | None] | None:
        """The count of commits and the number that ``query`` gives; None while the count is still ``seen``."""
        with self._lock:
            if self._disposed:
                return None
            # SQLite tells from shared memory whether anyone has committed: a few microseconds.
            commits: int = self.anchor.connection.execute('PRAGMA data_version').fetchone()[0]
            if commits == seen:
                return None
            row = self.anchor.connection.execute(query).fetchone()
            return commits, None if row is None else row[0]

    def dispose(self) -> None:
        """Close everything, now or, if it is in use, when it is given back."""
        with self._lock:
            if not self._disposed:
                self._disposed = True
                self.anchor.connection.close()
                self.engine.dispose()


def pool(file: DatabaseFile, identity: str) -> Engine:
    """A few connections, all to the same file."""

    def creator() -> sqlite3.Connection:
        connection, found = file.connect()
        if found != identity:
            connection.close()
            raise BackendUnavailable(f'{file.path} has just been replaced by another file')
        return connection

    # Transactions are begun and ended by our own statements, IMMEDIATE or not.
    options = {'pool_size': IDLE_CONNECTIONS, 'max_overflow': -1, 'pool_reset_on_return': None}
    return autocommitting('sqlite', creator, QueuePool, **options)


def users_engine(file: DatabaseFile) -> Engine:
    """Connections for statements that commit by themselves; they wait for writers as long as a user can be expected to."""

    def creator() -> sqlite3.Connection:
        connection, _ = file.connect()
        connection.execute(f'PRAGMA busy_timeout = {USERS_BUSY_MS}')
        return connection

    return autocommitting('sqlite', creator, NullPool)
