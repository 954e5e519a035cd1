"""A frame: what the page shows of one reading of a cluster, in the JSON in which browsers get it.

The parts are made into text once, however many browsers follow. A browser that has an older frame gets what differs from it. The
nodes, and the times of their heartbeats, are compared one by one: of a thousand nodes a fifth sends a heartbeat each second.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from jobsync._cluster import actions, rows
from jobsync._cluster.reading import ClusterReading
from jobsync._core.counting import counted
from jobsync.rows import ClusterNode, ClusterStatus, EventRow, HandOver, QuarantinedRow, RebalanceRow, TaskRow

__all__ = ['INCOMPLETE_SEC', 'Backlog', 'Frame', 'as_json', 'frame_of']

INCOMPLETE_SEC = 300
"""After how many seconds a task that was begun counts as incomplete."""
_MOST = 100
"""How many entries of a list are sent to the page, which gives the number of all of them besides."""
_MOST_PROBLEMS, _MOST_UNMATCHED, _MOST_ACTIONS, _MOST_MOVES = 20, 20, 40, 12
_LATE = 2 / 3
"""What part of its timeout a node may be silent before the page shows it as late."""
_LONGEST = 400
"""How many characters of a text that people have written, or that lists names, are sent."""


@attrs.frozen
class Backlog:
    """What is read less often than the rest: tasks begun and not complete, and tasks in quarantine."""

    incomplete: Sequence[TaskRow] = ()
    quarantined: Sequence[QuarantinedRow] = ()
    date: dt.date | None = None
    """The date at which tasks are in quarantine. A release has to name it: the day may end before a person has decided."""
    problem: str | None = None
    """Why ``incomplete`` could not be read, and is what it was before."""
    is_quarantine_read: bool = True
    """False if ``quarantined`` is what it was before as well."""


@attrs.frozen(eq=False)
class Frame:
    """What is shown of one reading."""

    read_at: float
    """When the store was read, by the monotonic clock."""
    reading: ClusterReading = attrs.field(repr=False)
    parts: Mapping[str, str] = attrs.field(repr=False)
    """The JSON of each part that is sent as a whole, by its name."""
    tables: Mapping[str, Mapping[str, str]] = attrs.field(repr=False)
    """The JSON of each row of ``nodes`` and ``beats``, by the JSON of the node's name."""

    def text(self) -> str:
        """Return the whole frame as JSON."""
        return _object({**self.parts, **{name: _table(table) for name, table in self.tables.items()}})

    def since(self, older: Frame) -> str:
        """Return, as JSON, what differs from an older frame: whole parts, and rows by name, null for those that went."""
        changed = {name: text for name, text in self.parts.items() if older.parts[name] != text}
        for name, table in self.tables.items():
            before = older.tables[name]
            differing = {key: text for key, text in table.items() if before.get(key) != text}
            differing |= dict.fromkeys(before.keys() - table.keys(), 'null')
            if differing:
                changed[name] = _table(differing)
        return _object(changed)


def frame_of(
    reading: ClusterReading, read_at: float, about: Mapping[str, Any], rebalances: Sequence[RebalanceRow], backlog: Backlog
) -> Frame:
    """Return the frame of a reading, with the newest rebalances. ``about`` is what the page says of cluster and server."""
    status, nodes = rows.status(reading), rows.node_rows(reading)
    moves = sorted(rows.hand_overs(reading), key=lambda row: -row['tokens'])
    leaving: Counter[str] = Counter()
    for row in moves:
        leaving[row['owner']] += row['tokens']
    parts: dict[str, Any] = {
        'about': about,
        'now': status['now'].timestamp(),
        'health': _health(reading, status, backlog),
        'status': _numbers(status),
        'moves': {'total': len(moves), 'rows': [_move(row) for row in moves[:_MOST_MOVES]]},
        'rebalances': [{**row, 'trigger_reason': _short(row['trigger_reason'])} for row in rebalances],
        'actions': [_action(row) for row in [*actions.actions(reading.locks.locks)][: -_MOST_ACTIONS - 1 : -1]],
        'locks': {'unmatched': len(status['unmatched']), 'tasks': list(map(_short, status['unmatched'][:_MOST_UNMATCHED]))},
        'items': _groups(reading),
        # The page has to name the task to the server again, so the id is never cut.
        'incomplete': {
            'total': len(backlog.incomplete),
            'rows': list(map(_begun, backlog.incomplete[:_MOST])),
            'is_read': backlog.problem is None,
        },
        'quarantined': {
            'total': len(backlog.quarantined),
            'rows': backlog.quarantined[:_MOST],
            'date': backlog.date,
            'is_read': backlog.is_quarantine_read,
        },
    }
    names = {node['name']: json.dumps(node['name']) for node in nodes}
    return Frame(
        read_at=read_at,
        reading=reading,
        parts={name: as_json(part) for name, part in parts.items()},
        tables={
            'nodes': {names[node['name']]: as_json(_node(node, leaving[node['name']])) for node in nodes},
            'beats': {
                names[node['name']]: f'{beat.timestamp():.2f}' for node in nodes if (beat := node['last_heartbeat']) is not None
            },
        },
    )


