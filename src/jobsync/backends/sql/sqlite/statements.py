"""Connections whose statements end when they are closed."""

from __future__ import annotations

import contextlib
import sqlite3
import weakref
from typing import Any

__all__ = ['ClosingConnection']


class ClosingConnection(sqlite3.Connection):
    """A connection whose statements end when it is closed.

    t=0  a signal's handler raises before all rows of an INSERT … RETURNING, or of a query, are taken
    t=1  the connection is closed. SQLite keeps it, and what the statement locks or reads, until the statement is gone as well
    t=2  the program has the exception, whose traceback has the cursor, perhaps in a closure that stays though frames are cleared
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
        """Close the connection and its cursors."""
        try:
            for cursor in list(self._cursors):
                with contextlib.suppress(sqlite3.Error):  # a handler may have interrupted it
                    cursor.close()
        finally:
            super().close()
