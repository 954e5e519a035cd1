"""The database file, which may be replaced by another one at any moment.

A backup moved into place, or a deleted file, leaves open connections on an inode that has no name any more. SQLite does
not notice: in WAL mode it goes on writing there, and a new connection to the new file would find the old file's ``-wal``
and ``-shm`` beside it and take them for its own, which destroys it. So

- a process that opens the file records its device and inode, and every transaction compares them with those at the path;
- each process keeps one connection open, the *anchor*, for as long as it uses the file. While it is open, the inodes of
  the ``-wal`` and ``-shm`` it opened belong to no other file, so they show whether those at the path are the old file's;
- a ``-wal`` that is not the anchor's is another sign: ours has been removed, and no other process reads what is written there;
- on finding another file, a process removes the old ``-wal`` and ``-shm`` if they are still there, before it opens the new one.
  ``flock`` on a file of its own (``-lock``) makes that one step between processes. The lock is not on the database itself: a
  process that closes the database releases all locks that SQLite has on it there. Nor on the folder, which any user can lock.
  Beside a file that turns out to be another program's, the ``-lock`` that was made for the look is removed again;
- a file that other processes may have by another name, beside which they keep another log, is refused (``file_names``).

Files are created for this user alone. What is made beside a database, by SQLite or here, has the owner and the rights that the
database has, as far as this user may give them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import attrs

from jobsync.backends.sql.sqlite.file_names import check_one_host, check_only_name, name_of_log
from jobsync.backends.sql.store import Busy
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch

__all__ = ['Anchor', 'DatabaseFile', 'readable']

SIDECARS = ('-wal', '-shm')
LOCK = '-lock'
OURS = 0o600
WAL_LIMIT = 16 * 2**20
"""Bytes to which the ``-wal`` is cut back after a commit that needed more."""
ENCODING = 'UTF-8'
HAS_TABLE = 'SELECT 1 FROM sqlite_master WHERE lower(name) = lower(?)'
LONGEST_PATH = 504
"""Bytes of the path, without links: SQLite has room for 512, with ``-journal`` behind it."""
POLL_SEC = 0.01
MAPS = Path('/proc/self/maps')
"""The files that this process has mapped into its memory, by the paths that they have now. Only Linux has it."""
_MAPPED_FILE = 5
"""The number of the field, which is the last one: a path may have spaces."""


def identity_of(path: Path | str) -> str | None:
    """Return the device and inode of a file; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path takes longer, and each transaction compares three files
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _identity(found)


def _identity(found: os.stat_result) -> str:
    return f'{found.st_dev}:{found.st_ino}'


