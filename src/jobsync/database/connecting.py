"""Connections apart from any job."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from jobsync import plugins
from jobsync.config import CoordinationConfig, resolve
from jobsync.database.connection import Connection, check_sql

__all__ = ['connect']

T = TypeVar('T')


def connect(where: object) -> Connection:
    """A connection to the database of a URL, a ``CoordinationConfig``, or a ``config`` such as ``Job`` takes; to be closed.

    Nothing is reached yet. Raises ``ConfigError``, ``BackendNotFound``, and ``UnsupportedOperation`` if there is no SQL.
    """
    if isinstance(where, str):
        where = CoordinationConfig(backend=where)
    given = where if isinstance(where, CoordinationConfig) else None
    config = resolve(None if given else where, given, os.environ)
    store = config.backend
    backend = plugins.connect(store, config.options) if isinstance(store, str) else store
    sql = check_sql(backend)
    return Connection(sql.connection, _at_once, release=sql.close if isinstance(store, str) else None)


def _at_once(action: Callable[[], T]) -> T:
    return action()
