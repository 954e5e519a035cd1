"""The record of the nodes that have led, and since when: the newest of them, beside what operators have done (``ACTIONS``).

The store keeps the present leader and its epoch alone. A leader that moves tokens shows in the history of rebalances, but one
that finds nothing to move does not. So a node that has taken the leadership records it, as an item on which no decision depends.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from jobsync._core.records import ACTIONS, Leadership, LockEdit, LockFilter, LockRequest, NodeRef, TaskLock
from jobsync._event_log import EventLogger
from jobsync.backend import Backend
from jobsync.rows import LeaderRow

__all__ = ['LEADER', 'leader_changes', 'record_leader']

_logger = EventLogger('jobsync.node')
LEADER = 'leader'
"""The event of a record, in the place of an action."""
_MOST = 20
"""How many changes are kept. Leaders may follow each other without end, and leaders read all items."""
_KEPT = dt.timedelta(days=365)


def record_leader(backend: Backend, leadership: Leadership, before: NodeRef | None) -> None:
    """Record that a node has taken the leadership, and which one had it before if known, and remove the oldest records.

    A failure is logged: nothing depends on the record.
    """
    epoch = leadership.epoch
    # Twice as many as are kept: the leaders of some epochs could not record themselves, and removed nothing either.
    outdated = frozenset(map(_id_of, range(epoch - 2 * _MOST, epoch - _MOST + 1)))
    words = f'epoch {epoch}' + (f', before it {before.name}' if before else '')
    leader = leadership.node.name if leadership.node else ''
    request = LockRequest(_id_of(epoch), (LEADER,), leader, words, _KEPT)
    try:
        backend.edit_locks(LockEdit(LockFilter(task_ids=outdated), (request,), ACTIONS))
    except Exception as error:  # noqa: BLE001  (a backend of another distribution may raise anything)
        _logger.warning('epoch %d has no record of its leader: %s', epoch, error)


def leader_changes(locks: Iterable[TaskLock]) -> list[LeaderRow]:
    """Return the recorded changes of the leadership among the items, newest first."""
    found = [
        LeaderRow(epoch=epoch, leader=lock.created_by, since=lock.created_at)
        for lock in locks
        if lock.group == ACTIONS and lock.patterns[:1] == (LEADER,) and (epoch := _epoch_of(lock.task_id)) is not None
    ]
    return sorted(found, key=lambda row: row['epoch'], reverse=True)


def _epoch_of(record_id: str) -> int | None:
    """Return the epoch of a record; None of one that was given another id manually."""
    event, _, number = record_id.partition(' ')
    return int(number) if event == LEADER and number.isdecimal() else None


def _id_of(epoch: int) -> str:
    return f'{LEADER} {epoch}'
