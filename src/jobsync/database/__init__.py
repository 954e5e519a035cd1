"""SQL for the user's own statements: over ``job._cn``, or over a connection made here.

    import jobsync.database as db

    with Job(...) as job:
        tasks = db.select(job._cn, 'SELECT task_id FROM tasks WHERE date = %s', job.date)
        for row in tasks.to_dict('records'):
            ...
        with job._cn.transaction():
            db.execute(job._cn, 'INSERT INTO results (task_id, result) VALUES (%s, %s)', 7, 'done')

The same on PostgreSQL and SQLite:

- ``%s`` stands for a value, wherever it is outside of quotes and comments, and ``%%`` for a percent sign. A statement without
  values is not looked at: ``LIKE 'prod-%'`` means what it says.
- Outside ``transaction`` each statement is a transaction by itself, and leaves none open.
- A ``datetime`` without a timezone is local time of this process. SQLite has no type for it: it is written as jobsync writes
  its own, as text in UTC (``YYYY-MM-DD HH:MM:SS.ffffff``), and comes back as that text; a ``date`` as ``YYYY-MM-DD``.
- A tuple is values in parentheses (``WHERE id IN %s``). A list is an array on PostgreSQL (``= ANY(%s)``), and JSON on SQLite
  (``IN (SELECT value FROM json_each(%s))``).
- A statement that fails raises SQLAlchemy's errors (``sqlalchemy.exc.IntegrityError`` and so on), whose ``orig`` is the
  driver's; a database that cannot be reached ``BackendUnavailable``. Neither tells the password.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from jobsync.database.connecting import connect
from jobsync.database.connection import Connection
from jobsync.database.rows import Rows
from jobsync.errors import ConfigError

__all__ = [
    'Connection',
    'Rows',
    'connect',
    'execute',
    'insert_rows',
    'select',
    'select_column',
    'select_row',
    'select_scalar',
    'transaction',
]


def select(cn: Connection, sql: str, *values: object) -> Rows:
    """All rows of a query, each a mapping by column."""
    return cn.query(sql, values)


def select_row(cn: Connection, sql: str, *values: object) -> dict[str, Any] | None:
    """The first row as a mapping by column; None if there is none."""
    return next(iter(select(cn, sql, *values)), None)


def select_column(cn: Connection, sql: str, *values: object) -> list[Any]:
    """The first column of all rows."""
    return [row[0] for row in select(cn, sql, *values).values]


def select_scalar(cn: Connection, sql: str, *values: object) -> Any:
    """The first column of the first row; None if there is no row."""
    return next(iter(select_column(cn, sql, *values)), None)


def execute(cn: Connection, sql: str, *values: object) -> int:
    """Run a statement; how many rows it wrote, or -1 where that means nothing."""
    return cn.execute(sql, values)


def insert_rows(cn: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert mappings of the same columns, all or none; how many."""
    if not rows:
        return 0
    columns = list(rows[0])
    for row in rows:
        if row.keys() != rows[0].keys():
            raise ConfigError(f'rows for {table}: all must have the columns {", ".join(columns)}; one has {", ".join(row)}')
    return cn.insert(table, columns, [[row[column] for column in columns] for row in rows])


def transaction(cn: Connection) -> AbstractContextManager[None]:
    """See ``Connection.transaction``."""
    return cn.transaction()
