"""The state of a namespace that every call reads: nodes, leadership, timeline and revision.

Methods named like those of ``Backend`` return the state after that call, or raise what the call raises.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from random import Random
from typing import Any

import attrs

from jobsync._random import RANDOM
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
from jobsync.backends._common.values import BEFORE_ANY, NO_LEADER, draw_id, next_created_on, next_revision, utc_now
from jobsync.errors import NameTaken, TimelineChanged

__all__ = ['CallContext', 'NamespaceState']


@attrs.frozen
class CallContext:
    """What a call needs from outside the records: the store's identity, time and position, and a source of random numbers."""

    store: str
    """The store's own identity as it is now."""
    now: dt.datetime = attrs.field(factory=utc_now)
    """The store's time."""
    random: Random = RANDOM
    position: int | None = None
    """See ``Snapshot.position``."""

    def timeline(self, generation: int = 0) -> Timeline:
        """Return a timeline that begins now."""
        return Timeline(generation, draw_id(self.random), self.store)


@attrs.frozen(eq=False)
class NamespaceState:
    """A namespace without its tokens, pins, members, locks and history. Its mappings are never written to."""

    timeline: Timeline
    settings: Settings | None = None
    """None until the first ``open``."""
    revision: Revision = INITIAL
    version: Revision = INITIAL
    """The version of the assignment."""
    leadership: Leadership = NO_LEADER
    nodes: Mapping[str, Node] = attrs.field(factory=dict)
    """By name, in order of registration, which is the order of ``created_on``."""
    last_created: dt.datetime = BEFORE_ANY
    """The latest ``created_on`` of any record, also of one that is gone."""
    locks_revision: int = 0
    longest_timeout_sec: float = 0.0
    """See ``Snapshot.longest_timeout_sec``."""
    unreadable: Mapping[str, Unreadable] = attrs.field(factory=dict)
    """By name, the records of nodes that cannot be read; no such name is in ``nodes``."""

    def next_revision(self, context: CallContext, at_least: int = 0) -> Revision:
        """Return the revision of the next structural change."""
        return next_revision(self.revision, at_least, context.random)

    def changed(self, context: CallContext, **fields: Any) -> NamespaceState:
        """Return the state with these fields, at the next revision."""
        return attrs.evolve(self, **fields, revision=self.next_revision(context))

    def is_empty(self, dead: Collection[tuple[str, int]]) -> bool:
        """Return whether no node is JOINED, except those at an (incarnation, heartbeat) in ``dead``."""
        return all(node.state is NodeState.LEFT or node.beat in dead for node in self.nodes.values())

    def renew_timeline(self, context: CallContext, at_least: int = 0, longest_timeout_sec: float = 0.0) -> NamespaceState:
        """Return the state at the start of the next timeline. The caller empties the assignment with it."""
        revision = self.next_revision(context, at_least)
        return attrs.evolve(
            self,
            timeline=context.timeline(self.timeline.generation + 1),
            revision=revision,
            version=revision,
            leadership=Leadership(self.leadership.epoch, None),
            nodes={},
            unreadable={},
            longest_timeout_sec=max(self.longest_timeout_sec, longest_timeout_sec),
        )

    def snapshot(self, context: CallContext) -> Snapshot:
        """Return what ``Backend.snapshot`` returns."""
        return Snapshot(
            timeline=self.timeline,
            store=context.store,
            now=context.now,
            revision=self.revision,
            version=self.version,
            leadership=self.leadership,
            nodes=tuple(self.nodes.values()),
            locks_revision=self.locks_revision,
            longest_timeout_sec=self.longest_timeout_sec,
            position=context.position,
            unreadable=tuple(self.unreadable.values()),
        )

    # Nodes

    def is_joined(self, ref: NodeRef) -> bool:
        """Return whether exactly this incarnation is JOINED."""
        return self._joined(ref) is not None

    def _joined(self, ref: NodeRef | None) -> Node | None:
        node = self.nodes.get(ref.name) if ref else None
        return node if node and node.ref == ref and node.state is NodeState.JOINED else None

    def joined(self, ref: NodeRef) -> Node:
        """Return the record of exactly this incarnation; ``Evicted`` unless it is JOINED."""
        # t=0  node a is paused for longer than its timeout: the leader evicts it, and commits its tokens to b
        # t=1  another process registers under a's name
        # t=2  a wakes, and calls as the incarnation that it was. Accepted, its heartbeat would revive a's lease.
        node = self._joined(ref)
        if node is None:
            raise evicted(ref)
        return node

    def register(
        self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None, context: CallContext
    ) -> NamespaceState:
        """Return the state after ``Backend.register``."""
        if self.timeline != timeline:
            raise TimelineChanged(f'node {node.ref.name!r} knows {timeline}, but the namespace lives in {self.timeline}')
        before = self.nodes.get(node.ref.name)
        # t=0  a newcomer reads its name at (run, heartbeat 7), and sees no heartbeat for the timeout
        # t=1  the process that has the name wakes; its heartbeat raises the counter to 8
        # t=2  the newcomer registers. Without this comparison two processes would work under one name.
        if before and not node.may_replace(before, replacing):
            raise NameTaken(before)
        record = node.record(next_created_on(self.last_created, context.now), context.now, before)
        others = {name: other for name, other in self.nodes.items() if name != record.name}  # the newest comes last
        return attrs.evolve(
            self,
            nodes={**others, record.name: record},
            unreadable={name: found for name, found in self.unreadable.items() if name != record.name},
            last_created=record.created_on,
            revision=self.next_revision(context, at_least),
            longest_timeout_sec=max(self.longest_timeout_sec, node.timeout_sec, node.longest_timeout_sec),
        )

    def heartbeat(
        self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool, context: CallContext
    ) -> NamespaceState:
        """Return the state after ``Backend.heartbeat``."""
        node = self.joined(ref)
        said = {'seen': seen, 'holding': frozenset(holding), 'candidate': candidate}
        return attrs.evolve(self, nodes=self._with(node, heartbeat=node.heartbeat + 1, last_heartbeat=context.now, **said))

    def pulse(self, ref: NodeRef, context: CallContext) -> Pulse:
        """Return what ``Backend.heartbeat`` returns, after the heartbeat."""
        leader = self._joined(self.leadership.node)
        return Pulse(
            heartbeat=self.joined(ref).heartbeat,
            timeline=self.timeline,
            store=context.store,
            revision=self.revision,
            version=self.version,
            leadership=self.leadership,
            leader_heartbeat=leader.heartbeat if leader else None,
            leader_is_candidate=leader.candidate if leader else True,
            position=context.position,
            leader_age_sec=(context.now - leader.last_heartbeat).total_seconds() if leader and leader.last_heartbeat else None,
        )

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool, context: CallContext) -> NamespaceState:
        """Return the state after ``Backend.set_weight``."""
        node = self.joined(ref)
        if (node.weight, node.stalled) == (weight, stalled):
            return self
        return self.changed(context, nodes=self._with(node, weight=weight, stalled=stalled))

    def deregister(self, ref: NodeRef, died: bool, context: CallContext) -> NamespaceState:
        """Return the state after ``Backend.deregister``."""
        node = self._joined(ref)
        if node is None:
            return self
        left = {'state': NodeState.LEFT, 'holding': frozenset(), 'last_heartbeat': None, 'stalled': died}
        return self.changed(context, nodes=self._with(node, **left))

    def remove_node(self, ref: NodeRef, context: CallContext) -> NamespaceState:
        """Return the state after ``Backend.remove_node``."""
        if self._joined(ref) is None:
            return self
        return self.changed(context, nodes={name: node for name, node in self.nodes.items() if name != ref.name})

    def _with(self, node: Node, **fields: Any) -> Mapping[str, Node]:
        return {**self.nodes, node.name: attrs.evolve(node, **fields)}

    # The leader

    def acquire_leadership(self, ref: NodeRef, epoch: int, context: CallContext) -> NamespaceState:
        """Return the state after ``Backend.acquire_leadership``."""
        self.joined(ref)
        return self if self.leadership.epoch != epoch else self.changed(context, leadership=Leadership(epoch + 1, ref))

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard, context: CallContext) -> NamespaceState:
        """Return the state after ``Backend.commit``. Its revision is the assignment's new version."""
        leader = self.joined(ref)
        check_guard(
            ref,
            guard,
            is_joined=True,
            leadership=self.leadership,
            timeline=self.timeline,
            store=context.store,
            version=self.version,
        )
        check_nodes(plan, self.nodes.get)
        gone = {*(eviction.ref.name for eviction in plan.evictions), *(departed.name for departed in plan.departed)}
        counted = self._with(leader, heartbeat=leader.heartbeat + 1)
        revision = self.next_revision(context, plan.number - 1)
        nodes = {name: node for name, node in counted.items() if name not in gone}
        return attrs.evolve(self, nodes=nodes, revision=revision, version=revision)
