"""Mutants of outages: what a call does while the store is away or refuses writes, and what a handle knows after that."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Collection, Iterator, Sequence

import attrs
from tests.backends.mutants.base import DistantStore, Hands, MutantHarness, mutant

from jobsync.backend import BackendOptions, HistoryKind, LockReading, NodeRef, Opened, Purged, Revision, Settings, Snapshot
from jobsync.backend import Changes as AssignmentChanges
from jobsync.backends.memory import MemoryStore
from jobsync.backends.memory.backend import MemoryTransaction
from jobsync.errors import BackendUnavailable, SchemaMismatch
from jobsync.testing import Harness


class Reached(Hands):
    """Knows whether the store is away."""

    @property
    def is_away(self) -> bool:
        """Whether no call is answered."""
        return isinstance(self.store, DistantStore) and self.store.is_away


# In the outage


@mutant
class AnswersFromMemory(Reached):
    """Answers a reading in an outage by what this handle has read before: a node does not learn that it reads nothing."""

    _snapshot: Snapshot | None = None
    _locks: LockReading | None = None

    def snapshot(self) -> Snapshot:
        if self._snapshot is None or not self.is_away:
            self._snapshot = super().snapshot()
        return self._snapshot

    def read_locks(self) -> LockReading:
        if self._locks is None or not self.is_away:
            self._locks = super().read_locks()
        return self._locks


@mutant
class AwayIsAbsentToAReader(Reached):
    """Takes an outage for a namespace that does not exist, where ``open`` is to read only: people read that it is gone."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        if settings is None and self.is_away:
            raise SchemaMismatch('there is no such table')
        return super().open(settings, create, dead)


@mutant
class WaitEndsAtOnceInAnOutage(Reached):
    """A wait of a handle that has been opened ends at once in an outage: each node sends requests without a pause."""

    _is_open = False

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, dead)
        self._is_open = True
        return opened

    def wait(self, revision: int, timeout: float) -> int:
        return revision if self._is_open and self.is_away else super().wait(revision, timeout)


@mutant
class OneCallAtATime(Reached):
    """Has one connection, for one call at a time: in an outage a heartbeat comes after a bulk call has given up."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self._connection = threading.RLock()

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        with self._connection:
            if isinstance(self.store, DistantStore) and self.store.is_away:
                self.store.back.wait(self.options.bulk_timeout_sec if bulk else self.options.op_timeout_sec)
                raise BackendUnavailable('the store is away')
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx


@mutant
class CloseTakesLeave(Reached):
    """``close`` takes leave of the store, and waits for an answer: in an outage no process ends."""

    def close(self) -> None:
        if isinstance(self.store, DistantStore) and self.store.is_away:
            self.store.back.wait()
        super().close()


@mutant
class LimitedByTheWallClock(Reached):
    """Limits a call by the wall clock: where that is set back in an outage, a heartbeat lasts for as much longer."""

    def miss(self, store: DistantStore) -> None:
        until = time.time() + min(0.2, self.options.op_timeout_sec)
        while time.time() < until and not store.back.is_set():
            time.sleep(0.005)
        super().miss(store)


@mutant
class WaitsByTheWallClock(Reached):
    """Ends a wait by the wall clock."""

    def wait(self, revision: int, timeout: float) -> int:
        until = time.time() + timeout
        while self.number <= revision and not self._closed.is_set() and time.time() < until:
            time.sleep(0.005)
        return super().wait(revision, 0)


# After it


class Restarted(Reached):
    """Counts how often the store was restarted."""

    @classmethod
    def harness(cls) -> Harness:
        return RestartHarness(cls)

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self._first = self.restarts

    @property
    def restarts(self) -> int:
        """How many there were."""
        return store.restarts if isinstance(store := self.store, RestartedStore) else 0


class RestartedStore(DistantStore):
    """One that counts its restarts, and knows what was the last version before them."""

    restarts = 0
    last_version = -1


class RestartHarness(MutantHarness):
    """Its store counts restarts."""

    def __init__(self, kind: type[Hands]) -> None:
        super().__init__(kind)
        self.store: RestartedStore = RestartedStore(clock=self.store.now)

    def restart(self) -> None:
        """See ``Harness``."""
        with self.store.changed:
            super().restart()
            self.store.restarts += 1
            self.store.last_version = max((space.state.version.number for space in self.store.spaces.values()), default=-1)
            self.store.changed.notify_all()


@mutant
class DeafAfterACrash(Restarted):
    """Listens with a thread that ends with the connection: later waits of the handle last for their whole timeout."""

    def wait(self, revision: int, timeout: float) -> int:
        if self.restarts == self._first:
            with self.store.changed:
                self.store.changed.wait_for(
                    lambda: self._closed.is_set() or self.number > revision or self.restarts != self._first, timeout
                )
        else:
            self._closed.wait(timeout)
        return super().wait(revision, 0)


@mutant
class StaleAfterACrash(Restarted):
    """Keeps a snapshot until the store announces a change, and notices none any more once its connection was lost."""

    _kept: tuple[int, Snapshot] | None = None

    def snapshot(self) -> Snapshot:
        with self.store.changed:
            if self._kept is None or (self.restarts == self._first and self._kept[0] != self.store.position):
                self._kept = self.store.position, super().snapshot()
            return self._kept[1]


@mutant
class DifferencesLostInACrash(Restarted):
    """Has what the commits have changed in memory: after a crash a difference from before has nothing of it."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> AssignmentChanges:
        changes = super().read_assignment(since, tokens)
        last = self.store.last_version if isinstance(self.store, RestartedStore) else -1
        if changes.base is None or changes.base.number > last:
            return changes
        with self.transaction(bulk=True) as tx:
            return attrs.evolve(changes, groups=tx.assignment()._groups(last), members={})


# A store that refuses writes


@mutant
class RefusedReleaseIsSuccess(Reached):
    """Says that attempts are forgotten, though the store refused it: an item that a person releases stays refused."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        with contextlib.suppress(BackendUnavailable) if self.store.refuses_writes else contextlib.nullcontext():
            super().forget_attempts(items, date, ref)


@mutant
class RefusedPurgeIsSuccess(Reached):
    """Says that records are deleted, though the store refused it: a history grows that is purged every day."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        try:
            return super().purge(kind, before, limit, after)
        except BackendUnavailable:
            if not self.store.refuses_writes:
                raise
            return Purged(1, '')


@mutant
class RefusedSettingsAreReturned(Reached):
    """Returns the settings that were to be stored as those in force, though the store refused them: two pools at once."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        try:
            return super().open(settings, create, dead)
        except BackendUnavailable:
            if settings is None or not self.store.refuses_writes:
                raise
            return Opened(settings, self.state.timeline)
