"""Mutants that read what is not so, that get stores that come, go and change wrong, or that declare what they do not keep."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator

import attrs
from tests.backends.mutants.base import DistantStore, Hands, mutant

from jobsync._core.records import LockEdit, NodeRef, Opened, Pulse, Registration, Revision, Settings, Snapshot, Timeline
from jobsync.backend import BackendInfo, Space
from jobsync.backends.memory.backend import MemoryTransaction
from jobsync.errors import Evicted, SchemaMismatch


@mutant
class StaleSnapshot(Hands):
    """Answers from what this handle has read before, until it writes itself."""

    kept: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        self.kept = self.kept or super().snapshot()
        return self.kept

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        self.kept = None
        return super().heartbeat(ref, seen, holding, candidate)


@mutant
class StalePulse(Hands):
    """A heartbeat brings back how things stood at the one before."""

    kept: Pulse | None = None

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        pulse, before = super().heartbeat(ref, seen, holding, candidate), self.kept
        self.kept = pulse
        return attrs.evolve(before, heartbeat=pulse.heartbeat) if before else pulse


@mutant
class HeartbeatNotAtomic(Hands):
    """Reads the counter, and writes it a moment later."""

    races = True

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.transaction() as tx:
            before = tx.state.nodes.get(ref.name)
        self.let_others_call()
        with self.store.changed:
            pulse = super().heartbeat(ref, seen, holding, candidate)
            if before and before.ref == ref:
                self.change_node(ref.name, heartbeat=before.heartbeat + 1)
                return attrs.evolve(pulse, heartbeat=before.heartbeat + 1)
            return pulse


@mutant
class HeartbeatComparesItself(Hands):
    """Writes the heartbeat if the node's own record is as it was, and returns the rest as it was read a moment before."""

    races = True

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        before = self.snapshot()
        self.let_others_call()
        pulse = super().heartbeat(ref, seen, holding, candidate)
        return attrs.evolve(pulse, revision=before.revision, version=before.version, leadership=before.leadership)


@mutant
class LocksNotAtomic(Hands):
    """Reads all locks, and writes them a moment later: edits made at once undo each other."""

    races = True

    def edit_locks(self, edit: LockEdit) -> int:
        with self.transaction() as tx:
            before = tx.locks()
        self.let_others_call()
        with self.store.changed:
            if before is not self.space.locks:
                self.change_space(locks=before)
            return super().edit_locks(edit)


@mutant
class TwoBeginnings(Hands):
    """Of two nodes that start at once on an absent store each makes it."""

    races = True

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        absent = self.options.namespace not in self.store.spaces
        self.let_others_call()
        with self.store.changed:
            if absent and create:
                self.store.spaces.pop(self.options.namespace, None)
            return super().open(settings, create, dead)


@mutant
class OpensUninvited(Hands):
    """Makes the schema without ``create``."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        return super().open(settings, True, dead)


@mutant
class MakesWhatItIsToRead(Hands):
    """Makes the namespace for a caller that gives no settings and only reads."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        return super().open(settings or Settings(64, 'xxh3'), create or settings is None, dead)


@mutant
class SettingsWithoutTimeline(Hands):
    """Takes other settings without a new timeline: rows of the old pool mean something else in the new one."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        with self.store.changed:
            opened = super().open(settings, create, dead)
            if opened.timeline.generation:
                self.change(timeline=attrs.evolve(opened.timeline, generation=0))
            return attrs.evolve(opened, timeline=self.state.timeline)


@mutant
class AbsentIsEmpty(Hands):
    """A namespace that is lost looks like one in which nothing has happened."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        with super().transaction(bulk=bulk, create=True) as tx:
            yield tx


@mutant
class LowRenewal(Hands):
    """A new timeline begins below what nodes have seen."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        super().renew_timeline(expected, 0, longest_timeout_sec)


@mutant
class RenewalIdIsItsNumber(Hands):
    """Derives the id of a new timeline from its generation: two stores that were renewed as often are taken for one."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed:
            before = self.state.timeline
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            if self.state.timeline != before:
                self.change(timeline=attrs.evolve(self.state.timeline, id=str(self.state.timeline.generation)))


