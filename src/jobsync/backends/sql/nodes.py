"""Registration, heartbeats, leadership and the snapshot."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Row,
    Select,
    String,
    Text,
    Update,
    and_,
    bindparam,
    delete,
    insert,
    select,
    true,
    update,
)

from jobsync.backend import (
    INITIAL,
    Leadership,
    Node,
    NodeRef,
    NodeState,
    Pulse,
    Registration,
    Revision,
    Snapshot,
    Timeline,
    Unreadable,
    evicted,
)
from jobsync.backends._common.values import BEFORE_ANY, next_created_on
from jobsync.backends.sql import state as states
from jobsync.backends.sql.schema import Spoilt
from jobsync.backends.sql.sound import LONGEST_TIMEOUT_SEC, MOST_WEIGHT, is_readable
from jobsync.backends.sql.state import SqlState
from jobsync.backends.sql.store import SqlStore, SqlTransaction
from jobsync.errors import Evicted, NameTaken, TimelineChanged

__all__ = [
    'acquire_leadership',
    'check_joined',
    'deregister',
    'heartbeat',
    'is_joined',
    'register',
    'run_of',
    'set_weight',
    'snapshot',
]

LAST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
"""When a node registered whose row does not tell: the last in the line of those who may lead."""


def is_joined(store: SqlStore) -> ColumnElement[bool]:
    """Whether a row is that of exactly the run given as ``run_of`` parameters, registered, and readable."""
    node = store.tables.node
    return and_(
        node.c.name == bindparam('run_name', type_=String),
        node.c.incarnation == bindparam('run_incarnation', type_=String),
        node.c.state == NodeState.JOINED.value,
        store.is_sound(is_readable, node.name),
    )


def run_of(ref: NodeRef) -> dict[str, str]:
    """The parameters of ``is_joined``."""
    return {'run_name': ref.name, 'run_incarnation': ref.incarnation}


def joined_query(store: SqlStore) -> Select[Any]:
    """A row if the run is registered; it stays so until the end of the transaction."""
    node = store.tables.node
    return select(node.c.name).where(is_joined(store)).with_for_update(read=True, key_share=True)


def check_joined(tx: SqlTransaction, ref: NodeRef) -> None:
    """``Evicted`` unless exactly this run is registered; it stays so until the end of the transaction."""
    if tx.execute(tx.store.built(joined_query), run_of(ref)).first() is None:
        raise evicted(ref)


def dump_set(values: Iterable[Any]) -> str:
    """A set as JSON, sorted, for people who compare rows."""
    return json.dumps(sorted(values))


def columns(store: SqlStore) -> list[ColumnElement[Any]]:
    """What ``read_nodes`` needs in a row, besides the state."""
    node = store.tables.node
    return [*node.c, store.is_sound(is_readable, node.name).label('is_readable')]


def read_nodes(rows: Iterable[Row[Any]], state: SqlState) -> tuple[tuple[Node, ...], tuple[Unreadable, ...]]:
    """Return the nodes in these rows, and a report for each that cannot be read in full."""
    nodes: list[Node] = []
    reports: list[Unreadable] = []
    for row in rows:
        problems: list[str] = []
        if row.is_readable:
            nodes.append(parse(row, state, problems))
        else:
            problems.append('a list or a number in it is none: left out, as if the node were not registered')
        if problems:
            reports.append(Unreadable('node', str(row.name), '; '.join(problems)))
    if reports:
        nodes.sort(key=lambda node: (node.created_on, node.name))
    return tuple(nodes), tuple(reports)


def parse(row: Row[Any], state: SqlState, problems: list[str]) -> Node:
    """Return a node's record from its row, with harmless values where others cannot be read, which ``problems`` gets."""

    def sound(field: str, is_sound: bool, harmless: Any) -> Any:
        value = getattr(row, field)
        if is_sound and not isinstance(value, Spoilt):
            return value
        found = value.value if isinstance(value, Spoilt) else value
        problems.append(f'{field} is {found!r}: read as {harmless}')
        return harmless

    return Node(
        name=row.name,
        incarnation=row.incarnation,
        heartbeat=row.heartbeat,
        seen=Revision(row.seen, row.seen_stamp),
        holding=frozenset(json.loads(row.holding)),
        state=NodeState(row.state),
        replaces=frozenset(json.loads(row.replaces)),
        weight=sound('weight', is_between(row.weight, 0, MOST_WEIGHT), 1.0),
        timeout_sec=sound(
            'timeout_sec', is_between(row.timeout_sec, 0, LONGEST_TIMEOUT_SEC) and row.timeout_sec > 0, state.longest_timeout_sec
        ),
        host=row.host,
        pid=row.pid,
        created_on=sound('created_on', True, LAST),
        last_heartbeat=sound('last_heartbeat', True, None),
        candidate=row.candidate,
    )


