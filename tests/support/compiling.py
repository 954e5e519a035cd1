"""Compiled statements that all SQL backends of a process share.

An engine of SQLAlchemy compiles each statement once. Where each test has an engine of its own, that is most of what a test on SQL
computes. The engines of one driver are all alike: how they connect differs, and not the SQL that they write.
"""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from jobsync.backends.sql import engine

__all__ = ['share_compiled_statements']


def share_compiled_statements() -> None:
    """Have every engine that a backend makes from now on look for compiled statements in one place.

    A part of the key there is the dialect. Two dialects count as equal if they are of one class.
    """
    for dialect in (PGDialect_psycopg, SQLiteDialect_pysqlite):
        kind: Any = dialect
        kind.__eq__ = lambda one, other: type(one) is type(other)
        kind.__hash__ = lambda one: hash(type(one))
    shared: LRUCache[Any, Any] = LRUCache(2000)
    made = functools.partial(sa.create_engine, execution_options={'compiled_cache': shared})
    setattr(engine, 'create_engine', made)  # noqa: B010 - mypy knows it as a function
