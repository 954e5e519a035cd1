"""Connections that keep to a deadline, and the border to psycopg: its errors become ours, told apart by their SQLSTATE."""

from __future__ import annotations

import contextlib
import logging
import math
import selectors
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import DateLoader, TimestamptzLoader
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jobsync.backend import Diverted
from jobsync.backends.sql.postgresql.url import PostgresqlServer
from jobsync.backends.sql.store import Busy
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = ['BoundedConnection', 'connect', 'translated']

T = TypeVar('T')

OLDEST_SERVER = 13
ENDING_SEC = 1.0
"""How long a rollback may take when the time of its transaction is over already."""

BUSY = {'40001', '40P01', '23505'}
"""Serialization failure, deadlock, and a row that another transaction has inserted meanwhile: rolled back, may be tried again."""
RIGHTS = '42501'
LOGIN = {'28000', '28P01', '3D000'}
LOGIN_REFUSED = (
    'password authentication failed',
    'no password supplied',
    'no pg_hba.conf entry',
    'does not exist',
    'is not permitted to log in',
    'permission denied for database',
)
"""What servers say to a user whom they do not let in, for libpq gives no SQLSTATE then. A server that speaks another language is
taken for one that is away: all that is lost is the clear word at the first start."""
ABSENT = {'42P01', '42703', '3F000', '42883'}
"""Undefined table, column, schema, function."""
FOREIGN_CLASSES = {'22', '23', '42'}
"""Data, constraints and statements that do not fit the tables that were found."""

logging.getLogger('psycopg').addFilter(Diverted())


class Expired(psycopg.OperationalError):
    """The server did not answer in time, not even that it had cancelled the statement."""


class Moment(TimestamptzLoader):
    """Loads a moment; as the text that it was, if Python has no such moment (``infinity``, the year 10000)."""

    def load(self, data: Buffer) -> Any:
        """Load one value."""
        return loaded(super().load, data)


class Day(DateLoader):
    """Loads a day; as the text that it was, if Python has no such day."""

    def load(self, data: Buffer) -> Any:
        """Load one value."""
        return loaded(super().load, data)


def loaded(load: Callable[[Buffer], object], data: Buffer) -> object:
    """Load a value, or return the text that it was: it must not keep those beside it from being read."""
    try:
        return load(data)
    except psycopg.DataError:
        return bytes(data).decode()


class Cursor(psycopg.ClientCursor[Any]):
    """Sends what a statement is to be framed with in one message with it; each message is a journey there and back.

    Several statements in a message cannot have parameters of their own, so this binds them here.
    """

    connection: BoundedConnection

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement; its own answer is what is found afterwards."""
        before, after = self.connection.take_frame()
        super().execute('; '.join([*before, query, *after]) if before or after else query, params, **options)
        for _ in before:
            self.nextset()
        return self

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Run a statement many times."""
        if self.connection.before:
            self.connection.execute('')
        super().executemany(query, params_seq, **options)


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up waiting at a deadline.

    A statement timeout is the server's promise, and a server that is stopped or cut off keeps none.
    """

    deadline: float = math.inf
    """On ``time.monotonic``."""
    before: Sequence[str] = ()
    """What the next statement begins with: statements without an answer, and without a percent sign."""
    after: Sequence[str] = ()
    """What it ends with."""

    def take_frame(self) -> tuple[Sequence[str], Sequence[str]]:
        """What the present statement is to be framed with; the next one is not."""
        frame = self.before, self.after
        self.before = self.after = ()
        return frame

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Wait for the server, as psycopg does, and not longer than ``deadline``."""
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            state = next(gen)
            while True:
                ready = yield state
                # psycopg looks up ten times a second while nothing comes.
                if not ready and time.monotonic() >= self.deadline:
                    raise Expired('no answer from the server within the time for this call')
                state = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin here."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def has_heard_more(self) -> bool:
        """Whether the server has said something unasked, while this was idle: as a rule that it closes it."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno(), selectors.EVENT_READ)
            return bool(selector.select(0))

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction has begun on the server and not ended."""
        return self.pgconn.transaction_status != TransactionStatus.IDLE

    def end(self) -> None:
        """Roll back what is open, or close the connection if that cannot be done."""
        self.take_frame()
        if self.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            self.deadline = max(self.deadline, time.monotonic() + ENDING_SEC)
            with contextlib.suppress(psycopg.Error):
                self.execute('ROLLBACK')
        if not self.is_usable:
            self.close()


def connect(server: PostgresqlServer) -> BoundedConnection:
    """A connection without transactions of psycopg's own, and without prepared statements, which proxies may lose."""
    connection = BoundedConnection.connect(**server.parameters, autocommit=True, prepare_threshold=None, cursor_factory=Cursor)
    connection.adapters.register_loader('timestamptz', Moment)
    connection.adapters.register_loader('date', Day)
    if connection.info.server_version < OLDEST_SERVER * 10_000:
        found = connection.info.server_version // 10_000
        connection.close()
        raise ConfigError(f'{server} is PostgreSQL {found}; jobsync needs {OLDEST_SERVER} or later')
    return connection


def translate(error: psycopg.Error, server: PostgresqlServer, grants: str) -> JobsyncError:
    """The error to raise instead; ``grants`` is what gives a user its rights."""
    code = error.sqlstate or ''
    if code in BUSY:
        return Busy(f'{server}: rolled back in favour of another transaction: {error}')
    if code == RIGHTS:
        return ConfigError(f'{server}: this user may not do what is needed: {error}; what it needs the owner gives: {grants}')
    if code in LOGIN or (isinstance(error, psycopg.OperationalError) and is_refused(error)):
        return ConfigError(f'{server}: the server does not let this user in, check user, password and database: {error}')
    if code in ABSENT:
        return SchemaMismatch(f'{server}: the tables are not there as expected ({error}): open the namespace anew')
    if code[:2] in FOREIGN_CLASSES or isinstance(error, (psycopg.DataError, psycopg.ProgrammingError)):
        return SchemaMismatch(f'{server}: a statement does not fit the tables it found: {error}')
    return BackendUnavailable(f'{server}: {str(error).strip() or type(error).__name__}')


def is_refused(error: psycopg.OperationalError) -> bool:
    """Whether a connection was not made because the server, which answered, does not let this user in."""
    last = str(error).strip().rpartition('\n')[2]
    return error.sqlstate is None and error.pgconn is not None and any(text in last for text in LOGIN_REFUSED)


@contextlib.contextmanager
def translated(server: PostgresqlServer, grants: str) -> Iterator[None]:
    """Let no error of a driver out of the block."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, server, grants) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise translate(error.orig, server, grants) from error
        raise
    except SQLAlchemyError as error:
        raise BackendUnavailable(f'{server}: {error}') from error
