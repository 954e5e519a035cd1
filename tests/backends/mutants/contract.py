"""Mutants of what a plan carries and a commit compares, of candidates, longest timeouts, positions and what was declared dead."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

from collections.abc import Collection

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Plan
from jobsync._core.records import (
    Guard,
    LockEdit,
    Node,
    NodeRef,
    NodeState,
    Opened,
    Pulse,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
)
from jobsync.errors import Conflict, Evicted, Fenced, NameTaken


@mutant
class LockEditIsAVersion(Hands):
    """An edit of task locks makes every plan stale: frequent edits starve the leader."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            count = super().edit_locks(edit)
            self.change(version=self.state.revision)
            return count


@mutant
class RegistrationIsAVersion(Hands):
    """A node that registers makes every plan stale."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            super().register(node, timeline, at_least, replacing)
            self.change(version=self.state.revision)


@mutant
class VersionsWorkedOut(Hands):
    """Gives a row that changes its owner the commit's number, in the place of the version that the plan has for it."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed, self.transaction() as tx:
            before = tx.assignment().rows
            revision = super().commit(ref, plan, guard)
            written = {token for group in plan.groups for token in group.tokens}
            owners = {token: row.owner for token, row in enumerate(before) if row}
            rows = [
                attrs.evolve(row, version=revision.number)
                if row and token in written and owners.get(token, '') != row.owner
                else row
                for token, row in enumerate(self.space.assignment.rows)
            ]
            self.change_space(assignment=attrs.evolve(self.space.assignment, rows=rows, readings={}))
            return revision


@mutant
class PinVersionsWorkedOut(Hands):
    """Gives a pin that changes its owner the commit's number, in the place of the version that the plan has for it."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed, self.transaction() as tx:
            before = tx.assignment().pins
            revision = super().commit(ref, plan, guard)
            changed = {
                pin.id: attrs.evolve(pin, version=revision.number)
                for pin in plan.pins
                if pin.id not in before or before[pin.id].owner != pin.owner
            }
            table = self.space.assignment
            self.change_space(assignment=attrs.evolve(table, pins={**table.pins, **changed}, readings={}))
            return revision


@mutant
class PlanNumberIgnored(Hands):
    """The revision of a commit may be below the versions of the rows it wrote."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, number=0), guard)


@mutant
class HomeOfPinForgotten(Hands):
    """Loses where a pin had its home."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, pins=tuple(attrs.evolve(pin, home=None) for pin in plan.pins)), guard)


@mutant
class AbsentNotCompared(Hands):
    """Gives away the tokens of an owner without a record though that very run has registered meanwhile."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, absent=()), guard)


@mutant
class AbsentByName(Hands):
    """Refuses a plan because another run has the name of an absent owner."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            nodes = self.state.nodes
            if any(absent.name in nodes and nodes[absent.name].state is NodeState.JOINED for absent in plan.absent):
                raise Conflict('an absent owner is registered')
            return super().commit(ref, plan, guard)


@mutant
class AbsentByRecord(Hands):
    """Refuses a plan because an absent owner has left since: its record is there."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            if {node.ref for node in self.state.nodes.values()}.intersection(plan.absent):
                raise Conflict('an absent owner has a record')
            return super().commit(ref, plan, guard)


@mutant
class OneOfManyAbsent(Hands):
    """Compares the first of the absent owners alone."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, absent=plan.absent[:1]), guard)


@mutant
class ConflictBeforeFence(Hands):
    """Lets a leader that was deposed plan again, where it must stop."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            if (guard.timeline, guard.version) != (self.state.timeline, self.state.version):
                self.state.joined(ref)
                raise Conflict('planned from another version')
            return super().commit(ref, plan, guard)


@mutant
class FenceBeforeEviction(Hands):
    """Answers a node that is no longer registered that another one leads, so that it does not register anew."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            try:
                return super().commit(ref, plan, guard)
            except Evicted as error:
                if self.state.leadership.node != ref:
                    raise Fenced('another leads') from error
                raise


@mutant
class FewRemovals(Hands):
    """Declares more removals in a commit than it carries."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        if len(plan.evictions) + len(plan.departed) + len(plan.absent) > self.info.max_removals // 2:
            raise ValueError('too many operations in one transaction')
        return super().commit(ref, plan, guard)


@mutant
class CandidacyForgotten(Hands):
    """Takes every node for a candidate: one that cannot work leads for ever."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return super().heartbeat(ref, seen, holding)


@mutant
class NeverAgainACandidate(Hands):
    """A node that was no candidate once is none for the rest of its run."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            node = self.state.nodes.get(ref.name)
            return super().heartbeat(ref, seen, holding, candidate and (node is None or node.candidate))


@mutant
class CandidacyInherited(Hands):
    """A new run of a name begins as its predecessor ended, no candidate."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            before = self.state.nodes.get(node.ref.name) if self.options.namespace in self.store.spaces else None
            super().register(node, timeline, at_least, replacing)
            if before:
                self.change_node(node.ref.name, candidate=before.candidate)


@mutant
class CandidacyIsStructural(Hands):
    """A heartbeat that changes the candidacy raises the revision."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            before = self.state.nodes.get(ref.name)
            pulse = super().heartbeat(ref, seen, holding, candidate)
            if before and before.candidate != candidate:
                self.change(revision=self.state.next_revision(self.store.context()))
            return pulse


