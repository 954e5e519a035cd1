"""Mutants that a spoilt record stops, or that hide it; and the bugs of a backend that an outsider wrote."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Plan
from jobsync._core.records import (
    Guard,
    LockEdit,
    LockReading,
    NodeRef,
    Pulse,
    Registration,
    Revision,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.errors import BackendUnavailable, Conflict, Evicted


@mutant
class SpoiltNodeEndsReadings(Hands):
    """One record of a node that cannot be read, and no node reads any."""

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        if snapshot.unreadable:
            raise BackendUnavailable(snapshot.unreadable[0].problem)
        return snapshot


@mutant
class SpoiltNodeNotReported(Hands):
    """Leaves a record out that cannot be read, and says nothing."""

    def snapshot(self) -> Snapshot:
        return attrs.evolve(super().snapshot(), unreadable=())


@mutant
class SpoiltNodeStopsCommits(Hands):
    """One record that cannot be read, and no leader hands anything out."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            self.state.joined(ref)
            if self.state.unreadable:
                raise Conflict('a record cannot be read')
            return super().commit(ref, plan, guard)


@mutant
class SpoiltNodeKeepsItsName(Hands):
    """A node whose record is spoilt cannot come back under its name."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            if node.ref.name in self.state.unreadable:
                raise BackendUnavailable('the record cannot be read')
            super().register(node, timeline, at_least, replacing)


@mutant
class SpoiltNodeBeatsOn(Hands):
    """A node whose record is left out goes on, and no other node sees it."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            try:
                return super().heartbeat(ref, seen, holding, candidate)
            except Evicted:
                if ref.name not in self.state.unreadable:
                    raise
                head = self.state
                return Pulse(
                    1, head.timeline, self.store.identity, head.revision, head.version, head.leadership, None, position=0
                )


@mutant
class SpoiltNodeOutlivesRenewal(Hands):
    """A renewal leaves the records there that cannot be read."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed:
            before = self.state.unreadable
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            self.change(unreadable=before)


@mutant
class SpoiltLockEndsReadings(Hands):
    """One lock that cannot be read, and the leader sees none."""

    def read_locks(self) -> LockReading:
        reading = super().read_locks()
        if reading.unreadable:
            raise BackendUnavailable(reading.unreadable[0].problem)
        return reading


@mutant
class SpoiltLockNotReported(Hands):
    """Leaves a lock out that cannot be read, and says nothing."""

    def read_locks(self) -> LockReading:
        return LockReading(super().read_locks().locks)


@mutant
class SpoiltLockStays(Hands):
    """A lock that cannot be read cannot be removed either, nor put anew."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            before = self.space.locks.unreadable
            count = super().edit_locks(edit)
            self.change_space(locks=attrs.evolve(self.space.locks, unreadable=before))
            return count


@mutant
class SpoiltLockStopsEdits(Hands):
    """One lock that cannot be read, and no lock is changed any more."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            if self.space.locks.unreadable:
                raise BackendUnavailable('a lock cannot be read')
            return super().edit_locks(edit)


@mutant
class ClaimKeepsItsTime(Hands):
    """A claim that is begun again keeps the time of the first."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            known = set(self.records.claims) if self.options.namespace in self.store.spaces else set()
            new = [item for item in items if (item, date, ref.name) not in known]
            found = super().append_claims(ref, new, date, tolerated)
            return attrs.evolve(found, completed=frozenset(item for item in items if (item, date) in self.records.audited))


@mutant
class RefusedAuditIsSuccess(Hands):
    """Says that an audit is recorded, though the store refused it."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        try:
            super().append_audits(node, items, date)
        except BackendUnavailable:
            if not self.store.refuses_writes:
                raise


@mutant
class RefusedHeartbeatIsSuccess(Hands):
    """Says that a heartbeat is counted, though the store refused it: the node keeps its lease, and others take its tokens."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed:
            try:
                return super().heartbeat(ref, seen, holding, candidate)
            except BackendUnavailable:
                if not self.store.refuses_writes:
                    raise
                return self.state.pulse(ref, self.store.context())


@mutant
class LosesARaceSilently(Hands):
    """Drops an edit of locks that met another's write, and reports success."""

    races = True

    def edit_locks(self, edit: LockEdit) -> int:
        with self.transaction() as tx:
            before = tx.state.revision
        self.let_others_call()
        with self.store.changed:
            return super().edit_locks(edit) if self.state.revision == before else 0


@mutant
class HeadBeforeTable(Hands):
    """Readers see the new version while the rows are still the old ones."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            before = self.space.assignment
            revision = super().commit(ref, plan, guard)
            after = self.space.assignment
            self.change_space(assignment=before)
        self.let_others_call()
        with self.store.changed:
            if self.state.version == revision:
                self.change_space(assignment=after)
        return revision


@mutant
class TableBeforeHead(Hands):
    """Readers see the new rows while the version is still the old one."""

    races = True

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            before = self.state
            revision = super().commit(ref, plan, guard)
            after = self.state
            self.change(version=before.version, revision=before.revision)
        self.let_others_call()
        with self.store.changed:
            if self.state.version == before.version:
                self.change(version=after.version, revision=after.revision)
        return revision


@mutant
class UnknownRevisionIsZero(Hands):
    """A wait that learns nothing answers 0, as if the store had gone back."""

    def wait(self, revision: int, timeout: float) -> int:
        known = self.current_revision() is not None
        number = super().wait(revision, timeout)
        return number if known else 0
