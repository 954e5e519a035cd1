"""Records in the form in which the scripts take and return them.

A record is stored as its *seal* and its text. The seal is a digest of the record's key and text. The scripts (``common.lua``) and
this module apply one rule: a record whose seal does not fit was not written by jobsync, and counts as absent (rule R9).
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import attrs

from jobsync.backend import (
    Leadership,
    LockReading,
    LockRequest,
    Member,
    Node,
    NodeRef,
    NodeState,
    Pin,
    Registration,
    Revision,
    TaskLock,
    Timeline,
    Unreadable,
)

__all__ = [
    'SpoiltRecord',
    'check_complete',
    'leadership_of',
    'locks_of',
    'members_of',
    'microseconds',
    'moment',
    'node_of',
    'nodes_of',
    'packed_fields',
    'packed_members',
    'packed_record',
    'packed_requests',
    'pairs',
    'pins_of',
    'revision_of',
    'revision_text',
    'run_words',
    'sealed',
    'shared_fields_of',
    'timeline_of',
    'timeline_words',
    'unsealed',
]

T = TypeVar('T')

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
STATES = {state.value: state for state in NodeState}
"""The states by their texts: found in a fifth of the time that a call of the enum takes."""
SEAL = 40
"""The length of a seal."""


class SpoiltRecord(Exception):
    """The seal of a record does not fit, or records are missing."""


def check_complete(missing: bytes) -> None:
    """Raise ``SpoiltRecord`` if records of a kind are missing; empty for no kind."""
    if missing:
        raise SpoiltRecord(f'what jobsync wrote as {missing.decode()!r} is missing')


def sealed(key: bytes, text: bytes) -> bytes:
    """Return a record's text with its seal in front."""
    return _seal(key, text) + text


def _seal(key: bytes, text: bytes | memoryview) -> bytes:
    seal = hashlib.sha1(key + b'\0', usedforsecurity=False)
    seal.update(text)
    return seal.hexdigest().encode()


def unsealed(key: bytes, raw: bytes) -> bytes:
    """Return the text of a sealed record; ``SpoiltRecord`` unless the seal is that of this text under this key."""
    if _seal(key, memoryview(raw)[SEAL:]) != raw[:SEAL]:
        raise SpoiltRecord(
            f'{raw[:100].decode(errors="replace")!r} is not what jobsync wrote as {key.decode(errors="replace")!r}'
        )
    return raw[SEAL:]


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pairs of a list in which keys and values alternate."""
    return zip(flat[::2], flat[1::2], strict=True)


def _readable(kind: str, flat: Sequence[bytes], read: Callable[[bytes], T]) -> tuple[list[T], tuple[Unreadable, ...]]:
    """Return the sealed records that can be read, and reports of the others."""
    found, spoilt = [], []
    for name, raw in pairs(flat):
        try:
            found.append(read(unsealed(name, raw)))
        except (SpoiltRecord, ValueError, TypeError, KeyError, OverflowError) as error:
            key = name.decode(errors='replace').rpartition('\0')[2]  # of an item the task, without its group
            spoilt.append(Unreadable(kind, key, f'{error}: left out'))
    return found, tuple(spoilt)


# Times, revisions, timelines


def moment(microseconds: bytes | str | int) -> dt.datetime:
    """Return a time of the server's as a ``datetime``."""
    return EPOCH + int(microseconds) * MICROSECOND


def microseconds(moment: dt.datetime) -> int:
    """Return a ``datetime`` as a time of the server's."""
    return (moment - EPOCH) // MICROSECOND


def revision_text(revision: Revision | None) -> str:
    """Return a revision as one text, '' for None."""
    return '' if revision is None else f'{revision.number}:{revision.stamp}'


def revision_of(number: bytes | str, stamp: bytes | str) -> Revision:
    """Return a revision from its two parts."""
    return Revision(int(number), int(stamp))


def timeline_of(generation: bytes, id_: bytes, store: bytes) -> Timeline:
    """Return a timeline from its three parts."""
    return Timeline(int(generation), id_.decode(), store.decode())


def timeline_words(timeline: Timeline) -> dict[str, Any]:
    """Return the arguments of a script that compares the timeline."""
    return {'generation': timeline.generation, 'timeline': timeline.id, 'timeline_store': timeline.store}


def run_words(ref: NodeRef) -> dict[str, Any]:
    """Return the arguments of a script that names a run."""
    return {'name': ref.name, 'run': ref.incarnation}


def leadership_of(epoch: bytes, leader: bytes, run: bytes) -> Leadership:
    """Return the leadership from its three parts; an empty name means that no node leads."""
    return Leadership(int(epoch), NodeRef(leader.decode(), run.decode()) if leader else None)


def shared_fields_of(answer: Sequence[bytes]) -> tuple[dict[str, Any], Sequence[Any]]:
    """Return the fields that a pulse and a snapshot share (``shared_fields`` in ``common.lua``), and the rest of the answer."""
    fields = {
        'timeline': timeline_of(*answer[:3]),
        'store': answer[3].decode(),
        'revision': revision_of(*answer[4:6]),
        'version': revision_of(*answer[6:8]),
        'leadership': leadership_of(*answer[8:11]),
        'position': int(answer[11]),
    }
    return fields, answer[12:]