@mutant
class RenewalVersionStays(Hands):
    """The emptied assignment of a new timeline has the version of the old one."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.version
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            self.change(version=before)


@mutant
class NodesOutliveRenewal(Hands):
    """Nodes of the old timeline stay registered in the new one."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.nodes
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            self.change(nodes=before)


@mutant
class RowsOutliveRenewal(Hands):
    """The assignment of the old timeline holds in the new one."""

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.store.changed, self.transaction() as tx:
            before = tx.assignment()
            super().renew_timeline(expected, at_least, longest_timeout_sec)
            self.change_space(assignment=attrs.evolve(before, version=self.state.version, readings={}))


@mutant
class IdentityRemembered(Hands):
    """Returns the identity that the store had when this handle was opened."""

    known: str | None = None

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, dead)
        self.known = self.store.identity
        return opened

    def snapshot(self) -> Snapshot:
        return attrs.evolve(super().snapshot(), store=self.known or self.store.identity)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return attrs.evolve(super().heartbeat(ref, seen, holding, candidate), store=self.known or self.store.identity)


@mutant
class LosesTheLast(Hands):
    """Declares itself durable, and acknowledges before a write is on the disk."""

    loses = 1


@mutant
class DriverErrorLeaks(Hands):
    """Lets the driver's own exception out when the store is away."""

    def miss(self, store: DistantStore) -> None:
        raise ConnectionRefusedError('[Errno 111] Connection refused')


@mutant
class WaitsForever(Hands):
    """A call lasts until the store is back, however little time it was given."""

    def miss(self, store: DistantStore) -> None:
        store.back.wait(120)
        super().miss(store)


@mutant
class AwayIsEvicted(Hands):
    """Takes a store that does not answer for one that has no record of the node."""

    def miss(self, store: DistantStore) -> None:
        raise Evicted('no record was found')


@mutant
class DriverErrorForAbsent(Hands):
    """Lets a KeyError out where the namespace is not there."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        try:
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx
        except SchemaMismatch as error:
            raise KeyError(self.options.namespace) from error


@mutant
class SlowPush(Hands):
    """Declares push, and polls every second."""

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and self.number <= revision and not self._closed.is_set():
            self._closed.wait(min(1.0, left))
        return self.number


@mutant
class SleepsThroughClose(Hands):
    """A wait goes on after its handle is closed, so that a process cannot end."""

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and self.number <= revision:
            with self.store.changed:
                self.store.changed.wait(min(left, 0.05))
        return self.number


@mutant
class HearsItselfOnly(Hands):
    """A wait ends by changes that its own handle has made."""

    mine = 0

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(node, timeline, at_least, replacing)
        self.mine = self.number

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and self.mine <= revision and not self._closed.is_set():
            self._closed.wait(min(left, 0.01))
        return max(self.mine, self.number if timeout == 0 else 0)


@mutant
class QuietLocks(Hands):
    """An edit of locks ends no wait: the leader notices it with its next heartbeat."""

    def current_revision(self) -> int | None:
        number = super().current_revision()
        return None if number and number == self.state.locks_revision else number


@mutant
class CloseLeaves(Hands):
    """To close a handle is to leave the cluster."""

    mine: NodeRef | None = None

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(node, timeline, at_least, replacing)
        self.mine = node.ref

    def close(self) -> None:
        if self.mine:
            self.deregister(self.mine)
        super().close()


@mutant
class ClosesOnce(Hands):
    """Fails when it is closed again."""

    def close(self) -> None:
        if self._closed.is_set():
            raise ValueError('the connection is closed')
        super().close()


@mutant
class ClaimsSql(Hands):
    """Declares SQL, and has none."""

    @property
    def info(self) -> BackendInfo:
        return attrs.evolve(super().info, sql=True)


@mutant
class ForgetsHeartbeats(Hands):
    """Declares space, and does not count what heartbeats write."""

    @property
    def info(self) -> BackendInfo:
        return attrs.evolve(super().info, space=True)

    def read_space(self) -> Space:
        return Space(1, 2, is_assumed=False, heartbeat_bytes=1.0, versions=self.snapshot().revision.number, is_trimmed=False)


@mutant
class FickleInfo(Hands):
    """Declares something else once it has been opened."""

    opened = False

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        self.opened = True
        return super().open(settings, create, dead)

    @property
    def info(self) -> BackendInfo:
        return attrs.evolve(super().info, push=self.opened)
