"""Connections without a job."""

from __future__ import annotations

import os

from jobsync import plugins
from jobsync.config import CoordinationConfig, resolve
from jobsync.database.connection import Connection, check_sql

__all__ = ['connect']


def connect(where: object) -> Connection:
    """Return a connection to a database, for use without a job. Reaches no server. To be closed.

    Args:
        where: A URL, a ``CoordinationConfig``, or a ``config`` as ``Job`` takes it.

    Raises:
        ConfigError: The URL or the configuration is not allowed.
        BackendNotFound: No backend can be used for the URL.
        UnsupportedOperation: The backend has no SQL.
    """
    if isinstance(where, str):
        where = CoordinationConfig(backend=where)
    given = where if isinstance(where, CoordinationConfig) else None
    config = resolve(None if given else where, given, os.environ)
    store = config.backend
    backend = plugins.connect(store, config.options) if isinstance(store, str) else store
    sql = check_sql(backend)
    return Connection(sql.connection, lambda action: action(), release=sql.close if isinstance(store, str) else None)
