"""A directory that one caller at a time has, and in which a file is whole or does not exist.

Every access goes through the directory's own descriptor. If a person deletes the directory and another is made under its name, a
process that still has the old one open cannot write into the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jobsync.errors import BackendUnavailable

__all__ = ['GATE', 'Folder', 'locked']

GATE = 'gate'
POLL_SEC = 0.001


@contextlib.contextmanager
def locked(path: Path, timeout_sec: float) -> Iterator[Folder]:
    """Keep the directory at ``path`` from all other callers, among the threads and processes of the host.

    The lock ends with the process, however the process ends.

    Args:
        path: the directory.
        timeout_sec: the longest wait for the lock.

    Raises:
        BackendUnavailable: other callers had the directory for all of this time.
    """
    deadline = time.monotonic() + timeout_sec
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # t=0  caller a has the directory; b has the gate and waits for the directory; c waits for the gate
        # t=1  a leaves, and comes back at once: it has to wait for the gate, as c does
        # t=2  b gets the directory. Without the gate a would have it again before b polls, and b could wait for ever.
        gate = os.open(GATE, os.O_RDONLY | os.O_CREAT, 0o666, dir_fd=directory)
        try:
            _lock(gate, deadline)
            _lock(directory, deadline)
        finally:
            _release(gate)
        yield Folder(directory)
    finally:
        _release(directory)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BackendUnavailable('the folder has been locked by others for all of this time') from None
            time.sleep(POLL_SEC)


def _release(descriptor: int) -> None:
    # t=0  a thread has the lock, and another thread of the process forks: the child has the same descriptor open
    # t=1  the thread closes its descriptor. Without this call the lock would last as long as the child does.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


class Folder:
    """The files of an open directory."""

    def __init__(self, descriptor: int) -> None:
        self._at = descriptor

    def names(self) -> set[str]:
        """Return the names of all files."""
        return set(os.listdir(self._at))  # noqa: PTH208 - Path has no descriptors

    def read(self, name: str, length: int = -1) -> bytes:
        """Return the content of a file, or its first ``length`` bytes."""
        with self._open(name, os.O_RDONLY, 'rb') as file:
            return file.read(length)

    def stat(self, name: str) -> os.stat_result:
        """Return what the file system has about a file."""
        return os.stat(name, dir_fd=self._at)

    def put(self, name: str, content: bytes) -> None:
        """Make a file or replace it, all or nothing. The file is on the disk when this returns."""
        self.write(f'{name}.new', 0, content)
        os.rename(f'{name}.new', name, src_dir_fd=self._at, dst_dir_fd=self._at)
        os.fsync(self._at)

    def write(self, name: str, start: int, content: bytes) -> None:
        """Write after the first ``start`` bytes of a file, in place of the rest. On the disk when this returns."""
        with self._open(name, os.O_WRONLY | os.O_CREAT, 'wb') as file:
            file.truncate(start)
            file.seek(start)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._at)

    def _open(self, name: str, flags: int, mode: str) -> IO[bytes]:
        return os.fdopen(os.open(name, flags, 0o666, dir_fd=self._at), mode)
