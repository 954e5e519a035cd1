"""What every call looks at: nodes, leadership, timeline and revision, and what a call makes of them.

Each method that changes something returns another head, or raises what the protocol says and nothing has happened.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from random import Random, SystemRandom
from typing import Any

import attrs

from jobsync.backend import (
    INITIAL,
    Guard,
    Leadership,
    Node,
    NodeRef,
    NodeState,
    Plan,
    Pulse,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unreadable,
    check_guard,
    check_nodes,
    evicted,
)
from jobsync.errors import NameTaken, TimelineChanged

__all__ = ['CallContext', 'NamespaceState']

NO_LEADER = Leadership(0, None)
BEFORE_ANY = dt.datetime.min.replace(tzinfo=dt.UTC)
TICK = dt.timedelta(microseconds=1)


@attrs.frozen
class CallContext:
    """What a call needs from outside: the store's identity and time as they are now, and chance."""

    store: str
    now: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    random: Random = attrs.field(factory=SystemRandom)
    position: int | None = None
    """See ``Snapshot.position``."""

    def draw_id(self) -> str:
        """A random id."""
        return f'{self.random.getrandbits(128):032x}'

    def timeline(self, generation: int = 0) -> Timeline:
        """A timeline that begins now."""
        return Timeline(generation, self.draw_id(), self.store)


