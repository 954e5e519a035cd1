"""Connections that keep to a deadline, and what is set in each session."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import logging
import math
import select
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import DateLoader, TimestamptzLoader

from jobsync.backend import Diverted
from jobsync.backends.sql.postgresql.errors import EXPIRED_HINT
from jobsync.backends.sql.postgresql.url import PostgresqlServer
from jobsync.errors import ConfigError

__all__ = ['ELSEWHERE', 'ENCODING', 'RECOVERED', 'STARTED', 'BoundedConnection', 'connect']

T = TypeVar('T')

OLDEST_SERVER = 13
ENCODING = 'UTF8'
ENDING_SEC = 1.0
"""How long a rollback may take when the time of its transaction is over already."""

SETTINGS = (
    f"SET DateStyle = ISO; SET standard_conforming_strings = on; SET client_encoding = '{ENCODING}'; SET extra_float_digits = 1"
)
"""psycopg reads no other moments; conditions have backslashes; names and ids have any characters; a number is read as it was
written. Set in each session: no reload of the server, setting of the role or variable of the environment changes it."""

STARTED = '(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint'
"""When the server was started, in microseconds."""
RECOVERED = """(CASE WHEN current_setting('server_version_num')::int < 150000 THEN 0
    ELSE coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()) * 1000000, 0) END)::bigint"""
"""When its statistics began, in microseconds: a crash loses them, though the server is not started for it. So does an operator's
``pg_stat_reset_shared``. Servers before 15 have another process for statistics, which may be late."""
ELSEWHERE = 'the pooler leads to a server that was started at '

STANDBY_WAIT = 'SyncRepWaitForLSN'
"""The function of the server that waits for a synchronous standby. All that it says is that it waits no longer."""

logging.getLogger('psycopg').addFilter(Diverted())


class Expired(psycopg.OperationalError):
    """The server did not answer in time, not even that it had cancelled the statement."""


class Unconfirmed(psycopg.OperationalError):
    """The server has committed, and has not waited for the synchronous standby, which may be promoted without it."""


class MomentLoader(TimestamptzLoader):
    """Loads a moment, as text if Python has no such moment (``infinity``, the year 10000)."""

    def load(self, data: Buffer) -> Any:
        """Load one value."""
        try:
            return dt.datetime.fromisoformat(bytes(data).decode())  # a snapshot of a large cluster has thousands
        except ValueError:
            return load_or_text(super().load, data)


class DayLoader(DateLoader):
    """Loads a day, as text if Python has no such day."""

    def load(self, data: Buffer) -> Any:
        """Load one value."""
        return load_or_text(super().load, data)


def load_or_text(load: Callable[[Buffer], object], data: Buffer) -> object:
    """Load a value, or return its text: one unreadable value must not make the rest of the rows unreadable."""
    try:
        return load(data)
    except psycopg.DataError:
        return bytes(data).decode()


class Cursor(psycopg.ClientCursor[Any]):
    """Sends several statements in one message: each message is a journey to the server and back.

    Statements in such a message cannot have parameters of their own, so this binds them here.
    """

    connection: BoundedConnection

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement with what is to be sent before and after it; or keep it, to be sent with the next one."""
        connection = self.connection
        if connection.is_queueing:
            connection.before.append(self.mogrify(query, params))
            return self
        before, after = connection.take_frame()
        if before or after:
            query, params = '; '.join([*before, self.mogrify(query, params), *after]), None
        super().execute(query, params, **options)
        # The answer of the statement itself is what the caller finds, not that of the first one in the message.
        for _ in before:
            self.nextset()
        connection.check_confirmed()
        return self