def as_json(value: object) -> str:
    """Return a value as JSON, with times in ISO 8601."""
    return json.dumps(value, default=_plain, separators=(',', ':'))


def _plain(value: object) -> object:
    if isinstance(value, dt.date):  # or a datetime, which is one
        return value.isoformat()
    raise TypeError(f'{value!r} has no form in JSON')


def _object(texts: Mapping[str, str]) -> str:
    return _table({json.dumps(name): text for name, text in texts.items()})


def _table(texts: Mapping[str, str]) -> str:
    return '{' + ','.join(f'{key}:{text}' for key, text in texts.items()) + '}'


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + '…'


def _begun(row: TaskRow) -> Mapping[str, Any]:
    return {**row, 'created_on': row['created_on'].timestamp()}


def _node(node: ClusterNode, moving: int) -> Mapping[str, Any]:
    """Return a node as the page has it, of whose tokens some are being handed over. What is usual is left out."""
    found: dict[str, Any] = {
        'state': node['state'],
        'tokens': node['tokens'],
        'timeout_sec': node['timeout_sec'],
        'since': round(node['created_on'].timestamp()),
        'host': node['host'],
        'pid': node['pid'],
    }
    usual = {'is_leader': False, 'is_drained': False, 'candidate': True, 'pins': 0, 'holding': 0, 'moving': 0, 'weight': 1}
    values: Mapping[str, Any] = {**node, 'moving': moving}
    found |= {name: values[name] for name, value in usual.items() if values[name] != value}
    return found


def _move(row: HandOver) -> Mapping[str, Any]:
    return {**row, 'tasks': len(row['tasks']), 'held': len(row['held'])}


def _action(row: EventRow) -> Mapping[str, Any]:
    return {**row, 'by': _short(row['by']), 'details': _short(row['details'])}


def _numbers(status: ClusterStatus) -> Mapping[str, Any]:
    left_out = ('problems', 'now', 'silent', 'drained', 'unmatched', 'unreadable', 'leader_changes')
    return {name: value for name, value in status.items() if name not in left_out}


def _health(reading: ClusterReading, status: ClusterStatus, backlog: Backlog) -> Mapping[str, Any]:
    """Return whether all is well (``ok``), something needs attention (``warn``), or work stands still (``bad``)."""
    late = []
    for node in reading.live.values():
        silence_sec = reading.silence_sec(node) or 0.0
        if silence_sec >= node.timeout_sec * _LATE:
            words = f'has sent no heartbeat for {silence_sec:.0f} s, and is taken for dead after {node.timeout_sec:g} s'
            late.append(f'node {node.name!r} ({node.host}, pid {node.pid}) {words}')
    problems = [*late, *status['problems']]
    if backlog.problem is not None:
        problems.append(backlog.problem)
    if quarantined := len(backlog.quarantined):
        problems.append(f'{counted(quarantined, "task is", "tasks are")} in quarantine: workers were lost at each')
    stands_still = not status['nodes'] or status['leader'] is None or status['tokens_unowned'] or status['silent']
    return {
        'level': 'bad' if stands_still else 'warn' if problems else 'ok',
        'total': len(problems),
        'problems': list(map(_short, problems[:_MOST_PROBLEMS])),
    }


def _groups(reading: ClusterReading) -> Mapping[str, Any]:
    """Return the groups of items: how many items each has, how many of them have no owner, and how many owners there are."""
    pins = reading.pin_of
    items: Counter[str] = Counter()
    owners: defaultdict[str, Counter[str | None]] = defaultdict(Counter)
    for lock in reading.locks.locks:
        if lock.is_item:
            items[lock.group] += 1
            pin = pins.get(lock.task_id)
            owners[lock.group][None if pin is None or pin.group != lock.group else pin.owner] += 1
    found = [
        {'group': group, 'items': items[group], 'unplaced': owners[group][None], 'owners': len(owners[group].keys() - {None})}
        for group in sorted(items)
    ]
    return {'total': len(found), 'unplaced': sum(group['unplaced'] for group in found), 'rows': found[:_MOST]}
