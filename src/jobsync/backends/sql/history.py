"""Claims, audits and rebalances."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import Any

import attrs
from sqlalchemy import (
    ColumnElement,
    Date,
    Executable,
    Exists,
    FromClause,
    Row,
    String,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    true,
)

from jobsync.backend import Audit, Claim, HistoryKind, NodeRef, Rebalance, evicted
from jobsync.backends.sql import state as states
from jobsync.backends.sql.nodes import check_joined, joined_query, run_of
from jobsync.backends.sql.schema import SCHEMA_VERSION, Spoilt
from jobsync.backends.sql.sound import is_day, is_moment
from jobsync.backends.sql.store import SqlStore, SqlTransaction

__all__ = ['append_audits', 'append_claims', 'history', 'incomplete', 'purge']


def append_claims(tx: SqlTransaction, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
    """See ``Backend.append_claims``."""
    if not append(tx, CLAIMS, ref.name, items, date, run_of(ref)):
        states.read(tx)
        check_joined(tx, ref)
        if items:
            raise evicted(ref)


def append_audits(tx: SqlTransaction, node: str, items: Sequence[str], date: dt.date) -> None:
    """See ``Backend.append_audits``."""
    if not append(tx, AUDITS, node, items, date, {}):
        states.read(tx)


def put_claims(store: SqlStore) -> Executable:
    """Insert claims, if the run is registered; one that is there already gets the new time."""
    put = put_rows(store, store.tables.claim, joined_query(store).subquery())
    executable: Executable = put.on_conflict_do_update(
        index_elements=key_of(store.tables.claim), set_={'created_on': put.excluded.created_on}
    )
    return executable


def put_new_claims(store: SqlStore) -> Executable:
    """Insert claims, if the run is registered and none of them is there."""
    claim = store.tables.claim
    executable: Executable = put_rows(store, claim, joined_query(store).subquery(), none_of(store, claim))
    return executable


def put_audits(store: SqlStore) -> Executable:
    """Insert audits; one that is there already stays."""
    executable: Executable = put_rows(store, store.tables.audit).on_conflict_do_nothing(index_elements=key_of(store.tables.audit))
    return executable


def put_new_audits(store: SqlStore) -> Executable:
    """Insert audits, if none of them is there."""
    executable: Executable = put_rows(store, store.tables.audit, none_of(store, store.tables.audit))
    return executable


AT, BY = bindparam('at', type_=Date), bindparam('by', type_=String)


def put_rows(store: SqlStore, table: Table, *conditions: FromClause) -> Any:
    """Insert rows that differ in their item only, if each of the ``conditions`` has a row and the schema is the one we know."""
    items, state = store.elements('items', String()), store.tables.state
    source: FromClause = state
    for each in (*conditions, items):
        source = source.join(each, true())
    rows = select(items.c.value, AT, BY, store.clock())
    rows = rows.select_from(source).where(state.c.schema_version == SCHEMA_VERSION)
    put = store.insert(table).from_select(['item', 'date', 'node', 'created_on'], rows)
    return put.execution_options(preserve_rowcount=True)


def key_of(table: Table) -> list[ColumnElement[Any]]:
    """By which a row is there already."""
    return [table.c.item, table.c.date, table.c.node]


def none_of(store: SqlStore, table: Table) -> FromClause:
    """A row if none of the items is there."""
    there = exists(select(table.c.item).where(store.among(table.c.item, 'items'), table.c.date == AT, table.c.node == BY))
    return select(literal_column('1')).where(~there).subquery()


MANY = 100
"""So many rows are inserted the quick way first, if the store has one."""


@attrs.frozen
class Puts:
    """How rows are inserted into a trail."""

    any_: Callable[[SqlStore], Executable]
    new: Callable[[SqlStore], Executable]
    """All or nothing, in little more than half the time, for nothing is written with a view to conflicts."""


CLAIMS, AUDITS = Puts(put_claims, put_new_claims), Puts(put_audits, put_new_audits)


def append(tx: SqlTransaction, puts: Puts, node: str, items: Sequence[str], date: dt.date, parameters: Mapping[str, Any]) -> bool:
    """Insert what there is to insert, each item once; whether that was anything. One statement, for it is paid for each task."""
    if not items:
        return False
    # In the order of the index they are found and inserted in half the time.
    given = {'items': tx.store.listed(sorted(dict.fromkeys(items))), 'at': date, 'by': node, **parameters}
    ways = (puts.new, puts.any_) if tx.store.looks_before_it_puts and len(items) >= MANY else (puts.any_,)
    return any(tx.conclude(tx.store.built(put), given).rowcount > 0 for put in ways)


def history(
    tx: SqlTransaction, kind: HistoryKind, limit: int | None, date: dt.date | None, item: str | None
) -> tuple[Claim | Audit | Rebalance, ...]:
    """See ``Backend.history``."""
    states.read(tx)
    if kind is HistoryKind.REBALANCE:
        table = tx.tables.rebalance
        columns = [column for column in table.c if column is not table.c.id]
        query = select(*columns).order_by(table.c.triggered_at.desc(), table.c.id.desc()).limit(limit)
        query = query.where(tx.store.is_sound(is_moment, table.c.triggered_at))
        return tuple(starmap(Rebalance, readable(tx.execute(query))))
    record, table = (Claim, tx.tables.claim) if kind is HistoryKind.CLAIM else (Audit, tx.tables.audit)
    query = select(table.c.item, table.c.node, table.c.date, table.c.created_on).where(*are_sound(tx, table))
    if date is not None:
        query = query.where(table.c.date == date)
    if item is not None:
        query = query.where(table.c.item == item)
    query = query.order_by(table.c.created_on.desc(), table.c.item, table.c.node).limit(limit)
    return tuple(starmap(record, readable(tx.execute(query))))


def are_sound(tx: SqlTransaction, table: Table) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that the times of a claim or audit can be read."""
    return tx.store.is_sound(is_day, table.c.date), tx.store.is_sound(is_moment, table.c.created_on)


