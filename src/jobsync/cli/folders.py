"""What ``jobsync doctor`` finds of the folders of this host that the workers on it write to: whether there is room in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from rich.filesize import decimal

from jobsync._host import host_name
from jobsync._runtime.host_lock import HostFolder, NotKnown
from jobsync.cluster import Cluster
from jobsync.rows import ClusterNode

__all__ = ['DoctorFinding', 'examine_folders']

_SCARCE, _FULL = 256e6, 1e6
"""Bytes: so few are worth a warning, where a database grows; in so few no transaction fits for long."""
_LOCKS_NEED = 1e6
"""Bytes for the lock files of a hundred runs, a page of 4 KiB each, and what else is there."""


@attrs.frozen
class DoctorFinding:
    """The result of one check of ``jobsync doctor``."""

    verdict: str
    """``ok``; ``warn``: needs attention; or ``bad``: workers cannot work."""
    subject: str
    words: str


def examine_folders(cluster: Cluster, nodes: Sequence[ClusterNode]) -> Iterator[DoctorFinding]:
    """Yield a finding on each folder of this host: that of the store's files, and those of the locks of the nodes here."""
    if (folder := cluster.info.folder) is not None:
        yield _store(folder)
    here = [node for node in nodes if node['host'] == host_name() and node['state'] != 'left']
    given = [node['settings'].get('known_death_dir') for node in here if node['settings'].get('known_death')]
    for base in sorted({base if isinstance(base, str) else None for base in given}, key=str):
        yield from _locks(base)


def _store(folder: str) -> DoctorFinding:
    try:
        free = _free(folder)
    except OSError as error:
        return DoctorFinding('bad', 'disk', f'{folder}, which has the database, cannot be read: {error.strerror}')
    words = f'{folder}, which has the database, has {decimal(free)} free'
    if free < _FULL:
        return DoctorFinding('bad', 'disk', f'{words}: the store refuses every write, so no node keeps its lease; make room')
    if free < _SCARCE:
        return DoctorFinding('warn', 'disk', f'{words}: a full disk ends all work; make room, or purge old history')
    return DoctorFinding('ok', 'disk', words)


def _locks(base: str | None) -> Iterator[DoctorFinding]:
    try:
        locks = HostFolder(base)
        locks.check()
        folder = str(locks.path.parent)
        free = _free(folder)
    except (NotKnown, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        yield DoctorFinding(
            'warn', 'deaths', f'killed workers of this host are replaced only after their timeout: {base or "locks"}: {reason}'
        )
        return
    words = f'{folder}, by whose locks killed workers of this host are known, has {decimal(free)} free'
    if free < _LOCKS_NEED:
        yield DoctorFinding(
            'warn', 'deaths', f'{words}: a worker that starts now is replaced only after its timeout when it is killed'
        )
    else:
        yield DoctorFinding('ok', 'deaths', words)


def _free(folder: str) -> int:
    """Return how many bytes this user may still write in the file system of a folder; 0 if it takes no further file."""
    found = os.statvfs(Path(folder))
    has_entries = not found.f_files or found.f_favail > 0
    return found.f_bavail * found.f_frsize if has_entries else 0
