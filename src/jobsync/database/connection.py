"""The user's connection: statements that commit by themselves, and transactions."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
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
"""What a forked child must not close, nor leave to the garbage collector: the parent uses it."""


class Runner(Protocol):
    """Runs an action, and raises what that raises."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """Run it."""


@attrs.define(eq=False)
class _Transaction:
    """A transaction in the context that began it: that of a thread, or of an asyncio task.

    A thread or asyncio task that is started in the block may have a copy of the context, and finds the transaction there. Were it
    let in, its statements would mix with those of the block, in the midst of which it runs::

        task A                               task B, started by A in the block
        BEGIN
        SAVEPOINT jobsync_1, INSERT 1
                                             SAVEPOINT jobsync_1, INSERT 2
        ROLLBACK TO SAVEPOINT jobsync_1      (INSERT 2 is gone)
                                             RELEASE SAVEPOINT jobsync_1, and B believes that it was written
    """

    of: Connection
    outer: _Transaction | None
    """One of another ``Connection`` that this context has under way."""
    held: sqlalchemy.Connection | None = None
    """The database's connection. None when the transaction is over, or was closed."""
    depth: int = 0
    """How many blocks it is in. 0 when it is over."""
    _mark: Token[None] = attrs.field(init=False, factory=lambda: _probe.set(None))

    @property
    def is_of_this_context(self) -> bool:
        """Whether this is the context that began it, and no copy: a variable takes back a value only where it was set."""
        try:
            _probe.reset(self._mark)
        except ValueError:
            return False
        self._mark = _probe.set(None)
        return True


_probe: ContextVar[None] = ContextVar('jobsync.database.probe')
_innermost: ContextVar[_Transaction | None] = ContextVar('jobsync.database.innermost', default=None)


