"""Mutants that leave out a comparison."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Plan
from jobsync._core.records import Guard, Leadership, NodeRef, NodeState, Registration, Revision, Timeline
from jobsync.errors import Conflict, Evicted, NameTaken


@mutant
class CommitIgnoresTimeline(Hands):
    """Accepts a plan that was made in another timeline."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            return super().commit(ref, plan, attrs.evolve(guard, timeline=self.state.timeline))


@mutant
class CommitOnAnotherStore(Hands):
    """Does not compare whether the store is still the one that the timeline was made on."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            before, self.store.identity = self.store.identity, self.state.timeline.store
            try:
                return super().commit(ref, plan, guard)
            finally:
                self.store.identity = before


@mutant
class CommitIgnoresVersion(Hands):
    """Accepts a plan whatever has changed since it was made."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            return super().commit(ref, plan, attrs.evolve(guard, version=self.state.version))


@mutant
class CommitTwice(Hands):
    """Carries a commit out again when it is repeated after its answer was lost."""

    last: Guard | None = None

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            repeated, self.last = guard == self.last, guard
            return super().commit(ref, plan, attrs.evolve(guard, version=self.state.version) if repeated else guard)


@mutant
class RefusedAndDone(Hands):
    """Writes the rows before it compares the evictions: a plan that is refused is half there."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            try:
                return super().commit(ref, plan, guard)
            except Conflict:
                if plan.evictions and guard.version == self.state.version:
                    self.change_space(assignment=attrs.evolve(self.space.assignment.commit(plan, self.state.version)))
                raise


@mutant
class DepartedNotCompared(Hands):
    """Removes the record that has the name of a node that left, whichever run it is."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            gone = {node.name for node in plan.departed}
            revision = super().commit(ref, attrs.evolve(plan, departed=()), guard)
            self.change(nodes={name: node for name, node in self.state.nodes.items() if name not in gone})
            return revision


@mutant
class RegisterInAnyTimeline(Hands):
    """Lets a node register that knows another timeline."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed, self.transaction() as tx:
            super().register(node, tx.state.timeline, at_least, replacing)


@mutant
class TakesAnyName(Hands):
    """Registers over a node that is alive."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            try:
                super().register(node, timeline, at_least, replacing)
            except NameTaken as error:
                super().register(node, timeline, at_least, error.record.beat)


@mutant
class TakesTheLeftBack(Hands):
    """Registers a run again that has left."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            found = self.state.nodes.get(node.ref.name)
            if found and found.ref == node.ref and found.state is NodeState.LEFT:
                self.change_node(node.ref.name, incarnation='another')
            super().register(node, timeline, at_least, replacing)


@mutant
class RegisterTwice(Hands):
    """Registers again when the call is repeated after its answer was lost."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            try:
                super().register(node, timeline, at_least, replacing)
            except NameTaken as error:
                if error.record.ref != node.ref:
                    raise
                super().register(node, timeline, at_least, error.record.beat)


@mutant
class GhostLeads(Hands):
    """Makes a node the leader that is no longer registered."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.store.changed:
            try:
                return super().acquire_leadership(ref, epoch)
            except Evicted:
                if self.state.leadership.epoch == epoch:
                    self.change(leadership=Leadership(epoch + 1, ref))
                return self.state.leadership


@mutant
class EpochNotCompared(Hands):
    """Gives the leadership to every node that requests it."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.store.changed, self.transaction() as tx:
            return super().acquire_leadership(ref, tx.state.leadership.epoch)


@mutant
class LeavesForItsNamesake(Hands):
    """A run that was replaced marks the one that has its name as left."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        with self.store.changed, self.transaction() as tx:
            node = tx.state.nodes.get(ref.name)
            super().deregister(node.ref if node else ref, died)


@mutant
class LeavesTwice(Hands):
    """Leaving a second time is a change again, which wakes every node for nothing."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        with self.store.changed:
            super().deregister(ref, died)
            with contextlib.suppress(KeyError):
                node = self.state.nodes[ref.name]
                if node.ref == ref and node.state is NodeState.LEFT:
                    self.change(revision=self.state.next_revision(self.store.context()))
