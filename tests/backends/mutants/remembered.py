"""Mutants that compare with what they read before: in another call, or a moment earlier in this one."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync.backend import (
    Claim,
    Guard,
    Leadership,
    Node,
    NodeRef,
    Opened,
    Plan,
    Pulse,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
)
from jobsync.backends.memory.backend import MemoryTransaction
from jobsync.backends.single_writer import NamespaceState

T = TypeVar('T')


# In another call


@mutant
class FencedByMemory(Hands):
    """Compares the epoch of a plan with the leadership that this handle has read last: a deposed leader commits."""

    known: Leadership | None = None

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        self.known = snapshot.leadership
        return snapshot

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        pulse = super().heartbeat(ref, seen, holding, candidate)
        self.known = pulse.leadership
        return pulse

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        self.known = super().acquire_leadership(ref, epoch)
        return self.known

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed, self.transaction() as tx:
            self.change(leadership=self.known or tx.state.leadership)
            try:
                return super().commit(ref, plan, guard)
            finally:
                self.change(leadership=tx.state.leadership)


class TimelineByMemory(Hands):
    """Takes the timeline that this handle has read last for the present one."""

    known: Timeline | None = None

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, dead)
        self.known = opened.timeline
        return opened

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        super().renew_timeline(expected, at_least, longest_timeout_sec)
        self.known = None

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        self.known = snapshot.timeline
        return snapshot


@mutant
class RegistersByMemory(TimelineByMemory):
    """Compares the timeline of a registration with the one that this handle has read last: an old one may be over."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed, self.transaction() as tx:
            super().register(node, tx.state.timeline if timeline == self.known else timeline, at_least, replacing)


@mutant
class PulseOfAnOldTimeline(TimelineByMemory):
    """A Pulse has the timeline that this handle has read last: nodes do not notice that it was renewed."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        pulse = super().heartbeat(ref, seen, holding, candidate)
        return attrs.evolve(pulse, timeline=self.known or pulse.timeline)


class Replica(Hands):
    """Reads something of a copy that has what this handle has written, and of others what it had when it was read first."""

    copy: tuple[object, object] | None = None

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        with super().transaction(bulk=bulk, create=create) as tx:
            before = self.store.position
            yield tx
            if self.store.position != before:
                self.copy = None

    def of_the_copy(self, what: object, read: Callable[[], T]) -> T:
        """Return what was read before, if nothing was written since."""
        if self.copy is None or self.copy[0] != what:
            self.copy = what, read()
        return self.copy[1]  # type: ignore[return-value]


@mutant
class IncompleteOfAReplica(Replica):
    """Reads incomplete work of a replica that lags behind: work is begun again that another node has completed."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        return self.of_the_copy(date, lambda: super(IncompleteOfAReplica, self).incomplete(date, older_than))


@mutant
class LostOfAReplica(Replica):
    """Reads lost attempts of a replica that lags behind."""

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        return self.of_the_copy(date, lambda: super(LostOfAReplica, self).lost_attempts(date, at_least))


# A moment earlier


class ComparedEarly(Hands):
    """Compares a plan, and writes it a moment later on the condition that epoch and version are the same."""

    races = True

    def compared(self, ref: NodeRef, plan: Plan) -> set[str]:
        """Return the names of nodes that are not in the condition."""
        raise NotImplementedError

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        names = self.compared(ref, plan)
        with self.transaction(bulk=True) as tx:
            before = among(names, tx.state)
            tx.state.commit(ref, plan, guard, tx.context)  # raises what the call raises
        self.let_others_call(lambda: among(names, self.state) != before)
        with self.store.changed, self.transaction(bulk=True) as tx:
            now, removed, counted = tx.state.nodes, set[str](), 0
            if among(names, tx.state) == before:
                return super().commit(ref, plan, guard)
            self.change(nodes={**{name: node for name, node in now.items() if name not in names}, **before})
            try:
                revision = super().commit(ref, plan, guard)
                removed, counted = {departed.name for departed in plan.departed}, 1
            finally:
                self.change(nodes={name: node for name, node in now.items() if name not in removed})
                if ref.name in now and now[ref.name].ref == ref:
                    self.change_node(ref.name, heartbeat=now[ref.name].heartbeat + counted)
            return revision


def among(names: Collection[str], state: NamespaceState) -> dict[str, Node]:
    """Return the records of these nodes."""
    return {name: node for name, node in state.nodes.items() if name in names}


@mutant
class LeaderComparedEarly(ComparedEarly):
    """Compares whether the leader is registered, and writes its plan a moment later, though it was removed meanwhile."""

    def compared(self, ref: NodeRef, plan: Plan) -> set[str]:
        return {ref.name}


@mutant
class DepartedComparedEarly(ComparedEarly):
    """Compares whether a node has left, and removes its name a moment later, though a new run has it."""

    def compared(self, ref: NodeRef, plan: Plan) -> set[str]:
        return {departed.name for departed in plan.departed}


@mutant
class AbsentComparedEarly(ComparedEarly):
    """Compares whether an owner is absent, and gives its tokens away a moment later, though it has registered meanwhile."""

    def compared(self, ref: NodeRef, plan: Plan) -> set[str]:
        return {absent.name for absent in plan.absent}


@mutant
class LeadershipComparedEarly(Hands):
    """Compares whether its node still leads, and writes its plan a moment later, though another has taken the leadership."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.transaction() as tx:
            before = tx.state.leadership
        if before != Leadership(guard.epoch, ref):
            return super().commit(ref, plan, guard)
        self.let_others_call(lambda: self.state.leadership != before)
        with self.store.changed:
            now = self.state.leadership
            self.change(leadership=before)
            try:
                return super().commit(ref, plan, guard)
            finally:
                self.change(leadership=now)


class Late(Hands):
    """Compares a run, and changes what has its name a moment later."""

    races = True

    def of_its_name(self, ref: NodeRef) -> NodeRef:
        """Return the run that has the name now, if the given one had it a moment before."""
        with self.transaction() as tx:
            before = tx.state.nodes.get(ref.name)
        self.let_others_call(lambda: self.state.nodes.get(ref.name) != before)
        after = self.state.nodes.get(ref.name)
        return after.ref if before and before.ref == ref and after else ref


@mutant
class WeighsLate(Late):
    """Gives the weight that was meant for one run to the next of its name."""

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        super().set_weight(self.of_its_name(ref), weight, stalled)


@mutant
class RemovesLate(Late):
    """Removes the next run of the name of the one that was to be removed."""

    def remove_node(self, ref: NodeRef) -> bool:
        return super().remove_node(self.of_its_name(ref))
