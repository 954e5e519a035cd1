"""A node's own record: one key, which the node's heartbeats replace without touching the state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from jobsync.backend import Leadership, Node, NodeRef, NodeState, Pulse, Registration, Revision, Snapshot, Timeline
from jobsync.backends._common.values import next_created_on, next_revision
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.node_record import NodeRecord
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.state import EtcdState
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite
from jobsync.errors import Evicted, NameTaken, TimelineChanged

__all__ = ['EtcdNodes']


class EtcdNodes:
    """Registration, heartbeats, weights, leadership and snapshots. Thread-safe."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self._keys = store.keys
        self._leader = ''
        """The name that led at the last heartbeat; no node has this one."""

    def snapshot(self) -> Snapshot:
        reading = self._store.read_cluster(self._store.soon())
        state, (records, unreadable) = reading.state, reading.records()
        self._store.time.read_all(records)
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

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        name, deadline = node.ref.name, self._store.soon()

        def decide(reading: KeyReading) -> EtcdWrite[bytes]:
            state, before = reading.state, reading.node(name)
            if state.timeline != timeline:
                raise TimelineChanged(f'the namespace {self._keys.namespace!r} lives in {state.timeline}, not in {timeline}')
            # t=0  a newcomer takes the node under its name for dead, at heartbeat 7
            # t=1  the node sends heartbeat 8
            # t=2  the newcomer registers over heartbeat 7
            # So the record must be the one that was observed, here and, by the comparison, when the write arrives.
            if before and not node.may_replace(before, replacing):
                raise NameTaken(before)
            now = self._store.time.earliest()
            created_on = next_created_on(state.last_created, now)
            longest = max(state.longest_timeout_sec, node.timeout_sec, node.longest_timeout_sec)
            after = attrs.evolve(
                state, revision=next_revision(state.revision, at_least), last_created=created_on, longest_timeout_sec=longest
            )
            return self._write(reading, after, self._record(node.record(created_on, now, before)), concerned=())

        # t=0  the clock of this node's machine is a day ahead; the node has read no other one, so it knows no other time
        # t=1  it registers a day ahead; each node that registers within this day comes right after it, by ``last_created``
        # So the node reads first what the others say about the time, as before each other write that has a time.
        self._store.read_time(deadline)
        self._change(name, decide, deadline)

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        def decide(reading: KeyReading) -> bytes | EtcdWrite[bytes]:
            record, state = reading.joined(ref), reading.state
            if (record.node.weight, record.node.stalled) == (weight, stalled):
                return record.encoded()
            after = attrs.evolve(state, revision=next_revision(state.revision))
            node = attrs.evolve(record.node, weight=weight, stalled=stalled)
            return self._write(reading, after, attrs.evolve(record, node=node), concerned=())

        self._change(ref.name, decide, self._store.soon())

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        def decide(reading: KeyReading) -> EtcdWrite[bytes] | None:
            state = reading.state
            try:
                record = reading.joined(ref)
            except Evicted:
                return None
            left = attrs.evolve(record.node, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None, stalled=died)
            after = attrs.evolve(state, revision=next_revision(state.revision))
            concerned = None if state.leadership.node == ref else ()
            return self._write(reading, after, attrs.evolve(record, node=left), concerned)

        self._change(ref.name, decide, self._store.soon())
        self._store.remember(self._keys.node(ref.name), None)

    def remove_node(self, ref: NodeRef) -> bool:
        state_key, key = self._keys.state, self._keys.node(ref.name)

        def decide(reading: KeyReading) -> bool | EtcdWrite[bool]:
            try:
                reading.joined(ref)
            except Evicted:
                return False
            after = attrs.evolve(reading.state, revision=next_revision(reading.state.revision))
            operations = [*self._store.put_state(after), requests.delete(key)]
            return EtcdWrite([reading.same(state_key), reading.same(key)], operations, True)

        return self._store.change(self._state_and(ref.name), decide, self._store.soon())[0]

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        def decide(reading: KeyReading) -> Leadership | EtcdWrite[Leadership]:
            reading.joined(ref)
            state = reading.state
            if state.leadership.epoch != epoch:
                return state.leadership
            leadership = Leadership(epoch + 1, ref)
            after = attrs.evolve(state, leadership=leadership, revision=next_revision(state.revision))
            # Whatever ends the node's registration changes the state too, so the state alone is compared.
            return EtcdWrite([reading.same(self._keys.state)], self._store.put_state(after), leadership)

        return self._store.change(self._state_and(ref.name), decide, self._store.soon())[0]

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """See ``Backend.heartbeat``.

        One transaction, if the record is as this handle left it and the leader is the one of the last heartbeat.
        """
        store, key, leader = self._store, self._keys.node(ref.name), self._leader
        deadline, others = store.soon(), self._state_and(leader)

        def decide(reading: KeyReading) -> tuple[NodeRecord, bytes] | EtcdWrite[tuple[NodeRecord, bytes]]:
            node = reading.joined(ref).node
            beat = attrs.evolve(
                node,
                heartbeat=node.heartbeat + 1,
                seen=seen,
                holding=frozenset(holding),
                candidate=candidate,
                last_heartbeat=store.time.earliest(),
            )
            record = self._record(beat)
            value = record.encoded()
            # t=0  this handle remembers its node's record at heartbeat 7
            # t=1  the leader, which reads no heartbeat for the timeout, commits the eviction: the record is gone
            # t=2  heartbeat 8 arrives
            # So the put compares the record with the remembered one. The commit compares it too: one of the two comes first.
            compares = [requests.exists(self._keys.state), reading.same(key)]
            return EtcdWrite(compares, [requests.put(key, value), *others], (record, value))

        (record, value), reading = store.change([requests.get(key), *others], decide, deadline, store.remembered(key))
        store.remember(key, value)
        store.time.read_own(record)
        leading = reading.state.leadership.node
        # Another thread may set the handle's own one meanwhile, to a leader of another moment.
        self._leader = name = leading.name if leading else ''
        is_own = name == ref.name
        if is_own:
            found: NodeRecord | None = record
        elif leading is None or name == leader:
            found = reading.record(name)
        else:
            # t=0  heartbeat 7 is written, and the state is read with it: version 5, and the leader is not the remembered one
            # t=1  another handle writes heartbeat 8 of the node, and reads version 5
            # t=2  the leader commits version 6
            # t=3  its record is read. With the state of t=3, heartbeat 7 would bring back a later version than heartbeat 8.
            # So only the record is read, as it was at t=0. If etcd is compacted meanwhile, the heartbeat fails and is repeated.
            wanted = requests.get(self._keys.node(name), reading.at)
            found = store.read([wanted], deadline).record(name)
        if found and (found.node.ref != leading or found.node.state is not NodeState.JOINED):
            found = None
        store.time.read_leader(None if is_own else found)
        return self._pulse(record.node, reading, found.node if found else None)

    def _pulse(self, node: Node, reading: KeyReading, leader: Node | None) -> Pulse:
        """Return what a heartbeat of ``node`` brings back while ``leader`` leads."""
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

    def _record(self, node: Node) -> NodeRecord:
        """Return the record of a node of this handle, with what the handle says about the time."""
        return NodeRecord(node, self._store.time.clock(), self._store.time.latest())

    def _state_and(self, name: str) -> list[Any]:
        return [requests.get(self._keys.state), requests.get(self._keys.node(name))]

    def _change(self, name: str, decide: Any, deadline: float) -> None:
        """Change the state and a node's record, and remember the record."""
        value, _ = self._store.change(self._state_and(name), decide, deadline)
        self._store.remember(self._keys.node(name), value)

    def _write(
        self, reading: KeyReading, after: EtcdState, record: NodeRecord, concerned: Iterable[str] | None
    ) -> EtcdWrite[bytes]:
        """Return the write of the state and a node's record, if both are as they were read."""
        key, value = self._keys.node(record.node.name), record.encoded()
        operations = [*self._store.put_state(after, concerned), requests.put(key, value)]
        return EtcdWrite([reading.same(self._keys.state), reading.same(key)], operations, value)
