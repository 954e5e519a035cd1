"""Claims, audits and rebalances: the history."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Table

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef, Rebalance, Unclaimed, evicted
from jobsync.backends.sql import attempts
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.nodes import check_joined, joined_query, run_of
from jobsync.backends.sql.schema import SCHEMA_VERSION, Tables
from jobsync.backends.sql.sound import is_day, is_moment
from jobsync.backends.sql.store import OldRows, SqlTransaction
from jobsync.backends.sql.types import Spoilt

__all__ = ['append_audits', 'append_claims', 'delete', 'history', 'incomplete', 'old_rows']


KEY = ('item', 'date', 'node')
"""The columns by which a claim or audit is recorded once."""

AT, BY = attempts.AT, attempts.BY

MANY = 100
"""From so many rows on, the quick way to insert is tried first, where the dialect has one."""


def append_claims(
    tx: SqlTransaction, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None
) -> Unclaimed:
    """See ``Backend.append_claims``. One statement, because a worker pays it for each task, unless some are not recorded."""
    names, way = sorted(dict.fromkeys(items)), PLAINLY
    given = {**parameters(tx, ref.name, names, date), **run_of(ref)}
    if tolerated is not None:
        way, given = COUNTING, {**given, 'tolerated': tolerated}
    if not names:
        pass
    elif not tx.dialect.writes_in_with:
        if tx.execute(way.put, given).rowcount == len(names):
            return Unclaimed()
    elif inserts_first(tx, names) and tx.conclude(way.put_new, given).rowcount > 0:
        return Unclaimed()
    elif found := tx.conclude(way.put_and_find, given).all():
        return unclaimed(found)
    states.read(tx)
    check_joined(tx, ref)
    if names and tx.dialect.writes_in_with:
        raise evicted(ref)
    return unclaimed(tx.execute(way.find, given))


def unclaimed(rows: Iterable[Any]) -> Unclaimed:
    """Return what the rows of ``find`` and ``put_and_find`` say: the item, if any, and its lost attempts, null if completed."""
    found = {item: lost for item, lost in rows if item is not None}
    completed = frozenset(item for item, lost in found.items() if lost is None)
    return Unclaimed(completed, {item: int(lost) for item, lost in found.items() if lost is not None})


def append_audits(tx: SqlTransaction, node: str, items: Sequence[str], date: dt.date) -> None:
    """See ``Backend.append_audits``. One statement, because a worker pays it for each task."""
    names = sorted(dict.fromkeys(items))
    given = parameters(tx, node, names, date)
    ways = (put_new_audits, put_audits) if inserts_first(tx, names) else (put_audits,)
    if not names or all(tx.conclude(way, given).rowcount <= 0 for way in ways):
        states.read(tx)


def parameters(tx: SqlTransaction, node: str, names: Sequence[str], date: dt.date) -> dict[str, Any]:
    """Return the parameters of the statements below. In the order of the index, items are found and put in half the time."""
    tx.dialect.check_ids(names)
    return {'items': tx.dialect.listed(names), 'at': date, 'by': node}


def inserts_first(tx: SqlTransaction, names: Sequence[str]) -> bool:
    """Return whether a statement that inserts all rows or none is tried first.

    It takes little more than half the time of one that is ready for conflicts.
    """
    return tx.dialect.is_upsert_slow and len(names) >= MANY


class Claiming:
    """The statements that record claims; with ``counts`` they read and write attempts as well."""

    def __init__(self, *, counts: bool) -> None:
        self._counts = counts

    def put_new(self, dialect: Dialect) -> Any:
        """Insert claims, if the run is registered, none of them exists and none of the items is completed."""
        tables = dialect.tables
        none_completed = none_of(dialect, tables.audit, by_any=True)
        # An item without a claim of any node has no attempt.
        none_claimed = none_of(dialect, tables.claim, by_any=self._counts)
        return put_rows(dialect, tables.claim, joined_query(dialect).subquery(), none_claimed, none_completed, and_=self._run())

    def put(self, dialect: Dialect) -> Any:
        """Insert claims of the items that may be claimed, if the run is registered; a claim that exists gets the new time."""
        return self._put_for(dialect, joined_query(dialect).subquery())

    def _put_for(self, dialect: Dialect, run: sa.FromClause) -> Any:
        table, refusals = dialect.tables.claim, [completion(dialect)]
        if self._counts:
            refusals.append(attempts.too_many(dialect))
        put = put_rows(dialect, table, run, but=lambda items: sa.or_(*(each(items) for each in refusals)), and_=self._run())
        renewed = {'created_on': put.excluded.created_on}
        if self._counts:
            renewed |= attempts.counted(table, put.excluded)
        return put.on_conflict_do_update(index_elements=KEY, set_=renewed)

    def put_and_find(self, dialect: Dialect) -> Any:
        """Do as ``put``, and select what ``find`` selects, with a row of nulls if the run is registered and the schema known."""
        table, state, run = dialect.tables.claim, dialect.tables.state, joined_query(dialect).cte('run')
        registered = sa.select(sa.null().cast(sa.String), sa.null().cast(sa.BigInteger)).select_from(state.join(run, sa.true()))
        registered = registered.where(state.c.schema_version == SCHEMA_VERSION)
        put = self._put_for(dialect, run)
        return sa.union_all(registered, *self._found(dialect, run)).add_cte(put.returning(table.c.item).cte('put'))

    def find(self, dialect: Dialect) -> Any:
        """Select the items that may not be claimed, each with its lost attempts; with null if any node has completed it."""
        return sa.union_all(*self._found(dialect, None))

    def _found(self, dialect: Dialect, run: sa.FromClause | None) -> Iterator[sa.Select[Any]]:
        items, is_completed = dialect.elements('items', sa.String()), completion(dialect)
        source = items if run is None else run.join(items, sa.true())
        yield sa.select(items.c.value, sa.null().cast(sa.BigInteger)).select_from(source).where(is_completed(items))
        if self._counts:
            lost, too_many = attempts.lost_of(dialect, items.c.value), attempts.too_many(dialect)
            yield sa.select(items.c.value, lost).select_from(source).where(~is_completed(items), too_many(items))

    def _run(self) -> Mapping[str, sa.ColumnElement[Any]]:
        return {'incarnation': attempts.RUN} if self._counts else {}


PLAINLY, COUNTING = Claiming(counts=False), Claiming(counts=True)


def completion(dialect: Dialect) -> Callable[[sa.FromClause], sa.ColumnElement[bool]]:
    """Return the condition on a row of items that any node has completed the item at the date."""
    audit = dialect.tables.audit
    # Says nothing new. Without it PostgreSQL reads all audits of the date, to join them with the items.
    among = dialect.among(audit.c.item, 'items')
    return lambda items: sa.exists(sa.select(audit.c.item).where(audit.c.item == items.c.value, audit.c.date == AT, among))


def put_new_audits(dialect: Dialect) -> Any:
    """Insert audits, if none of them exists."""
    return put_rows(dialect, dialect.tables.audit, none_of(dialect, dialect.tables.audit))


def put_audits(dialect: Dialect) -> Any:
    """Insert audits; an audit that exists stays."""
    return put_rows(dialect, dialect.tables.audit).on_conflict_do_nothing(index_elements=KEY)


def put_rows(
    dialect: Dialect,
    table: Table,
    *conditions: sa.FromClause,
    but: Callable[[sa.FromClause], sa.ColumnElement[bool]] | None = None,
    and_: Mapping[str, sa.ColumnElement[Any]] = MappingProxyType({}),
) -> Any:
    """Insert rows that differ only in their item, if each of ``conditions`` has a row and the schema has the version we know.

    Leaves out the items that meet the condition ``but``. ``and_`` has further columns.
    """
    items, state = dialect.elements('items', sa.String()), dialect.tables.state
    source: sa.FromClause = state
    for each in (*conditions, items):
        source = source.join(each, sa.true())
    rows = sa.select(items.c.value, AT, BY, dialect.clock(), *and_.values())
    rows = rows.select_from(source).where(state.c.schema_version == SCHEMA_VERSION)
    if but is not None:
        rows = rows.where(~but(items))
    put = dialect.insert(table).from_select([*KEY, 'created_on', *and_], rows)
    return put.execution_options(preserve_rowcount=True)


def none_of(dialect: Dialect, table: Table, *, by_any: bool = False) -> sa.FromClause:
    """Return a subquery that has a row if none of the items exists, recorded by the node or ``by_any``."""
    key = (dialect.among(table.c.item, 'items'), table.c.date == AT, *(() if by_any else (table.c.node == BY,)))
    return sa.select(sa.literal_column('1')).where(~sa.exists(sa.select(table.c.item).where(*key))).subquery()


def history(
    tx: SqlTransaction,
    kind: HistoryKind,
    *,
    limit: int | None = None,
    date: dt.date | None = None,
    item: str | None = None,
) -> tuple[Claim | Audit | Rebalance, ...]:
    """See ``Backend.history``."""
    tx.hold(tx.tables.state, tx.tables.claim, tx.tables.audit, tx.tables.rebalance)
    states.read(tx)
    if kind is HistoryKind.REBALANCE:
        table = tx.tables.rebalance
        query = sa.select(*(column for column in table.c if column is not table.c.id))
        query = query.where(tx.dialect.is_sound(is_moment, table.c.triggered_at))
        query = query.order_by(table.c.triggered_at.desc(), table.c.id.desc()).limit(limit)
        return tuple(starmap(Rebalance, readable(tx.conclude(query))))
    record, table = (Claim, tx.tables.claim) if kind is HistoryKind.CLAIM else (Audit, tx.tables.audit)
    query = sa.select(table.c.item, table.c.node, table.c.date, table.c.created_on).where(*are_sound(tx, table))
    if date is not None:
        query = query.where(table.c.date == date)
    if item is not None:
        query = query.where(table.c.item == item)
    query = query.order_by(table.c.created_on.desc(), table.c.item, table.c.node).limit(limit)
    return tuple(starmap(record, readable(tx.conclude(query))))


def are_sound(tx: SqlTransaction, table: Table) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions that the times of a claim or audit can be read."""
    return tx.dialect.is_sound(is_day, table.c.date), tx.dialect.is_sound(is_moment, table.c.created_on)


