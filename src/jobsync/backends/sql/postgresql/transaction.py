"""A transaction of PostgreSQL's, in as few messages as possible."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from jobsync.backends._common.concerned import announcement
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.postgresql.connection import BoundedConnection
from jobsync.backends.sql.postgresql.ddl import CONCERNED
from jobsync.backends.sql.postgresql.errors import in_full
from jobsync.backends.sql.store import Busy, SqlTransaction, Statement

__all__ = ['HOLD_MS', 'Framed']

HOLD_MS = 500
"""How long a reading waits for its tables, and a change of the structure for anything but the state, before it begins anew."""


def announced(_: Dialect) -> sa.Select[Any]:
    """Set, for the rest of the transaction, what the announcement of the next revision says besides its number."""
    return sa.select(sa.func.set_config(CONCERNED, sa.bindparam('names', type_=sa.Text), sa.true()))


@attrs.frozen
class Framed(SqlTransaction):
    """A transaction that begins in one message with its first statement, and may end in one with its last."""

    raw: BoundedConnection
    beginning: Callable[[bool], Sequence[str]]
    """Given whether the transaction also ends in the message that begins it."""
    server: object
    """How messages name the server."""
    before_commit: Sequence[str] = ()
    """Statements in the message of the COMMIT, directly before it."""

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        with self._framing():
            return super().execute(statement, parameters)

    def execute_text(self, statement: str) -> sa.CursorResult[Any]:
        with self._framing():
            return super().execute_text(statement)

    def execute_texts(self, statements: Iterable[str]) -> None:
        """See ``SqlTransaction.execute_texts``: one message."""
        self.execute_text('; '.join(statements))

    def hold(self, *tables: sa.Table) -> None:
        """See ``SqlTransaction.hold``: the statement is sent between the beginning and the first reading."""
        # t=0  an operator's ALTER TABLE writes all rows of a table anew, and has its lock
        # t=1  a reading begins, which is to see the state of t=1, and waits for the lock
        # t=2  the lock is free. All rows are younger than t=1: none of them is found
        # LOCK TABLE waits for the lock too, but what is read afterwards is the state of after that.
        # The wait is shorter than the second after which the server searches for deadlocks. Otherwise:
        # t=0  an operator's DROP SCHEMA has one table, for which a reading waits that has another one
        # t=1  the server searches for a deadlock of the reading, for the only time, and finds none yet
        # t=2  DROP SCHEMA comes to the other table, waits for a second, and is ended: at each try, where many nodes read
        self.raw.before.append(f'SET LOCAL lock_timeout = {HOLD_MS}')
        self.raw.before.append(f'LOCK TABLE {", ".join(table.name for table in tables)} IN ACCESS SHARE MODE')

    def announce(self, number: int, concerned: Iterable[str] | None) -> None:  # noqa: ARG002 - the trigger knows the number
        """See ``SqlTransaction.announce``: the trigger on the state reads the setting."""
        if names := announcement(concerned):
            self.enqueue(announced, {'names': names})

    def enqueue(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> None:
        """See ``SqlTransaction.enqueue``: the statement is sent with the next one, or with the COMMIT of ``end``."""
        self.raw.is_queueing = True
        try:
            super().execute(statement, parameters)
        finally:
            self.raw.is_queueing = False

    def conclude(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        with self._framing(*self.before_commit, 'COMMIT'):
            return super().execute(statement, parameters)

    def _begin(self, is_whole: bool) -> None:
        """Let the next message begin the transaction, unless it has begun; ``is_whole`` if it ends there too."""
        if not self.raw.is_in_transaction:
            self.raw.before[:0] = self.beginning(is_whole)

    @contextlib.contextmanager
    def _framing(self, *after: str) -> Iterator[None]:
        self._begin(bool(after))
        self.raw.after = after
        try:
            yield
        except DBAPIError as error:
            if not after and self.raw.closed:
                # No COMMIT has been sent, so another attempt on another connection writes nothing twice. The server may have
                # ended the session for any reason, and what it said of that may be lost.
                said = in_full(error.orig) if isinstance(error.orig, psycopg.Error) else error.orig
                raise Busy(f'{self.server}: the connection was lost: {said}') from error
            raise

    def end(self) -> None:
        """Commit, with what is still queued, unless ``conclude`` has."""
        if self.raw.is_in_transaction or self.raw.before:
            self._begin(is_whole=True)
            self.raw.before.extend(self.before_commit)
            self.raw.execute('COMMIT')