class BoundedConnection(psycopg.Connection[Any]):
    """Stops waiting at a deadline.

    A statement timeout is the server's promise, and a server that is stopped or cut off keeps none.
    """

    deadline: float = math.inf
    """When the statements under way are to end, on ``time.monotonic``."""
    is_queueing = False
    """Whether statements are kept in ``before``."""
    started: tuple[int, int] | None = None
    """At a pooler, which may lead to another server later: ``STARTED`` and ``RECOVERED`` of that of now."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.before: list[str] = []
        """Statements to send in one message with the next one, before it. Their answers are skipped."""
        self.after: Sequence[str] = ()
        """Statements to send after the next one, in the same message."""
        # A method of this object would make a cycle, which the collector of garbage ends: in any thread, by psycopg's __del__,
        # where what a signal's handler raises is lost, a sys.exit too.
        self._unconfirmed: list[psycopg.errors.Diagnostic] = []
        self.add_notice_handler(functools.partial(_keep_unconfirmed, self._unconfirmed))
        self.add_notify_handler(_ignore)

    def check_confirmed(self) -> None:
        """Raise ``Unconfirmed`` if the last commit did not wait for its standby."""
        # t=0  the primary and node a are cut off from the synchronous standby; a's heartbeat waits for the standby
        # t=1  an operator cancels the session that hangs (pg_cancel_backend): the server says COMMIT, with a warning
        # t=2  the standby is promoted, and node b, which reaches it, owns all tokens after a timeout
        # With a lease from t=1, and from each heartbeat after that, a would work on for as long as its heartbeats are cancelled.
        if self._unconfirmed:
            self._unconfirmed.clear()
            raise Unconfirmed(
                'committed on this server, but no synchronous standby has it, since the wait was cancelled: bring the standby '
                'back, or take it out of synchronous_standby_names'
            )

    def same_server(self) -> Sequence[str]:
        """Return the statements of a transaction that fail, before it writes, if the pooler leads to another server by now."""
        if self.started is None:
            return ()
        other = f"('{ELSEWHERE}' || pg_postmaster_start_time())::int"
        return (f'SELECT CASE WHEN ({STARTED}, {RECOVERED}) = {self.started} THEN 0 ELSE {other} END',)

    def take_frame(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return ``before`` and ``after`` for the present statement, and clear them for the next one."""
        frame = self.before, self.after
        self.before, self.after = [], ()
        return frame

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Wait for the server as psycopg does, and at most until ``deadline``."""
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            state = next(gen)
            while True:
                ready = yield state
                # psycopg resumes this ten times a second while nothing comes.
                if not ready and time.monotonic() >= self.deadline:
                    raise Expired(f'no answer from the server within the time for this call; {EXPIRED_HINT}')
                state = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin on this connection."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def has_unread_data(self) -> bool:
        """Whether the server has sent something while the connection was idle: as a rule, that the server closes it."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def last_word(self) -> Exception | None:
        """Return why the server has closed the connection while it was idle, if it has."""
        self.deadline = time.monotonic() + ENDING_SEC
        try:
            self.execute('SELECT 1')
        except (psycopg.Error, OSError) as error:  # to wait for the server, psycopg opens another file
            return error
        return None

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction has begun on the server and not ended."""
        return self.pgconn.transaction_status != TransactionStatus.IDLE

    def end(self) -> None:
        """Roll back what is open, or close the connection if that cannot be done."""
        self.take_frame()
        try:
            if self.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                self.deadline = max(self.deadline, time.monotonic() + ENDING_SEC)
                with contextlib.suppress(psycopg.Error):
                    self.execute('ROLLBACK')
        finally:
            # Also where a signal's handler ends the wait for the server: SQLAlchemy would roll back again as the connection is
            # returned, and the error of that would take the place of what the handler has raised.
            if not self.is_usable:
                self.close()


def _keep_unconfirmed(unconfirmed: list[psycopg.errors.Diagnostic], notice: psycopg.errors.Diagnostic) -> None:
    # Known by the place in the server, for the text is in the server's language.
    if notice.source_function == STANDBY_WAIT:
        unconfirmed.append(notice)


def _ignore(announcement: psycopg.Notify) -> None:
    """Receive an announcement: psycopg keeps those that no handler receives, for as long as the connection exists.

    A pooler in transaction mode lends sessions that listen, for a node on its first try.
    """


def connect(server: PostgresqlServer) -> BoundedConnection:
    """Connect, without transactions of psycopg's own, and without prepared statements, which proxies may lose."""
    try:
        # The encoding comes with the request to connect: of a role may be one by default that Python has no codec for, in which
        # psycopg sends no statement that would set another.
        connection = BoundedConnection.connect(
            **{**server.parameters, 'client_encoding': ENCODING},
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=Cursor,
        )
    except OSError as error:  # to wait for the server, psycopg opens another file
        raise psycopg.OperationalError(str(error)) from error
    try:
        _set_up(connection, server)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: BoundedConnection, server: PostgresqlServer) -> None:
    """Make the settings of a new connection; ``ConfigError`` if server or database cannot serve jobsync."""
    connection.adapters.register_loader('timestamptz', MomentLoader)
    connection.adapters.register_loader('date', DayLoader)
    if connection.info.server_version < OLDEST_SERVER * 10_000:
        found = connection.info.server_version // 10_000
        raise ConfigError(f'{server} is PostgreSQL {found}; jobsync needs {OLDEST_SERVER} or later')
    # One name that the database cannot store, or read as JSON, would keep every leader from its commits. A proxy may say none.
    encoding = connection.info.parameter_status('server_encoding') or ENCODING
    if encoding != ENCODING:
        raise ConfigError(
            f'{server}: the encoding of this database is {encoding}, which cannot store every name and task id; jobsync needs '
            f"a database that is made with ENCODING '{ENCODING}'"
        )
    connection.deadline = time.monotonic() + server.parameters['connect_timeout']
    # Not SET LOCAL: proxies that share sessions keep track of the first three settings.
    connection.execute(SETTINGS)
    connection.deadline = math.inf