def readable(rows: Iterable[sa.Row[Any]]) -> Iterator[sa.Row[Any]]:
    """Yield the rows without a spoilt value. On SQLite some spoilt values meet every condition."""
    return (row for row in rows if not any(isinstance(value, Spoilt) for value in row))


def incomplete(tx: SqlTransaction, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
    """See ``Backend.incomplete``."""
    tx.hold(tx.tables.state, tx.tables.claim, tx.tables.audit)
    state, claim = states.read(tx), tx.tables.claim
    newest_first = [claim.c.created_on.desc(), claim.c.node]
    place = sa.func.row_number().over(partition_by=[claim.c.item, claim.c.date], order_by=newest_first).label('place')
    query = sa.select(claim.c.item, claim.c.node, claim.c.date, claim.c.created_on, place)
    query = query.where(~attempts.audited(tx.tables), *are_sound(tx, claim))
    if date is not None:
        query = query.where(claim.c.date == date)
    ranked = query.subquery()
    newest = sa.select(*list(ranked.c)[:-1]).where(ranked.c.place == 1, ranked.c.created_on <= state.now - older_than)
    return tuple(starmap(Claim, readable(tx.conclude(newest.order_by(ranked.c.created_on, ranked.c.item)))))


def old_rows(tables: Tables, kind: HistoryKind, before: dt.datetime, limit: int, after: str) -> OldRows:
    """Return what a portion of a purge is to contain."""
    if kind is HistoryKind.CLAIM:
        return OldRows(tables.claim, has_other(tables.claim, tables.audit), before, limit, after)
    if kind is HistoryKind.AUDIT:
        return OldRows(tables.audit, ~has_other(tables.audit, tables.claim), before, limit, after)
    return OldRows(tables.rebalance, sa.true(), before, limit, after)


def has_other(table: Table, other: Table) -> sa.ColumnElement[bool]:
    """Return whether ``other`` has a row of the same item and date, of any node.

    Not written with EXISTS, which a planner may turn into a join that reads the whole of ``other``.
    """
    row = sa.select(sa.literal(1)).where(other.c.item == table.c.item, other.c.date == table.c.date).limit(1)
    return row.scalar_subquery().is_not(None)


def delete(tx: SqlTransaction, old: OldRows, rows: sa.ColumnElement[bool]) -> int:
    """Delete those of some rows that are old and may go; return how many."""
    states.read(tx)
    if tx.dialect.name == 'postgresql':
        # With the statistics of a table that was empty a moment ago, the whole of the other table would be read for each row.
        tx.execute_text('SET LOCAL enable_seqscan = off')
        tx.execute_text('SET LOCAL enable_bitmapscan = off')
    return tx.execute(sa.delete(old.table).where(rows, old.made < old.before, old.may_go)).rowcount