@attrs.frozen(eq=False)
class NamespaceState:
    """A namespace but for its tokens, pins, locks and trails."""

    timeline: Timeline
    settings: Settings | None = None
    """None until the first ``open``."""
    revision: Revision = INITIAL
    version: Revision = INITIAL
    """Of the table."""
    leadership: Leadership = NO_LEADER
    nodes: Mapping[str, Node] = attrs.field(factory=dict)
    """By name, in order of registration, which is that of ``created_on``. Never written to."""
    last_created: dt.datetime = BEFORE_ANY
    locks_revision: int = 0
    longest_timeout_sec: float = 0.0
    """See ``Snapshot.longest_timeout_sec``."""
    unreadable: Mapping[str, Unreadable] = attrs.field(factory=dict)
    """By name, the records of nodes that cannot be read; no such name is in ``nodes``. Never written to."""

    def next_revision(self, moment: CallContext, at_least: int = 0) -> Revision:
        """The revision of a change."""
        return Revision(max(self.revision.number, at_least) + 1, moment.random.getrandbits(62) + 1)

    def changed(self, moment: CallContext, **fields: Any) -> NamespaceState:
        """With other fields, which is a structural change: at the next revision."""
        return attrs.evolve(self, **fields, revision=self.next_revision(moment))

    def renewed(self, moment: CallContext, at_least: int = 0, longest_timeout_sec: float = 0.0) -> NamespaceState:
        """At the start of the next timeline. The table is to be emptied with it."""
        revision = self.next_revision(moment, at_least)
        return attrs.evolve(
            self,
            timeline=moment.timeline(self.timeline.generation + 1),
            revision=revision,
            version=revision,
            leadership=Leadership(self.leadership.epoch, None),
            nodes={},
            unreadable={},
            longest_timeout_sec=max(self.longest_timeout_sec, longest_timeout_sec),
        )

    def snapshot(self, moment: CallContext) -> Snapshot:
        """See ``Backend.snapshot``."""
        return Snapshot(
            timeline=self.timeline,
            store=moment.store,
            now=moment.now,
            revision=self.revision,
            version=self.version,
            leadership=self.leadership,
            nodes=tuple(self.nodes.values()),
            locks_revision=self.locks_revision,
            longest_timeout_sec=self.longest_timeout_sec,
            position=moment.position,
            unreadable=tuple(self.unreadable.values()),
        )

    # Nodes

    def is_empty(self, dead: Collection[tuple[str, int]]) -> bool:
        """Whether no node is JOINED, but for those at a beat in ``dead``."""
        return all(node.state is NodeState.LEFT or node.beat in dead for node in self.nodes.values())

    def joined(self, ref: NodeRef) -> Node:
        """The record of ``ref``; ``Evicted`` unless exactly that incarnation is JOINED."""
        node = self.nodes.get(ref.name)
        if node is None or node.ref != ref or node.state is not NodeState.JOINED:
            raise evicted(ref)
        return node

    def registered(
        self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None, moment: CallContext
    ) -> NamespaceState:
        """See ``Backend.register``."""
        if self.timeline != timeline:
            raise TimelineChanged(f'node {node.ref.name!r} knows {timeline}, but the namespace lives in {self.timeline}')
        before = self.nodes.get(node.ref.name)
        if before and before.state is NodeState.JOINED and before.beat != replacing:
            raise NameTaken(before)
        record = node.record(max(moment.now, self.last_created + TICK), moment.now, before)
        others = {name: other for name, other in self.nodes.items() if name != record.name}  # the newest comes last
        return attrs.evolve(
            self,
            nodes={**others, record.name: record},
            unreadable={name: found for name, found in self.unreadable.items() if name != record.name},
            last_created=record.created_on,
            revision=self.next_revision(moment, at_least),
            longest_timeout_sec=max(self.longest_timeout_sec, node.timeout_sec, node.longest_timeout_sec),
        )

    def beaten(
        self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool, moment: CallContext
    ) -> NamespaceState:
        """See ``Backend.heartbeat``."""
        node = self.joined(ref)
        told = {'seen': seen, 'holding': frozenset(holding), 'candidate': candidate}
        return attrs.evolve(self, nodes=self._with(node, heartbeat=node.heartbeat + 1, last_heartbeat=moment.now, **told))

    def pulse(self, ref: NodeRef, moment: CallContext) -> Pulse:
        """What a heartbeat of ``ref`` that has been counted brings back."""
        leading = self.leadership.node
        leader = self.nodes.get(leading.name) if leading else None
        if leader and (leader.ref != leading or leader.state is not NodeState.JOINED):
            leader = None
        return Pulse(
            heartbeat=self.joined(ref).heartbeat,
            timeline=self.timeline,
            store=moment.store,
            revision=self.revision,
            version=self.version,
            leadership=self.leadership,
            leader_heartbeat=leader.heartbeat if leader else None,
            leader_is_candidate=leader.candidate if leader else True,
            position=moment.position,
            leader_age_sec=(moment.now - leader.last_heartbeat).total_seconds() if leader and leader.last_heartbeat else None,
        )

    def weighed(self, ref: NodeRef, weight: float, moment: CallContext) -> NamespaceState:
        """See ``Backend.set_weight``."""
        node = self.joined(ref)
        return self if node.weight == weight else self.changed(moment, nodes=self._with(node, weight=weight))

    def left(self, ref: NodeRef, moment: CallContext) -> NamespaceState:
        """See ``Backend.deregister``."""
        node = self.nodes.get(ref.name)
        if node is None or node.ref != ref or node.state is NodeState.LEFT:
            return self
        return self.changed(moment, nodes=self._with(node, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None))

    def _with(self, node: Node, **fields: Any) -> Mapping[str, Node]:
        return {**self.nodes, node.name: attrs.evolve(node, **fields)}

    # The leader's

    def led(self, ref: NodeRef, epoch: int, moment: CallContext) -> NamespaceState:
        """See ``Backend.acquire_leadership``."""
        self.joined(ref)
        return self if self.leadership.epoch != epoch else self.changed(moment, leadership=Leadership(epoch + 1, ref))

    def committed(self, ref: NodeRef, plan: Plan, guard: Guard, moment: CallContext) -> NamespaceState:
        """See ``Backend.commit``: all of the comparisons, and what becomes of the nodes. The revision is the table's version."""
        leader = self.joined(ref)
        check_guard(
            ref,
            guard,
            is_joined=True,
            leadership=self.leadership,
            timeline=self.timeline,
            store=moment.store,
            version=self.version,
        )
        check_nodes(plan, self.nodes.get)
        gone = {*(eviction.ref.name for eviction in plan.evictions), *(departed.name for departed in plan.departed)}
        counted = self._with(leader, heartbeat=leader.heartbeat + 1)
        revision = self.next_revision(moment, plan.number - 1)
        nodes = {name: node for name, node in counted.items() if name not in gone}
        return attrs.evolve(self, nodes=nodes, revision=revision, version=revision)
