"""The lock of an incarnation, by which the other processes of its host know that it is over.

Each incarnation holds an exclusive ``flock`` on a file of its own, which is named after it, from before it registers. The kernel
releases the lock when the process ends, however it ends, and not while it is stopped, paused or suspended. So a process of the
same host that gets the lock knows that the incarnation is over.

**What keeps the lock is a mapping of the file, not a descriptor.** The lock belongs to the open file description, which lives as
long as anything refers to it. A mapping does. The descriptor is closed at once, so that no code of the program can close it by
mistake, as ``os.closerange`` does. The mapping is marked ``MADV_DONTFORK``: no forked child has it, whether Python forked it or C
did, and no new program after ``exec``. A child that is forked in the few microseconds before that keeps the lock for longer than
the process: then less is known, and nothing false.

**What the file says of itself.** The first line of the file has the incarnation, the id of the kernel's boot, and the file's own
device and inode. An observer takes the lock for a proof only if all of it is so of the very file that it has opened::

    t=0  the folder is moved away, and a copy of it is put in its place; the process lives, and holds the lock of the original
    t=1  an observer opens the copy and gets its lock
    The copy says the inode of the original, which no other file has while the process has that mapped: nothing is proven.

A folder is one user's, who alone may write to it. Its file system must be one of those whose locks are this kernel's own: not a
network file system, whose server may forget a lock that a living process holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import fcntl
import functools
import json
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from jobsync._random import RANDOM

__all__ = ['HeldLock', 'HostFolder', 'LockFinding', 'LockVerdict', 'NotKnown']

_BOOT_ID, _PID_NAMESPACE = Path('/proc/sys/kernel/random/boot_id'), Path('/proc/self/ns/pid')
_SHARED_MEMORY = Path('/dev/shm')  # noqa: S108 - the folder in it is checked
_LOCAL = {
    0x01021994: 'tmpfs',
    0xEF53: 'ext4',
    0x58465342: 'xfs',
    0x9123683E: 'btrfs',
    0xF2F52010: 'f2fs',
}
"""File systems whose locks are the kernel's own, by the number that ``statfs`` gives. Not overlayfs, on which one file may appear
as two, each with a lock of its own."""
_PAGE = mmap.PAGESIZE
_LONGEST = 1000
"""Bytes of a file that are read."""
_OLD_SEC = 7 * 24 * 3600.0
"""How old the file of a run that is over must be before any process of its user deletes it."""
_SWEPT = 50
"""How many files are checked for that, so that it takes no time to speak of where there are thousands."""
_FAILED = ctypes.c_void_p(-1).value


class NotKnown(Exception):
    """Why the end of an incarnation cannot be known on this host."""


class LockVerdict(enum.Enum):
    """What an observer finds of an incarnation."""

    ABSENT = 'absent'
    """There is no file of it: perhaps it is on another host."""
    UNPROVABLE = 'unprovable'
    """There is a file that proves nothing."""
    HELD = 'held'
    """A process, perhaps a stopped one, holds the lock."""
    OVER = 'over'
    """No process holds the lock: the incarnation is over."""


@attrs.frozen
class LockFinding:
    """A verdict, and the process that holds the lock, if its id means the same process here."""

    verdict: LockVerdict
    pid: int | None = None


class HostFolder:
    """The folder of this user on this host. Has no state: each method opens the folder, and checks whose it is."""

    def __init__(self, base: str | None = None) -> None:
        """Find the folder. ``base`` is the folder to make it in; None: shared memory, or else the one for temporary files.

        Raises ``NotKnown`` if this system has no such knowledge to give.
        """
        try:
            self._boot = _BOOT_ID.read_text('utf-8').strip()
            self._pid_namespace = str(_PID_NAMESPACE.readlink())
        except OSError as error:
            raise NotKnown(f'this system does not say which boot it is ({error})') from error
        if not hasattr(mmap, 'MADV_DONTFORK') or not hasattr(os, 'pidfd_open') or not self._boot:
            raise NotKnown('this system lacks what it takes: Linux 5.4 or newer has it')
        self.path = _base_of(base) / f'jobsync-{os.geteuid()}'

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the folder for the time of a ``with`` block. Raise ``NotKnown`` if it is not this user's alone."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(folder)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise NotKnown(f'{self.path} is not a folder that only this user may use')
            _check_local(folder, self.path)
            yield folder
        finally:
            os.close(folder)

    def check(self) -> None:
        """Raise ``NotKnown`` if no lock in there proves anything, whichever user the folder is to belong to; or ``OSError``."""
        base = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_local(base, self.path.parent)
        finally:
            os.close(base)

    def hold(self, incarnation: str) -> HeldLock:
        """Take the lock of an incarnation of this process. Raise ``NotKnown`` if that is not possible."""
        try:
            self.path.mkdir(0o700, exist_ok=True)
            self._give_rights()
            with self._opened() as folder:
                _sweep(folder)
                return self._hold(folder, incarnation)
        except OSError as error:
            raise NotKnown(f'no lock can be held in {self.path} ({error.strerror})') from error

    def _give_rights(self) -> None:
        """Let this user list, search and change the folder, whichever umask it was made with."""
        # t=0  a process whose umask is 0177 or 0777 makes the folder, which this user cannot search, or not even open
        # t=1  no process of this user could hold a lock in it until it is removed
        folder = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(folder)
            lacks_rights, is_open_to_others = ~found.st_mode & 0o700, found.st_mode & 0o077
            if found.st_uid == os.geteuid() and lacks_rights and not is_open_to_others:
                os.chmod(f'/proc/self/fd/{folder}', 0o700)  # noqa: PTH101 - not by the name, which may mean another folder by now
        finally:
            os.close(folder)

    def _hold(self, folder: int, incarnation: str) -> HeldLock:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(incarnation, dir_fd=folder)  # what has been put in the place of this process's own file, if anything
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(incarnation, flags, 0o600, dir_fd=folder)  # has no part in the lock
        with contextlib.ExitStack() as ends, contextlib.ExitStack() as undo:
            ends.callback(os.close, file)
            undo.callback(_unlink, folder, incarnation)
            os.fchmod(file, 0o600)  # a umask may take the right to read it
            address = _locked(file)
            undo.callback(_give_back, file, address)
            found = os.fstat(file)
            text = json.dumps({**self._self_description(incarnation, found), 'pid': os.getpid(), 'in': self._pid_namespace})
            # Tried before anything is written: no observer takes an empty file for a proof.
            if _is_free(file):
                raise NotKnown(f'a lock in {self.path} does not hold')
            os.write(file, text.encode())
            if self._examine(folder, incarnation).verdict is not LockVerdict.HELD:
                raise NotKnown(f'a lock in {self.path} does not hold')
            undo.pop_all()
            return HeldLock(self.path / incarnation, (found.st_dev, found.st_ino), address, os.getpid())

    def _self_description(self, incarnation: str, found: os.stat_result) -> Mapping[str, Any]:
        return {'incarnation': incarnation, 'boot': self._boot, 'device': found.st_dev, 'inode': found.st_ino}

    def incarnations(self) -> frozenset[str]:
        """Return the incarnations that have a file here. Most members of a large cluster are on other hosts, and have none."""
        try:
            with self._opened() as folder:
                return frozenset(os.listdir(folder))  # noqa: PTH208 - by the open folder, not by its name
        except (OSError, NotKnown):
            return frozenset()

    def examine(self, incarnation: str) -> LockFinding:
        """Return what this host proves of an incarnation. Changes nothing, and waits for nothing."""
        try:
            with self._opened() as folder:
                return self._examine(folder, incarnation)
        except FileNotFoundError:
            return LockFinding(LockVerdict.ABSENT)
        except (OSError, NotKnown, ValueError):
            return LockFinding(LockVerdict.UNPROVABLE)

    def _examine(self, folder: int, incarnation: str) -> LockFinding:
        file = os.open(incarnation, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            found = os.fstat(file)
            text = os.pread(file, _LONGEST, 0)
            said = _parsed(text)
            expected = self._self_description(incarnation, found)
            if not isinstance(said, dict) or any(said.get(key) != value for key, value in expected.items()):
                return LockFinding(LockVerdict.UNPROVABLE)
            if _file_system(file) not in _LOCAL:
                return LockFinding(LockVerdict.UNPROVABLE)
            if _is_free(file):
                # t=0  the file of a living process has gone; it makes another, and this observer reads that
                # t=1  the process may open no more files, so it cannot check that one: it empties it, then releases its lock
                # t=2  this observer gets the lock
                is_given_up = os.pread(file, _LONGEST, 0) != text
                return LockFinding(LockVerdict.UNPROVABLE if is_given_up else LockVerdict.OVER)
            pid = said.get('pid') if said.get('in') == self._pid_namespace else None
            return LockFinding(LockVerdict.HELD, pid if isinstance(pid, int) else None)
        finally:
            os.close(file)

    def discard(self, incarnation: str) -> None:
        """Delete the file of an incarnation that is over, and whose end has been made known."""
        with contextlib.suppress(OSError, NotKnown), self._opened() as folder:
            os.unlink(incarnation, dir_fd=folder)


@attrs.define
class HeldLock:
    """The lock of an incarnation of this process, until it is released or the process ends."""

    path: Path
    _identity: tuple[int, int]
    _address: int
    _pid: int

    @property
    def is_in_place(self) -> bool:
        """Whether an observer still finds the file by its name."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def release(self) -> None:
        """Delete the file and release the lock, because the incarnation is over. A forked child has no lock, and does nothing."""
        if self._pid != os.getpid():
            return
        self._pid = 0
        if self.is_in_place:
            with contextlib.suppress(OSError):
                self.path.unlink()
        _libc().munmap(self._address, _PAGE)


