"""Tokens and pins: reading them, and the leader's commit."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Select,
    String,
    Text,
    Update,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    true,
    update,
)

from jobsync.backends.sql import state as states
from jobsync.backends.sql.nodes import check_joined, is_joined, run_of
from jobsync.backends.sql.state import State
from jobsync.backends.sql.store import Store, Transaction
from jobsync.core.model import Guard, Leadership, NodeRef, NodeState, Pin, Revision
from jobsync.core.tokens import Changes, Plan, TokenGroup
from jobsync.errors import Conflict, Fenced

__all__ = ['commit', 'read']

NAMELESS = literal_column("''", String)
"""What an operator may have written for nobody. No parameter: the same expression must be recognised in GROUP BY."""


def state_query(store: Store) -> Select[Any]:
    """The state with what belongs to the assignment."""
    return select(*states.columns(store), store.tables.state.c.builds_on, store.tables.state.c.members)


def read(tx: Transaction, since: Revision | None) -> Changes:
    """See ``Backend.read_assignment``."""
    row = tx.execute(tx.store.built(state_query)).one_or_none()
    state = states.parse(row)
    assert row is not None
    if since != state.version and since not in states.load_revisions(row.builds_on):
        since = None
    return Changes(
        version=state.version,
        base=since,
        members=states.load_members(row.members),
        groups=() if since == state.version else read_groups(tx, state, since),
        pins=read_pins(tx, state),
    )


def read_groups(tx: Transaction, state: State, since: Revision | None) -> tuple[TokenGroup, ...]:
    """The tokens, or those written after ``since``, gathered by the database: a million rows come as a few thousand."""
    token = tx.tables.token
    owner, target, home = (
        func.nullif(token.c.node, NAMELESS).label('owner'),
        token.c.target,
        func.nullif(token.c.home, NAMELESS).label('home'),
    )
    query = (
        select(owner, target, home, token.c.version, func.aggregate_strings(cast(token.c.token_id, Text), ',').label('numbers'))
        .where(token.c.task_id.is_(None), token.c.token_id.between(0, state.settings.total_tokens - 1))
        .group_by(owner, target, home, token.c.version)
    )
    if since is not None:
        query = query.where(token.c.changed > since.number)
    return tuple(
        TokenGroup(array('i', sorted(json.loads(f'[{row.numbers}]'))), row.owner, row.target, row.home, row.version)
        for row in tx.execute(query)
    )


def read_pins(tx: Transaction, state: State) -> tuple[Pin, ...]:
    """All pins, by id."""
    token = tx.tables.token
    query = (
        select(
            token.c.token_id,
            token.c.task_id,
            func.nullif(token.c.node, NAMELESS).label('owner'),
            token.c.target,
            token.c.version,
            token.c.pattern,
        )
        .where(token.c.task_id.is_not(None), token.c.token_id > state.settings.total_tokens)
        .order_by(token.c.token_id)
    )
    return tuple(Pin(row.token_id, row.task_id, row.owner, row.target, row.version, row.pattern) for row in tx.execute(query))


def commit(tx: Transaction, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
    """See ``Backend.commit``."""
    table = tx.tables.state
    builds_on = states.load_revisions(tx.execute(select(table.c.builds_on)).scalar_one_or_none() or '[]')
    state = states.read(tx)
    check_guard(tx, state, ref, guard)
    remove_nodes(tx, plan)
    revision = states.raised(state)
    write_groups(tx, plan.groups, revision)
    remove_pins(tx, plan.unpinned)
    write_pins(tx, plan.pins, state, revision)
    if plan.moved:
        record(tx, state, ref, plan)
    # Last, for the leader's own heartbeats wait for it, and what comes before may take seconds.
    node = tx.tables.node
    tx.execute(update(node).where(is_joined(node)).values(heartbeat=node.c.heartbeat + 1), run_of(ref))
    states.save(
        tx,
        revision,
        version=revision.number,
        version_stamp=revision.stamp,
        members=states.dump_members(plan.members),
        builds_on=states.dump_revisions([*builds_on, revision]),
    )
    return revision


def check_guard(tx: Transaction, state: State, ref: NodeRef, guard: Guard) -> None:
    """Refuse a commit that may not be made."""
    check_joined(tx, ref)
    if state.leadership != Leadership(guard.epoch, ref):
        raise Fenced(f'node {ref.name!r} no longer leads in epoch {guard.epoch}: {state.leadership}')
    if state.timeline != guard.timeline or state.timeline.store != state.store:
        raise Conflict(f'planned in {guard.timeline}, but this is {state.timeline} on store {state.store}')
    if state.revision != guard.revision:
        raise Conflict(f'planned from {guard.revision}, but the namespace is at {state.revision}')


def remove_nodes(tx: Transaction, plan: Plan) -> None:
    """Remove the evicted and the departed; ``Conflict`` if one of them is not as the plan saw it."""
    node = tx.tables.node

    def remove(ref: NodeRef, condition: ColumnElement[bool], what: str) -> None:
        gone = delete(node).where(node.c.name == ref.name, node.c.incarnation == ref.incarnation, condition)
        if tx.execute(gone).rowcount == 0:
            raise Conflict(f'node {ref.name!r} is not as it was when it {what}')

    for eviction in plan.evictions:
        remove(eviction.ref, node.c.heartbeat == eviction.heartbeat, 'was taken for dead')
    for departed in plan.departed:
        remove(departed, node.c.state == NodeState.LEFT.value, 'left')


def write_groups(tx: Transaction, groups: Sequence[TokenGroup], revision: Revision) -> None:
    """One statement for each group, all sent at once where the driver can; and a second for each if rows were absent."""
    token, number = tx.tables.token, literal(revision.number, BigInteger)
    values: dict[str, ColumnElement[Any]] = {
        'node': bindparam('new_owner', type_=String),
        'target': bindparam('new_target', type_=String),
        'home': bindparam('new_home', type_=String),
        'changed': number,
    }
    kept = case((token.c.node.is_not_distinct_from(values['node']), token.c.version), else_=number)
    change = update(token).where(tx.store.among(token.c.token_id, 'numbers')).values(version=kept, **values)
    numbers = tx.store.elements('numbers', BigInteger())
    rows = select(numbers.c.value, number, *values.values()).where(true())
    missing = tx.store.insert(token).from_select(['token_id', 'version', *values], rows)
    missing = missing.on_conflict_do_nothing(index_elements=[token.c.token_id])
    given = [
        {
            'numbers': tx.store.listed(group.tokens),
            'new_owner': group.owner,
            'new_target': group.target,
            'new_home': group.home,
        }
        for group in groups
        if group.tokens
    ]
    if given and tx.execute(change, given).rowcount < sum(len(group.tokens) for group in groups):
        tx.execute(missing, given)


def remove_pins(tx: Transaction, ids: Iterable[int]) -> None:
    """Delete pins by id."""
    if ids := frozenset(ids):
        tx.execute(
            delete(tx.tables.token).where(tx.store.among(tx.tables.token.c.token_id, 'ids')), {'ids': tx.store.listed(ids)}
        )


PIN = ('token_id', 'node', 'target', 'task_id', 'pattern')
"""The columns of a pin's row that a plan gives."""


