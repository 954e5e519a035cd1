"""Where SQLite's errors become jobsync's, distinguished by their codes."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jobsync.backends.sql.store import Busy
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = ['translated']

_RIGHTS = (
    'this user must be allowed to write, also to read only: to the file, to -lock, -wal and -shm beside it, and to the folder'
)
_RESTORE = 'stop all nodes, put a backup in its place and remove -wal and -shm'

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
ABSENT = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH}
"""At ``open`` an error of the configuration; later an outage, which an operator may end."""
SHORT = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
"""What the system lacks or fails in for a while: an outage also at ``open``."""
NEEDED = 4
"""How many files SQLite opens for a database, with those beside it and its folder."""
NEAR = 2**16
"""Within so many bytes of the largest file that the process may write, the next one may be refused."""
FOREIGN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
"""The codes of a statement that does not fit the tables it found."""


def translate(error: sqlite3.Error, path: Path, *, opening: bool) -> JobsyncError:
    """Return the error to raise instead."""
    code = getattr(error, 'sqlite_errorcode', None)
    primary = None if code is None else code & 0xFF
    if primary in BUSY:
        return Busy(f'{path} is locked by another transaction, which may be a long one or one that was left open: {error}')
    if primary == sqlite3.SQLITE_CANTOPEN and not _has_descriptors():
        return BackendUnavailable(f'{path} cannot be used at the moment: this process can open no more files (ulimit -n)')
    if primary in ABSENT and opening:
        return ConfigError(
            f'{path} cannot be opened for writing ({error}): its folder must exist, and this user must be allowed to write '
            'both to the folder and to the file, -wal and -shm beside it included'
        )
    if primary in ABSENT:
        return BackendUnavailable(f'{path} cannot be used at the moment: {error}; {_RIGHTS}')
    if primary == sqlite3.SQLITE_NOTADB and opening:
        return ConfigError(f'{path} is not a SQLite database; name another file, or remove this one if it is not needed')
    if primary == sqlite3.SQLITE_NOTADB:
        return BackendUnavailable(f'{path}, or its -wal, has been overwritten ({error}): {_RESTORE}')
    if primary == sqlite3.SQLITE_CORRUPT:
        return SchemaMismatch(f'{path} is damaged ({error}): {_RESTORE}')
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return BackendUnavailable(f'{path}, or its -wal, has been cut short ({error}): {_RESTORE}')
    if primary in FOREIGN:
        return SchemaMismatch(
            f'{path}: a statement does not fit the tables it found: {error}: if a column, a condition or a trigger was added, '
            'changed or removed, put back what jobsync had made; jobsync doctor says which tables are missing'
        )
    if primary == sqlite3.SQLITE_IOERR and (limit := _file_limit(path)) is not None:
        return BackendUnavailable(
            f'{path} cannot be used at the moment: {error}: this process may write no file larger than {limit} bytes (ulimit -f)'
        )
    if primary == sqlite3.SQLITE_INTERRUPT:
        return BackendUnavailable(f'{path}: the time for this call was over before it was done')
    return BackendUnavailable(f'{path} cannot be used at the moment: {error}')


def _has_descriptors() -> bool:
    """Return whether this process can open as many files as SQLite, which says only that it cannot open one."""
    with contextlib.ExitStack() as files:
        try:
            for _ in range(NEEDED):
                files.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return False
    return True


def _file_limit(path: Path) -> int | None:
    """Return how large a file this process may write, if the database or a file beside it is about as large; else None.

    SQLite says the same of such a file as of a disk that fails.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return None
    for name in (str(path), f'{path}-wal', f'{path}-shm'):
        with contextlib.suppress(OSError):
            if Path(name).stat().st_size + NEAR > limit:
                return limit
    return None


@contextlib.contextmanager
def translated(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Translate every error of the driver that leaves the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path, opening=opening) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise translate(error.orig, path, opening=opening) from error
        raise
    except SQLAlchemyError as error:
        raise BackendUnavailable(f'{path}: {error}') from error
    except OSError as error:
        hint = f'; {_RIGHTS}' if isinstance(error, PermissionError) else ''
        reason = f'{path} cannot be reached: {error.strerror}{hint}'
        raise (ConfigError(reason) if opening and error.errno not in SHORT else BackendUnavailable(reason)) from error
