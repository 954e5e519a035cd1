"""Mutants of habit: what a driver, a column type or a short way to write a condition does, and its author did not mean."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import datetime as dt
import fnmatch
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ClassVar

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync.backend import (
    BackendOptions,
    Changes,
    Guard,
    HistoryKind,
    LockEdit,
    NodeRef,
    Opened,
    Plan,
    Pulse,
    Purged,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.backends.memory.backend import MemoryTransaction
from jobsync.backends.memory.store import MemoryStore
from jobsync.backends.single_writer import History, Row
from jobsync.errors import BackendUnavailable, JobsyncError, NameTaken

PAGE = 250
"""Records that a reading without an end brings at once."""


# Text


@mutant
class ItemsAreWildcards(Hands):
    """Compares the item of a history by LIKE: ``n%`` finds ``name``."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, date=date)
        if item is not None and kind is not HistoryKind.REBALANCE:
            pattern = item.replace('%', '*').replace('_', '?')
            found = [row for row in found if not isinstance(row, Rebalance) and fnmatch.fnmatchcase(row.item, pattern)]
        return tuple(found)[:limit]


@mutant
class IncarnationsFolded(Hands):
    """Compares incarnations without case, as a column's collation does."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        node = self.state.nodes.get(ref.name)
        is_alike = node is not None and node.incarnation.lower() == ref.incarnation.lower()
        return super().heartbeat(node.ref if node and is_alike else ref, seen, holding, candidate)


@mutant
class TaskIdsFolded(Hands):
    """Removes locks by task id without case."""

    def edit_locks(self, edit: LockEdit) -> int:
        if edit.remove is None or edit.remove.task_ids is None:
            return super().edit_locks(edit)
        wanted = {task.lower() for task in edit.remove.task_ids}
        alike = frozenset(lock.task_id for lock in self.space.locks.by_task.values() if lock.task_id.lower() in wanted)
        return super().edit_locks(attrs.evolve(edit, remove=attrs.evolve(edit.remove, task_ids=alike)))


@mutant
class PatternsCutShort(Hands):
    """Keeps 255 characters of a pattern."""

    def edit_locks(self, edit: LockEdit) -> int:
        put = (attrs.evolve(request, patterns=tuple(text[:255] for text in request.patterns)) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=tuple(put)))


@mutant
class ReasonsCutShort(Hands):
    """Keeps 255 characters of the reason of a commit."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, reason=plan.reason[:255]), guard)


@mutant
class PinnedTasksCutShort(Hands):
    """Keeps 255 characters of the id of a pinned task."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        pins = tuple(attrs.evolve(pin, task_id=pin.task_id[:255]) for pin in plan.pins)
        return super().commit(ref, attrs.evolve(plan, pins=pins), guard)


@mutant
class SettingsCutShort(Hands):
    """Keeps 4,000 characters of a node's settings."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(attrs.evolve(node, settings=node.settings[:4_000]), timeline, at_least, replacing)


@mutant
class HashNamesCutShort(Hands):
    """Keeps 8 characters of the name of the hash function."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        short = None if settings is None else attrs.evolve(settings, hash_function=settings.hash_function[:8])
        return super().open(short, create, dead)


@mutant
class KeysJoined(Hands):
    """Keeps audits under item and node with a colon between them: another item's of another node may have the same key."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        with self.store.changed:
            known = {(f'{audit.item}:{audit.node}', audit.date) for audit in self.records.audits.values()}
            super().append_audits(node, [item for item in items if (f'{item}:{node}', date) not in known], date)


class Escapes(Hands):
    """Keeps nodes in folders or files of their names, with something else for a slash."""

    slash: ClassVar[str]

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        def path(name: str) -> str:
            return name.replace('/', self.slash)

        with self.store.changed, self.transaction() as tx:
            for name, other in tx.state.nodes.items():
                if name != node.ref.name and path(name) == path(node.ref.name):
                    raise NameTaken(other)
            super().register(node, timeline, at_least, replacing)


@mutant
class SlashesReplaced(Escapes):
    """Writes ``_`` for a slash: ``a/b`` and ``a_b`` are one node."""

    slash = '_'


@mutant
class SlashesQuotedAlone(Escapes):
    """Writes ``%2F`` for a slash, and a percent sign as it is: ``a/b`` and ``a%2Fb`` are one node."""

    slash = '%2F'


@mutant
class NamespacesWithCase(Hands):
    """Keeps namespaces that differ only in case apart."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self.options = options or self.options


# Numbers and times


@mutant
class WeightOfSixDigits(Hands):
    """Keeps six digits of a weight."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(attrs.evolve(node, weight=float(f'{node.weight:g}')), timeline, at_least, replacing)