def is_between(value: object, least: float, most: float) -> bool:
    """Whether a value is a number within these bounds, and not NaN."""
    return isinstance(value, (int, float)) and least <= value <= most


def register(
    tx: SqlTransaction, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None
) -> None:
    """See ``Backend.register``."""
    state, table = states.read(tx), tx.tables.node
    if state.timeline != timeline:
        raise TimelineChanged(f'node {node.ref.name!r} registers in {timeline}, but the namespace lives in {state.timeline}')
    replaces = node.replaces
    # Nothing may change the record between this reading and its replacement, a heartbeat included.
    rows = tx.execute(select(*columns(tx.store)).where(table.c.name == node.ref.name).with_for_update())
    readable, unreadable = read_nodes(rows, state)
    for before in readable:
        if before.state is NodeState.JOINED and before.beat != replacing:
            raise NameTaken(before)
        replaces |= {before.incarnation}
    if readable or unreadable:
        tx.execute(delete(table).where(table.c.name == node.ref.name))
    created_on = next_created_on(state.last_created or BEFORE_ANY, state.now)
    tx.execute(
        insert(table).values(
            name=node.ref.name,
            incarnation=node.ref.incarnation,
            heartbeat=0,
            seen=INITIAL.number,
            seen_stamp=INITIAL.stamp,
            holding='[]',
            state=NodeState.JOINED.value,
            replaces=dump_set(replaces),
            weight=node.weight,
            timeout_sec=node.timeout_sec,
            host=node.host,
            pid=node.pid,
            created_on=created_on,
            last_heartbeat=state.now,
            candidate=True,
        )
    )
    longest = max(state.longest_timeout_sec, node.timeout_sec, node.longest_timeout_sec)
    states.save(tx, states.raised(state, at_least), last_created=created_on, longest_timeout_sec=longest)


def beat(store: SqlStore) -> Update:
    """Raise the counter of a run that is registered."""
    node = store.tables.node
    values = {
        'heartbeat': node.c.heartbeat + 1,
        'seen': bindparam('new_seen', type_=BigInteger),
        'seen_stamp': bindparam('new_seen_stamp', type_=BigInteger),
        'holding': bindparam('new_holding', type_=Text),
        'candidate': bindparam('new_candidate', type_=Boolean),
        'last_heartbeat': store.clock(),
    }
    return update(node).where(is_joined(store)).values(**values)


def pulse(store: SqlStore) -> Select[Any]:
    """How things stand, for a run that is registered."""
    state, node = store.tables.state, store.tables.node
    return pulse_of(store, node.c.heartbeat).select_from(state.join(node, is_joined(store)).outerjoin(*leading(store)))


def pulse_of(store: SqlStore, own: ColumnElement[int], *more: ColumnElement[Any]) -> Select[Any]:
    """The columns of a pulse."""
    leader, _ = leading(store)
    return select(
        *states.columns(store),
        own.label('own'),
        leader.c.heartbeat.label('leader_heartbeat'),
        leader.c.last_heartbeat.label('leader_beat_at'),
        leader.c.candidate.label('leader_candidate'),
        *more,
    )


def leading(store: SqlStore) -> tuple[FromClause, ColumnElement[bool]]:
    """The leader's row, and how it is found from the state."""
    return store.built(leader_row)


def leader_row(store: SqlStore) -> tuple[FromClause, ColumnElement[bool]]:
    """See ``leading``."""
    state, leader = store.tables.state, store.tables.node.alias('leader')
    leads = and_(
        leader.c.name == state.c.leader,
        leader.c.incarnation == state.c.leader_incarnation,
        leader.c.state == NodeState.JOINED.value,
        store.is_sound(is_readable, leader.name),
    )
    return leader, leads


