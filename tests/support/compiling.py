"""Statements that all SQL backends of a process share.

A backend builds each statement once, and an engine of SQLAlchemy compiles it once. Where each test has a backend of its own, that
is most of what a test on SQL computes. The statements for one namespace on one kind of database are all alike.
"""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from jobsync.backends.sql import engine
from jobsync.backends.sql.postgresql import store as postgresql
from jobsync.backends.sql.sqlite import store as sqlite

__all__ = ['share_statements']


def share_statements() -> None:
    """Have every backend that is made from now on look in one place for what others have built and compiled.

    A part of the key of what is compiled is SQLAlchemy's dialect. Two of them count as equal if they are of one class.
    """
    for module, name in ((postgresql, 'PostgresqlDialect'), (sqlite, 'SqliteDialect')):
        setattr(module, name, functools.lru_cache(64)(getattr(module, name)))
    for dialect in (PGDialect_psycopg, SQLiteDialect_pysqlite):
        kind: Any = dialect
        kind.__eq__ = lambda one, other: type(one) is type(other)
        kind.__hash__ = lambda one: hash(type(one))
    shared: LRUCache[Any, Any] = LRUCache(2000)
    made = functools.partial(sa.create_engine, execution_options={'compiled_cache': shared})
    setattr(engine, 'create_engine', made)  # noqa: B010 - mypy knows it as a function