@mutant
class LeaderIsCandidate(Hands):
    """A Pulse does not show that the leader is no candidate."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return attrs.evolve(super().heartbeat(ref, seen, holding, candidate), leader_is_candidate=True)


@mutant
class NoLeaderIsNoCandidate(Hands):
    """A Pulse shows a leader that does not exist as no candidate."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        pulse = super().heartbeat(ref, seen, holding, candidate)
        return pulse if pulse.leader_heartbeat is not None else attrs.evolve(pulse, leader_is_candidate=False)


@mutant
class LongestOfThePresent(Hands):
    """The longest timeout is that of the nodes that have a record: it goes with the one that may still be at work."""

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        return attrs.evolve(snapshot, longest_timeout_sec=max((node.timeout_sec for node in snapshot.nodes), default=0.0))


@mutant
class LongestLowered(Hands):
    """The longest timeout is that of the node that registered last."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            super().register(node, timeline, at_least, replacing)
            self.change(longest_timeout_sec=max(node.timeout_sec, node.longest_timeout_sec))


@mutant
class LongestNotBrought(Hands):
    """Does not keep the longest timeout that a newcomer brings along from before."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(attrs.evolve(node, longest_timeout_sec=0.0), timeline, at_least, replacing)


@mutant
class LongestRaisedByARefusal(Hands):
    """A registration that is refused leaves its timeout behind."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            try:
                super().register(node, timeline, at_least, replacing)
            except NameTaken:
                self.change(longest_timeout_sec=max(self.state.longest_timeout_sec, node.timeout_sec))
                raise


@mutant
class LongestLostInRenewal(Hands):
    """A renewal knows only the longest timeout that its caller brings."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed:
            before = self.state.timeline
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            if self.state.timeline != before:
                self.change(longest_timeout_sec=longest_timeout_sec)


@mutant
class RenewalForgetsLongest(Hands):
    """A renewal does not keep the longest timeout that its caller remembers."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        super().renew_timeline(expected, at_least)


@mutant
class PositionOfItsOwn(Hands):
    """Counts what this handle has read, and calls it the store's position."""

    count = 0

    def snapshot(self) -> Snapshot:
        self.count += 1
        return attrs.evolve(super().snapshot(), position=self.count)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        self.count += 1
        return attrs.evolve(super().heartbeat(ref, seen, holding, candidate), position=self.count)


@mutant
class PositionNotInPulse(Hands):
    """Returns its position in snapshots only: a node that only beats does not notice a restore."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return attrs.evolve(super().heartbeat(ref, seen, holding, candidate), position=None)


@mutant
class PositionRestarts(Hands):
    """The position begins anew with the store's process, which looks like a restore."""

    forgets_position = True


@mutant
class DeadKeepTheSettings(Hands):
    """After a crash of all nodes other settings are refused for ever."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        return super().open(settings, create)


@mutant
class DeadWhateverTheyBeat(Hands):
    """Replaces the settings of a cluster whose nodes have beaten since they were judged."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        with self.store.changed:
            nodes = self.state.nodes.values() if self.options.namespace in self.store.spaces else ()
            gone = {incarnation for incarnation, _ in dead or ()}
            return super().open(settings, create, [node.beat for node in nodes if node.incarnation in gone])


class NotCounted(Hands):
    """Takes some of the JOINED nodes for dead when it is opened with other settings."""

    def is_passed_over(self, node: Node) -> bool:
        """Return whether this node does not keep the settings."""
        raise NotImplementedError

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        with self.store.changed:
            nodes = self.state.nodes.values() if self.options.namespace in self.store.spaces else ()
            passed = [node.beat for node in nodes if self.is_passed_over(node)]
            return super().open(settings, create, None if dead is None else [*dead, *passed])


@mutant
class WeightlessKeepNoSettings(NotCounted):
    """Replaces the settings under a node of weight 0, which may own tokens until it has let them go."""

    def is_passed_over(self, node: Node) -> bool:
        return node.weight == 0


@mutant
class StalledKeepNoSettings(NotCounted):
    """Replaces the settings under a node that has stalled."""

    def is_passed_over(self, node: Node) -> bool:
        return node.stalled


@mutant
class OthersThanCandidatesKeepNoSettings(NotCounted):
    """Replaces the settings under a node that may not lead."""

    def is_passed_over(self, node: Node) -> bool:
        return not node.candidate


@mutant
class OneDeadIsEnough(Hands):
    """Replaces the settings as soon as one node is dead, though another lives."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        with self.store.changed:
            beats = [node.beat for node in self.state.nodes.values()] if self.options.namespace in self.store.spaces else []
            return super().open(settings, create, beats if set(beats).intersection(dead or ()) else ())


@mutant
class AnyoneReplacesSettings(Hands):
    """Replaces the settings of an empty cluster for a caller that may not."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        return super().open(settings, create, dead or ())
