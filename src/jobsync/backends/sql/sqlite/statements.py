"""Connections whose transaction and statements end when they are closed."""

from __future__ import annotations

import contextlib
import sqlite3
import weakref
from typing import Any

__all__ = ['ClosingConnection']


class ClosingConnection(sqlite3.Connection):
    """A connection whose transaction and statements end when it is closed.

    t=0  a signal's handler raises before all rows of an INSERT … RETURNING, or of a query, are taken, or what ends a call that
         takes too long (``func_timeout``) raises while SQLAlchemy takes a statement's result
    t=1  the connection is closed, as by SQLAlchemy, which takes it for broken. SQLite keeps it, its transaction, and what the
         statement locks or reads, until the statement is gone as well
    t=2  the program has the exception, whose traceback has the cursor, perhaps in a closure that stays though frames are cleared.
         Until the collector of garbage finds that, no process writes
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """Return a cursor, which is closed with this connection."""
        cursor = super().cursor(factory)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """Close the connection and its cursors. A transaction that is open is rolled back."""
        with contextlib.suppress(sqlite3.Error):
            self.rollback()
        try:
            for cursor in list(self._cursors):
                with contextlib.suppress(sqlite3.Error):  # a handler may have interrupted it
                    cursor.close()
        finally:
            super().close()