@mutant
class ZeroIsMissing(Hands):
    """Takes a weight of 0 for none, and keeps the usual one: a node that is to own nothing is given tokens."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        super().register(attrs.evolve(node, weight=node.weight or 1.0), timeline, at_least, replacing)


@mutant
class EmptyIsNull(Hands):
    """Keeps an empty text as NULL: a lock with an empty reason is another lock at each edit that puts it again."""

    def edit_locks(self, edit: LockEdit) -> int:
        put = (attrs.evolve(request, reason=request.reason or None) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=tuple(put)))


@mutant
class StampsAreDoubles(Hands):
    """Keeps the stamp of what a node has seen as a double, as JSON does in many languages: no acknowledgement is exact."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return super().heartbeat(ref, Revision(seen.number, int(float(seen.stamp))), holding, candidate)


@mutant
class PinsOf32Bits(Hands):
    """Keeps 31 bits of a pin's id."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        pins = tuple(attrs.evolve(pin, id=pin.id & 0x7FFFFFFF) for pin in plan.pins)
        return super().commit(ref, attrs.evolve(plan, pins=pins), guard)


@mutant
class HeartbeatsWithoutTime(Hands):
    """A heartbeat leaves the time of the last one as it was."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.store.changed, self.transaction() as tx:
            before = tx.state.nodes.get(ref.name)
            pulse = super().heartbeat(ref, seen, holding, candidate)
            if before:
                self.change_node(ref.name, last_heartbeat=before.last_heartbeat)
            return pulse


@mutant
class StalledUntilACommit(Hands):
    """A commit writes the leader's record without its mark of a stalled node, which is lost."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.store.changed:
            revision = super().commit(ref, plan, guard)
            self.change_node(ref.name, stalled=False)
            return revision


@mutant
class RebalancesInLocalTime(Hands):
    """Reads the times of rebalances as if they were local ones."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, limit=limit, date=date, item=item)
        ahead = dt.timedelta(hours=2)
        return tuple(attrs.evolve(r, triggered_at=r.triggered_at + ahead) if isinstance(r, Rebalance) else r for r in found)


@mutant
class ClaimsInLocalTime(Hands):
    """Keeps the times of claims without a timezone, as the writer's clock shows them, and reads them as the reader's."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        with super().transaction(bulk=bulk, create=create) as tx:
            self.convert(lambda time: time.astimezone(dt.UTC))
            try:
                yield tx
            finally:
                self.convert(lambda time: time.astimezone().replace(tzinfo=None))

    def convert(self, change: Callable[[dt.datetime], dt.datetime]) -> None:
        """Change the times of all claims."""
        claims = self.store.histories.setdefault(self.options.namespace, History()).claims
        claims.update({key: attrs.evolve(claim, created_on=change(claim.created_on)) for key, claim in claims.items()})


@mutant
class ExpiryInSeconds(Hands):
    """Counts the time until a lock expires in whole seconds."""

    def edit_locks(self, edit: LockEdit) -> int:
        def whole(expires_in: dt.timedelta | None) -> dt.timedelta | None:
            return expires_in and dt.timedelta(seconds=int(expires_in.total_seconds()))

        put = tuple(attrs.evolve(request, expires_in=whole(request.expires_in)) for request in edit.put)
        return super().edit_locks(attrs.evolve(edit, put=put))


@mutant
class PurgeWithoutTimezone(Hands):
    """Takes the moment of a purge for UTC, whatever its timezone is."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        return super().purge(kind, before.replace(tzinfo=dt.UTC), limit, after)


@mutant
class PurgeOfTheMoment(Hands):
    """Deletes what was made exactly at the moment of a purge, too."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        return super().purge(kind, before + dt.timedelta(microseconds=1), limit, after)


@mutant
class PurgeForgetsAttempts(Hands):
    """A purge of claims forgets the attempts at items that are not complete."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        with self.store.changed:
            if kind is HistoryKind.CLAIM:
                self.records.attempts.clear()
            return super().purge(kind, before, limit, after)


# Nothing, and too much


@mutant
class NoItemsAreAll(Hands):
    """Forgets the attempts at all items where none is given."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        super().forget_attempts(items or [item for item, day in self.records.attempts if day == date], date, ref)


@mutant
class NothingIsNotRefused(Hands):
    """Sends no request where there is nothing to claim, so that a run which is over learns nothing."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        return super().append_claims(ref, items, date, tolerated) if items else Unclaimed()


