"""Attempts at items: counted in the rows of claims, and read from there.

A row has the run that attempts the item, and how many earlier runs of the same node did and were lost. The attempt of the run
itself is lost once the run is not registered any more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobsync.backend import NodeRef, NodeState
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.schema import Tables
from jobsync.backends.sql.sound import is_readable
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['AT', 'BY', 'RUN', 'audited', 'counted', 'forget_attempts', 'lost_attempts', 'lost_of', 'too_many']

AT, BY = sa.bindparam('at', type_=sa.Date), sa.bindparam('by', type_=sa.String)
RUN = sa.bindparam('run_incarnation', type_=sa.String)


def lost_of(dialect: Dialect, item: sa.ColumnElement[str]) -> sa.ScalarSelect[Any]:
    """Return the number of lost attempts at an item."""
    claim = dialect.tables.claim
    count = sa.func.coalesce(sa.func.sum(lost_in(dialect)), 0)
    return sa.select(count).where(claim.c.item == item, claim.c.date == AT).scalar_subquery()


def lost_in(dialect: Dialect) -> sa.ColumnElement[Any]:
    """Return the number of lost attempts that a claim has."""
    claim, node = dialect.tables.claim, dialect.tables.node
    run = sa.select(node.c.name).where(
        node.c.name == claim.c.node,
        node.c.incarnation == claim.c.incarnation,
        node.c.state == NodeState.JOINED.value,
        dialect.is_sound(is_readable, node.name),
    )
    return claim.c.lost + sa.case((sa.and_(claim.c.incarnation.is_not(None), ~sa.exists(run)), 1), else_=0)


def too_many(dialect: Dialect) -> Callable[[sa.FromClause], sa.ColumnElement[bool]]:
    """Return the condition on a row of items that the item has more lost attempts than are tolerated."""
    return lambda items: lost_of(dialect, items.c.value) > sa.bindparam('tolerated', type_=sa.BigInteger)


def counted(claim: sa.Table, excluded: Any) -> Mapping[str, sa.ColumnElement[Any]]:
    """Return the columns that change when a node claims again: of an earlier run of a node, the attempt is lost for certain."""
    lost = claim.c.lost + sa.case((claim.c.incarnation != excluded.incarnation, 1), else_=0)
    return {'incarnation': excluded.incarnation, 'lost': lost}


def forget_attempts(tx: SqlTransaction, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
    """See ``Backend.forget_attempts``."""
    states.read(tx)
    given = {'items': tx.dialect.listed(sorted(set(items))), 'at': date}
    if ref is None:
        tx.execute(forget_all, given)
    else:
        tx.execute(forget_of_run, {**given, 'by': ref.name, 'run_incarnation': ref.incarnation})


def forget_all(dialect: Dialect) -> Any:
    """Forget every attempt at items."""
    claim = dialect.tables.claim
    of_items = dialect.among(claim.c.item, 'items')
    return sa.update(claim).where(of_items, claim.c.date == AT).values(incarnation=None, lost=0)


def forget_of_run(dialect: Dialect) -> Any:
    """Forget the attempts of one run."""
    claim = dialect.tables.claim
    own = dialect.among(claim.c.item, 'items'), claim.c.node == BY, claim.c.incarnation == RUN
    return sa.update(claim).where(*own, claim.c.date == AT).values(incarnation=None)


def lost_attempts(tx: SqlTransaction, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
    """See ``Backend.lost_attempts``."""
    tx.hold(tx.tables.state, tx.tables.claim, tx.tables.audit, tx.tables.node)
    states.read(tx)
    rows: Any = tx.conclude(find_lost, {'at': date, 'at_least': at_least})
    return {item: int(lost) for item, lost in rows if isinstance(item, str)}


def find_lost(dialect: Dialect) -> Any:
    """Select the incomplete items of a date with so many lost attempts, and how many."""
    claim = dialect.tables.claim
    lost = sa.func.sum(lost_in(dialect))
    may_be_lost = sa.or_(claim.c.incarnation.is_not(None), claim.c.lost > 0)
    query = sa.select(claim.c.item, lost).where(claim.c.date == AT, may_be_lost, ~audited(dialect.tables))
    return query.group_by(claim.c.item).having(lost >= sa.bindparam('at_least', type_=sa.BigInteger))


def audited(tables: Tables) -> sa.Exists:
    """Return whether an audit, of any node, completes a claim."""
    claim, audit = tables.claim, tables.audit
    return sa.exists().where(audit.c.item == claim.c.item, audit.c.date == claim.c.date)
