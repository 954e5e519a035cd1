"""The leader's commit: its guard, what it writes, and what concludes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Insert,
    Select,
    Text,
    Update,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    select,
    update,
)

from jobsync.backend import Guard, NodeRef, NodeState, Plan, Revision, check_guard
from jobsync.backends.sql import state as states
from jobsync.backends.sql.nodes import is_joined, run_of
from jobsync.backends.sql.pin_rows import remove_pins, write_pins
from jobsync.backends.sql.sound import is_readable
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlStore, SqlTransaction
from jobsync.backends.sql.token_rows import write_groups
from jobsync.errors import Conflict

__all__ = ['REMEMBERED', 'commit']

REMEMBERED = 64
"""Versions a difference can build on, at least. A node reads every version or is far behind; then a complete reading is as cheap.
Twice as many are kept before the older half goes, so that few commits have any to delete."""


def commit(tx: SqlTransaction, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
    """See ``Backend.commit``."""
    row = tx.execute(tx.store.built(guarded), run_of(ref)).one_or_none()
    state = states.parse(row)
    assert row is not None
    check_guard(
        ref,
        guard,
        is_joined=row.joined is not None,
        leadership=state.leadership,
        timeline=state.timeline,
        store=state.store,
        version=state.version,
    )
    remove_nodes(tx, plan)
    revision = states.raised(state, plan.number - 1)
    before = states.load_revisions(row.builds_on)
    builds_on = [*before, revision]
    if len(builds_on) > 2 * REMEMBERED:
        builds_on = builds_on[-REMEMBERED:]
    if builds_on[:1] != before[:1]:
        tx.execute(tx.store.built(forget), {'oldest': builds_on[0].number})
    write_groups(tx, [group for group in plan.groups if group.tokens], revision)
    remove_pins(tx, plan.unpinned)
    write_pins(tx, plan.pins, state, revision)
    # Last, for the leader's own heartbeats wait for it, and what comes before may take seconds.
    conclude(tx, ref, plan, state, revision, builds_on)
    return revision


def guarded(store: SqlStore) -> Select[Any]:
    """The state, and whether the leader is registered: nobody can change either before the transaction's end."""
    state, node = store.tables.state, store.tables.node
    query = select(*states.columns(store), state.c.builds_on, node.c.name.label('joined'))
    return query.select_from(state.outerjoin(node, is_joined(store)))


def forget(store: SqlStore) -> Executable:
    """Delete the changes that no difference needs any more."""
    change = store.tables.change
    return delete(change).where(change.c.revision <= bindparam('oldest', type_=BigInteger))


def remove_nodes(tx: SqlTransaction, plan: Plan) -> None:
    """Remove the evicted and the departed; ``Conflict`` if one of them, or of the absent, is not as the plan saw it."""
    evicted_at = {eviction.ref: eviction.heartbeat for eviction in plan.evictions}
    names = {ref.name for ref in (*evicted_at, *plan.departed, *plan.absent)}
    if not names:
        return
    node = tx.tables.node
    query = select(node.c.name, node.c.incarnation, node.c.heartbeat, node.c.state)
    query = query.where(tx.store.among(node.c.name, 'names'), tx.store.is_sound(is_readable, node.name))
    # None of them may beat before the end of the transaction.
    rows = tx.execute(query.with_for_update(), {'names': tx.store.listed(names)})
    found = {NodeRef(row.name, row.incarnation): (row.state, row.heartbeat) for row in rows}
    for ref, heartbeat in evicted_at.items():
        if ref not in found or found[ref][1] != heartbeat:
            raise Conflict(f'node {ref.name!r} is not as it was when it was taken for dead')
    for ref in plan.departed:
        if ref not in found or found[ref][0] != NodeState.LEFT.value:
            raise Conflict(f'node {ref.name!r} is not as it was when it left')
    for ref in plan.absent:
        if ref in found and found[ref][0] == NodeState.JOINED.value:
            raise Conflict(f'node {ref.name!r} is registered again')
    gone = {ref.name for ref in (*evicted_at, *plan.departed)}
    if gone:
        tx.execute(delete(node).where(tx.store.among(node.c.name, 'names')), {'names': tx.store.listed(gone)})


def conclude(
    tx: SqlTransaction, ref: NodeRef, plan: Plan, state: SqlState, revision: Revision, builds_on: Sequence[Revision]
) -> None:
    """Record the rebalance, count the leader's own write, and make the revision the namespace's and the assignment's."""
    given = {
        'triggered_at': state.now,
        'trigger_reason': plan.reason,
        'leader_node': ref.name,
        'nodes_before': plan.nodes_before,
        'nodes_after': plan.nodes_after,
        'tokens_moved': plan.moved,
        'duration_ms': plan.duration_ms,
        'new_number': revision.number,
        'new_stamp': revision.stamp,
        'new_members': states.dump_members(plan.members),
        'new_builds_on': states.dump_revisions(builds_on),
        **run_of(ref),
    }
    if tx.store.writes_in_with:
        tx.conclude(tx.store.built(all_at_once), given)
        return
    for step in (record, raise_heartbeat, tell_members, save_version):
        tx.execute(tx.store.built(step), given)


def all_at_once(store: SqlStore) -> Update:
    """All of it in one statement."""
    beside = {'recorded': record, 'raised': raise_heartbeat, 'told': tell_members}
    return save_version(store).add_cte(*(build(store).cte(name) for name, build in beside.items()))


def record(store: SqlStore) -> Insert:
    """Append a rebalance, if anything was moved."""
    rebalance = store.tables.rebalance
    columns = [column for column in rebalance.c if column is not rebalance.c.id]
    row = select(*(bindparam(column.name, type_=column.type) for column in columns))
    return insert(rebalance).from_select(columns, row.where(bindparam('tokens_moved', type_=BigInteger) > 0))


def raise_heartbeat(store: SqlStore) -> Update:
    """Count the leader's own write."""
    node = store.tables.node
    return update(node).where(is_joined(store)).values(heartbeat=node.c.heartbeat + 1)


NEW_NUMBER = bindparam('new_number', type_=BigInteger)
NEW_MEMBERS = bindparam('new_members', type_=Text)
NO_MEMBERS = literal_column(f"'{states.dump_members({})}'", Text)


def tell_members(store: SqlStore) -> Insert:
    """Insert into ``change`` which members were written, if any were."""
    given: dict[str, ColumnElement[Any]] = {'revision': NEW_NUMBER, 'version': NEW_NUMBER, 'members': NEW_MEMBERS}
    given |= {'numbers': literal_column("''")}
    row = select(*given.values()).where(NEW_MEMBERS != NO_MEMBERS)
    return insert(store.tables.change).from_select(list(given), row)


def save_version(store: SqlStore) -> Update:
    """Make a revision the namespace's and the assignment's, and write the members that change."""
    state, stamp = store.tables.state, bindparam('new_stamp', type_=BigInteger)
    members = case((NEW_MEMBERS == NO_MEMBERS, state.c.members), else_=store.patched(state.c.members, NEW_MEMBERS))
    values = {'revision': NEW_NUMBER, 'stamp': stamp, 'version': NEW_NUMBER, 'version_stamp': stamp}
    return update(state).values(**values, members=members, builds_on=bindparam('new_builds_on', type_=Text))
