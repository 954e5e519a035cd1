"""SQL: a condition that is false for a former owner, so that its statement writes no row.

The table has a column of integers for the fence (``BIGINT``, ``NULL`` where nobody has written yet), and the statement sets it::

    UPDATE results SET value = %s, fence = %s WHERE id = %s AND (fence IS NULL OR fence <= %s)

That is safe under every isolation level of PostgreSQL, and on SQLite: a statement that had to wait for another one's row looks at
the condition again, or fails as a whole.
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
"""As in PEP 249: the ``paramstyle`` of the driver's module says which one it takes."""


def fence_allows(column: ColumnElement[Any] | InstrumentedAttribute[Any], fence: int) -> ColumnElement[bool]:
    """For SQLAlchemy: true of a row that nobody has written under a higher fence.

    ``update(results).where(results.c.id == task, fence_allows(results.c.fence, fence)).values(value=…, fence=fence)``, then
    ``check_written(result.rowcount, fence, task)``.
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
    """For any driver: the same condition as text in parentheses, and its parameters.

    ``column`` is taken as it stands, so it must not come from outside. The parameters are a list to be added to the statement's
    own where the condition stands, or for ``pyformat`` and ``named`` a mapping with ``name`` as its key. For ``numeric``
    ``position`` is the number of the parameter.
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


def check_written(rowcount: int, fence: int, what: object = 'the row') -> None:
    """Raise ``StaleFence`` if a guarded statement has written no row. ``what`` it was to write is for the message.

    No row means refused, or that there was none to begin with: insert it first, or with ``ON CONFLICT … DO UPDATE … WHERE``. The
    driver must count the rows it found (those of MySQL count the rows that changed unless they are told otherwise). Raises
    ``UnsupportedOperation`` if it does not tell at all.
    """
    if rowcount < 0:
        raise UnsupportedOperation(
            'the driver does not tell how many rows were written: use RETURNING, and count what comes back'
        )
    if rowcount == 0:
        raise stale(fence, what)
