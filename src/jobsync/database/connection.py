"""The user's connection: statements that commit by themselves, and transactions."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import attrs

from jobsync.database.placeholders import prepared
from jobsync.database.rows import Rows
from jobsync.database.values import for_sqlite
from jobsync.errors import JobsyncError, UnsupportedOperation

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ['Connection', 'check_sql']

T = TypeVar('T')

_of_parents: list[object] = []
"""Connections that a forked child must neither close nor leave to the garbage collector: the parent uses them."""


class Runner(Protocol):
    """Runs an action."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """Return what the action returns; raise what it raises."""


@attrs.define(eq=False)
class _Transaction:
    """A transaction in the context that began it: that of a thread, or of an asyncio task.

    A thread or asyncio task that is started in the block may have a copy of the context, and finds the transaction there. If it
    could use the transaction, its statements would mix with those of the block::

        task A                               task B, started by A in the block
        BEGIN
        SAVEPOINT jobsync_1, INSERT 1
                                             SAVEPOINT jobsync_1, INSERT 2
        ROLLBACK TO SAVEPOINT jobsync_1      (INSERT 2 is gone)
                                             RELEASE SAVEPOINT jobsync_1, and B believes that it was written
    """

    of: Connection
    outer: _Transaction | None
    """A transaction of another ``Connection`` that this context has under way."""
    held: sqlalchemy.Connection | None = None
    """The database's connection; None once the transaction is over, or the ``Connection`` was closed."""
    depth: int = 0
    """How many blocks of this transaction are open, one in the other; 0 when it is over."""
    _mark: Token[None] = attrs.field(init=False, factory=lambda: _probe.set(None))

    @property
    def is_of_this_context(self) -> bool:
        """Return whether this is the context that began it, and not a copy: a variable can be reset only where it was set."""
        try:
            _probe.reset(self._mark)
        except ValueError:
            return False
        self._mark = _probe.set(None)
        return True


_probe: ContextVar[None] = ContextVar('jobsync.database.probe')
_innermost: ContextVar[_Transaction | None] = ContextVar('jobsync.database.innermost', default=None)


