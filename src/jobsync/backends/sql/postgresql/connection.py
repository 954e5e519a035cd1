"""Connections that keep to a deadline, where psycopg's errors become jobsync's, distinguished by their SQLSTATE."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import logging
import math
import select
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import DateLoader, TimestamptzLoader
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, SQLAlchemyError

from jobsync.backend import Diverted
from jobsync.backends.sql.postgresql.url import PostgresqlServer
from jobsync.backends.sql.store import Busy
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = [
    'ELSEWHERE',
    'ENCODING',
    'READ_ONLY_HINT',
    'STANDBY',
    'STARTED',
    'BoundedConnection',
    'connect',
    'in_full',
    'in_one_line',
    'is_ended_alone',
    'refused',
    'translated',
]

T = TypeVar('T')

OLDEST_SERVER = 13
ENCODING = 'UTF8'
ENDING_SEC = 1.0
"""How long a rollback may take when the time of its transaction is over already."""

BUSY = {'40001', '40P01', '23505', '25P03', '55P03', '57P05'}
"""Serialization failure, deadlock, a row that another transaction has inserted, a transaction idle for too long, a lock that
another one keeps: rolled back; another attempt may succeed. And a session that was idle for too long before the call."""
LOCKED, DUPLICATE = '55P03', '23505'
TOO_LONG = '25P04'
"""A transaction that took longer than ``transaction_timeout``."""
TOO_LONG_HINT = (
    'if this goes on, ALTER ROLE … SET transaction_timeout to more than the bulk_timeout_sec of the workers, or to 0, also where '
    'the database or the server has one'
)
RIGHTS = '42501'
OTHER_RIGHTS = 'tables are made and changed by their owner; row-level security on them needs BYPASSRLS; a schema needs USAGE'
"""What a user may lack that has every right on the tables it finds."""
LOGIN = {'28000', '28P01', '3D000'}
LOGIN_REFUSED = (
    'password authentication failed',
    'Ident authentication failed',
    'Peer authentication failed',
    'certificate authentication failed',
    'no password supplied',
    'no pg_hba.conf entry',
    'pg_hba.conf rejects',
    'does not exist',
    'is not permitted to log in',
    'permission denied for database',
)
"""Messages of servers that refuse a login: libpq gives no SQLSTATE for them. One that depends on another (LDAP, RADIUS) says the
same while that one is away: not refused. A server with messages in another language is taken for an outage; only the clear error
at the first start is lost."""
CANCELED = '57014'
"""A statement that has taken too long, or that an operator has cancelled."""
READ_ONLY = '25006'
STANDBY = (
    'the server is a standby: the URL must lead to the one that accepts writes, which target_session_attrs=read-write finds '
    'among several hosts'
)
READ_ONLY_HINT = f'default_transaction_read_only is on here, for this server, database or role, or {STANDBY}'
RECOVERING = {'pg_current_wal_flush_lsn', 'pg_current_wal_lsn', 'pg_walfile_name'}
"""The functions of the server that jobsync reads a store's identity and position by, none of which works on a standby."""
STANDBY_HINT = 'if wait_event in pg_stat_activity is SyncRep, commits wait for a synchronous standby that is away'
EXPIRED_HINT = (
    f'if this goes on through a pooler, it may be paused, or have no session to lend: SHOW POOLS on its console; {STANDBY_HINT}'
)
CANCELED_HINT = (
    f'if this goes on, another session may hold a lock that is needed here: pg_blocking_pids(pid) finds it, or is 0 for '
    f'one of pg_prepared_xacts; {STANDBY_HINT}'
)
DUPLICATE_HINT = 'if this goes on, drop the unique index or constraint of this name that jobsync has not made'
ABSENT = {'42P01', '3F000'}
"""Undefined table, schema."""
RAISED = 'P0'
"""The class of what a function in PL/pgSQL raises, as a trigger that an operator has added does."""
FOREIGN_CLASSES = {'22', '23', '42'}
"""Data, constraints and statements that do not fit the tables that were found."""

SETTINGS = (
    f"SET DateStyle = ISO; SET standard_conforming_strings = on; SET client_encoding = '{ENCODING}'; SET extra_float_digits = 1"
)
"""psycopg reads no other moments; conditions have backslashes; names and ids have any characters; a number is read as it was
written. Set in each session: no reload of the server, setting of the role or variable of the environment changes it."""

STARTED = '(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint'
"""When the server was started, in microseconds."""
ELSEWHERE = 'the pooler leads to a server that was started at '

