"""From a reading to the mappings that ``Cluster`` returns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import attrs

from jobsync._cluster.reading import ClusterReading
from jobsync._cluster.settings import differences
from jobsync._core.agent.settings_comparison import SHOULD_BE_EQUAL, settings_of
from jobsync._core.counting import counted
from jobsync._core.records import NOBODY, Node, NodeState, Pin, TaskLock
from jobsync._core.redact import cut, listed
from jobsync._runtime.leader_record import leader_changes
from jobsync.rows import ClusterNode, ClusterStatus, HandOver, ItemRow, LockRow, UnreadableRow

__all__ = ['hand_overs', 'item_rows', 'lock_rows', 'node_rows', 'status']


_COPY = (
    'the nodes have begun in another store: this is a copy, in which workers would be another cluster and own all tasks too, or '
    'it was restored or promoted just now'
)


def node_rows(reading: ClusterReading) -> list[ClusterNode]:
    """Return every node's record with its load, oldest first."""
    leader, drained = reading.snapshot.leader, reading.drained
    tokens, pins = _loads(reading), Counter(pin.owner for pin in reading.pin_of.values())
    settings = {text: settings_of(text) for text in {node.settings for node in reading.snapshot.nodes}}
    return [
        {
            'name': node.name,
            'state': _state(reading, node),
            'is_leader': node is leader,
            'tokens': tokens.get(node.name, 0),
            'pins': pins[node.name],
            'holding': len(node.holding),
            'weight': node.weight,
            'is_drained': node.name in drained,
            'is_current': node.seen == reading.snapshot.version,
            'candidate': node.candidate,
            'heartbeat_age_sec': reading.silence_sec(node),
            'timeout_sec': node.timeout_sec,
            'last_heartbeat': node.last_heartbeat,
            'created_on': node.created_on,
            'host': node.host,
            'pid': node.pid,
            'incarnation': node.incarnation,
            'settings': settings[node.settings],
        }
        for node in reading.snapshot.nodes
    ]


def _loads(reading: ClusterReading) -> dict[str, int]:
    """Return how many hash tokens each node owns that owns any: none that has left, whatever its rows say until the next plan."""
    gone = reading.gone
    return {name: load for name, load in reading.assignment.loads.items() if name not in gone}


def _state(reading: ClusterReading, node: Node) -> str:
    if node.state is NodeState.LEFT:
        return 'left'
    return 'silent' if reading.is_silent(node) else 'stalled' if node.stalled else 'joined'


def hand_overs(reading: ClusterReading) -> list[HandOver]:
    """Return the hand-overs under way, one for each pair of owner and target."""
    assignment = reading.assignment
    tasks: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    held: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for pin in assignment.pins.values():
        if pin.owner is not None and pin.target is not None:
            tasks[pin.owner, pin.target].append(pin.task_id)
    for node in reading.snapshot.nodes:
        for token in node.holding:
            if assignment.asked_of(token) == node.name:
                moving = assignment.pins.get(token)
                held[node.name, assignment.targets[token] if moving is None else str(moving.target)].append(token)
    found: list[HandOver] = []
    nodes = {record.name: record for record in reading.snapshot.nodes}
    for owner, target in sorted(assignment.moves.keys() | tasks.keys()):
        giver = nodes.get(owner)
        found.append(
            {
                'owner': owner,
                'target': None if target == NOBODY else target,
                'tokens': assignment.moves.get((owner, target), 0) + len(tasks[owner, target]),
                'tasks': sorted(tasks[owner, target]),
                'is_acknowledged': giver is not None and giver.seen == reading.snapshot.version,
                'held': sorted(held[owner, target]),
            }
        )
    return found


def _unmatched(reading: ClusterReading) -> list[Pin]:
    """Return the pins that no live node matches, in the order of their ids."""
    return sorted(reading.assignment.unplaced, key=lambda pin: pin.id)


def lock_rows(locks: Iterable[TaskLock], total_tokens: int, pin_of: Mapping[str, Pin]) -> list[LockRow]:
    """Return task locks as mappings, by ``token_id``, without items. ``pin_of`` says which pattern each lock goes by."""
    return [
        {
            'token_id': pin_of[lock.task_id].id if lock.task_id in pin_of else total_tokens + lock.id,
            'task_id': lock.task_id,
            'node_pattern': _in_force(lock, pin_of.get(lock.task_id)),
            'patterns': list(lock.patterns),
            'reason': lock.reason,
            'created_by': lock.created_by,
            'created_at': lock.created_at,
            'expires_at': lock.expires_at,
        }
        for lock in locks
        if not lock.group
    ]