def _opened(lock: Path) -> tuple[int, bool]:
    """Open a lock file, which is made if there is none; return its descriptor, and whether it was made."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(lock, flags | os.O_CREAT | os.O_EXCL, OURS), True
        with contextlib.suppress(FileNotFoundError):  # removed since
            return os.open(lock, flags), False


@attrs.frozen(eq=False)
class Anchor:
    """The connection that stays open. Not thread-safe."""

    connection: sqlite3.Connection
    identity: str
    """The identity of the database that it has open."""
    sidecars: Mapping[str, str | None]
    """The identities of the ``-wal`` and ``-shm`` that belong to it."""
    in_wal: bool


@attrs.define
class SidecarLock:
    """The ``-lock``, while this process holds it."""

    is_wanted: bool = True
    """Whether one that was made for this is to stay: not beside the file of another program."""


C = TypeVar('C', bound=sqlite3.Connection)

readable = functools.partial(str, encoding='utf-8', errors='replace')
"""Read a text. One that a person has written in another encoding must not make the other rows unreadable (``sound.is_text``)."""


@attrs.frozen
class DatabaseFile:
    """The path of a database, whether or not a file exists there."""

    path: Path

    def identity(self) -> str | None:
        """Return the identity of the file at the path; None if there is none."""
        return identity_of(self.path)

    def is_still(self, anchor: Anchor) -> bool:
        """Return whether the files at the path are those that were opened."""
        return self.identity() == anchor.identity and self._sidecars() == anchor.sidecars

    def let_go(self, anchor: Anchor) -> None:
        """Remove the files beside the database that are this anchor's. The caller is in ``held``.

        What was committed is brought into the database first if only the ``-shm`` was removed, or if the database was moved away
        without its ``-wal``. Others may still write to that ``-wal`` by a ``-shm`` that is gone, so it is removed all the same.
        ``Busy`` while a transaction stands in the way.
        """
        now, here = self._sidecars(), self.identity()
        if anchor.in_wal and here == anchor.identity:
            if now == {**anchor.sidecars, '-shm': None}:
                # t=0  another process reads what was before the last commit, which may write no page of the log that it needs
                # t=1  the log is removed with only a part of it in the database, which is damaged by that
                self._put_in(anchor, f'-shm beside {self.path} was removed, and a transaction keeps its -wal')
            elif now['-wal'] == anchor.sidecars['-wal']:
                return  # with a new -shm: another process has opened the file since, and uses this -wal
        elif anchor.in_wal and here is None and now['-wal'] == anchor.sidecars['-wal']:
            # t=0  an operator moves the database aside, and not the log, which alone has the last commits, or all of them
            # t=1  the log is removed here, and the database is moved back: it has lost them
            # t=2  a node that starts now finds no other one, and owns at once what others own until their leases end
            self._put_in(anchor, f'{self.path} was moved or deleted, and a transaction keeps its -wal')
        self._remove_sidecars(anchor.sidecars)

    @staticmethod
    def _put_in(anchor: Anchor, refusal: str) -> None:
        """Bring what was committed into the database that the anchor has open, wherever that is by now."""
        (is_busy, *_) = anchor.connection.execute('PRAGMA wal_checkpoint(FULL)').fetchone()
        if is_busy:
            raise Busy(f'{refusal} from being put in: end it')

    def _beside(self, suffix: str) -> Path:
        return Path(name_of_log(str(self.path)) + suffix)

    def _sidecars(self) -> dict[str, str | None]:
        log = name_of_log(str(self.path))
        return {suffix: identity_of(log + suffix) for suffix in SIDECARS}

    def connect(self, kind: type[C]) -> tuple[C, str]:
        """Return a connection in autocommit mode for use by any thread, and the identity of the file it has open.

        ``sqlite3.OperationalError`` if there is no file.
        """
        uri = f'file:{quote(os.fsencode(self.path))}?mode=rw'
        # t=0  this reads the identity of file 1
        # t=1  a backup, file 2, is moved to the path
        # t=2  the connection opens file 2, and would be taken for one to file 1
        # With one identity before and after, the connection has opened that file.
        while True:
            before = self.identity()
            connection = kind(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0)
            after = self.identity()
            if after is not None and before == after:
                break
            connection.close()
        try:
            # In WAL mode only FULL keeps an acknowledged commit through a power failure.
            connection.execute('PRAGMA synchronous = FULL')
            connection.execute('PRAGMA fullfsync = ON')
            connection.execute('PRAGMA checkpoint_fullfsync = ON')
            connection.execute(f'PRAGMA journal_size_limit = {WAL_LIMIT}')
        except BaseException:
            connection.close()
            raise
        return connection, after

    def anchor(self, deadline: float, *, only_with: str | None = None) -> Anchor:
        """Open the anchor, in WAL mode.

        SQLite keeps the mode in the file. So one without the table ``only_with``, which may be another program's, keeps its own,
        and has nothing beside it afterwards.
        """
        with self.held(deadline) as lock:
            lock.is_wanted = only_with is None
            check_only_name(self.path)  # before SQLite makes a -wal beside the wrong name
            connection, identity = self.connect(sqlite3.Connection)
            try:
                connection.text_factory = readable
                is_ours = only_with is None or bool(connection.execute(HAS_TABLE, (only_with,)).fetchall())
                if is_ours:
                    self._check_encoding(connection)
                if in_wal := is_ours or connection.execute('PRAGMA journal_mode').fetchall() == [('wal',)]:
                    self._ensure_wal(connection, deadline)
                # The first reading opens the -wal and the -shm.
                connection.execute('SELECT count(*) FROM sqlite_master').fetchone()
                sidecars = self._sidecars()
                if in_wal:
                    self._check_shm()
            except BaseException:
                connection.close()
                raise
            lock.is_wanted = is_ours
        return Anchor(connection, identity, sidecars, in_wal)

    def _check_encoding(self, connection: sqlite3.Connection) -> None:
        # By its bytes a text is compared with what was read (``sound.is_text``). In UTF-16 no node's name has those of UTF-8.
        (encoding,) = connection.execute('PRAGMA encoding').fetchone()
        if encoding != ENCODING:
            raise ConfigError(
                f'{self.path} was made with the encoding {encoding}, and jobsync needs {ENCODING}, as SQLite makes files by '
                'default: name another file'
            )

    def _check_shm(self) -> None:
        """Raise ``BackendUnavailable`` if SQLite uses, in this process, a ``-shm`` that was removed, where that can be known.

        ``SqliteConnections.dispose_of_all`` describes why, and closes what it can: no connection that the user has made or uses.
        """
        name = os.fsencode(os.path.realpath(self._beside('-shm'))).replace(b'\n', b'\\012')
        try:
            maps = MAPS.read_bytes().splitlines()
        except OSError:
            return
        mapped = {line.split(maxsplit=_MAPPED_FILE)[-1] for line in maps if name in line}
        if name not in mapped and name + b' (deleted)' in mapped:
            raise BackendUnavailable(
                f'-shm beside {self.path} was removed, and a connection of this process still uses it: it has to be closed '
                'before the file can be used again'
            )

    def _ensure_wal(self, connection: sqlite3.Connection, deadline: float) -> None:
        while True:
            try:
                if connection.execute('PRAGMA journal_mode = WAL').fetchone() == ('wal',):
                    return
            except sqlite3.OperationalError as error:
                # No busy handler is called for this pragma.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            if time.monotonic() >= deadline:
                raise Busy(
                    f'{self.path} cannot be brought into WAL mode: another program has it open; close it there (fuser '
                    'finds it), or wait'
                )
            time.sleep(POLL_SEC)

    @contextlib.contextmanager
    def held(self, deadline: float) -> Iterator[SidecarLock]:
        """Hold the ``-lock``, one process at a time, to create, open or remove files."""
        path, is_open, process = self._beside(LOCK), False, os.getpid()
        while not is_open:
            descriptor, is_new = _opened(path)
            try:
                if is_new:
                    self._share(descriptor)
                self._await_lock(descriptor, deadline)
                # t=0  another process makes the -lock, holds it, and finds that the file is another program's
                # t=1  this one opens that -lock, and waits
                # t=2  the other one removes the -lock and releases it: a third may make one anew, and hold that
                # So only the file that is still at the path counts.
                if is_open := identity_of(path) == _identity(os.fstat(descriptor)):
                    lock = SidecarLock()
                    try:
                        yield lock
                    finally:
                        if is_new and not lock.is_wanted:
                            path.unlink(missing_ok=True)
            finally:
                # t=0  this process is forked meanwhile, and the child has a copy of the descriptor
                # t=1  closed here alone, it would keep the lock while the child lives: no other process could open the file
                if os.getpid() == process:
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def _share(self, lock: int) -> None:
        """Give a new ``-lock`` to those who may write the database, as SQLite does with ``-wal`` and ``-shm``."""
        # t=0  a database is brought to another host, without its -lock, and given to the workers' user
        # t=1  root runs a command that only reads: the -lock that it makes is its own
        # t=2  the workers start, and may not open the -lock
        with contextlib.suppress(OSError):  # there is no database yet, or this user may give the file to no group or user
            found = self.path.stat()
            os.fchown(lock, -1, found.st_gid)
            os.fchmod(lock, found.st_mode & 0o666)
            os.fchown(lock, found.st_uid, -1)

    def _await_lock(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise
            else:
                return
            if time.monotonic() >= deadline:
                raise Busy(f'{self._beside(LOCK)} is held by another process that opens {self.path.name} (fuser finds it)')
            time.sleep(POLL_SEC)

    def make(self) -> None:
        """Create an empty file if there is none. The caller is in ``held``."""
        if self.identity() is None:
            # A ``-wal`` and ``-shm`` without their database are of no use, and would be taken for the new one's.
            self._remove_sidecars(self._sidecars())
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OURS))

    def _remove_sidecars(self, stale: Mapping[str, str | None]) -> None:
        """Remove those files beside the database that are exactly these. The caller is in ``held``."""
        for suffix, identity in stale.items():
            beside = self._beside(suffix)
            if identity is not None and identity_of(beside) == identity:
                beside.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Raise ``ConfigError`` if SQLite, or this user, cannot write the file, or the folder for the files beside it.

        So too if the folder is on a network share.
        """
        if (length := len(os.fsencode(os.path.realpath(self.path)))) > LONGEST_PATH:
            raise ConfigError(f'{self.path}: the path has {length} bytes, and SQLite takes {LONGEST_PATH} at most')
        if not self.path.parent.is_dir():
            raise ConfigError(f'{self.path}: there is no folder {self.path.parent}; make it, or name another file')
        if self.path.is_dir():
            raise ConfigError(f'{self.path} is a folder; name a file in it')
        if self.path.exists() and not self.path.is_file():
            raise ConfigError(f'{self.path} is a device, a pipe or a socket; name a file')
        check_one_host(self.path)
        for path in (self.path.parent, self.path, self._beside(LOCK)):
            # Tested before and after: another process may create or remove the file meanwhile.
            if path.exists() and not os.access(path, os.W_OK) and path.exists():
                if os.statvfs(path).f_flag & os.ST_RDONLY:
                    raise ConfigError(f'{path} is mounted read-only: mount it for writing, or name another file')
                raise ConfigError(
                    f'{path} cannot be written by this user (uid {os.geteuid()}): {self.path.name}, what is beside it under the '
                    'same name (-lock, -wal, -shm) and the folder must be writable'
                )

    def gone(self) -> SchemaMismatch | BackendUnavailable:
        """Return the error for a missing file: an outage if its whole folder is missing, else a lost namespace."""
        if not self.path.parent.is_dir():
            return BackendUnavailable(f'{self.path.parent} is not there; is its volume mounted?')
        return SchemaMismatch(f'there is no database {self.path}; a worker without skip_db_init=True makes it')
