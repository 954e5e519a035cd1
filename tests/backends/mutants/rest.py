"""Mutants of task locks, trails, namespaces, timelines and declarations."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
import fnmatch
import time
from collections.abc import Collection, Sequence

import attrs
from tests.backends.mutants.base import DistantStore, Hands, mutant

from jobsync._core.assignment import Plan
from jobsync._core.records import (
    Claim,
    Guard,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
    Opened,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.backend import BackendInfo, BackendOptions, Reach
from jobsync.backends._common.concerned import Concerned
from jobsync.backends.memory import MemoryStore
from jobsync.backends.single_writer import LockTable


@mutant
class LockIdsReused(Hands):
    """After clearing all locks ids begin at 1 again."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            count = super().edit_locks(edit)
            if not self.space.locks.by_task:
                self.change_space(locks=LockTable())
            return count


@mutant
class LocksLapse(Hands):
    """What an edit removes and puts comes back as another lock."""

    def edit_locks(self, edit: LockEdit) -> int:
        with self.store.changed:
            count = super().edit_locks(attrs.evolve(edit, put=()))
            super().edit_locks(attrs.evolve(edit, remove=None))
            return count


@mutant
class ExpiredLocksHidden(Hands):
    """Leaves out what has expired."""

    def read_locks(self) -> LockReading:
        now, reading = self.store.now(), super().read_locks()
        locks = tuple(lock for lock in reading.locks if lock.expires_at is None or lock.expires_at > now)
        return attrs.evolve(reading, locks=locks)


@mutant
class ClaimsNotFenced(Hands):
    """Accepts claims from a node that is no longer registered."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            completed = frozenset(item for item in items if (item, date) in self.records.audited)
            self.records.add([Claim(item, ref.name, date, self.store.now()) for item in items if item not in completed])
            return Unclaimed(completed)


@mutant
class ClaimsNotAtomic(Hands):
    """Checks that the node is registered, and records its claims a moment later, though it has left meanwhile."""

    races = True

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            is_joined = self.state.is_joined(ref)
        self.let_others_call(lambda: is_joined and not self.state.is_joined(ref))
        self.let_others_call()  # for what has ended the run to read on
        with self.store.changed:
            if not is_joined or self.state.is_joined(ref):
                return super().append_claims(ref, items, date, tolerated)
            return ClaimsNotFenced.append_claims(self, ref, items, date, tolerated)  # type: ignore[arg-type]


@mutant
class AuditsInPortions(Hands):
    """Records what was completed a hundred items at a time: readers see a part of one call."""

    races = True

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        super().append_audits(node, items[:100], date)
        for first in range(100, len(items), 100):
            self.let_others_call()
            super().append_audits(node, items[first : first + 100], date)


@mutant
class LocksInTwoSteps(Hands):
    """Removes the old set of task locks in one step and puts the new one in the next: meanwhile no task is locked."""

    races = True

    def edit_locks(self, edit: LockEdit) -> int:
        if edit.remove is None or not edit.put:
            return super().edit_locks(edit)
        with self.store.changed:  # ids and times are those of one step
            before = self.space.locks
            removed = super().edit_locks(edit)
            after = self.space.locks
            self.change_space(locks=before.edit(attrs.evolve(edit, put=()), self.store.now(), self.number))
        self.let_others_call()
        self.change_space(locks=after)
        return removed


@mutant
class ClaimsOverwritten(Hands):
    """A later day's claim takes the place of an earlier one."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.store.changed:
            found = super().append_claims(ref, items, date, tolerated)
            claims = self.records.claims
            for key in [key for key in claims if key[0] in items and key[1] != date]:
                del claims[key]
            return found


@mutant
class PrefixLeak(Hands):
    """Finds a namespace by its first letters."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self.options = attrs.evolve(self.options, namespace=self.options.namespace[:4])


@mutant
class OpenTakesOver(Hands):
    """A newcomer's settings replace those of a running cluster."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        with self.store.changed:
            opened = super().open(settings, create, dead)
            in_force = settings or opened.settings
            self.change(settings=in_force)
            return attrs.evolve(opened, settings=in_force)


@mutant
class RenewalNotCompared(Hands):
    """Renews whatever timeline there is: twice, where two nodes see one sign."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        super().renew_timeline(self.state.timeline, at_least, longest_timeout_sec)


@mutant
class RenewalClearsLocks(Hands):
    """Task locks go with the timeline."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed:
            before = self.state.timeline
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            if self.state.timeline != before:
                self.change_space(locks=LockTable())


@mutant
class EpochFallsBack(Hands):
    """The epoch begins anew with a timeline: a fence of before is above those that follow."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed:
            before = self.state.timeline
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            if self.state.timeline != before:
                self.change(leadership=Leadership(0, None))


@mutant
class DeafWait(Hands):
    """Sleeps through every change and through ``close``."""

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(min(0.05, timeout))
        return super().wait(revision, 0)


@mutant
class NamesTheLastAlone(Hands):
    """A hint of several commits names the nodes that the last one concerns: the others read their tokens late."""

    def wait(self, revision: int, timeout: float) -> int:
        number = super().wait(revision, timeout)
        return self.store.concerned[self.options.namespace].hint(number, max(revision, number - 1))


@mutant
class LeaderLeavesUnseen(Hands):
    """The hint of a leader that leaves names no node: its successor learns of it with a heartbeat."""

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        super().deregister(ref, died)
        self.store.concerned[self.options.namespace] = Concerned()


@mutant
class LocksReadOnce(Hands):
    """Reads the locks anew only once a snapshot of this handle has shown that they changed."""

    known: LockReading | None = None
    known_at = -1

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        if snapshot.locks_revision != self.known_at:
            self.known, self.known_at = None, snapshot.locks_revision
        return snapshot

    def read_locks(self) -> LockReading:
        self.known = self.known or super().read_locks()
        return self.known

    def edit_locks(self, edit: LockEdit) -> int:
        self.known = None
        return super().edit_locks(edit)


@mutant
class RenewsAlike(Hands):
    """A renewal removes the nodes of each other namespace that this one's name matches, with ``_`` for any character."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed:
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            for name, space in self.store.spaces.items():
                if name != self.options.namespace and fnmatch.fnmatchcase(name, self.options.namespace.replace('_', '?')):
                    self.store.spaces[name] = attrs.evolve(space, state=attrs.evolve(space.state, nodes={}))


@mutant
class SettingsConcernNobody(Hands):
    """The hint of replaced settings names no node."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, dead)
        self.store.concerned[self.options.namespace] = Concerned()
        return opened


@mutant
class ClaimsReach(Hands):
    """Declares that nodes on other machines reach it."""

    @property
    def info(self) -> BackendInfo:
        return attrs.evolve(super().info, reach=Reach.NETWORK)


@mutant
class SmallPool(Hands):
    """Declares a larger pool than it keeps."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        groups = tuple(attrs.evolve(g, tokens=[token for token in g.tokens if token < 65_536]) for g in plan.groups)
        return super().commit(ref, attrs.evolve(plan, groups=groups), guard)


@mutant
class LimitOfItsOwn(Hands):
    """Gives up a call when its driver's own timeout is over, whatever limit the options have."""

    limit_sec = 180

    def miss(self, store: DistantStore) -> None:
        time.sleep(2.2)
        super().miss(store)