def item_rows(locks: Iterable[TaskLock], pin_of: Mapping[str, Pin], group: str | None) -> list[ItemRow]:
    """Return the items of a group, or of all groups, by group and id, with the owners of their pins."""
    found: list[ItemRow] = [
        {
            'group': item.group,
            'item': item.task_id,
            'owner': pin.owner if (pin := pin_of.get(item.task_id)) is not None and pin.group == item.group else None,
            'cost': item.cost,
            'patterns': list(item.patterns),
        }
        for item in locks
        if item.is_item and group in (None, item.group)
    ]
    return sorted(found, key=lambda row: (row['group'], row['item']))


def _in_force(lock: TaskLock, pin: Pin | None) -> str:
    """Return the pattern by which the leader last chose the task's node; the first of the list before the leader has."""
    chosen = None if pin is None else pin.pattern
    return chosen if chosen is not None and chosen in lock.patterns else lock.patterns[0]


def status(reading: ClusterReading) -> ClusterStatus:
    """Return the cluster at a glance."""
    snapshot, live = reading.snapshot, reading.live
    owned = sum(_loads(reading).values())
    leader = None if snapshot.leader is None else snapshot.leader.name
    return {
        'total_tokens': reading.settings.total_tokens,
        'hash_function': reading.settings.hash_function,
        'timeline': snapshot.timeline.generation,
        'version': snapshot.version.number,
        'leader': leader,
        'epoch': snapshot.leadership.epoch,
        'leader_changes': leader_changes(reading.locks.locks),
        'nodes': len(live),
        'silent': sorted(node.name for node in snapshot.nodes if reading.is_silent(node)),
        'tokens_owned': owned,
        'tokens_unowned': reading.settings.total_tokens - owned,
        'tokens_moving': sum(row['tokens'] for row in hand_overs(reading)),
        'locks': sum(not lock.group for lock in reading.locks.locks),
        'items': sum(lock.is_item for lock in reading.locks.locks),
        'drained': sorted(reading.drained),
        'unmatched': [pin.task_id for pin in _unmatched(reading)],
        'unreadable': [
            cast('UnreadableRow', attrs.asdict(record)) for record in (*snapshot.unreadable, *reading.locks.unreadable)
        ],
        'problems': list(_problems(reading, leader, owned)),
        'now': snapshot.now,
    }


def _problems(reading: ClusterReading, leader: str | None, owned: int) -> Iterator[str]:
    """Yield what needs attention, the worst first."""
    snapshot, live = reading.snapshot, reading.live
    if reading.is_copy:
        yield _COPY
    if not live:
        yield 'no node is at work'
    elif leader is None:
        yield 'no node leads'
    elif leader not in live:
        yield f'the leader {leader!r} is not at work: another node is to take over'
    if live and owned < reading.settings.total_tokens:
        why = f': {reading.nothing_given}' if reading.nothing_given else ''
        yield f'{counted(reading.settings.total_tokens - owned, "token has", "tokens have", spec=",")} no owner{why}'
    for node in snapshot.nodes:
        if reading.is_silent(node):
            yield f'node {node.name!r} ({node.host}, pid {node.pid}) has been silent for {reading.silence_sec(node):.0f} s'
        elif node.state is NodeState.JOINED and node.stalled:
            share = ': its share is with other nodes'
            if node.name not in reading.idle:
                share = ', and keeps its share: no other node could own it'
            yield f'node {node.name!r} ({node.host}, pid {node.pid}) makes no progress{share}'
        elif node.state is NodeState.JOINED and not node.candidate:
            yield f'node {node.name!r} does not get its work as leader done, and is no candidate'
    if live and live.keys() <= reading.drained.keys():
        yield 'every node at work is drained'
    for setting, values in differences(reading).items():
        words = ', '.join(f'{value} ({listed(names, 3)})' for value, names in values.items())
        yield f'nodes differ in {setting}: {words}: {SHOULD_BE_EQUAL[setting]}'
    if pins := _unmatched(reading):
        yield f'tasks whose patterns match no live node: {len(pins)} ({", ".join(cut(pin.task_id) for pin in pins[:5])})'
    for row in hand_overs(reading):
        if row['held']:
            yield f'node {row["owner"]!r} is still busy with {counted(len(row["held"]), "token")} that it is to hand over'
    for record in (*snapshot.unreadable, *reading.locks.unreadable):
        yield f'the {record.kind} {record.key!r} cannot be read: {record.problem}'