def beat_and_pulse(store: SqlStore) -> Select[Any]:
    """Both in one statement. What it reads is as of its beginning: ``own_before`` tells whether that was before the beat."""
    state, node = store.tables.state, store.tables.node
    beaten = beat(store).returning(node.c.name, node.c.heartbeat).cte('beaten')
    tables = state.join(beaten, true()).outerjoin(node, node.c.name == beaten.c.name).outerjoin(*leading(store))
    return pulse_of(store, beaten.c.heartbeat, node.c.heartbeat.label('own_before')).select_from(tables)


def heartbeat(tx: SqlTransaction, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool) -> Pulse:
    """See ``Backend.heartbeat``."""
    values: dict[str, Any] = {'new_seen': seen.number, 'new_seen_stamp': seen.stamp, 'new_holding': dump_set(holding)}
    values |= {'new_candidate': candidate, **run_of(ref)}
    if tx.store.writes_in_with:
        row = beaten = tx.conclude(tx.store.built(beat_and_pulse), values).one_or_none()
        if beaten is not None and (beaten.own_before is None or beaten.own != beaten.own_before + 1):
            # Another write to this row was under way, and what was read is from before it.
            row = tx.execute(tx.store.built(pulse), run_of(ref)).one_or_none()
        if beaten is None or row is None:
            raise not_beaten(tx, ref)
    else:
        if tx.execute(tx.store.built(beat), values).rowcount == 0:
            raise evicted(ref)
        row = beaten = tx.execute(tx.store.built(pulse), run_of(ref)).one()
    own: int = beaten.own
    found = states.parse(row)
    leader_heartbeat, leader_is_candidate, leader_age = row.leader_heartbeat, row.leader_candidate is not False, None
    if found.leadership.node == ref:
        leader_heartbeat, leader_is_candidate, leader_age = own, candidate, 0.0
    elif isinstance(row.leader_beat_at, dt.datetime):
        leader_age = (found.now - row.leader_beat_at).total_seconds()
    return Pulse(
        heartbeat=own,
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


def not_beaten(tx: SqlTransaction, ref: NodeRef) -> Evicted:
    """``Evicted``, unless the namespace itself is gone, which reading it tells."""
    states.read(tx)
    return evicted(ref)


def set_weight(tx: SqlTransaction, ref: NodeRef, weight: float) -> None:
    """See ``Backend.set_weight``."""
    state, node = states.read(tx), tx.tables.node
    check_joined(tx, ref)
    change = update(node).where(is_joined(tx.store), node.c.weight != weight).values(weight=weight)
    if tx.execute(change, run_of(ref)).rowcount:
        states.save(tx, states.raised(state))


def deregister(tx: SqlTransaction, ref: NodeRef) -> None:
    """See ``Backend.deregister``."""
    state, node = states.read(tx), tx.tables.node
    left = update(node).where(is_joined(tx.store)).values(state=NodeState.LEFT.value, holding='[]', last_heartbeat=None)
    if tx.execute(left, run_of(ref)).rowcount:
        states.save(tx, states.raised(state))


def acquire_leadership(tx: SqlTransaction, ref: NodeRef, epoch: int) -> Leadership:
    """See ``Backend.acquire_leadership``."""
    state = states.read(tx)
    check_joined(tx, ref)
    if state.leadership.epoch != epoch:
        return state.leadership
    states.save(tx, states.raised(state), epoch=epoch + 1, leader=ref.name, leader_incarnation=ref.incarnation)
    return Leadership(epoch + 1, ref)


def everything(store: SqlStore) -> Select[Any]:
    """State and nodes. One statement, so that it needs no more than that to be one reading."""
    state, node = store.tables.state, store.tables.node
    query = select(*states.columns(store), *columns(store)).select_from(state.outerjoin(node, true()))
    return query.order_by(node.c.created_on, node.c.name)


def snapshot(tx: SqlTransaction) -> Snapshot:
    """See ``Backend.snapshot``."""
    rows = tx.conclude(tx.store.built(everything), {}).all()
    found = states.parse(rows[0] if rows else None)
    nodes, unreadable = read_nodes((row for row in rows if row.name is not None), found)
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
