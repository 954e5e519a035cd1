"""The rows of tokens and pins that a commit writes: in ``token`` if they are owned, else in ``unowned``, and in ``change``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy import BigInteger, String, Text

from jobsync.backend import Pin, Revision, TokenGroup
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.store import SqlTransaction, Statement
from jobsync.errors import SchemaMismatch

__all__ = ['remove_pins', 'skipped', 'write_groups', 'write_pins']

PORTION = 50_000
"""The most tokens and pins that one statement writes."""

NEW = sa.bindparam('new', type_=BigInteger)
"""The number of the revision that a commit makes."""


@attrs.frozen
class TokenRows:
    """Rows of ``token`` or ``unowned`` that share everything except their number."""

    numbers: Sequence[int]
    node: str | None
    target: str | None
    home: str | None
    version: int
    task_id: str | None = None
    pattern: str | None = None
    item_group: str | None = None


SHARED = ('node', 'target', 'home', 'version', 'task_id', 'pattern', 'item_group')
"""The columns of ``token`` that ``TokenRows`` share."""


def write_groups(tx: SqlTransaction, groups: Iterable[TokenGroup], revision: Revision) -> None:
    """Write the rows of a plan's tokens, and log them in ``change``."""
    rows = [TokenRows(group.tokens, group.owner, group.target, group.home, group.version) for group in groups]
    write(tx, rows, revision, is_logged=True)


def write_pins(tx: SqlTransaction, pins: Sequence[Pin], revision: Revision) -> None:
    """Write the rows of pins, and show in each one's lock the pattern by which the pin was placed.

    A pin's row is numbered beyond the tokens of the namespace, and has a task.
    """
    if pins:
        rows = [TokenRows([p.id], p.owner, p.target, p.home, p.version, p.task_id, p.pattern, p.group) for p in pins]
        write(tx, rows, revision, is_logged=False)
        shown = tx.dialect.listed_rows([{'task_id': pin.task_id, 'pattern': pin.pattern} for pin in pins])
        tx.enqueue(show_patterns, {'pins': shown})


def remove_pins(tx: SqlTransaction, ids: Collection[int]) -> None:
    """Delete pins by id."""
    if ids:
        given = {'numbers': tx.dialect.listed(ids)}
        tx.enqueue(delete_unowned, given)
        disown(tx, given)


def write(tx: SqlTransaction, rows: Sequence[TokenRows], revision: Revision, *, is_logged: bool) -> None:
    """Write rows into the table where they belong, delete those of these numbers from the other, and log them in ``change``."""
    for some in portions(rows):
        is_owned = some[0].node is not None
        given = parameters(tx, some, revision)
        if is_logged:
            tx.enqueue(log, given)
        if not is_owned:
            tx.enqueue(put_unowned, given)
            disown(tx, numbers(tx, some))
        # In most commits all tokens pass from owner to owner, and this statement is all there is to do.
        elif (written := count_written(tx, change_owned, given)) < (count := sum(len(row.numbers) for row in some)):
            written += count_written(tx, add_owned, given)
            if written < count and written < len({number for row in some for number in row.numbers}):
                raise skipped(tx.tables.token)
            tx.enqueue(delete_unowned, numbers(tx, some))


def count_written(tx: SqlTransaction, write: Statement, given: Mapping[str, Any]) -> int:
    """Run ``change_owned`` or ``add_owned``, and return how many rows then have an owner that was given, at the new revision."""
    result = tx.execute(write, given)
    return int(result.scalar_one() if tx.dialect.writes_in_with else result.rowcount)


def disown(tx: SqlTransaction, given: Mapping[str, str]) -> None:
    """Delete rows from ``token``; ``SchemaMismatch`` if one of them stays."""
    # t=0  an operator's trigger BEFORE DELETE returns NEW, which is null there: the row of a pin stays, and no error is raised
    # t=1  the pin's last owner has released the task, and every node goes by the pin: no node owns the task
    # t=2  the leader reads the pin, and removes it again, at each version
    tx.enqueue(delete_owned, given)
    if tx.execute(still_owned, given).first() is not None:
        raise skipped(tx.tables.token)


def skipped(table: sa.Table) -> SchemaMismatch:
    """Return the error for rows that a statement has neither written nor refused to write."""
    return SchemaMismatch(
        f'rows of {table.name} are skipped without an error when jobsync writes or deletes them: drop the trigger or rule on '
        "this table that is not jobsync's, such as one BEFORE DELETE that returns NEW"
    )


def portions(rows: Iterable[TokenRows]) -> Iterator[list[TokenRows]]:
    """Yield rows in portions of at most ``PORTION`` numbers, and as few portions as that takes; first those with an owner.

    A million numbers are seven megabytes of text, and on its way to the server there are several copies of a statement.
    """
    some: list[TokenRows] = []
    room = PORTION
    for row in sorted(rows, key=lambda row: row.node is None):
        numbers = row.numbers
        while numbers:
            if some and (room == 0 or (some[0].node is None) != (row.node is None)):
                yield some
                some, room = [], PORTION
            first, numbers = numbers[:room], numbers[room:]
            some.append(attrs.evolve(row, numbers=first))
            room -= len(first)
    if some:
        yield some


