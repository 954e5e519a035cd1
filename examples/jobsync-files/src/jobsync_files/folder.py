"""A directory in which one process at a time works, and in which a file is whole or not there.

Everything goes through the directory's own descriptor. If somebody deletes the directory and another is made under its name,
who still has the old one open cannot write into the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from jobsync.errors import BackendUnavailable

__all__ = ['Folder', 'locked']

POLL_SEC = 0.001


class Folder:
    """The files of a directory that is open."""

    def __init__(self, descriptor: int) -> None:
        self._at = descriptor

    def names(self) -> list[str]:
        """All files."""
        return os.listdir(self._at)  # noqa: PTH208 - Path has no descriptors

    def stat(self, name: str) -> os.stat_result:
        """What the file system knows of a file."""
        return os.stat(name, dir_fd=self._at)

    def read(self, name: str, length: int = -1) -> bytes:
        """A file, or how it begins."""
        with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=self._at), 'rb') as file:
            return file.read(length)

    def put(self, name: str, content: bytes) -> None:
        """Make a file or replace it, all or nothing; on disk when this returns."""
        self._write(f'{name}.new', 0, content)
        os.rename(f'{name}.new', name, src_dir_fd=self._at, dst_dir_fd=self._at)
        os.fsync(self._at)

    def append(self, name: str, length: int, content: bytes) -> None:
        """Write after the first ``length`` bytes of a file, in place of anything that follows them."""
        self._write(name, length, content)

    def _write(self, name: str, start: int, content: bytes) -> None:
        with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=self._at), 'wb') as file:
            file.truncate(start)
            file.seek(start)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._at)


@contextlib.contextmanager
def locked(path: Path, timeout_sec: float) -> Iterator[Folder]:
    """The directory at ``path`` for this caller alone, among all threads and processes of the host.

    Raises ``BackendUnavailable`` if another has it for longer. The lock ends with the process, however it ends.
    """
    descriptor, deadline = os.open(path, os.O_RDONLY | os.O_DIRECTORY), time.monotonic() + timeout_sec
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BackendUnavailable(f'{path} has been locked by another for {timeout_sec} s') from None
                time.sleep(POLL_SEC)
        yield Folder(descriptor)
    finally:
        os.close(descriptor)