ENDED_ALONE = {'57P01', '57P05', '25P03', '25P04'}
"""An operator's command, which is also how a server begins to stop; a session that was idle for too long, within a transaction or
not; a transaction that took too long."""

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
    started: int | None = None
    """At a pooler, which may lead to another server later: when that of now was started."""

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
        return (f'SELECT CASE WHEN {STARTED} = {self.started} THEN 0 ELSE {other} END',)

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


def refused(said: str, server: PostgresqlServer, grants: str = '') -> ConfigError:
    """Return the error of a missing right; ``grants`` are the statements that give this user what it lacks on the tables."""
    remedy = f'what this user lacks their owner gives: {grants} (to look, SELECT is enough)' if grants else OTHER_RIGHTS
    return ConfigError(f'{server}: this user may not do what is needed: {said}; {remedy}')


def translate(error: psycopg.Error, server: PostgresqlServer) -> JobsyncError:
    """Return the error to raise instead."""
    code, said = error.sqlstate or '', in_one_line(error)
    if code in BUSY:
        hint = {LOCKED: f'; {CANCELED_HINT}', DUPLICATE: f'; {DUPLICATE_HINT}'}.get(code, '')
        return Busy(f'{server}: rolled back: {said}{hint}')
    if code == RIGHTS:
        return refused(said, server)
    if code == READ_ONLY:
        return BackendUnavailable(f'{server}: {said}: {READ_ONLY_HINT}')
    if error.diag.source_function in RECOVERING:
        return BackendUnavailable(f'{server}: {said}: {STANDBY}, or it is being restored')
    if code == TOO_LONG:
        return BackendUnavailable(f'{server}: {in_full(error)}')
    if code == CANCELED:
        return BackendUnavailable(f'{server}: {said}; {CANCELED_HINT}')
    if code in LOGIN or (isinstance(error, psycopg.OperationalError) and is_login_refused(error)):
        return ConfigError(f'{server}: the server does not let this user in, check user, password and database: {said}')
    if code[:2] == RAISED:
        where = (error.diag.context or '').partition('\n')[0]
        return SchemaMismatch(f'{server}: a trigger or function in the database refuses this: {said} ({where}); mend or drop it')
    if code in ABSENT:
        return SchemaMismatch(
            f'{server}: the tables are not there as expected, or this user may not see them ({said}): jobsync doctor says which '
            'ones are missing, and what to do'
        )
    if code[:2] in FOREIGN_CLASSES or isinstance(error, (psycopg.DataError, psycopg.ProgrammingError)):
        return SchemaMismatch(
            f'{server}: a statement does not fit the tables it found: {said}: if a column, a condition or a trigger was added, '
            'changed or removed, put back what jobsync had made'
        )
    return BackendUnavailable(f'{server}: {said or type(error).__name__}')


def in_one_line(error: psycopg.Error) -> str:
    """Return what the server says, without the statement and the place in it, or else what the driver says."""
    return error.diag.message_primary or ' '.join(str(error).split())


def in_full(error: psycopg.Error) -> str:
    """Return what ``in_one_line`` does, and what to do about a transaction that the server ended for its length."""
    return in_one_line(error) + (f': {TOO_LONG_HINT}' if error.sqlstate == TOO_LONG else '')


def is_ended_alone(error: BaseException | None) -> bool:
    """Return whether a server has said that it ends this session for a reason that is not its own end by a crash."""
    while error is not None and not isinstance(error, psycopg.Error):
        error = error.__cause__
    return error is not None and error.sqlstate in ENDED_ALONE


def is_login_refused(error: psycopg.OperationalError) -> bool:
    """Return whether a server answered, and refused this user's login."""
    last = str(error).strip().rpartition('\n')[2]
    return error.sqlstate is None and error.pgconn is not None and any(text in last for text in LOGIN_REFUSED)


@contextlib.contextmanager
def translated(server: PostgresqlServer) -> Iterator[None]:
    """Translate every error of the driver that leaves the block."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, server) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise translate(error.orig, server) from error
        raise
    except MultipleResultsFound as error:
        raise BackendUnavailable(
            f'{server}: a row that there is once was found several times: let no table inherit from one of these (pg_inherits '
            'lists those that do: ALTER TABLE … NO INHERIT), and put back a primary key that was dropped'
        ) from error
    except SQLAlchemyError as error:
        raise BackendUnavailable(f'{server}: {error}') from error
