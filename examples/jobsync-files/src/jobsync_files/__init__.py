"""A jobsync backend in plain files: ``files:///path/to/folder``."""

from __future__ import annotations

from pathlib import Path

import jobsync.hookspecs as jobsync
from jobsync.backend import Backend, BackendOptions
from jobsync.errors import ConfigError

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for ``files:///absolute/folder`` or ``files://relative/folder``."""
    path = url.partition('://')[2]
    if not path or not set('?#').isdisjoint(path):
        raise ConfigError('backend must be files:// and the path of a folder')
    from jobsync_files.backend import FilesBackend

    return FilesBackend(Path(path).absolute(), options)


@jobsync.hookimpl
def jobsync_backend() -> jobsync.BackendPlugin:
    """Describe the backend for ``files://``."""
    return jobsync.BackendPlugin(
        name='files',
        schemes=('files',),
        connect=connect,
        examples=('files:///path/to/folder',),
        drivers=('cattrs',),
        summary='plain files, for workers on one host',
    )
