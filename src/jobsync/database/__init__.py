"""SQL for the user's own statements: over ``job._cn``, or over a connection made here.

::

    import jobsync.database as db

    with Job(...) as job:
        tasks = db.select(job._cn, 'SELECT task_id FROM tasks WHERE date = %s', job.date)
        for row in tasks.to_dict('records'):
            ...
        with job._cn.transaction():
            db.execute(job._cn, 'INSERT INTO results (task_id, result) VALUES (%s, %s)', 7, 'done')

On PostgreSQL and SQLite alike:

- ``%s`` stands for a value, wherever it is outside of quotes and comments, and ``%%`` for a percent sign. A statement without
  values is sent as it is: ``LIKE 'prod-%'`` needs no second percent sign.
- Outside ``transaction`` each statement is a transaction by itself, and leaves none open.
- A ``datetime`` without a timezone is local time of this process. SQLite has no type for it: it is stored as text in UTC
  (``YYYY-MM-DD HH:MM:SS.ffffff``), like jobsync's own, and comes back as that text; a ``date`` as ``YYYY-MM-DD``.
- A tuple is values in parentheses (``WHERE id IN %s``). A list is an array on PostgreSQL (``= ANY(%s)``), and JSON on SQLite
  (``IN (SELECT value FROM json_each(%s))``).
- What ``job.where('id')`` returns is the condition that a row's task is this node's (``WHERE done IS NULL AND %s``).
- A statement that fails raises an error of SQLAlchemy's (``sqlalchemy.exc.IntegrityError`` and so on), whose ``orig`` is the
  driver's; without a connection it raises ``BackendUnavailable``. No error shows the password.

Every function takes the connection first, then the statement, then one value for each ``%s``. All raise ``ConfigError`` if values
and placeholders do not match, and ``JobsyncError`` if the connection is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from jobsync._core.redact import safe_repr
from jobsync.database.connecting import connect
from jobsync.database.connection import Connection
from jobsync.database.row_filter import RowFilter
from jobsync.database.rows import Rows
from jobsync.database.token_column import TokenColumn
from jobsync.errors import ConfigError

__all__ = [
    'Connection',
    'RowFilter',
    'Rows',
    'TokenColumn',
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
    """Return all rows of a query.

    Args:
        cn: The connection.
        sql: The query.
        values: A value for each ``%s``.

    Returns:
        The rows, each a mapping by column.
    """
    return _checked(cn).query(sql, values)


def select_row(cn: Connection, sql: str, *values: object) -> dict[str, Any] | None:
    """Return the first row of a query as a mapping by column; None if there is no row.

    Args:
        cn: The connection.
        sql: The query.
        values: A value for each ``%s``.
    """
    return next(iter(select(cn, sql, *values)), None)


def select_column(cn: Connection, sql: str, *values: object) -> list[Any]:
    """Return the first column of all rows of a query.

    Args:
        cn: The connection.
        sql: The query.
        values: A value for each ``%s``.
    """
    return [row[0] for row in select(cn, sql, *values).values]


def select_scalar(cn: Connection, sql: str, *values: object) -> Any:
    """Return the first column of the first row of a query; None if there is no row.

    Args:
        cn: The connection.
        sql: The query.
        values: A value for each ``%s``.
    """
    return next(iter(select_column(cn, sql, *values)), None)


def execute(cn: Connection, sql: str, *values: object) -> int:
    """Run a statement.

    Args:
        cn: The connection.
        sql: The statement.
        values: A value for each ``%s``.

    Returns:
        How many rows it has written or returned; -1 where the driver does not count.
    """
    return _checked(cn).execute(sql, values)


def insert_rows(cn: Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Insert rows, all or none.

    Args:
        cn: The connection.
        table: The table's name, with its schema before a dot if needed.
        rows: Mappings by column. All have the columns of the first.

    Returns:
        How many rows were inserted.

    Raises:
        ConfigError: ``rows`` are no mappings, or one has other columns than the first.
    """
    cn = _checked(cn)
    several = [rows] if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable) else list(rows)
    if isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in several):
        raise ConfigError(f'rows is {safe_repr(rows)}: must be a list of mappings by column, or another iterable of them')
    if not several:
        return 0
    columns = list(several[0])
    for row in several:
        if row.keys() != several[0].keys():
            raise ConfigError(f'rows for {table}: all must have the columns {", ".join(columns)}; one has {", ".join(row)}')
    return cn.insert(table, columns, [[row[column] for column in columns] for row in several])


def transaction(cn: Connection) -> AbstractContextManager[None]:
    """Run the statements of a block as one transaction (see ``Connection.transaction``).

    Args:
        cn: The connection.
    """
    return _checked(cn).transaction()


def _checked(cn: Connection) -> Connection:
    if not isinstance(cn, Connection):
        raise ConfigError(f'cn is {safe_repr(cn)}: must be a connection of jobsync.database, such as job._cn or connect(url)')
    return cn
