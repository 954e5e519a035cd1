"""A small disk for a store, which a fault can fill: a file system in memory, where this user may mount one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['CAN_MOUNT', 'Disk', 'small_disk']

SIZE_MB = 400
"""More than a server writes in a run of a few workers: it is full only when it is filled."""


class Disk:
    """A mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / 'filler'

    def fill(self) -> None:
        """Take all the space that is left."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, 0, shutil.disk_usage(self.path).free)
            os.lseek(descriptor, 0, os.SEEK_END)
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, b'x' * 4096)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)


def _mount(path: Path, times: int = 1) -> bool:
    options = ['-t', 'tmpfs', '-o', f'size={SIZE_MB * times}m,mode=1777', 'jobsync-faults', str(path)]
    return subprocess.run(['mount', *options], capture_output=True, check=False).returncode == 0


def _unmount(path: Path) -> None:
    subprocess.run(['umount', '--lazy', str(path)], capture_output=True, check=False)


def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which('mount') is None:
        return False
    with tempfile.TemporaryDirectory(prefix='jobsync-disk-') as folder:
        if found := _mount(Path(folder)):
            _unmount(Path(folder))
    return found


CAN_MOUNT = _can_mount()
"""Whether this user may mount a file system: root, and not in most containers."""


@contextmanager
def small_disk(times: int = 1) -> Iterator[Disk | None]:
    """Yield a disk, ``times`` as large as usual, which is gone after the block; None where none can be mounted."""
    if not CAN_MOUNT:
        yield None
        return
    path = Path(tempfile.mkdtemp(prefix='jobsync-disk-'))
    _mount(path, times)
    try:
        yield Disk(path)
    finally:
        _unmount(path)
        path.rmdir()