def _base_of(base: str | None) -> Path:
    """Return the folder that each user has one in: ``base``; None: shared memory, or else the folder for temporary files."""
    if base:
        with contextlib.suppress(FileNotFoundError):  # the working directory was removed
            return Path(base).absolute()
        raise NotKnown(f'{base} is relative, and the working directory of this process has been removed')
    if _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK):
        return _SHARED_MEMORY
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:  # as in a container whose file system is read-only
        raise NotKnown('this process may write to no folder for temporary files') from error


def _unlink(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _give_back(file: int, address: int) -> None:
    """Release the lock of a file though the process lives, once the file proves nothing. If it cannot be emptied, keep the lock.

    Deleting its name would not be enough: an observer may find it under another, or in a folder that has been moved.
    """
    os.ftruncate(file, 0)
    _libc().munmap(address, _PAGE)


def _locked(file: int) -> int:
    """Lock a file by a mapping alone, and return the address of that."""
    other = os.open(f'/proc/self/fd/{file}', os.O_RDWR | os.O_CLOEXEC)  # another description of the same file
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no observer locks a file that says nothing yet
        return _map(other)
    finally:
        os.close(other)


def _is_free(file: int) -> bool:
    """Return whether no process has locked a file exclusively."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: observers do not keep each other from the lock
    except BlockingIOError:
        return False
    return True


def _parsed(text: bytes) -> object:
    """Return what a file says, or None if it cannot be read: a file of brackets alone is nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _sweep(folder: int) -> None:
    """Delete the old files of runs that are over, whose end no process has made known."""
    before, names = time.time() - _OLD_SEC, os.listdir(folder)
    for name in RANDOM.sample(names, min(len(names), _SWEPT)):
        with contextlib.suppress(OSError):
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime >= before:
                continue
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(file)


def _map(file: int) -> int:
    """Map a page of a file that no forked child has, and return its address."""
    libc = _libc()
    address: int | None = libc.mmap(None, _PAGE, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
    if address in (None, _FAILED):
        raise OSError(ctypes.get_errno(), 'the file cannot be mapped')
    assert address is not None
    if libc.madvise(address, _PAGE, mmap.MADV_DONTFORK):
        libc.munmap(address, _PAGE)
        raise OSError(ctypes.get_errno(), 'the mapping cannot be kept from forked children')
    return address


def _check_local(folder: int, path: Path) -> None:
    """Raise ``NotKnown`` unless the locks of the file system of an open folder are this kernel's own."""
    if _file_system(folder) not in _LOCAL:
        raise NotKnown(f"the locks of the file system of {path} may not be this host's own")


def _file_system(file: int) -> int:
    """Return the number of the file system of an open file, which is the first field of a ``struct statfs``."""
    found = (ctypes.c_long * 64)()
    return 0 if _libc().fstatfs(file, found) else found[0]


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
