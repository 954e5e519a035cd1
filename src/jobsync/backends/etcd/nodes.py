"""A node's own record: one key each, which its heartbeat replaces and nothing else of the namespace."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from typing import Any

import attrs

from jobsync.backend import (
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
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.node_record import NodeRecord, record_of
from jobsync.backends.etcd.state import EtcdState
from jobsync.backends.etcd.store import EtcdStore, KeyReading, Write
from jobsync.errors import NameTaken, TimelineChanged

__all__ = ['EtcdNodes', 'all_records', 'found', 'joined']

TICK = dt.timedelta(microseconds=1)
WATCH_EVERY_SEC = 0.25
WATCH_ENDS_SEC = 5.0
"""Before the deadline of the call that wants to know the time."""


def found_record(reading: KeyReading, name: str) -> NodeRecord | None:
    """Return a node's record from a reading that asked for it; one that cannot be read is not there (rule R9)."""
    value = reading.values.get(reading.keys.node(name))
    with contextlib.suppress(ValueError):
        return None if value is None else record_of(name, value)
    return None


def found(reading: KeyReading, name: str) -> Node | None:
    """Return a node from a reading that asked for its record."""
    record = found_record(reading, name)
    return record.node if record else None


def all_records(reading: KeyReading) -> tuple[list[NodeRecord], list[Unreadable]]:
    """Return the records of a reading of everything, and those that cannot be read."""
    prefix = reading.keys.nodes
    records, unreadable = list[NodeRecord](), list[Unreadable]()
    for key, value in reading.values.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix).decode(errors='replace')
            try:
                records.append(record_of(name, value))
            except ValueError as error:
                unreadable.append(Unreadable('node', name, str(error)))
    return records, unreadable


def is_run(node: Node | None, ref: NodeRef) -> bool:
    """Return whether exactly this incarnation is JOINED."""
    return node is not None and node.ref == ref and node.state is NodeState.JOINED


def joined(reading: KeyReading, ref: NodeRef) -> NodeRecord:
    """Return the record of ``ref``; raise ``Evicted`` unless exactly that incarnation is JOINED."""
    record = found_record(reading, ref.name)
    if record is None or not is_run(record.node, ref):
        reading.state  # noqa: B018 - where there is no namespace, that is the answer
        raise evicted(ref)
    return record


