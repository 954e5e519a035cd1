"""Reading the assignment: all of it, or what was written after a version."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Row,
    Select,
    String,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from jobsync.backend import Changes, Member, Revision, TokenGroup
from jobsync.backends.sql import state as states
from jobsync.backends.sql.pin_rows import read_pins
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlStore, SqlTransaction

__all__ = ['read']


def state_query(store: SqlStore) -> Select[Any]:
    """The state, and what a difference can build on."""
    return select(*states.columns(store), store.tables.state.c.builds_on)


def everybody(store: SqlStore) -> Select[Any]:
    """All members."""
    return select(store.tables.state.c.members)


def read(tx: SqlTransaction, since: Revision | None) -> Changes:
    """See ``Backend.read_assignment``."""
    row = tx.execute(tx.store.built(state_query)).one_or_none()
    state = states.parse(row)
    assert row is not None
    if since != state.version and since not in states.load_revisions(row.builds_on):
        since = None
    members: Mapping[str, Member | None] = {}
    groups: tuple[TokenGroup, ...] = ()
    if since is None:
        members = states.load_members(tx.execute(tx.store.built(everybody)).scalar_one())
        groups = read_groups(tx, state)
    elif since != state.version:
        members, groups = read_changes(tx, since)
    return Changes(
        version=state.version,
        base=since,
        members=members,
        groups=groups,
        pins=read_pins(tx, state),
    )


NAMELESS = literal_column("''", String)
"""No parameter: the same expression must be recognised in GROUP BY."""


def everyone(store: SqlStore) -> Executable:
    """All tokens, gathered by the database: a million rows come as a few thousand."""

    def gathered(table: Table, owner: ColumnElement[Any]) -> Select[Any]:
        home = func.nullif(table.c.home, NAMELESS)
        numbers = store.joined(cast(table.c.token_id, Text))
        query = select(owner.label('owner'), table.c.target, home.label('home'), table.c.version, numbers.label('numbers'))
        within = table.c.token_id.between(0, bindparam('last', type_=BigInteger))
        return query.where(table.c.task_id.is_(None), within).group_by(table.c.target, home, table.c.version)

    token, unowned = store.tables.token, store.tables.unowned
    return union_all(gathered(token, token.c.node).group_by(token.c.node), gathered(unowned, cast(null(), String)))


def read_groups(tx: SqlTransaction, state: SqlState) -> tuple[TokenGroup, ...]:
    """All tokens."""
    rows = tx.execute(tx.store.built(everyone), {'last': state.settings.total_tokens - 1})
    return tuple(TokenGroup(array('i', sorted(numbers(row))), row.owner, row.target, row.home, row.version) for row in rows)


def numbers(row: Row[Any]) -> list[int]:
    """The tokens of a group, as the database gathers them or as ``SqlStore.listed`` has them."""
    found: list[int] = json.loads('[' + row.numbers.strip('[]{}') + ']')
    return found


def later(store: SqlStore) -> Select[Any]:
    """What was written after a version, the latest first."""
    change = store.tables.change
    return select(change).where(change.c.revision > bindparam('since', type_=BigInteger)).order_by(change.c.revision.desc())


def read_changes(tx: SqlTransaction, since: Revision) -> tuple[Mapping[str, Member | None], tuple[TokenGroup, ...]]:
    """The members and tokens that were written after ``since``. Of one that was written several times the latest counts."""
    members: dict[str, Member | None] = {}
    groups: list[TokenGroup] = []
    newest: int | None = None
    told: set[int] = set()
    for row in tx.execute(tx.store.built(later), {'since': since.number}):
        if row.members is not None:
            members = {**states.load_members(row.members), **members}
            continue
        if newest is not None and row.revision != newest:
            told.update(*(group.tokens for group in groups))
        tokens = sorted(numbers(row)) if not told else sorted(set(numbers(row)) - told)
        groups.append(TokenGroup(array('i', tokens), row.owner, row.target, row.home, row.version))
        newest = row.revision
    return members, tuple(groups)
