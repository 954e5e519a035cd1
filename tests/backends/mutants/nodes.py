"""Mutants of the revision and of node records."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Changes, Plan
from jobsync._core.records import (
    Guard,
    Leadership,
    Node,
    NodeRef,
    NodeState,
    Pulse,
    Registration,
    Revision,
    Timeline,
)


@mutant
class CommitIgnoresStamp(Hands):
    """Compares the version's number alone: blind to a store that went back and came up to the same number."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            now = self.state.version
            if guard.version.number == now.number:
                guard = attrs.evolve(guard, version=now)
            return super().commit(ref, plan, guard)


@mutant
class LostRevisionBump(Hands):
    """Leaving is not a structural change."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        with self.store.changed:
            before = self.state.revision
            super().deregister(ref, died)
            self.change(revision=before)


@mutant
class DeathUnseen(Hands):
    """Marks a node that has died as one that left: its tokens are kept for its return."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        super().deregister(ref)


@mutant
class StalledHaveDied(Hands):
    """Leaves the mark of a stalled node as it leaves, so that it seems to have died."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        with self.store.changed:
            node = self.state.nodes.get(ref.name)
            super().deregister(ref, died or (node is not None and node.stalled))


@mutant
class WeightUnseen(Hands):
    """A new weight does not raise the revision, so the leader plans with the old one."""

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        with self.store.changed:
            before = self.state.revision
            super().set_weight(ref, weight, stalled)
            self.change(revision=before)


@mutant
class StalledUnseen(Hands):
    """Writes whether a node has stalled only if its weight changes too, so its tokens stay."""

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        with self.store.changed:
            node = self.state.nodes.get(ref.name)
            is_same = node is not None and node.weight == weight
            super().set_weight(ref, weight, node.stalled if node is not None and is_same else stalled)


@mutant
class GhostWeighs(Hands):
    """A run that was replaced changes the weight of the one that has its name now."""

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        with self.store.changed:
            node = self.state.nodes.get(ref.name)
            super().set_weight(ref if node is None or node.state is NodeState.LEFT else node.ref, weight, stalled)


@mutant
class StampStays(Hands):
    """The number rises, the stamp is the old one."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.store.changed:
            before = self.state.revision
            leadership = super().acquire_leadership(ref, epoch)
            self.change(revision=Revision(self.state.revision.number, before.stamp))
            return leadership


@mutant
class RegisterForgetsAtLeast(Hands):
    """Does not lift the revision to what the newcomer has seen."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(node, timeline, 0, replacing)


@mutant
class HeartbeatRaisesRevision(Hands):
    """Every heartbeat is a structural change: all nodes wake at each."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            pulse = super().heartbeat(ref, seen, holding, candidate)
            self.change(revision=self.state.next_revision(self.store.context()))
            return pulse


@mutant
class HeartbeatRevives(Hands):
    """A node that was evicted or has left is back as soon as it beats."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            node = self.state.nodes.get(ref.name)
            if node is None:
                timeline = self.state.timeline
                super().register(Registration(ref, 15.0), timeline, 0)
            elif node.incarnation == ref.incarnation:
                self.change_node(ref.name, state=NodeState.JOINED)
            return super().heartbeat(ref, seen, holding, candidate)


@mutant
class SettingsOfNodesLost(Hands):
    """Keeps no settings of a node: no node finds that nodes differ in them."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(attrs.evolve(node, settings='{}'), timeline, at_least, replacing)


@mutant
class TakeOverIgnoresHeartbeat(Hands):
    """Takes a name from a run that has beaten since it was judged."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            found = self.state.nodes.get(node.ref.name)
            if found and replacing and found.incarnation == replacing[0]:
                replacing = found.beat
            super().register(node, timeline, at_least, replacing)


@mutant
class ForgetsWhomItReplaced(Hands):
    """The incarnation that goes is not added to ``replaces``."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            super().register(node, timeline, at_least, replacing)
            self.change_node(node.ref.name, replaces=node.replaces)


