"""SQL: a condition that is false for a former owner, so that its statement writes no row.

The table has a column of integers for the fence (``BIGINT``, ``NULL`` before the first write), and the statement sets it::

    UPDATE results SET value = %s, fence = %s WHERE id = %s AND (fence IS NULL OR fence <= %s)

This is safe under every isolation level of PostgreSQL, and on SQLite: a statement that had to wait for another one's row
evaluates the condition again, or fails as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from jobsync.errors import ConfigError, UnsupportedOperation
from jobsync.fencing.number import checked_fence, stale

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

__all__ = ['Paramstyle', 'check_written', 'fence_allows', 'fence_sql']

Paramstyle = Literal['format', 'pyformat', 'qmark', 'named', 'numeric']
"""The forms of placeholders in PEP 249. The ``paramstyle`` of a driver's module is the one it takes."""


def fence_allows(column: ColumnElement[Any] | InstrumentedAttribute[Any], fence: int) -> ColumnElement[bool]:
    """Return a condition of SQLAlchemy's that is true for a row without a higher fence.

    Use it as ``update(results).where(results.c.id == task, fence_allows(results.c.fence, fence)).values(value=…, fence=fence)``,
    then ``check_written(result.rowcount, fence, task)``.

    Args:
        column: The column that has the fence.
        fence: The number that ``job.fence(task)`` has returned.

    Raises:
        ConfigError: The fence is not allowed.
    """
    allowed: ColumnElement[bool] = column.is_(None) | (column <= checked_fence(fence))
    return allowed


@overload
def fence_sql(
    column: str, fence: int, paramstyle: Literal['format', 'qmark', 'numeric'], *, name: str = 'fence', position: int = 1
) -> tuple[str, list[int]]: ...


@overload
def fence_sql(
    column: str, fence: int, paramstyle: Literal['pyformat', 'named'], *, name: str = 'fence', position: int = 1
) -> tuple[str, dict[str, int]]: ...


def fence_sql(
    column: str, fence: int, paramstyle: Paramstyle, *, name: str = 'fence', position: int = 1
) -> tuple[str, list[int] | dict[str, int]]:
    """Return a condition as text in parentheses that is true for a row without a higher fence, and its parameters.

    Args:
        column: The column that has the fence. It becomes part of the statement as it is: never take it from input.
        fence: The number that ``job.fence(task)`` has returned.
        paramstyle: The form of placeholders that the driver takes, see PEP 249.
        name: The parameter's name, for ``pyformat`` and ``named``.
        position: The parameter's number, for ``numeric``.

    Returns:
        The condition; and a list to add to the statement's parameters where the condition stands, or a mapping to merge with them
        for ``pyformat`` and ``named``.

    Raises:
        ConfigError: The fence or ``paramstyle`` is not allowed.
    """
    checked_fence(fence)
    match paramstyle:
        case 'format':
            mark = '%s'
        case 'qmark':
            mark = '?'
        case 'numeric':
            mark = f':{position}'
        case 'pyformat':
            mark = f'%({name})s'
        case 'named':
            mark = f':{name}'
        case _:
            raise ConfigError(f'paramstyle is {paramstyle!r}: must be format, pyformat, qmark, named or numeric')
    values: list[int] | dict[str, int] = {name: fence} if paramstyle in ('pyformat', 'named') else [fence]
    return f'({column} IS NULL OR {column} <= {mark})', values


def check_written(rowcount: int | None, fence: int, what: object = 'the row') -> None:
    """Raise an error if a guarded statement has written no row.

    No row means that the fence was too low, or that there was no row before: insert the row first, or with ``ON CONFLICT … DO
    UPDATE … WHERE``. The driver must count the rows it found (drivers of MySQL count the changed rows unless configured). Of an
    INSERT SQLAlchemy has the count only with the execution option ``preserve_rowcount=True``.

    Args:
        rowcount: How many rows the statement has written.
        fence: The fence of the statement.
        what: What was to be written, for the message.

    Raises:
        StaleFence: No row was written.
        UnsupportedOperation: The driver does not count rows.
    """
    if rowcount is None or rowcount < 0:  # PEP 249 allows drivers either
        raise UnsupportedOperation(
            'the driver does not count the rows that were written: give an INSERT of SQLAlchemy the execution option '
            'preserve_rowcount=True; or use RETURNING, and count what comes back'
        )
    if rowcount == 0:
        raise stale(fence, what)