def readable(rows: Iterable[Row[Any]]) -> Iterator[Row[Any]]:
    """Yield the rows that have no spoilt value, which on SQLite no condition tells for certain."""
    return (row for row in rows if not any(isinstance(value, Spoilt) for value in row))


def incomplete(tx: SqlTransaction, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
    """See ``Backend.incomplete``."""
    state, claim = states.read(tx), tx.tables.claim
    newest = func.row_number().over(partition_by=[claim.c.item, claim.c.date], order_by=[claim.c.created_on.desc(), claim.c.node])
    query = select(claim.c.item, claim.c.node, claim.c.date, claim.c.created_on, newest.label('place')).where(~audited(tx))
    query = query.where(*are_sound(tx, claim))
    if date is not None:
        query = query.where(claim.c.date == date)
    ranked = query.subquery()
    oldest_first = (
        select(ranked.c.item, ranked.c.node, ranked.c.date, ranked.c.created_on)
        .where(ranked.c.place == 1, ranked.c.created_on <= state.now - older_than)
        .order_by(ranked.c.created_on, ranked.c.item)
    )
    return tuple(starmap(Claim, readable(tx.execute(oldest_first))))


def audited(tx: SqlTransaction) -> Exists:
    """Whether anyone completed what a claim began."""
    claim, audit = tx.tables.claim, tx.tables.audit
    return exists().where(and_(audit.c.item == claim.c.item, audit.c.date == claim.c.date))


def purge(tx: SqlTransaction, kind: HistoryKind, before: dt.datetime) -> int:
    """See ``Backend.purge``."""
    states.read(tx)
    if kind is HistoryKind.REBALANCE:
        return tx.execute(delete(tx.tables.rebalance).where(tx.tables.rebalance.c.triggered_at < before)).rowcount
    table = tx.tables.claim if kind is HistoryKind.CLAIM else tx.tables.audit
    old = delete(table).where(table.c.created_on < before)
    if kind is HistoryKind.CLAIM:
        old = old.where(audited(tx))
    return tx.execute(old).rowcount
