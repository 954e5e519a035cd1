"""Where a database file is, and by which names.

SQLite keeps the log of a database, ``-wal`` and ``-shm``, beside the name by which it opens the file, after it has followed
symbolic links. So two processes that open one file by two names have two logs, and neither sees what the other commits:

    t=0  a opens /a/jobs.db, and commits that it owns all tokens: into /a/jobs.db-wal
    t=1  b opens /b/jobs.db, a hard link to the same file, or a mount of it alone in a container
    t=2  b reads /b/jobs.db-wal, finds no node, and commits that it owns all tokens as well

By ``-shm``, which each maps into its memory, processes know what the log has. Hosts that mount one network share have a memory
each, and so they are like two names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jobsync.errors import ConfigError

__all__ = ['check_one_host', 'check_only_name', 'name_of_log']

MOUNTS = Path('/proc/self/mountinfo')
"""The mounts that this process sees. Only Linux has it, and mounts of single files."""
_DEVICE, _MOUNT_POINT = 2, 4
"""The numbers of the fields."""
_SHARES = {b'afs', b'beegfs', b'ceph', b'cifs', b'gpfs', b'lustre', b'nfs', b'nfs4', b'smb3'} | {
    b'fuse.' + name for name in (b'ceph-fuse', b'glusterfs', b'juicefs', b'sshfs')
}
"""File systems that several hosts mount, with no memory in common."""
_ESCAPES = {b'\\': b'\\134', b' ': b'\\040', b'\t': b'\\011', b'\n': b'\\012'}
"""How the kernel writes these characters of a path there; the backslash comes first."""


def name_of_log(path: str) -> str:
    """Return the path beside which SQLite keeps the log: with its links followed if the file itself is one."""
    return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114 - a Path costs more, and an idle node polls


def check_only_name(path: Path) -> None:
    """Raise ``ConfigError`` if there is a file, and other processes may have it by a name beside which they keep another log."""
    real = Path(name_of_log(str(path)))
    try:
        names = real.stat().st_nlink
    except OSError:
        return
    if names > 1:
        raise ConfigError(
            f'{path} is one of {names} names (hard links) of one file: SQLite keeps a log beside each name, so two workers could '
            f'own one task; remove the other names (find them with: find / -samefile {path}), or copy the file'
        )
    if _is_mounted(os.path.realpath(real)):
        raise ConfigError(
            f'{path} is mounted by itself, as a volume of one file: SQLite keeps a log beside the file that other containers do '
            'not see, so two workers could own one task; mount its folder instead'
        )


def check_one_host(path: Path) -> None:
    """Raise ``ConfigError`` if a file is in a folder that other hosts may have mounted, each with a log of its own."""
    device = Path(name_of_log(str(path))).parent.stat().st_dev
    number = f'{os.major(device)}:{os.minor(device)}'.encode()
    for mount, _, what in (line.partition(b' - ') for line in _mounts()):
        if mount.split(b' ')[_DEVICE] == number and (kind := what.split(b' ')[0]) in _SHARES:
            raise ConfigError(
                f'{path} is on a network share ({os.fsdecode(kind)}), of which SQLite cannot know what other hosts write, so two '
                'workers could own one task: name a file on a local disk, or, for workers of several hosts, a store on a server'
            )


def _is_mounted(path: str) -> bool:
    """Return whether something is mounted at a path without symbolic links, which is how the kernel lists it."""
    name = os.fsencode(path)
    for character, escape in _ESCAPES.items():
        name = name.replace(character, escape)
    return any(mount.split(b' ', _MOUNT_POINT + 1)[_MOUNT_POINT] == name for mount in _mounts())


def _mounts() -> Sequence[bytes]:
    try:
        return list(filter(None, MOUNTS.read_bytes().split(b'\n')))  # a name in there may have any other end of a line
    except OSError:
        return ()