# Nodes


def packed_record(node: Registration) -> str:
    """Return the fields of a node that no script reads."""
    return json.dumps([sorted(node.replaces), node.timeout_sec, node.host, node.pid, node.settings])


def nodes_of(flat: Sequence[bytes]) -> tuple[list[Node], tuple[Unreadable, ...]]:
    """Return the nodes in the order of ``created_on``, from names and records in turn, and reports of the unreadable ones."""
    nodes, unreadable = _readable('node', flat, _node)
    return sorted(nodes, key=lambda node: node.created_on), unreadable


def node_of(name: str, raw: bytes) -> Node:
    """Return a node from its record."""
    return _node(unsealed(name.encode(), raw))


@functools.lru_cache(maxsize=8192)
def _unpacked_record(text: str) -> tuple[frozenset[str], float, str, int, str]:
    """Return what ``packed_record`` has packed. It stays as it is while a node runs, and snapshots follow each other closely."""
    replaces, timeout_sec, host, pid, settings = [*json.loads(text), '{}'][:5]  # a record of schema 3 has no settings
    return frozenset(replaces), timeout_sec, host, pid, settings


def _node(text: bytes) -> Node:
    found = json.loads(text.decode())  # of bytes it would find out the encoding first
    replaces, timeout_sec, host, pid, settings = _unpacked_record(found['record'])
    return Node(
        name=found['name'],
        incarnation=found['run'],
        heartbeat=int(found['heartbeat']),
        seen=revision_of(*found['seen'].split(':')),
        holding=frozenset(map(int, found['holding'].split(','))) if found['holding'] else frozenset(),
        state=STATES[found['state']],
        replaces=replaces | {found['replaced']} if found['replaced'] else replaces,
        weight=float(found['weight']),
        timeout_sec=timeout_sec,
        host=host,
        pid=pid,
        created_on=moment(found['created_on']),
        last_heartbeat=moment(found['last_heartbeat']) if found['last_heartbeat'] else None,
        candidate=found['candidate'] == '1',
        settings=settings,
        stalled=found.get('stalled') == '1',
    )


# Members and pins


def packed_fields(key: str, record: Member | Pin) -> str:
    """Return a member or pin as the text to store under its name or id."""
    return sealed(key.encode(), json.dumps(attrs.astuple(record)).encode()).decode()


def packed_members(members: Mapping[str, Member | None]) -> str:
    """Return members to put, and names to remove; see ``commit.lua``."""
    return json.dumps({name: member is not None and packed_fields(name, member) for name, member in members.items()})


def members_of(flat: Sequence[bytes]) -> dict[str, Member]:
    """Return the members, from names and members in turn; ``SpoiltRecord`` if one of them cannot be read."""
    texts = {name.decode(): unsealed(name, raw) for name, raw in pairs(flat)}
    return {name: Member(*fields) for name, fields in zip(texts, _read_all(texts.values()), strict=True)}


def pins_of(flat: Sequence[bytes]) -> tuple[Pin, ...]:
    """Return the pins in order of their ids, from ids and pins in turn; ``SpoiltRecord`` if one of them cannot be read."""
    texts = [unsealed(id_, raw) for id_, raw in pairs(flat)]
    return tuple(Pin(*fields) for fields in sorted(_read_all(texts), key=itemgetter(0)))


def _read_all(texts: Iterable[bytes]) -> list[Any]:
    """Return what JSON texts say: read as one they take a third of the time."""
    found: list[Any] = json.loads(b'[' + b','.join(texts) + b']')
    return found


# Task locks


def packed_requests(requests: Iterable[LockRequest]) -> Iterator[object]:
    """Yield locks to put, each task once as its last request has it; see ``edit_locks.lua``."""
    for put in {request.task_id: request for request in requests}.values():
        yield from (put.task_id, json.dumps(put.patterns), '' if put.reason is None else '+' + put.reason, put.created_by)
        yield '' if put.expires_in is None else put.expires_in // MICROSECOND
        yield repr(put.cost)


def locks_of(flat: Sequence[bytes]) -> LockReading:
    """Return the task locks in order of their ids, from tasks and locks in turn."""
    found, spoilt = _readable('lock', flat, _lock)
    return LockReading(tuple(sorted(found, key=lambda lock: lock.id)), spoilt)


def _lock(text: bytes) -> TaskLock:
    # A record of schema 3 has neither group nor cost.
    fields: list[Any] = [*json.loads(text), '', 1][:10]
    id_, task, patterns, reason, created_by, created_at, expires_at, registered, group, cost = fields
    return TaskLock(
        id=int(id_),
        task_id=task,
        patterns=tuple(json.loads(patterns)),
        reason=reason[1:] if reason else None,
        created_by=created_by,
        created_at=moment(created_at),
        expires_at=moment(expires_at) if expires_at else None,
        registered=int(registered),
        group=group,
        cost=float(cost),
    )
