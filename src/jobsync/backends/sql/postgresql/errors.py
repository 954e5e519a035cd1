"""psycopg's errors as jobsync's, distinguished by their SQLSTATE, with what to do about each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, SQLAlchemyError

from jobsync.backends.sql.postgresql.url import PostgresqlServer
from jobsync.backends.sql.store import Busy
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = [
    'EXPIRED_HINT',
    'READ_ONLY_HINT',
    'STANDBY',
    'in_full',
    'in_one_line',
    'is_ended_alone',
    'refused',
    'translate',
    'translated',
]

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
OTHER_RIGHTS = (
    'tables are made and changed by their owner; row-level security on them needs BYPASSRLS; a schema needs USAGE; a function of '
    'the server needs what every role has by default: GRANT EXECUTE ON FUNCTION … TO PUBLIC'
)
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
SHORT_HINT = 'or this role, database or server has a statement_timeout that is too short for a new connection'
STANDBY_HINT = 'if wait_event in pg_stat_activity is SyncRep, commits wait for a synchronous standby that is away'
EXPIRED_HINT = (
    f'if this goes on through a pooler, it may be paused, or have no session to lend: SHOW POOLS on its console; {STANDBY_HINT}'
)
LOCK_HINT = (
    f'if this goes on, another session may hold a lock that is needed here: pg_blocking_pids(pid) finds it, or is 0 for '
    f'one of pg_prepared_xacts; {STANDBY_HINT}'
)
SLOW_HINT = 'if that is a trigger or function of yours that takes long, mend or drop it'
DUPLICATE_HINT = 'if this goes on, drop the unique index or constraint of this name that jobsync has not made'
ABSENT = {'42P01', '3F000'}
"""Undefined table, schema."""
RAISED = 'P0'
"""The class of what a function in PL/pgSQL raises, as a trigger that an operator has added does."""
FOREIGN_CLASSES = {'22', '23', '42'}
"""Data, constraints and statements that do not fit the tables that were found."""
ENDED_ALONE = {'57P01', '57P05', '25P03', '25P04'}
"""An operator's command, which is also how a server begins to stop; a session that was idle for too long, within a transaction or
not; a transaction that took too long."""


def refused(said: str, server: PostgresqlServer, grants: str = '') -> ConfigError:
    """Return the error of a missing right; ``grants`` are the statements that give this user what it lacks on the tables."""
    remedy = f'what this user lacks their owner gives: {grants} (to look, SELECT is enough)' if grants else OTHER_RIGHTS
    return ConfigError(f'{server}: this user may not do what is needed: {said}; {remedy}')


def translate(error: psycopg.Error, server: PostgresqlServer) -> JobsyncError:
    """Return the error to raise instead."""
    code, said = error.sqlstate or '', in_one_line(error)
    if code in BUSY:
        hint = {LOCKED: f'; {LOCK_HINT}', DUPLICATE: f'; {DUPLICATE_HINT}'}.get(code, '')
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
        # The outermost place: of a function its name, and of a wait for a row its table. The first one may have a user's values.
        where = (error.diag.context or '').rpartition('\n')[2]
        return BackendUnavailable(f'{server}: {said}{f" ({where}: {SLOW_HINT})" if where else ""}; {LOCK_HINT}; {SHORT_HINT}')
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
