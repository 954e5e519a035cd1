"""Mutants of leadership, commits and readings."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

from collections.abc import Collection

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Changes, Plan
from jobsync._core.records import (
    Guard,
    Leadership,
    LockReading,
    NodeRef,
    Registration,
    Revision,
    Snapshot,
    Timeline,
)
from jobsync.backends.single_writer.assignment import AssignmentTable, SharedRow


@mutant
class LeadershipEndsWithItsRun(Hands):
    """A new run of the leader's name ends the leadership, though none was acquired."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            super().register(node, timeline, at_least, replacing)
            leadership = self.state.leadership
            if leadership.node and leadership.node.name == node.ref.name:
                self.change(leadership=attrs.evolve(leadership, node=None))


@mutant
class LeadershipNotAtomic(Hands):
    """Reads the epoch, and writes a moment later."""

    races = True

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        found = self.state.leadership
        if found.epoch != epoch:
            return super().acquire_leadership(ref, found.epoch + 1)
        self.let_others_call()
        with self.store.changed:
            self.change(leadership=Leadership(epoch, self.state.leadership.node))
            return super().acquire_leadership(ref, epoch)


@mutant
class CommitNotAtomic(Hands):
    """Compares first and writes later: of two plans made at once both go through."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            stale = self.state.version != guard.version
        self.let_others_call()
        with self.store.changed:
            return super().commit(ref, plan, guard if stale else attrs.evolve(guard, version=self.state.version))


@mutant
class TakeoverNotAtomic(Hands):
    """Compares the record that a registration replaces, and replaces it a moment later, whatever heartbeats came between."""

    races = True

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.transaction() as tx:
            before = tx.state.nodes.get(node.ref.name)
        self.let_others_call(lambda: (now := self.state.nodes.get(node.ref.name)) is not None and now.beat != replacing)
        with self.store.changed:
            now = self.state.nodes.get(node.ref.name)
            fits = before is not None and now is not None and before.beat == replacing and before.ref == now.ref
            super().register(node, timeline, at_least, now.beat if fits and now is not None else replacing)


@mutant
class CommitUndoesHeartbeats(Hands):
    """A commit writes the leader's record as it was read: heartbeats that came between are not counted."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        before = self.state.nodes.get(ref.name)
        self.let_others_call(lambda: self.state.nodes.get(ref.name) != before)
        with self.store.changed:
            version = super().commit(ref, plan, guard)
            if before is not None and before.ref == ref:
                self.change_node(ref.name, heartbeat=before.heartbeat + 1)
            return version


@mutant
class PartialCommit(Hands):
    """Writes the rows in one step and the members and pins in the next."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        first = attrs.evolve(plan, pins=(), unpinned=frozenset(), members={}, moved=0, evictions=(), departed=())
        number = super().commit(ref, first, guard)
        self.let_others_call()
        return super().commit(ref, attrs.evolve(plan, groups=()), attrs.evolve(guard, version=number))


@mutant
class EvictionNotCompared(Hands):
    """Evicts a node that has beaten since it was taken for dead."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            nodes = self.state.nodes
            evictions = tuple(
                attrs.evolve(eviction, heartbeat=nodes[eviction.ref.name].heartbeat) if eviction.ref.name in nodes else eviction
                for eviction in plan.evictions
            )
            return super().commit(ref, attrs.evolve(plan, evictions=evictions), guard)


@mutant
class LeaderDoesNotCountCommits(Hands):
    """A commit does not show in the leader's own record."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            revision = super().commit(ref, plan, guard)
            node = self.state.nodes.get(ref.name)
            if node:
                self.change_node(ref.name, heartbeat=node.heartbeat - 1)
            return revision


@mutant
class AnyoneCommits(Hands):
    """Lets every registered node commit."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            leader = self.state.leadership.node
            known = self.state.nodes.get(ref.name)
            return super().commit(leader if leader and known and known.ref == ref else ref, plan, guard)


@mutant
class StaleDifference(Hands):
    """A difference lacks what the last commit wrote."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        if changes.base is None:
            return changes
        groups = tuple(group for group in changes.groups if group.version != changes.version.number)
        return attrs.evolve(changes, groups=groups)


@mutant
class DifferenceFromAnything(Hands):
    """Builds on a version by its number, whatever its stamp."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        with self.store.changed:
            table = self.space.assignment
            known = {version.number: version for version in table.builds_on}
            found = known.get(since.number) if since else None
            changes = super().read_assignment(found, tokens)
            return attrs.evolve(changes, base=since) if changes.base else changes


@mutant
class MixOfTwoVersions(Hands):
    """Reads members and rows one after the other."""

    races = True

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        first = super().read_assignment(since, tokens)
        self.let_others_call()
        return attrs.evolve(super().read_assignment(since, tokens), members=first.members)


@mutant
class BaseOfAnotherMoment(Hands):
    """Finds that it can build on a version, and reads a moment later: the timeline may have been renewed between."""

    races = True

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        base = super().read_assignment(since, tokens).base
        self.let_others_call()
        changes = super().read_assignment(since, tokens)
        return attrs.evolve(changes, base=base) if changes.base is None else changes


@mutant
class OnlyCandidatesLead(Hands):
    """Gives the leadership to candidates alone: where no node is one, none leads."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.store.changed:
            known = self.state.nodes.get(ref.name)
            is_no_candidate = known is not None and known.ref == ref and not known.candidate
            return super().acquire_leadership(ref, -1 if is_no_candidate else epoch)


@mutant
class SnapshotOfTwoMoments(Hands):
    """Reads the nodes after the rest."""

    races = True

    def snapshot(self) -> Snapshot:
        first = super().snapshot()
        self.let_others_call()
        return attrs.evolve(first, nodes=super().snapshot().nodes)


@mutant
class LongestOfAnEarlierMoment(Hands):
    """Reads the longest timeout, and the nodes a moment later: one that has registered between has a longer one."""

    races = True

    def snapshot(self) -> Snapshot:
        longest = super().snapshot().longest_timeout_sec
        self.let_others_call()
        return attrs.evolve(super().snapshot(), longest_timeout_sec=longest)


@mutant
class ItemsReadAfterLocks(Hands):
    """Reads the task locks, and the items a moment later."""

    races = True

    def read_locks(self) -> LockReading:
        first = super().read_locks()
        self.let_others_call()
        then = super().read_locks()
        found = [*(lock for lock in first.locks if not lock.group), *(lock for lock in then.locks if lock.group)]
        return attrs.evolve(then, locks=tuple(sorted(found, key=lambda lock: lock.id)))


@mutant
class CommitFromMemory(Hands):
    """Builds a commit on the assignment as this handle last wrote it, and undoes what another has written since."""

    known: AssignmentTable | None = None

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            space = self.space
            stale = self.known if self.known and self.known.version.number else space.assignment
            self.change_space(assignment=attrs.evolve(space.assignment, rows=self._as_remembered(space.assignment, stale)))
            revision = super().commit(ref, plan, guard)
            self.known = self.space.assignment
            return revision

    @staticmethod
    def _as_remembered(table: AssignmentTable, stale: AssignmentTable) -> list[SharedRow | None]:
        """The rows that are there, with the owners and versions that are remembered where both have a row."""
        rows = list(table.rows)
        for token, old in enumerate(stale.rows[: len(rows)]):
            row = rows[token]
            if row and old:
                rows[token] = attrs.evolve(row, owner=old.owner, version=old.version)
        return rows
