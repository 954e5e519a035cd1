"""``postgresql://``: how the backend is found, without importing SQLAlchemy or psycopg."""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL as libpq understands it."""
    from jobsync.backends.sql.postgresql.store import connect as connect_postgresql

    return connect_postgresql(url, options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Answer to ``postgresql://`` and its other spellings."""
    return BackendPlugin(
        name='postgresql',
        schemes=('postgresql', 'postgresql+psycopg', 'postgres'),
        connect=connect,
        examples=('postgresql://localhost/dbname',),
        drivers=('SQLAlchemy', 'psycopg'),
        summary='a PostgreSQL server, for nodes on any number of hosts',
    )
