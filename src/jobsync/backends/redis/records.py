"""Records as the scripts hand them over, and back."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from jobsync.core.model import (
    Audit,
    Claim,
    Leadership,
    LockRequest,
    Member,
    Node,
    NodeRef,
    NodeState,
    Pin,
    Rebalance,
    Registration,
    Revision,
    TaskLock,
    Timeline,
)

__all__ = [
    'joined_text',
    'leadership_of',
    'locks_of',
    'members_of',
    'microseconds',
    'moment',
    'node_of',
    'packed_members',
    'packed_pin',
    'packed_rebalance',
    'packed_record',
    'packed_requests',
    'pins_of',
    'rebalances_of',
    'records_of',
    'revision_of',
    'timeline_of',
]

Record = TypeVar('Record', Claim, Audit)

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
SEPARATOR = '\0'


def moment(microseconds: bytes | str | int) -> dt.datetime:
    """A time of the server's."""
    return EPOCH + int(microseconds) * MICROSECOND


def microseconds(moment: dt.datetime) -> int:
    """The opposite of ``moment``."""
    return (moment - EPOCH) // MICROSECOND


def joined_text(revision: Revision | None) -> str:
    """A revision as the scripts compare it; '' for none."""
    return '' if revision is None else f'{revision.number}:{revision.stamp}'


def revision_of(number: bytes | str, stamp: bytes | str) -> Revision:
    """A revision from its two parts."""
    return Revision(int(number), int(stamp))


def timeline_of(generation: bytes, id_: bytes, store: bytes) -> Timeline:
    """A timeline from its three parts."""
    return Timeline(int(generation), id_.decode(), store.decode())


def leadership_of(epoch: bytes, leader: bytes, run: bytes) -> Leadership:
    """The leadership from its three parts; the empty name is nobody's."""
    return Leadership(int(epoch), NodeRef(leader.decode(), run.decode()) if leader else None)


def packed_record(node: Registration) -> str:
    """What a node says of itself, and no script looks into."""
    return json.dumps([sorted(node.replaces), node.timeout_sec, node.host, node.pid])


def node_of(raw: bytes) -> Node:
    """A node's record."""
    found = json.loads(raw)
    replaces, timeout_sec, host, pid = json.loads(found['record'])
    return Node(
        name=found['name'],
        incarnation=found['run'],
        heartbeat=int(found['heartbeat']),
        seen=revision_of(*found['seen'].split(':')),
        holding=frozenset(map(int, found['holding'].split(','))) if found['holding'] else frozenset(),
        state=NodeState(found['state']),
        replaces=frozenset(replaces) | ({found['replaced']} if found['replaced'] else set()),
        weight=float(found['weight']),
        timeout_sec=timeout_sec,
        host=host,
        pid=pid,
        created_on=moment(found['created_on']),
        last_heartbeat=moment(found['last_heartbeat']) if found['last_heartbeat'] else None,
    )


def packed_members(members: Mapping[str, Member | None]) -> str:
    """Members to put, and names to remove; see ``commit.lua``."""
    return json.dumps({name: json.dumps(attrs.astuple(member)) if member else False for name, member in members.items()})


def members_of(flat: Sequence[bytes]) -> dict[str, Member]:
    """Members from names and members in turn."""
    return {name.decode(): Member(*json.loads(raw)) for name, raw in _pairs(flat)}


def packed_pin(pin: Pin) -> str:
    """A pin."""
    return json.dumps([pin.id, pin.task_id, pin.owner, pin.target, pin.version, pin.pattern])


def pins_of(raw: Sequence[bytes]) -> tuple[Pin, ...]:
    """Pins in order of their ids."""
    return tuple(Pin(*found) for found in sorted(_all(raw)))


def lock_of(found: Sequence[str]) -> TaskLock:
    """A task lock; see ``edit_locks.lua``."""
    id_, task, patterns, reason, created_by, created_at, expires_at, registered = found
    return TaskLock(
        id=int(id_),
        task_id=task,
        patterns=tuple(json.loads(patterns)),
        reason=reason[1:] if reason else None,
        created_by=created_by,
        created_at=moment(created_at),
        expires_at=moment(expires_at) if expires_at else None,
        registered=int(registered),
    )


def _all(raw: Sequence[bytes]) -> list[Any]:
    """Many JSON texts, read as one."""
    found: list[Any] = json.loads(b'[' + b','.join(raw) + b']')
    return found


def locks_of(raw: Sequence[bytes]) -> tuple[TaskLock, ...]:
    """Task locks in order of their ids."""
    return tuple(sorted(map(lock_of, _all(raw)), key=lambda lock: lock.id))


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def records_of(kind: type[Record], flat: Sequence[bytes]) -> Iterator[Record]:
    """Claims or audits from records and times in turn."""
    for record, time in _pairs(flat):
        date, item, node = record.decode().split(SEPARATOR)
        yield kind(item, node, dt.date.fromisoformat(date), moment(time))


def packed_rebalance(revision: Revision, leader: str, figures: Iterable[object]) -> str:
    """A rebalance: first what makes it another than all others, and sorts it."""
    return json.dumps([f'{revision.number:020d}', str(revision.stamp), leader, *figures])


def rebalances_of(flat: Sequence[bytes]) -> Iterator[Rebalance]:
    """Rebalances from records and times in turn."""
    for raw, time in _pairs(flat):
        _, _, leader, reason, before, after, moved, duration = json.loads(raw)
        yield Rebalance(moment(time), reason, leader, before, after, moved, duration)


def packed_requests(requests: Iterable[LockRequest]) -> Iterator[object]:
    """Locks to put, each task once as its last request says; see ``edit_locks.lua``."""
    for put in {request.task_id: request for request in requests}.values():
        yield from (put.task_id, json.dumps(put.patterns), '' if put.reason is None else '+' + put.reason, put.created_by)
        yield '' if put.expires_in is None else put.expires_in // MICROSECOND