@mutant
class CreatedOnFollowsTheClock(Hands):
    """Two nodes may have one ``created_on``, or the later one the earlier."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            super().register(node, timeline, at_least, replacing)
            self.change_node(node.ref.name, created_on=self.store.now())


@mutant
class RecordFromMemory(Hands):
    """Writes a node's record with the weight that this handle knows: what another has set meanwhile is undone."""

    weights: Mapping[NodeRef, float] = MappingProxyType({})

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(node, timeline, at_least, replacing)
        self.weights = {**self.weights, node.ref: node.weight}

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        super().set_weight(ref, weight, stalled)
        self.weights = {**self.weights, ref: weight}

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            pulse = super().heartbeat(ref, seen, holding, candidate)
            self.change_node(ref.name, weight=self.weights.get(ref, self.state.nodes[ref.name].weight))
            return pulse


@mutant
class RenewalNotAtomic(Hands):
    """Compares the timeline, and renews it a moment later, though another node has done so meanwhile."""

    races = True

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        if self.state.timeline == expected:
            self.let_others_call(lambda: self.state.timeline != expected)
            with self.store.changed:
                super().renew_timeline(self.state.timeline, at_least, longest_timeout_sec)


@mutant
class RemovalUndoesChanges(Hands):
    """Removes a node from the state as it was read: what others have changed since is undone."""

    races = True

    def remove_node(self, ref: NodeRef) -> bool:
        before = self.state
        self.let_others_call(lambda: self.state is not before)
        with self.store.changed:
            self.change_space(state=before)
            return super().remove_node(ref)


@mutant
class HeartbeatUndoesWeights(Hands):
    """A heartbeat writes the whole record as it was read: a weight that was set between is undone."""

    races = True

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        before = self.state.nodes.get(ref.name)
        self.let_others_call(lambda: self.state.nodes.get(ref.name) != before)
        with self.store.changed:
            pulse = super().heartbeat(ref, seen, holding, candidate)
            if before is not None and before.ref == ref:
                self.change_node(ref.name, weight=before.weight)
            return pulse


@mutant
class LateLeaderHeartbeat(Hands):
    """The Pulse has the heartbeat of a leader that has left."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            pulse = super().heartbeat(ref, seen, holding, candidate)
            leader: Node | None = None
            if pulse.leadership.node:
                leader = self.state.nodes.get(pulse.leadership.node.name)
            return attrs.evolve(pulse, leader_heartbeat=leader.heartbeat if leader else None)


@mutant
class LeavesLate(Hands):
    """Reads that a run has its name, and marks the one that has it a moment later as left: it may be the next."""

    races = True

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        before = self.state.nodes.get(ref.name)
        self.let_others_call(lambda: self.state.nodes.get(ref.name) != before)
        with self.store.changed:
            after = self.state.nodes.get(ref.name)
            is_compared = before is not None and before.ref == ref and after is not None
            super().deregister(after.ref if is_compared and after is not None else ref, died)


@mutant
class RemovedIsLeft(Hands):
    """Marks a run that an operator removes as left: its tokens are given away while it may still be at work."""

    def remove_node(self, ref: NodeRef) -> bool:
        before = self.state.revision
        self.deregister(ref)
        return self.state.revision != before


@mutant
class RemovedNodesMemberGoes(Hands):
    """Removes the member of a run that an operator removes: the timeout of its lease, which others wait out, is forgotten."""

    def remove_node(self, ref: NodeRef) -> bool:
        with self.store.changed:
            is_removed = super().remove_node(ref)
            if is_removed:
                table = self.space.assignment
                members = {name: member for name, member in table.members.items() if name != ref.name}
                self.change_space(assignment=attrs.evolve(table, members=members, readings={}))
            return is_removed


@mutant
class RemovesItsNamesake(Hands):
    """Removes whichever run has the name."""

    def remove_node(self, ref: NodeRef) -> bool:
        with self.store.changed, self.transaction() as tx:
            node = tx.state.nodes.get(ref.name)
            return super().remove_node(node.ref if node else ref)


@mutant
class SomeTokensWithoutPins(Hands):
    """A reading of some tokens has no pins."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        return changes if tokens is None else attrs.evolve(changes, pins=())


@mutant
class SomeTokensOfAny(Hands):
    """A reading of some tokens has the first rows, whichever were wanted."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        return changes if tokens is None else attrs.evolve(changes, groups=changes.groups[:1])


@mutant
class DeadInherited(Hands):
    """A new run of a node that died begins as stalled, and is given nothing."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.nodes.get(node.ref.name)
            super().register(node, timeline, at_least, replacing)
            self.change_node(node.ref.name, stalled=before is not None and before.has_died)