class EtcdNodes:
    """Registering, beating, leaving, leading."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self._keys = store.keys
        self._last: dict[str, bytes] = {}
        """By name, the record as this handle last left it: most likely still the present one."""
        self._leader = ''
        """Who led at the last heartbeat; nobody has this name."""

    def last_known(self, name: str) -> KeyReading | None:
        """A reading of a node's record alone, if this handle was the last to write it, as far as is known."""
        value = self._last.get(name)
        return None if value is None else KeyReading({self._keys.node(name): value}, self._keys)

    def remember(self, name: str, value: bytes) -> None:
        """This is the record that was just written."""
        self._last[name] = value

    def still(self, reading: KeyReading, name: str) -> list[Any]:
        """Compare: the namespace is there, and the node's record as it was read."""
        return [requests.exists(self._keys.state), reading.same(self._keys.node(name))]

    def snapshot(self, reading: KeyReading) -> Snapshot:
        """See ``Backend.snapshot``; of a reading of everything."""
        state = reading.state
        records, unreadable = all_records(reading)
        self._store.time.read(records)
        return Snapshot(
            timeline=state.timeline,
            store=reading.cluster,
            now=self._store.time.earliest(),
            revision=state.revision,
            version=state.version,
            leadership=state.leadership,
            nodes=tuple(sorted((record.node for record in records), key=lambda node: node.created_on)),
            locks_revision=state.locks_revision,
            longest_timeout_sec=state.longest_timeout_sec,
            position=reading.at,
            unreadable=tuple(unreadable),
        )

    def read_time(self, deadline: float) -> None:
        """Read what the nodes say of the time, unless that is known."""
        if self._store.time.wants_reading:
            self._store.time.read(all_records(self._store.read_all(self._keys.state, self._keys.nodes, deadline))[0])

    def watch_time(self, deadline: float) -> None:
        """Read what the nodes say of the time until it is known for sure: at the longest, for as long as one must be silent to be
        taken for dead.
        """
        self.read_time(deadline)
        while not self._store.time.is_sure and time.monotonic() < deadline - WATCH_ENDS_SEC:
            time.sleep(WATCH_EVERY_SEC)
            self._store.time.read(all_records(self._store.read_all(self._keys.state, self._keys.nodes, deadline))[0])

    def register(
        self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None, deadline: float
    ) -> None:
        """See ``Backend.register``."""
        key = self._keys.node(node.ref.name)

        def decide(reading: KeyReading) -> bytes | Write[bytes]:
            state, before = reading.state, found(reading, node.ref.name)
            if state.timeline != timeline:
                raise TimelineChanged(f'the namespace {self._keys.namespace!r} lives in {state.timeline}, not in {timeline}')
            if before and before.state is NodeState.JOINED and before.beat != replacing:
                raise NameTaken(before)
            now = self._store.time.earliest()
            created_on = max(now, state.last_created + TICK)
            value = self._told(node.record(created_on, now, before)).encoded()
            longest = max(state.longest_timeout_sec, node.timeout_sec, node.longest_timeout_sec)
            revision = state.next_revision(at_least)
            after = attrs.evolve(state, revision=revision, last_created=created_on, longest_timeout_sec=longest)
            return self._write(reading, after, key, value, result=value)

        self.remember(node.ref.name, self._store.change(self._state_and(key), decide, deadline))

    def set_weight(self, ref: NodeRef, weight: float, deadline: float) -> None:
        """See ``Backend.set_weight``."""
        key = self._keys.node(ref.name)

        def decide(reading: KeyReading) -> bytes | Write[bytes]:
            record, state = joined(reading, ref), reading.state
            if record.node.weight == weight:
                return record.encoded()
            value = attrs.evolve(record, node=attrs.evolve(record.node, weight=weight)).encoded()
            return self._write(reading, attrs.evolve(state, revision=state.next_revision()), key, value, result=value)

        self.remember(ref.name, self._store.change(self._state_and(key), decide, deadline))

    def deregister(self, ref: NodeRef, deadline: float) -> None:
        """See ``Backend.deregister``."""
        key = self._keys.node(ref.name)

        def decide(reading: KeyReading) -> Write[None] | None:
            state, record = reading.state, found_record(reading, ref.name)
            if record is None or not is_run(record.node, ref):
                return None
            node = attrs.evolve(record.node, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None)
            value = attrs.evolve(record, node=node).encoded()
            return self._write(reading, attrs.evolve(state, revision=state.next_revision()), key, value, result=None)

        self._store.change(self._state_and(key), decide, deadline)
        self._last.pop(ref.name, None)

    def acquire_leadership(self, ref: NodeRef, epoch: int, deadline: float) -> Leadership:
        """See ``Backend.acquire_leadership``."""

        def decide(reading: KeyReading) -> Leadership | Write[Leadership]:
            state = reading.state
            joined(reading, ref)
            if state.leadership.epoch != epoch:
                return state.leadership
            leadership = Leadership(epoch + 1, ref)
            after = attrs.evolve(state, leadership=leadership, revision=state.next_revision())
            # Whatever ends the node's registration changes the state too.
            return Write(
                [reading.same(self._keys.state)], [requests.put(self._keys.state, after.encoded())], lambda _: leadership
            )

        return self._store.change(self._state_and(self._keys.node(ref.name)), decide, deadline)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool, deadline: float) -> Pulse:
        """See ``Backend.heartbeat``: one transaction, if the record is as this handle left it, and the leader who it was."""
        key, asked = self._keys.node(ref.name), self._leader
        others = [requests.get(self._keys.state), requests.get(self._keys.node(asked))]

        def decide(reading: KeyReading) -> tuple[NodeRecord, KeyReading] | Write[tuple[NodeRecord, KeyReading]]:
            node = joined(reading, ref).node
            record = self._told(
                attrs.evolve(
                    node,
                    heartbeat=node.heartbeat + 1,
                    seen=seen,
                    holding=frozenset(holding),
                    candidate=candidate,
                    last_heartbeat=self._store.time.earliest(),
                )
            )
            operations = [requests.put(key, record.encoded()), *others]
            return Write(self.still(reading, ref.name), operations, lambda answered: (record, answered))

        record, reading = self._store.change([requests.get(key), *others], decide, deadline, self.last_known(ref.name))
        self.remember(ref.name, record.encoded())
        self._store.time.beaten(record)
        while (leading := reading.state.leadership.node) is not None and leading.name not in (asked, ref.name):
            asked = leading.name
            reading = self._store.read(self._state_and(self._keys.node(asked)), deadline)
        self._leader = asked = leading.name if leading else ''
        leader = record if asked == ref.name else found_record(reading, asked)
        if leader and not (leading and is_run(leader.node, leading)):
            leader = None
        self._store.time.told(None if asked == ref.name else leader)
        return self._pulse(record.node, reading, leader.node if leader else None)

    def _told(self, node: Node) -> NodeRecord:
        """Return the record of a node of this handle, with what it tells of the time."""
        return NodeRecord(node, self._store.time.clock(), self._store.time.latest())

    def _pulse(self, node: Node, reading: KeyReading, leader: Node | None) -> Pulse:
        """Return how things stand after a heartbeat of ``node``, while ``leader`` leads."""
        state = reading.state
        beat = leader and leader.last_heartbeat
        return Pulse(
            heartbeat=node.heartbeat,
            timeline=state.timeline,
            store=reading.cluster,
            revision=state.revision,
            version=state.version,
            leadership=state.leadership,
            leader_heartbeat=leader.heartbeat if leader else None,
            leader_is_candidate=leader.candidate if leader else True,
            position=reading.at,
            leader_age_sec=(self._store.time.earliest() - beat).total_seconds() if beat else None,
        )

    def _state_and(self, key: bytes) -> list[Any]:
        return [requests.get(self._keys.state), requests.get(key)]

    def _write(self, reading: KeyReading, after: EtcdState, key: bytes, value: bytes, result: Any) -> Write[Any]:
        """The state and one node, if both are as they were read."""
        compares = [reading.same(self._keys.state), reading.same(key)]
        return Write(compares, [requests.put(self._keys.state, after.encoded()), requests.put(key, value)], lambda _: result)
