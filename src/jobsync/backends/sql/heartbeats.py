"""The heartbeat, and the snapshot: how the namespace stands, in one reading."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import sqlalchemy as sa

from jobsync.backend import NodeRef, NodeState, Pulse, Revision, Snapshot, evicted
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.node_records import columns, read_nodes
from jobsync.backends.sql.nodes import is_joined, joined_query, run_of
from jobsync.backends.sql.sound import is_readable
from jobsync.backends.sql.store import SqlTransaction
from jobsync.backends.sql.token_rows import skipped

__all__ = ['heartbeat', 'snapshot']


def heartbeat(tx: SqlTransaction, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
    """See ``Backend.heartbeat``."""
    values = {
        'new_seen': seen.number,
        'new_seen_stamp': seen.stamp,
        'new_holding': json.dumps(sorted(holding)),
        'new_candidate': candidate,
        **run_of(ref),
    }
    # t=0  the leader has read heartbeat 7, and its commit evicts this node; the row is locked
    # t=1  this node sends heartbeat 8: the update waits for the commit, then finds no row
    # t=2  the query, which comes after the update, finds no row either: Evicted, and no new lease
    # Without the lock both could succeed: the node would take a new lease for tokens that the commit has given away.
    # If a row of this run comes back between update and query, inserted manually, the query finds it. So the query also tests
    # that this transaction wrote the row: no heartbeat is acknowledged that is not counted.
    tx.enqueue(beat, values)
    row = tx.conclude(pulse, {'run_name': ref.name}).one_or_none()
    if row is None:
        states.read(tx)
        # t=0  an operator's trigger BEFORE UPDATE returns OLD, or null: the row stays as it was, and no error is raised
        # t=1  this node takes itself for evicted, or the store for one that went back, and registers anew: without a pause
        # A row that came back in the meantime is written now; the error below takes that back.
        tx.enqueue(beat, values)
        is_written = tx.execute(pulse, {'run_name': ref.name}).first() is not None
        if not is_written and tx.execute(joined_query, run_of(ref)).first() is not None:
            raise skipped(tx.tables.node)
        raise evicted(ref)
    found = states.parse(row)
    leader_heartbeat, leader_is_candidate, leader_age = row.leader_heartbeat, row.leader_candidate is not False, None
    if found.leadership.node == ref:
        leader_heartbeat, leader_is_candidate, leader_age = row.own, candidate, 0.0
    elif not row.leader_is_readable:
        leader_heartbeat, leader_is_candidate = None, True
    elif isinstance(row.leader_beat_at, dt.datetime):
        leader_age = (found.now - row.leader_beat_at).total_seconds()
    return Pulse(
        heartbeat=row.own,
        timeline=found.timeline,
        store=found.store,
        revision=found.revision,
        version=found.version,
        leadership=found.leadership,
        leader_heartbeat=leader_heartbeat,
        leader_is_candidate=leader_is_candidate,
        position=found.position,
        leader_age_sec=leader_age,
    )


def beat(dialect: Dialect) -> sa.Update:
    """Raise the counter of a run that is registered."""
    node = dialect.tables.node
    values = {
        'heartbeat': node.c.heartbeat + 1,
        'seen': sa.bindparam('new_seen', type_=sa.BigInteger),
        'seen_stamp': sa.bindparam('new_seen_stamp', type_=sa.BigInteger),
        'holding': sa.bindparam('new_holding', type_=sa.Text),
        'candidate': sa.bindparam('new_candidate', type_=sa.Boolean),
        'last_heartbeat': dialect.clock(),
    }
    return sa.update(node).where(is_joined(dialect)).values(**values)


def pulse(dialect: Dialect) -> sa.Select[Any]:
    """Select the state, the run's own counter if this transaction has raised it, and the leader's heartbeat."""
    state, node = dialect.tables.state, dialect.tables.node
    own = sa.and_(node.c.name == sa.bindparam('run_name', type_=sa.String), dialect.is_written_here(node))
    leader = node.alias('leader')
    leads = sa.and_(
        leader.c.name == state.c.leader,
        leader.c.incarnation == state.c.leader_incarnation,
        leader.c.state == NodeState.JOINED.value,
    )
    query = sa.select(
        *states.columns(dialect),
        node.c.heartbeat.label('own'),
        leader.c.heartbeat.label('leader_heartbeat'),
        leader.c.last_heartbeat.label('leader_beat_at'),
        leader.c.candidate.label('leader_candidate'),
        # Not a condition of the join, where PostgreSQL would test it, and slowly, for the rows of all nodes.
        dialect.is_sound(is_readable, leader.name).label('leader_is_readable'),
    )
    return query.select_from(state.join(node, own).outerjoin(leader, leads))


def snapshot(tx: SqlTransaction) -> Snapshot:
    """See ``Backend.snapshot``."""
    rows = tx.conclude(everything).all()
    has_state = bool(rows) and rows[0].is_state
    found = states.parse(rows[0] if has_state else None)
    nodes, unreadable = read_nodes((row for row in rows[1:] if row.name is not None), found)
    return Snapshot(
        timeline=found.timeline,
        store=found.store,
        now=found.now,
        revision=found.revision,
        version=found.version,
        leadership=found.leadership,
        nodes=nodes,
        unreadable=unreadable,
        locks_revision=found.locks_revision,
        longest_timeout_sec=found.longest_timeout_sec,
        position=found.position,
    )


def everything(dialect: Dialect) -> sa.CompoundSelect[Any]:
    """Select the state, and then each node: one statement, so it needs nothing else to be one reading.

    With the state beside each of a thousand nodes, in one row with it, a fifth more CPU would go into reading them.
    """
    of_state, of_node = states.columns(dialect), columns(dialect)
    state = sa.select(
        sa.true().label('is_state'), *of_state, *(sa.type_coerce(sa.null(), each.type).label(each.key) for each in of_node)
    )
    nodes = sa.select(sa.false(), *(sa.null() for _ in of_state), *of_node)
    query: sa.CompoundSelect[Any] = sa.union_all(state.select_from(dialect.tables.state), nodes)
    found = query.selected_columns
    return query.order_by(found.is_state.desc(), found.created_on, found.name)