class Connection:
    """To the database where a job keeps its records, for statements of the user's own. From any thread.

    A statement borrows one of the backend's connections for its duration, a transaction for its own. So threads and asyncio tasks
    do not wait for each other, none gets into another's transaction, and each by itself uses one connection. What belongs to a
    session (temporary tables, settings) ends with the transaction it was made in.
    """

    def __init__(
        self,
        open_: Callable[[], sqlalchemy.Connection],
        run: Runner,
        *,
        check: Callable[[], object] | None = None,
        release: Callable[[], object] | None = None,
    ) -> None:
        """``run`` does the work of a statement, ``check`` raises if there may be none now, ``release`` belongs to the end."""
        self._open, self._run, self._check, self._release = open_, run, check, release
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether there can be no more statements."""
        return self._closed

    def close(self) -> None:
        """Let go of everything. A transaction under way is not committed; one begun elsewhere goes when its block ends."""
        self._closed = True
        under_way = self._found()
        if under_way is not None and under_way.held is not None and under_way.is_of_this_context:
            held, under_way.held = under_way.held, None
            # Without a rollback, for a signal may have come anywhere: the database does it.
            held.invalidate()
            held.close()
        if self._release is not None:
            self._release()

    # --- statements ---------------------------------------------------------------------------------------------------------

    def query(self, sql: str, values: Sequence[object] = ()) -> Rows:
        """Run a query; all of its rows."""

        def work(connection: sqlalchemy.Connection) -> Rows:
            result = _run_one(connection, sql, values)
            if not result.returns_rows:
                return Rows((), ())
            return Rows(tuple(result.keys()), tuple(map(tuple, result.fetchall())))

        return self._do(work)

    def execute(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement; how many rows it wrote, or gave."""

        def work(connection: sqlalchemy.Connection) -> int:
            result = _run_one(connection, sql, values)
            return len(result.fetchall()) if result.returns_rows else result.rowcount

        return self._do(work)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Insert rows, all or none; how many."""

        def work(connection: sqlalchemy.Connection) -> int:
            quote = connection.dialect.identifier_preparer.quote
            into = '.'.join(quote(part) for part in table.split('.'))
            names, marks = ', '.join(map(quote, columns)), ', '.join(['%s'] * len(columns))
            sql = f'INSERT INTO {into} ({names}) VALUES ({marks})'  # noqa: S608
            several = [_prepared(connection, sql, row) for row in rows]
            return connection.exec_driver_sql(several[0][0], [values for _, values in several]).rowcount

        with self.transaction():
            return self._do(work)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the statements that the code of a block runs over this connection one: all or nothing.

        Committed at the end of the block, rolled back if an exception leaves it. Inside another it is a savepoint: what it
        rolls back is its own part only. On SQLite the first write begins to lock out everybody else's writes, jobsync's
        heartbeats among them, so do the long work before it; and a block that reads before it writes fails if somebody has
        written in between.

        The block belongs to the thread or asyncio task that runs it. Others have transactions of their own. A task or thread that
        was started in the block with a copy of its context (``asyncio.create_task``, ``asyncio.to_thread``) is refused while the
        block lasts: its statements would be no part of it.
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
            # What an exit has left of SQLAlchemy's state may be in the way; the exit goes on all the same.
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
        """Do what one statement takes, in this context's transaction or by itself."""

        def action() -> T:
            under_way = self._under_way()
            if under_way is not None:
                return _whole(_held(under_way), work)
            connection = self._check_out()
            try:
                return _whole(connection, work)
            finally:
                self._give_back(connection)

        return self._checked(action)

    def _under_way(self) -> _Transaction | None:
        """The transaction that this context has begun; refuses one that it has only a copy of."""
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
            mine.held = self._check_out()
        _say(mine, 'BEGIN' if mine.depth == 0 else f'SAVEPOINT jobsync_{mine.depth}')
        mine.depth += 1

    def _commit(self, mine: _Transaction, level: int) -> None:
        _say(mine, 'COMMIT' if level == 0 else f'RELEASE SAVEPOINT jobsync_{level}')
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
                _say(mine, 'ROLLBACK' if level == 0 else f'ROLLBACK TO SAVEPOINT jobsync_{level}')
        except Exception:  # noqa: BLE001 - what matters is the error that brought us here
            held.invalidate()
        finally:
            if level == 0:
                self._end(mine)

    def _end(self, mine: _Transaction) -> None:
        held, mine.held = mine.held, None
        if held is not None:
            self._give_back(held)

    def _check_out(self) -> sqlalchemy.Connection:
        return self._open().execution_options(no_parameters=True)

    def _give_back(self, connection: sqlalchemy.Connection) -> None:
        with self._lock:
            if self._closed and not connection.invalidated:
                connection.detach()
            connection.close()


def _held(mine: _Transaction) -> sqlalchemy.Connection:
    if mine.held is None:
        raise JobsyncError('the connection was closed, and the transaction with it')
    return mine.held


def _say(mine: _Transaction, statement: str) -> None:
    _whole(_held(mine), lambda connection: connection.exec_driver_sql(statement))


def check_sql(backend: Any) -> Any:
    """The backend, which must be a SQL database."""
    if not backend.info.sql:
        raise UnsupportedOperation(f'backend {backend.info.name} has no SQL; sqlite and postgresql have')
    return backend


def _exit_within(error: BaseException | None, handled: BaseException | None) -> BaseException | None:
    """The exit (``SystemExit``, ``KeyboardInterrupt``) that came from a signal's handler while something was under way.

    It may come between any two steps of SQLAlchemy, which then stumbles over its own state, and raises an error in its place.
    ``handled`` is what was being handled before: what had come earlier is no news.
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
    if not values:
        return connection.exec_driver_sql(sql)
    return connection.exec_driver_sql(*_prepared(connection, sql, values))


def _whole(connection: sqlalchemy.Connection, work: Callable[[sqlalchemy.Connection], T]) -> T:
    """Do the work. A connection on which a signal's exit has interrupted it is of no more use: the answer is still to come."""
    try:
        return work(connection)
    except Exception:
        raise
    except BaseException:
        connection.invalidate()
        raise
