"""``sqlite://``: how the backend is found, without importing SQLAlchemy."""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for ``sqlite:///relative.db`` or ``sqlite:////absolute/path.db``."""
    from jobsync.backends.sql.sqlite.store import connect as connect_sqlite

    return connect_sqlite(url, options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Answer to ``sqlite://``."""
    return BackendPlugin(
        name='sqlite',
        schemes=('sqlite',),
        connect=connect,
        examples=('sqlite:///jobs.db',),
        drivers=('SQLAlchemy',),
        summary='a file on this host, for any number of processes on it',
    )