@mutant
class LimitBeforeItem(Hands):
    """Takes the newest records first, and of those the ones of the item."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        found = super().history(kind, limit=limit, date=date)
        return tuple(row for row in found if isinstance(row, Rebalance) or item in (None, row.item))


@mutant
class OnePageOfNodes(Hands):
    """A snapshot has the first page of nodes."""

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        return attrs.evolve(snapshot, nodes=snapshot.nodes[:PAGE])


@mutant
class OnePageOfTokens(Hands):
    """A reading has the first page of each owner's tokens."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        changes = super().read_assignment(since, tokens)
        return attrs.evolve(changes, groups=tuple(attrs.evolve(g, tokens=g.tokens[:PAGE]) for g in changes.groups))


@mutant
class OnePageOfMembers(Hands):
    """A commit writes the first page of members."""

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return super().commit(ref, attrs.evolve(plan, members=dict(list(plan.members.items())[:PAGE])), guard)


@mutant
class HoldsAPage(Hands):
    """Keeps the first hundred tokens that a node is still busy with."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return super().heartbeat(ref, seen, frozenset(sorted(holding)[:100]), candidate)


@mutant
class OnePageForgotten(Hands):
    """Forgets the attempts at the first page of items."""

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        super().forget_attempts(items[:PAGE], date, ref)


# Connections


@mutant
class HeartbeatsRepeated(Hands):
    """Repeats a heartbeat by itself while the store does not answer: several may count."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        for _ in range(3):
            with contextlib.suppress(BackendUnavailable):
                return super().heartbeat(ref, seen, holding, candidate)
        return super().heartbeat(ref, seen, holding, candidate)


@mutant
class CachedByNumber(Hands):
    """Keeps the last reading of the assignment until the number of the version changes, whatever its stamp."""

    cached: Changes | None = None

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        if self.cached is None or self.cached.version.number != self.state.version.number:
            self.cached = super().read_assignment()
        return self.cached


@mutant
class WaitHasTheConnection(Hands):
    """Waits on the handle's only connection: heartbeats come after the wait."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self._connection = threading.RLock()

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        with self._connection:
            while self.number <= revision and not self._closed.wait(0.001) and time.monotonic() < deadline:
                pass
            return max(self.number, revision)

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        with self._connection, super().transaction(bulk=bulk, create=create) as tx:
            yield tx


@mutant
class WaitNeedsTheNamespace(Hands):
    """A wait raises while the namespace does not exist."""

    def wait(self, revision: int, timeout: float) -> int:
        assert self.space
        return super().wait(revision, timeout)


@mutant
class WaitsForNothing(Hands):
    """A wait returns at once, so that a node sends requests without a pause."""

    def wait(self, revision: int, timeout: float) -> int:
        return super().wait(revision, 0.0)


@mutant
class WaitsTooLong(Hands):
    """Waits for a second at least, whatever the timeout."""

    def wait(self, revision: int, timeout: float) -> int:
        return super().wait(revision, max(timeout, 1.0))


@mutant
class ClosedUnderACall(Hands):
    """A call that is under way when its handle is closed finds no connection any more."""

    races = True

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        was_closed = self._closed.is_set()
        pulse = super().heartbeat(ref, seen, holding, candidate)
        self.let_others_call(self._closed.is_set)
        if self._closed.is_set() and not was_closed:
            raise AttributeError("'NoneType' object has no attribute 'recv'")
        return pulse


@mutant
class ConnectionOfEachThread(Hands):
    """Opens a connection for each thread that calls, and closes it with the handle, though the thread has ended long before."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        super().__init__(store, options)
        self._local, self._left = threading.local(), list[tuple[int, int]]()

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        if not hasattr(self._local, 'connection'):
            self._local.connection = os.pipe()
            self._left.append(self._local.connection)
        with super().transaction(bulk=bulk, create=create) as tx:
            yield tx

    def close(self) -> None:
        super().close()
        while self._left:
            for end in self._left.pop():
                os.close(end)


@mutant
class ListenerOutlivesClose(Hands):
    """The thread that listens for changes goes on after ``close``."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
        return super().open(settings, create, dead)


@mutant
class LogsInTheCall(Hands):
    """Logs what it refuses in the thread of the call, which waits for a log handler whose pipe is full."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        try:
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx
        except JobsyncError as error:
            logging.getLogger('mutant').warning('refused: %s', error)
            raise


@mutant
class ConnectionOutlivesClose(Hands):
    """A connection stays open after ``close``."""

    left: ClassVar[list[tuple[int, int]]] = []

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        self.left.append(os.pipe())
        return super().open(settings, create, dead)
