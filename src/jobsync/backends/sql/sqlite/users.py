"""The user's connections, and whether a transaction over one of them keeps jobsync from writing.

SQLite allows one writer at a time. A thread that has written in a transaction, and has jobsync write before it ends, would wait
for itself::

    t=0  the user's thread begins a transaction over ``job._cn``, and inserts a row: it is the writer now
    t=1  in the same block it takes a task from ``job.claim``, which is to record the claim over another connection
    t=2  that write waits for the transaction, and the transaction for the thread; heartbeats wait as well, and the lease ends

So such a write is refused at once. Heartbeats are of other threads, which can only wait: their error names the transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jobsync.backends.sql.sqlite.statements import ClosingConnection
from jobsync.errors import UnsupportedOperation

__all__ = ['UsersConnection', 'check_no_writer_here', 'writer_of']

_writers: dict[int, weakref.ref[UsersConnection]] = {}
"""Connections over which a statement that writes was run in a transaction, by their ``id``."""
_here: ContextVar[weakref.ref[UsersConnection] | None] = ContextVar('jobsync.sqlite.writer', default=None)
"""The last one of this thread or asyncio task, or of the one that has started it."""


class UsersConnection(ClosingConnection):
    """A connection for the user's statements."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pid, self._wrote_at, self._thread_name = os.getpid(), 0.0, ''
        self.path: Path | None = None

    def cursor(self, *_: object) -> Any:
        """Return a cursor that notes the first statement that writes."""
        return super().cursor(_UsersCursor)

    def note(self, statement: str, values: Any) -> None:
        """Note a statement that is about to run, if it is the first of its transaction that writes to the file.

        SQLite knows: its program for a statement begins with what the statement needs, and a write to the file (database 0; a
        temporary table is in database 1) needs a transaction that writes. An authorizer is called with the same knowledge, but
        what a signal's handler raises in there is lost, and the statement fails with "not authorized" in its place.
        """
        if not self.in_transaction:
            self._wrote_at = 0.0  # what wrote then is over
            return
        if self._wrote_at:
            return
        program = sqlite3.Cursor(self)
        try:
            steps = program.execute(f'EXPLAIN {statement}', values).fetchall()
        except sqlite3.Error:  # the statement itself is about to say what is wrong
            return
        finally:
            program.close()
        if any(opcode == 'Transaction' and not database and writes for _, opcode, database, writes, *_ in steps):
            self._wrote_at, self._thread_name = time.monotonic(), threading.current_thread().name
            mine = _writers[id(self)] = weakref.ref(self)
            _here.set(mine)

    def close(self) -> None:
        """Close the connection. A transaction that is open is rolled back."""
        _writers.pop(id(self), None)
        super().close()

    def keeps_out(self, path: Path) -> bool:
        """Return whether a transaction over this connection, in this process, has written to the file and is open."""
        try:
            return bool(self._wrote_at) and self.path == path and self._pid == os.getpid() and self.in_transaction
        except sqlite3.ProgrammingError:  # it is closed
            return False

    @property
    def about(self) -> str:
        """Return whose transaction it is, and since when it keeps others out, for a message."""
        return f'thread {self._thread_name!r} has written in it {time.monotonic() - self._wrote_at:.0f} s ago'


class _UsersCursor(sqlite3.Cursor):
    connection: UsersConnection

    def execute(self, statement: str, values: Any = ()) -> _UsersCursor:
        """Run a statement."""
        self.connection.note(statement, values)
        return super().execute(statement, values)

    def executemany(self, statement: str, values: Any) -> _UsersCursor:
        """Run a statement once for each row of values."""
        rows = list(values)
        if rows:
            self.connection.note(statement, rows[0])
        return super().executemany(statement, rows)


def check_no_writer_here(path: Path) -> None:
    """Raise ``UnsupportedOperation`` if the caller has written to the file in a transaction of its own that is open."""
    mine = _here.get()
    connection = None if mine is None else mine()
    if connection is not None and connection.keeps_out(path):
        raise UnsupportedOperation(
            f'an open transaction of this thread, over job._cn or another connection, has written to {path}, and SQLite allows '
            'one writer: jobsync would wait for it, and it for jobsync. Claim and complete tasks outside of the transaction'
        )


def writer_of(path: Path) -> UsersConnection | None:
    """Return a connection of this process over which a transaction has written to the file and is open."""
    found = (ref() for ref in list(_writers.values()))
    return next((each for each in found if each is not None and each.keeps_out(path)), None)
