"""Registration, and what else a node changes in its own record besides its heartbeat."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from jobsync.backend import INITIAL, Leadership, NodeRef, NodeState, Registration, Timeline, evicted
from jobsync.backends._common.values import BEFORE_ANY, next_created_on, next_revision
from jobsync.backends.sql import state as states
from jobsync.backends.sql.dialect import Dialect
from jobsync.backends.sql.node_records import columns, read_nodes
from jobsync.backends.sql.sound import is_readable
from jobsync.backends.sql.store import SqlTransaction
from jobsync.backends.sql.token_rows import skipped
from jobsync.errors import NameTaken, TimelineChanged

__all__ = [
    'acquire_leadership',
    'check_joined',
    'deregister',
    'is_joined',
    'joined_query',
    'register',
    'remove_node',
    'run_of',
    'set_weight',
]


def is_joined(dialect: Dialect) -> sa.ColumnElement[bool]:
    """Return whether a row is that of exactly the run in ``run_of`` parameters, registered, and readable."""
    node = dialect.tables.node
    return sa.and_(
        node.c.name == sa.bindparam('run_name', type_=sa.String),
        node.c.incarnation == sa.bindparam('run_incarnation', type_=sa.String),
        node.c.state == NodeState.JOINED.value,
        dialect.is_sound(is_readable, node.name),
    )


def run_of(ref: NodeRef) -> dict[str, str]:
    """Return the parameters of ``is_joined``."""
    return {'run_name': ref.name, 'run_incarnation': ref.incarnation}


def joined_query(dialect: Dialect) -> sa.Select[Any]:
    """Select a row if the run is registered; it stays so until the end of the transaction."""
    node = dialect.tables.node
    return sa.select(node.c.name).where(is_joined(dialect)).with_for_update(read=True, key_share=True)


def check_joined(tx: SqlTransaction, ref: NodeRef) -> None:
    """Raise ``Evicted`` unless exactly this run is registered; it stays so until the end of the transaction."""
    if tx.execute(joined_query, run_of(ref)).first() is None:
        raise evicted(ref)


def register(
    tx: SqlTransaction, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None
) -> None:
    """See ``Backend.register``."""
    table, named = tx.tables.node, {'run_name': node.ref.name}
    # t=0  a second process named b has watched b's record for a heartbeat timeout: its heartbeat stays 7
    # t=1  this transaction reads 7, which is what ``replacing`` says
    # t=2  the first b, which was paused, sends heartbeat 8, and takes a new lease from its success
    # t=3  this transaction replaces the record: two processes claim b's tasks
    # The lock makes t=2 wait for the end of this transaction, and fail with Evicted. With t=2 before t=1, the name is taken. It
    # goes in one message with the reading, because others that register wait until this transaction ends.
    tx.enqueue(lock_of_name, named)
    rows = tx.execute(state_and_name, named).all()
    state = states.parse(rows[0] if rows else None)
    if state.timeline != timeline:
        raise TimelineChanged(f'node {node.ref.name!r} registers in {timeline}, but the namespace lives in {state.timeline}')
    replaces = node.replaces
    readable, unreadable = read_nodes((row for row in rows if row.name is not None), state)
    for before in readable:
        if not node.may_replace(before, replacing):
            raise NameTaken(before)
        replaces |= {before.incarnation}
    created_on = next_created_on(state.last_created or BEFORE_ANY, state.now)
    # t=0  an operator adds a foreign key from the owners of tokens to the names of nodes, ON DELETE CASCADE
    # t=1  node a is started again. If its row were deleted and inserted anew, those of its tokens would go, past the trigger
    # t=2  the leader has read them before, and leaves them to a; a, which reads everything, finds none: they have no owner
    write = sa.update(table).where(table.c.name == node.ref.name) if readable or unreadable else sa.insert(table)
    row = write.values(
        name=node.ref.name,
        incarnation=node.ref.incarnation,
        heartbeat=0,
        seen=INITIAL.number,
        seen_stamp=INITIAL.stamp,
        holding='[]',
        state=NodeState.JOINED.value,
        replaces=json.dumps(sorted(replaces)),
        weight=node.weight,
        timeout_sec=node.timeout_sec,
        host=node.host,
        pid=node.pid,
        created_on=created_on,
        last_heartbeat=state.now,
        candidate=True,
        settings=node.settings,
        stalled=False,
    )
    tx.enqueue(row)
    # t=0  an operator's trigger on these rows returns OLD, or null: the row stays as it was, and no error is raised
    # t=1  the first heartbeat finds no row of this run: the node takes itself for evicted, and registers anew without a pause
    if tx.execute(joined_query, run_of(node.ref)).first() is None:
        raise skipped(table)
    longest = max(state.longest_timeout_sec, node.timeout_sec, node.longest_timeout_sec)
    states.save(tx, next_revision(state.revision, at_least), (), last_created=created_on, longest_timeout_sec=longest)


def lock_of_name(dialect: Dialect) -> sa.Select[Any]:
    """Lock the record of a name, if there is one."""
    node = dialect.tables.node
    return sa.select(node.c.name).where(node.c.name == sa.bindparam('run_name', type_=sa.String)).with_for_update()


def state_and_name(dialect: Dialect) -> sa.Select[Any]:
    """Select the state, beside the record of a name if there is one."""
    state, node = dialect.tables.state, dialect.tables.node
    named = node.c.name == sa.bindparam('run_name', type_=sa.String)
    return sa.select(*states.columns(dialect), *columns(dialect)).select_from(state.outerjoin(node, named))


def set_weight(tx: SqlTransaction, ref: NodeRef, weight: float, stalled: bool = False) -> None:
    """See ``Backend.set_weight``."""
    state, node = states.read(tx), tx.tables.node
    check_joined(tx, ref)
    differs = sa.or_(node.c.weight != weight, node.c.stalled != stalled)
    change = sa.update(node).where(is_joined(tx.dialect), differs).values(weight=weight, stalled=stalled)
    if tx.execute(change, run_of(ref)).rowcount:
        states.save(tx, next_revision(state.revision), ())


def deregister(tx: SqlTransaction, ref: NodeRef, died: bool = False) -> None:
    """See ``Backend.deregister``."""
    state, node = states.read(tx), tx.tables.node
    left = {'state': NodeState.LEFT.value, 'holding': '[]', 'last_heartbeat': None, 'stalled': died}
    # t=0  the run records a claim: the statement has found it registered, and its transaction is not over
    # t=1  this transaction ends the run
    # t=2  who reads the claims now misses that of t=0, which is recorded after the end of the run
    # The lock makes t=1 wait for the end of t=0. An update that changes no key would wait for none that only reads the row.
    tx.enqueue(lock_of_name, {'run_name': ref.name})
    if tx.execute(sa.update(node).where(is_joined(tx.dialect)).values(left), run_of(ref)).rowcount:
        states.save(tx, next_revision(state.revision), None if state.leadership.node == ref else ())


def remove_node(tx: SqlTransaction, ref: NodeRef) -> bool:
    """See ``Backend.remove_node``."""
    state = states.read(tx)
    if not tx.execute(sa.delete(tx.tables.node).where(is_joined(tx.dialect)), run_of(ref)).rowcount:
        return False
    states.save(tx, next_revision(state.revision))
    return True


def acquire_leadership(tx: SqlTransaction, ref: NodeRef, epoch: int) -> Leadership:
    """See ``Backend.acquire_leadership``."""
    state = states.read(tx)
    check_joined(tx, ref)
    if state.leadership.epoch != epoch:
        return state.leadership
    states.save(tx, next_revision(state.revision), epoch=epoch + 1, leader=ref.name, leader_incarnation=ref.incarnation)
    return Leadership(epoch + 1, ref)