class Connection:
    """A connection to the database where a job keeps its records, for the user's own statements. Any thread may use it.

    A statement borrows one of the backend's connections for its duration, and so does a transaction. So threads and asyncio tasks
    do not wait for each other, none runs statements in another's transaction, and each uses one connection. A later statement may
    run in another session, or in that of another thread's statement. So temporary tables and settings belong into a transaction
    that they end with: ``CREATE TEMP TABLE … ON COMMIT DROP``, ``SET LOCAL``.
    """

    def __init__(
        self,
        open_: Callable[[], sqlalchemy.Connection],
        run: Runner,
        *,
        check: Callable[[], object] | None = None,
        release: Callable[[], object] | None = None,
    ) -> None:
        """Store the parts: ``run`` runs each statement, ``check`` raises if none is allowed now, ``close`` calls ``release``."""
        self._open, self._run, self._check, self._release = open_, run, check, release
        self._pid = os.getpid()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, and refuses statements."""
        return self._closed

    def close(self) -> None:
        """Close the connection. A transaction of this context is not committed; one of another context ends with its block."""
        self._closed = True
        under_way = self._found()
        if under_way is not None and under_way.held is not None and under_way.is_of_this_context:
            held, under_way.held = under_way.held, None
            # No rollback from here, since a signal may have interrupted a statement: the database rolls back.
            held.invalidate()
            held.close()
        if self._release is not None:
            self._release()

    # --- statements ---------------------------------------------------------------------------------------------------------

    def query(self, sql: str, values: Sequence[object] = ()) -> Rows:
        """Return all rows of a query.

        Args:
            sql: The query.
            values: A value for each ``%s``.
        """

        def work(connection: sqlalchemy.Connection) -> Rows:
            result = _run_one(connection, sql, values)
            if not result.returns_rows:
                return Rows((), ())
            return Rows(tuple(result.keys()), tuple(map(tuple, result.fetchall())))

        return self._do(work)

    def execute(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement, and return how many rows it has written or returned; -1 where the driver does not count.

        Args:
            sql: The statement.
            values: A value for each ``%s``.
        """

        def work(connection: sqlalchemy.Connection) -> int:
            result = _run_one(connection, sql, values)
            return len(result.fetchall()) if result.returns_rows else result.rowcount

        return self._do(work)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Insert rows, all or none, and return how many.

        Args:
            table: The table's name, with its schema before a dot if needed.
            columns: The names of the columns.
            rows: A sequence of values for each row, in the order of the columns.
        """

        def work(connection: sqlalchemy.Connection) -> int:
            quote = connection.dialect.identifier_preparer.quote
            into = '.'.join(quote(part) for part in table.split('.'))
            names, marks = ', '.join(map(quote, columns)), ', '.join(['%s'] * len(columns))
            # The names are quoted as the driver takes them: only the values have placeholders of the user's form.
            several = [_prepared(connection, f'({marks})', row) for row in rows]
            sql = f'INSERT INTO {into} ({names}) VALUES {several[0][0]}'  # noqa: S608 - names are quoted
            return connection.exec_driver_sql(sql, [values for _, values in several]).rowcount

        with self.transaction():
            return self._do(work)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the statements of a block as one transaction, all or none.

        The transaction is committed at the end of the block, and rolled back if an exception leaves it. A block inside another
        one is a savepoint: it rolls back its own part only. On SQLite the first write keeps out all other writers, jobsync's
        heartbeats among them, until the block ends: do long work before it, and no claims and completions in it, which raise
        ``UnsupportedOperation``. A block there that reads before it writes fails if another connection has written in between.

        The block belongs to the thread or asyncio task that runs it. Others have transactions of their own. A thread or task that
        was started in the block with a copy of its context (``asyncio.create_task``, ``asyncio.to_thread``) cannot use the
        connection while the block lasts, since its statements would be no part of the transaction.

        Raises:
            JobsyncError: The connection is closed, this thread or task was started in the block of another one, or the database
                has undone the transaction, since a statement failed whose error the block has caught.
        """
        under_way = self._under_way()
        mine = _Transaction(self, _innermost.get()) if under_way is None else under_way
        level = mine.depth
        try:
            if level == 0:
                _innermost.set(mine)
            self._checked(lambda: self._begin(mine))
            yield
            self._checked(lambda: self._commit(mine, level))
        except BaseException as error:
            # An exit may have left SQLAlchemy in a state that makes the rollback fail; the exit goes on all the same.
            with contextlib.suppress(*(() if isinstance(error, Exception) else (Exception,))):
                self._run(lambda: self._roll_back(mine, level))
            raise
        finally:
            mine.depth = level
            if level == 0 and _innermost.get() is mine:
                _innermost.set(mine.outer)

    # --- how ----------------------------------------------------------------------------------------------------------------

    def _checked(self, action: Callable[[], T]) -> T:
        if self._check is not None:
            self._check()
        if self._closed:
            raise JobsyncError('the connection is closed')
        handled = sys.exception()
        try:
            return self._run(action)
        except Exception as error:
            if (exit_ := _exit_within(error, handled)) is not None:
                raise exit_ from None
            raise

    def _do(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """Run one statement, in this context's transaction or by itself."""

        def action() -> T:
            under_way = self._under_way()
            if under_way is not None:
                return self._run_within(under_way, work)
            connection = self._open()
            try:
                return _run_whole(connection, work)
            finally:
                self._give_back(connection)

        return self._checked(action)

    def _run_within(self, mine: _Transaction, work: Callable[[sqlalchemy.Connection], T]) -> T:
        held = _held(mine)
        try:
            return _run_whole(held, work)
        except Exception:
            # t=0  the disk is full: SQLite undoes the whole transaction, and the block catches the error
            # t=1  the block's next statement, which finds room, would commit by itself
            if held.invalidated or (held.dialect.name == 'sqlite' and not _driver(held).in_transaction):
                self._end(mine)
            raise

    def _under_way(self) -> _Transaction | None:
        """Return the transaction that this context has begun. Raise ``JobsyncError`` if it has only a copy of one."""
        found = self._found()
        if found is not None and not found.is_of_this_context:
            raise JobsyncError(
                'this asyncio task or thread was started inside a transaction of this connection that is still under way, and is '
                'no part of it: run all of the transaction in one of them, or start the other one outside of the block'
            )
        return found

    def _found(self) -> _Transaction | None:
        found = _innermost.get()
        while found is not None and not (found.of is self and found.depth):
            found = found.outer
        return found

    def _begin(self, mine: _Transaction) -> None:
        if mine.depth == 0:
            mine.held = self._open()
        _send(mine, 'BEGIN' if mine.depth == 0 else f'SAVEPOINT jobsync_{mine.depth}')
        mine.depth += 1

    def _commit(self, mine: _Transaction, level: int) -> None:
        # t=0  a statement of the block fails, and the block catches the error: PostgreSQL runs no other statement of it
        # t=1  the block ends. To COMMIT the server answers ROLLBACK, which is no error: nothing of the block is written
        if level == 0 and _has_failed(_held(mine)):
            raise JobsyncError(
                'a statement of this transaction failed, so the database has undone all of it: let the error leave the block, or '
                'run that statement in a transaction() within this one, which undoes its own part only'
            )
        _send(mine, 'COMMIT' if level == 0 else f'RELEASE SAVEPOINT jobsync_{level}')
        if level == 0:
            self._end(mine)

    def _roll_back(self, mine: _Transaction, level: int) -> None:
        held = mine.held
        if held is None:
            return
        if os.getpid() != self._pid:
            _of_parents.append(held)
            mine.held = None
            return
        try:
            if not held.invalidated:
                _send(mine, 'ROLLBACK' if level == 0 else f'ROLLBACK TO SAVEPOINT jobsync_{level}')
        except Exception:  # noqa: BLE001 - the error that led here is the one to raise
            held.invalidate()
        finally:
            if level == 0:
                self._end(mine)

    def _end(self, mine: _Transaction) -> None:
        held, mine.held = mine.held, None
        if held is not None:
            self._give_back(held)

    def _give_back(self, connection: sqlalchemy.Connection) -> None:
        # t=0  a statement in this thread has borrowed a connection of the backend's pool
        # t=1  another thread leaves the job: it closes this object, then the backend and its pool
        # t=2  this thread gives the connection back: a pool that is closed would keep it open, so it is detached, and closed
        if self._closed and not connection.invalidated:
            connection.detach()
        connection.close()


def _held(mine: _Transaction) -> sqlalchemy.Connection:
    if mine.held is None:
        raise JobsyncError('the transaction is over: the connection was closed or lost, or the database has undone all of it')
    return mine.held


def _send(mine: _Transaction, statement: str) -> None:
    _run_whole(_held(mine), lambda connection: connection.exec_driver_sql(statement))


def _has_failed(connection: sqlalchemy.Connection) -> bool:
    """Return whether the database will undo a transaction, whatever comes: SQLite mostly undoes only the failed statement."""
    return connection.dialect.name == 'postgresql' and _driver(connection).info.transaction_status.name == 'INERROR'


def _driver(connection: sqlalchemy.Connection) -> Any:
    return connection.connection.dbapi_connection


def check_sql(backend: Any) -> Any:
    """Return the backend. Raise ``UnsupportedOperation`` if it is no SQL database."""
    if not backend.info.sql:
        raise UnsupportedOperation(f'backend {backend.info.name} has no SQL; sqlite and postgresql have')
    return backend


def _exit_within(error: BaseException | None, handled: BaseException | None) -> BaseException | None:
    """Return the exit (``SystemExit``, ``KeyboardInterrupt``) that a signal's handler has raised within a statement, if any.

    The exit may come between any two steps of SQLAlchemy, which then fails over its own state, and raises ``error`` in its place.
    ``handled`` was being handled before the statement: exits further back do not count.
    """
    while error is not None and error is not handled:
        if not isinstance(error, Exception):
            return error
        error = error.__context__
    return None


def _prepared(connection: sqlalchemy.Connection, sql: str, values: Sequence[object]) -> tuple[str, tuple[Any, ...]]:
    statement, given = prepared(sql, values, connection.dialect.paramstyle)
    return statement, tuple(map(for_sqlite, given) if connection.dialect.name == 'sqlite' else given)


def _run_one(connection: sqlalchemy.Connection, sql: str, values: Sequence[object]) -> sqlalchemy.CursorResult[Any]:
    if not values:  # the driver takes the statement as it is, percent signs included
        return connection.exec_driver_sql(sql, execution_options={'no_parameters': True})
    return connection.exec_driver_sql(*_prepared(connection, sql, values))


def _run_whole(connection: sqlalchemy.Connection, work: Callable[[sqlalchemy.Connection], T]) -> T:
    """Return the result of the work. If a signal's exit interrupts it, drop the connection: its answer is still to come."""
    try:
        return work(connection)
    except BaseException as error:
        # t=0  a signal's handler raises before all rows of an INSERT … RETURNING are taken
        # t=1  as long as the program has the exception, its traceback has the cursor: SQLite keeps the statement open, and the
        #      transaction with it, and no process writes
        traceback.clear_frames(error.__traceback__)
        if not isinstance(error, Exception):
            connection.invalidate()
        raise
