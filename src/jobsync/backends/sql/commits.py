"""The leader's commit: its guard, what it writes, and what concludes it."""

from __future__ import annotations

from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy import BigInteger, Text

from jobsync.backend import Guard, NodeRef, Plan, Revision, check_guard, check_nodes
from jobsync.backends._common.values import next_revision
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.node_records import columns, read_nodes
from jobsync.backends.sql.nodes import is_joined, run_of
from jobsync.backends.sql.store import SqlTransaction
from jobsync.backends.sql.token_rows import remove_pins, skipped, write_groups, write_pins

__all__ = ['REMEMBERED', 'commit']

REMEMBERED = 64
"""How many versions a difference can build on, at least. A node reads every version, or is so far behind that a complete reading
is as cheap. Twice as many are kept before the older half is deleted, so that few commits have any to delete."""


def commit(tx: SqlTransaction, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
    """See ``Backend.commit``."""
    # t=0  leader a (epoch 1) plans from version 5, then stops for a minute
    # t=1  node b takes the leadership (epoch 2), evicts a, and commits version 6
    # t=2  a goes on, and commits its plan
    # The transaction has locked the state before this query, as every other STRUCTURE transaction does. So b's writes are either
    # before the query, and the guard refuses a, or after a's commit, and then b's own guard refuses b.
    row = tx.execute(guarded, run_of(ref)).one_or_none()
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
    check_removed(tx, plan, state)
    revision = next_revision(state.revision, plan.number - 1)
    before = states.load_revisions(row.builds_on)
    builds_on = [*before, revision]
    if len(builds_on) > 2 * REMEMBERED:
        builds_on = builds_on[-REMEMBERED:]
    if builds_on[:1] != before[:1]:
        tx.enqueue(forget, {'oldest': builds_on[0].number})
    write_groups(tx, [group for group in plan.groups if group.tokens], revision)
    remove_pins(tx, plan.unpinned)
    write_pins(tx, plan.pins, revision)
    remove_nodes(tx, plan)
    # The leader's record is written last: its heartbeats wait for this row, and the writes before may take seconds.
    members = {'new_number': revision.number, 'new_members': states.dump_members(plan.members)}
    pins = plan.unpinned.union(pin.id for pin in plan.pins)
    tx.enqueue(log_members, {**members, 'new_pins': tx.dialect.listed(pins)})
    if plan.is_recorded:
        tx.enqueue(record, attrs.asdict(plan.rebalance(ref.name, state.now)))
    tx.enqueue(count_commit, run_of(ref))
    tx.announce(revision.number, plan.affected)
    tx.conclude(save_version, {**members, 'new_stamp': revision.stamp, 'new_builds_on': states.dump_revisions(builds_on)})
    return revision


def guarded(dialect: Dialect) -> sa.Select[Any]:
    """Select the state, and whether the leader is registered."""
    state, node = dialect.tables.state, dialect.tables.node
    query = sa.select(*states.columns(dialect), state.c.builds_on, node.c.name.label('joined'))
    return query.select_from(state.outerjoin(node, is_joined(dialect)))


def forget(dialect: Dialect) -> sa.Delete:
    """Delete the changes that no difference needs any more."""
    change = dialect.tables.change
    return sa.delete(change).where(change.c.revision <= sa.bindparam('oldest', type_=BigInteger))


def check_removed(tx: SqlTransaction, plan: Plan, state: states.SqlState) -> None:
    """Raise ``Conflict`` if a node that goes, or one of the absent, is not as the plan saw it; they stay so until the end."""
    names = {ref.name for ref in (*gone(plan), *plan.absent)}
    if not names:
        return
    # t=0  the leader suspects node b, whose heartbeat is 7
    # t=1  this query reads 7, as the plan has it
    # t=2  b, which was only slow, sends heartbeat 8, and takes a new lease from its success
    # t=3  this transaction deletes b and gives its tokens away: b and their new owners both claim them
    # FOR UPDATE makes t=2 wait for the end of this transaction, and fail with Evicted. If t=2 comes before t=1, 8 is a Conflict.
    nodes, _ = read_nodes(tx.execute(named, {'names': tx.dialect.listed(names)}), state)
    check_nodes(plan, {node.name: node for node in nodes}.get)


def gone(plan: Plan) -> tuple[NodeRef, ...]:
    """Return the nodes that a plan removes: the evicted and the departed."""
    return (*(eviction.ref for eviction in plan.evictions), *plan.departed)


def remove_nodes(tx: SqlTransaction, plan: Plan) -> None:
    """Remove the nodes that go. Their tokens have other owners by now, as an operator's foreign key may want it."""
    names = {ref.name for ref in gone(plan)}
    # t=0  an operator's trigger BEFORE DELETE returns NEW, which is null there: the row of b stays, and no error is raised
    # t=1  the commit gives b's tokens away
    # t=2  b, which was only paused, sends a heartbeat, and takes a new lease from its success: b and their new owners claim them
    if names and tx.execute(delete_nodes, {'names': tx.dialect.listed(names)}).rowcount < len(names):
        raise skipped(tx.tables.node)


def named(dialect: Dialect) -> sa.Select[Any]:
    """Select and lock the nodes of these names."""
    return sa.select(*columns(dialect)).where(dialect.among(dialect.tables.node.c.name, 'names')).with_for_update()


def delete_nodes(dialect: Dialect) -> sa.Delete:
    """Delete the nodes of these names."""
    node = dialect.tables.node
    return sa.delete(node).where(dialect.among(node.c.name, 'names'))


def record(dialect: Dialect) -> sa.Insert:
    """Insert a rebalance; its id is the database's to count."""
    table = dialect.tables.rebalance
    if not dialect.writes_in_with:
        return sa.insert(table).inline()
    # A sequence may be behind the ids that there are: logical replication copies rows and no sequences, and so do many scripts.
    # As long as that lasts, one key after the other would be refused, and each of them with a whole commit.
    names = [column.name for column in table.c if column is not table.c.id]
    values = [sa.bindparam(name, type_=table.c[name].type) for name in names]
    put = dialect.insert(table).from_select(names, sa.select(*values)).on_conflict_do_nothing(index_elements=['id'])
    counted = put.returning(table.c.id).cte('counted')
    after = sa.select(sa.func.max(table.c.id) + 1).scalar_subquery()
    rest = sa.select(after, *values).where(~sa.exists(sa.select(counted.c.id)))
    return sa.insert(table).from_select(['id', *names], rest)


def count_commit(dialect: Dialect) -> sa.Update:
    """Raise the leader's own heartbeat counter: every write of a node shows in its record."""
    node = dialect.tables.node
    return sa.update(node).where(is_joined(dialect)).values(heartbeat=node.c.heartbeat + 1)


NEW_NUMBER = sa.bindparam('new_number', type_=BigInteger)
NEW_MEMBERS = sa.bindparam('new_members', type_=Text)


def log_members(dialect: Dialect) -> sa.Insert:
    """Insert into ``change`` the members that were written, and the ids of the pins that were written or removed."""
    pins = sa.bindparam('new_pins', type_=Text)
    return sa.insert(dialect.tables.change).values(revision=NEW_NUMBER, version=NEW_NUMBER, members=NEW_MEMBERS, numbers=pins)


def save_version(dialect: Dialect) -> sa.Update:
    """Make a revision the namespace's and the assignment's, and write the members that change."""
    state, stamp = dialect.tables.state, sa.bindparam('new_stamp', type_=BigInteger)
    unchanged = sa.literal_column(f"'{states.dump_members({})}'", Text)
    members = sa.case((unchanged == NEW_MEMBERS, state.c.members), else_=dialect.patched(state.c.members, NEW_MEMBERS))
    values = {'revision': NEW_NUMBER, 'stamp': stamp, 'version': NEW_NUMBER, 'version_stamp': stamp}
    return sa.update(state).values(**values, members=members, builds_on=sa.bindparam('new_builds_on', type_=Text))