def write_pins(tx: Transaction, pins: Iterable[Pin], state: State, revision: Revision) -> None:
    """Write pins, and show in each one's lock the pattern by which it was placed."""
    rows = [dict(zip(PIN, (pin.id, pin.owner, pin.target, pin.task_id, pin.pattern), strict=True)) for pin in pins]
    if rows:
        given = tx.store.listed_rows(rows)
        tx.execute(tx.store.built(put_pins), {'pins': given, 'new': revision.number})
        tx.execute(tx.store.built(show_patterns), {'pins': given, 'tokens': state.settings.total_tokens})


def pin_rows(store: Store) -> FromClause:
    """The pins of a plan."""
    return store.rows('pins', {name: store.tables.token.c[name].type for name in PIN})


def put_pins(store: Store) -> Executable:
    """Insert the rows of pins, or change what is there; the version follows the owner."""
    token, row, number = store.tables.token, pin_rows(store), bindparam('new', type_=BigInteger)
    put = store.insert(token).from_select([*PIN, 'version', 'changed'], select(*row.c, number, number).where(true()))
    new = put.excluded
    kept = case((token.c.node.is_not_distinct_from(new.node), token.c.version), else_=new.version)
    columns = {name: new[name] for name in (*PIN[1:], 'changed')}
    executable: Executable = put.on_conflict_do_update(index_elements=[token.c.token_id], set_={**columns, 'version': kept})
    return executable


def show_patterns(store: Store) -> Update:
    """Let each lock show the pattern its pin was placed by, if it shows another."""
    lock, row = store.tables.lock, pin_rows(store)
    is_its = lock.c.id == row.c.token_id - bindparam('tokens', type_=BigInteger)
    return update(lock).where(is_its, lock.c.node_pattern != row.c.pattern).values(node_pattern=row.c.pattern)


def record(tx: Transaction, state: State, ref: NodeRef, plan: Plan) -> None:
    """Append the rebalance."""
    tx.execute(
        insert(tx.tables.rebalance).values(
            triggered_at=state.now,
            trigger_reason=plan.reason,
            leader_node=ref.name,
            nodes_before=plan.nodes_before,
            nodes_after=plan.nodes_after,
            tokens_moved=plan.moved,
            duration_ms=plan.duration_ms,
        )
    )