def parameters(tx: SqlTransaction, rows: Sequence[TokenRows], revision: Revision) -> dict[str, Any]:
    """Return the parameters of the statements that write ``TokenRows``."""
    given = [{'numbers': tx.dialect.listed(row.numbers), **{name: getattr(row, name) for name in SHARED}} for row in rows]
    owners = tx.dialect.listed({row.node for row in rows if row.node is not None})
    return {'rows': tx.dialect.listed_rows(given), 'owners': owners, 'new': revision.number}


def numbers(tx: SqlTransaction, rows: Sequence[TokenRows]) -> dict[str, str]:
    """Return the parameter of the statements that delete rows."""
    return {'numbers': tx.dialect.listed(number for row in rows for number in row.numbers)}


def given_rows(dialect: Dialect) -> sa.FromClause:
    """Return the ``TokenRows`` that are given, each with its ``numbers`` in one value."""
    types = {name: dialect.tables.token.c[name].type for name in SHARED}
    return dialect.rows('rows', {'numbers': Text(), **types})


def change_owned(dialect: Dialect) -> Any:
    """Update the rows that are in ``token``, for ``count_written``."""
    token, given = dialect.tables.token, given_rows(dialect)
    values = {name: given.c[name] for name in SHARED}
    change = sa.update(token).values(**values, changed=NEW).where(dialect.among(token.c.token_id, given.c.numbers))
    return counted(dialect, change)


def counted(dialect: Dialect, write: Any) -> Any:
    """Return a statement that counts the rows that another one writes, where their number alone does not say enough."""
    # t=0  an operator's trigger BEFORE UPDATE returns OLD, or writes the names of nodes in small letters, and raises no error
    # t=1  the leader gives token 42 to b, and logs that in ``change``. In the row of the token the owner is still a
    # t=2  b, which reads what has changed, works on 42, and so does a, if it comes to read everything
    if not dialect.writes_in_with:  # no trigger there can change what is written
        return write.execution_options(preserve_rowcount=True)
    token = dialect.tables.token
    written = write.returning(token.c.node, token.c.changed).cte('written')
    query = sa.select(sa.func.count()).select_from(written)
    return query.where(written.c.changed == NEW, dialect.among(written.c.node, 'owners'))


def log(dialect: Dialect) -> sa.Insert:
    """Insert the rows into ``change``."""
    given = given_rows(dialect)
    values = [given.c[name] for name in ('node', 'target', 'home', 'version', 'numbers')]
    names = ['revision', 'owner', 'target', 'home', 'version', 'numbers']
    return sa.insert(dialect.tables.change).from_select(names, sa.select(NEW, *values))


def add_owned(dialect: Dialect) -> Any:
    """Insert the rows that are absent from ``token``, for ``count_written``."""
    token, given = dialect.tables.token, given_rows(dialect)
    add = insert(dialect, token, given, {**{name: given.c[name] for name in SHARED}, 'changed': NEW})
    return counted(dialect, add.on_conflict_do_nothing(index_elements=['token_id']))


def put_unowned(dialect: Dialect) -> Any:
    """Insert the rows into ``unowned``, or update those that are there."""
    unowned, given = dialect.tables.unowned, given_rows(dialect)
    put = insert(dialect, unowned, given, {name: given.c[name] for name in SHARED if name in unowned.c})
    new = {name: put.excluded[name] for name in SHARED if name in unowned.c}
    return put.on_conflict_do_update(index_elements=['token_id'], set_=new)


def insert(dialect: Dialect, table: sa.Table, given: sa.FromClause, values: dict[str, sa.ColumnElement[Any]]) -> Any:
    """Insert one row with these values for each number of each of the ``TokenRows``."""
    numbers = dialect.elements(given.c.numbers, BigInteger())
    rows = sa.select(numbers.c.value, *values.values()).select_from(given.join(numbers, sa.true())).where(sa.true())
    return dialect.insert(table).from_select(['token_id', *values], rows)


def delete_owned(dialect: Dialect) -> sa.Delete:
    """Delete rows from ``token``."""
    token = dialect.tables.token
    return sa.delete(token).where(dialect.among(token.c.token_id, 'numbers'))


def still_owned(dialect: Dialect) -> sa.Select[Any]:
    """Select one of the rows that are in ``token``."""
    token = dialect.tables.token
    return sa.select(token.c.token_id).where(dialect.among(token.c.token_id, 'numbers')).limit(1)


def delete_unowned(dialect: Dialect) -> sa.Delete:
    """Delete rows from ``unowned``."""
    unowned = dialect.tables.unowned
    return sa.delete(unowned).where(dialect.among(unowned.c.token_id, 'numbers'))


def show_patterns(dialect: Dialect) -> sa.Update:
    """Update each lock's ``node_pattern`` to the pattern its pin was placed by, if it shows another."""
    lock = dialect.tables.lock
    row = dialect.rows('pins', {'task_id': String(), 'pattern': String()})
    shown = sa.and_(lock.c.task_id == row.c.task_id, lock.c.node_pattern != row.c.pattern)
    return sa.update(lock).where(shown).values(node_pattern=row.c.pattern)
