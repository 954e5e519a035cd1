"""A directory in which one process at a time works, and in which a file is whole or not there.

Everything goes through the directory's own descriptor. If somebody deletes the directory and another is made under its name,
whoever still has the old one open cannot write into the new one.
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
    """The directory at ``path`` for this caller alone, among all threads and processes of the host.

    Raises ``BackendUnavailable`` if that takes longer. The lock ends with the process, however it ends.
    """
    deadline = time.monotonic() + timeout_sec
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # One waits for the lock, the others for the gate: without it, whoever lets go would have the lock again before they look.
        gate = os.open(GATE, os.O_RDONLY | os.O_CREAT, 0o666, dir_fd=directory)
        try:
            _lock(gate, deadline)
            _lock(directory, deadline)
        finally:
            os.close(gate)
        yield Folder(directory)
    finally:
        os.close(directory)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BackendUnavailable('the folder has been locked by others for all of this time') from None
            time.sleep(POLL_SEC)


class Folder:
    """The files of a directory that is open."""

    def __init__(self, descriptor: int) -> None:
        self._at = descriptor

    def names(self) -> set[str]:
        """All files."""
        return set(os.listdir(self._at))  # noqa: PTH208 - Path has no descriptors

    def read(self, name: str, length: int = -1) -> bytes:
        """A file, or how it begins."""
        with self._open(name, os.O_RDONLY, 'rb') as file:
            return file.read(length)

    def stat(self, name: str) -> os.stat_result:
        """What the file system knows of a file."""
        return os.stat(name, dir_fd=self._at)

    def put(self, name: str, content: bytes) -> None:
        """Make a file or replace it, all or nothing; on disk when this returns."""
        self.write(f'{name}.new', 0, content)
        os.rename(f'{name}.new', name, src_dir_fd=self._at, dst_dir_fd=self._at)
        os.fsync(self._at)

    def write(self, name: str, start: int, content: bytes) -> None:
        """Write after the first ``start`` bytes of a file, in place of anything that follows them."""
        with self._open(name, os.O_WRONLY | os.O_CREAT, 'wb') as file:
            file.truncate(start)
            file.seek(start)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._at)

    def _open(self, name: str, flags: int, mode: str) -> IO[bytes]:
        return os.fdopen(os.open(name, flags, 0o666, dir_fd=self._at), mode)
