"""Records as the scripts hand them over, and back."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TypeVar

import attrs

from jobsync.backend import (
    Audit,
    Claim,
    Leadership,
    LockReading,
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
    Unreadable,
)
from jobsync.backends.redis.seals import SpoiltError, sealed, unsealed

__all__ = [
    'joined_text',
    'leadership_of',
    'locks_of',
    'members_of',
    'microseconds',
    'moment',
    'node_of',
    'nodes_of',
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
T = TypeVar('T')

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
SEPARATOR = '\0'
NUMBER = 20
"""The length of the revision's number before a rebalance."""


def _readable(kind: str, flat: Sequence[bytes], read: Callable[[bytes], T]) -> tuple[list[T], tuple[Unreadable, ...]]:
    """Return what can be read of names and sealed records in turn, and report the rest."""
    found, spoilt = [], []
    for name, raw in _pairs(flat):
        try:
            found.append(read(unsealed(name, raw)))
        except (SpoiltError, ValueError, TypeError, KeyError) as error:
            spoilt.append(Unreadable(kind, name.decode(errors='replace'), f'{error}: left out'))
    return found, tuple(spoilt)


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


def nodes_of(flat: Sequence[bytes]) -> tuple[list[Node], tuple[Unreadable, ...]]:
    """Return the nodes, from names and records in turn, and those that cannot be read."""
    return _readable('node', flat, _node)


def node_of(name: str, raw: bytes) -> Node:
    """Return a node from its record."""
    return _node(unsealed(name.encode(), raw))


def _node(text: bytes) -> Node:
    found = json.loads(text)
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
        candidate=found['candidate'] == '1',
    )


def packed_members(members: Mapping[str, Member | None]) -> str:
    """Members to put, and names to remove; see ``commit.lua``."""
    return json.dumps({name: member is not None and _packed_member(name, member) for name, member in members.items()})


def _packed_member(name: str, member: Member) -> str:
    return sealed(name.encode(), json.dumps(attrs.astuple(member)).encode()).decode()


def members_of(flat: Sequence[bytes]) -> dict[str, Member]:
    """Return the members, from names and members in turn; ``SpoiltError`` if one of them cannot be read."""
    return {name.decode(): Member(*json.loads(unsealed(name, raw))) for name, raw in _pairs(flat)}


def packed_pin(pin: Pin) -> bytes:
    """A pin."""
    return sealed(b'%d' % pin.id, json.dumps(attrs.astuple(pin)).encode())


def pins_of(flat: Sequence[bytes]) -> tuple[Pin, ...]:
    """Return the pins in order of their ids, from ids and pins in turn; ``SpoiltError`` if one of them cannot be read."""
    texts = [unsealed(id_, raw) for id_, raw in _pairs(flat)]
    found = json.loads(b'[' + b','.join(texts) + b']')  # many texts read as one take a third of the time
    return tuple(Pin(*fields) for fields in sorted(found, key=itemgetter(0)))


def _lock(text: bytes) -> TaskLock:
    id_, task, patterns, reason, created_by, created_at, expires_at, registered = json.loads(text)
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


def locks_of(flat: Sequence[bytes]) -> LockReading:
    """Return the task locks in order of their ids, from tasks and locks in turn."""
    found, spoilt = _readable('lock', flat, _lock)
    return LockReading(tuple(sorted(found, key=lambda lock: lock.id)), spoilt)


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def records_of(kind: type[Record], flat: Sequence[bytes]) -> Iterator[Record]:
    """Return claims or audits from records and times in turn, those left out that jobsync did not write."""
    for record, time in _pairs(flat):
        with contextlib.suppress(ValueError, OverflowError):
            date, item, node = record.decode().split(SEPARATOR)
            yield kind(item, node, dt.date.fromisoformat(date), moment(time))


def packed_rebalance(stamp: int, leader: str, figures: Iterable[object]) -> str:
    """Return a rebalance. The script puts the revision's number before it, by which those of one moment are sorted."""
    return json.dumps([str(stamp), leader, *figures])


def rebalances_of(flat: Sequence[bytes]) -> Iterator[Rebalance]:
    """Return rebalances from records and times in turn, those left out that jobsync did not write."""
    for raw, time in _pairs(flat):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            _, leader, reason, before, after, moved, duration = json.loads(raw[NUMBER:])
            yield Rebalance(moment(time), reason, leader, before, after, moved, duration)


def packed_requests(requests: Iterable[LockRequest]) -> Iterator[object]:
    """Locks to put, each task once as its last request says; see ``edit_locks.lua``."""
    for put in {request.task_id: request for request in requests}.values():
        yield from (put.task_id, json.dumps(put.patterns), '' if put.reason is None else '+' + put.reason, put.created_by)
        yield '' if put.expires_in is None else put.expires_in // MICROSECOND
