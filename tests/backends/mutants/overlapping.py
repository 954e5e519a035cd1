"""Mutants of two moments: what a call compares or reads first has changed when it writes, or reads the rest."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import attrs
from tests.backends.mutants.base import Hands, mutant

from jobsync._core.assignment import Changes
from jobsync._core.records import (
    Claim,
    HistoryKind,
    Leadership,
    Node,
    NodeRef,
    NodeState,
    Opened,
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
from jobsync.backends._common.values import BEFORE_ANY
from jobsync.errors import BackendUnavailable


class Overlapping(Hands):
    """Leaves a gap in the midst of a call."""

    races = True

    def joined_before_a_gap(self, ref: NodeRef) -> Node | None:
        """Return the record of a JOINED run, read before a gap that lasts until the run is over."""
        with self.transaction() as tx:
            before = tx.state.nodes.get(ref.name) if tx.state.is_joined(ref) else None
        self.let_others_call(lambda: not self.state.is_joined(ref))
        return before


@mutant
class RegistersLate(Overlapping):
    """Compares the timeline, and registers a moment later in the one that has taken its place."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.transaction() as tx:
            before = tx.state.timeline
        self.let_others_call(lambda: self.state.timeline != before)
        with self.store.changed:
            super().register(node, self.state.timeline if timeline == before else timeline, at_least, replacing)


class WritesItBack(Overlapping):
    """Writes a whole record as it was read: JOINED, though its run has left since."""

    def write_back(self, before: Node | None) -> None:
        """Undo that the run has left."""
        if before is not None and (now := self.state.nodes.get(before.name)) and now.ref == before.ref:
            self.change_node(before.name, state=NodeState.JOINED)


@mutant
class HeartbeatUndoesLeaving(WritesItBack):
    """A heartbeat writes the record as it was read a moment before: a run that has left meanwhile is JOINED again."""

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        before = self.joined_before_a_gap(ref)
        with self.store.changed:
            self.write_back(before)
            return super().heartbeat(ref, seen, holding, candidate)


@mutant
class WeightUndoesLeaving(WritesItBack):
    """A new weight is written with the record as it was read a moment before: a run that has left meanwhile is JOINED again."""

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        before = self.joined_before_a_gap(ref)
        with self.store.changed:
            self.write_back(before)
            super().set_weight(ref, weight, stalled)


@mutant
class LeadsLate(Overlapping):
    """Compares whether a run is registered, and makes it the leader a moment later, though it is over."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        before = self.joined_before_a_gap(ref)
        with self.store.changed:
            nodes = self.state.nodes
            if before is None or self.state.is_joined(ref):
                return super().acquire_leadership(ref, epoch)
            self.change(nodes={**nodes, ref.name: before})
            try:
                return super().acquire_leadership(ref, epoch)
            finally:
                self.change(nodes=nodes)


@mutant
class SettingsComparedEarly(Overlapping):
    """Finds that no node lives, and replaces the settings a moment later, though one has beaten or registered."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        opened = super().open(settings, create, None)
        before = self.state
        if settings is None or opened.settings == settings or dead is None or not before.is_empty(dead):
            return opened
        self.let_others_call(lambda: self.state.nodes != before.nodes)
        with self.store.changed:
            is_same = self.state.timeline == before.timeline
            return super().open(settings, create, [node.beat for node in self.state.nodes.values()] if is_same else dead)


@mutant
class EachItsOwnSettings(Overlapping):
    """Of nodes that begin a namespace at once each has its own settings returned, and the last one's are stored."""

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        if settings is None or not create or self.options.namespace in self.store.spaces:
            return super().open(settings, create, dead)
        self.let_others_call()
        with self.store.changed:
            if self.options.namespace in self.store.spaces:
                self.change(settings=settings)
            return super().open(settings, create, dead)


@mutant
class IncompleteOfTwoMoments(Overlapping):
    """Reads what is completed, and the claims a moment later: what was begun and completed meanwhile is incomplete."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        with self.transaction(bulk=True) as tx:
            audited = Counter(tx.history().audited)
        self.let_others_call()
        with self.transaction(bulk=True) as tx:
            history = tx.history().copy()
            history.audited = audited
            return history.incomplete(date, tx.context.now - older_than)


@mutant
class LostOfTwoMoments(Overlapping):
    """Reads which runs are JOINED, and the attempts a moment later: those of a run that has come meanwhile are lost."""

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        with self.transaction(bulk=True) as tx:
            before = tx.state
        self.let_others_call()
        with self.transaction(bulk=True) as tx:
            history = tx.history()
            counts = {item: history.lost_attempts(item, day, before.is_joined) for item, day in history.attempts if day == date}
            return {item: count for item, count in counts.items() if count >= at_least}


@mutant
class RefusedForTheLiving(Overlapping):
    """Refuses an item for an attempt of a run that has come since this call has read which runs are JOINED."""

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.transaction(bulk=True) as tx:
            before = tx.state
        self.let_others_call()
        with self.store.changed:
            done = super().append_claims(ref, items, date, tolerated)
            if tolerated is None:
                return done
            counts = {
                item: self.records.lost_attempts(item, date, lambda run: run == ref or before.is_joined(run)) for item in items
            }
            return Unclaimed(done.completed, {item: count for item, count in counts.items() if count > tolerated})


@mutant
class LocksRevisionEarly(Overlapping):
    """A snapshot has the revision of locks of a moment before: its reader takes locks that were edited since for known."""

    def snapshot(self) -> Snapshot:
        with self.transaction() as tx:
            before = tx.state.locks_revision
        self.let_others_call(lambda: self.state.locks_revision != before)
        return attrs.evolve(super().snapshot(), locks_revision=before)


@mutant
class TimelineEarly(Overlapping):
    """A snapshot has the timeline of a moment before."""

    def snapshot(self) -> Snapshot:
        with self.transaction() as tx:
            before = tx.state.timeline
        self.let_others_call(lambda: self.state.timeline != before)
        return attrs.evolve(super().snapshot(), timeline=before)


@mutant
class WakesOneWait(Hands):
    """Of several waits of one handle a change ends the first."""

    _first: threading.Lock | None = None

    def wait(self, revision: int, timeout: float) -> int:
        with self.store.changed:
            self._first = self._first or threading.Lock()
        if self._first.acquire(blocking=False):
            try:
                return super().wait(revision, timeout)
            finally:
                self._first.release()
        self._closed.wait(timeout)
        return super().wait(revision, 0)


@mutant
class TokensAreASequence(Hands):
    """Takes the tokens of a reading a hundred at a time, by slices that a set does not have."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        if tokens is not None and not isinstance(tokens, Sequence):
            raise TypeError(f'{type(tokens).__name__!r} object is not subscriptable')
        return super().read_assignment(since, tokens)


@mutant
class LatestOfTheHandle(Hands):
    """Keeps the latest ``created_on`` of what this handle has registered, and of the records that are left."""

    _latest = BEFORE_ANY

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.store.changed:
            self.change(last_created=max([self._latest, *(node.created_on for node in self.state.nodes.values())]))
            super().register(node, timeline, at_least, replacing)
            self._latest = self.state.last_created


@mutant
class ResumeIsSplit(Hands):
    """Keeps in ``resume`` an item and a number with a bar between them, and splits the text where a bar comes first."""

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        number = after.partition('|')[2]
        if after and not number.isdecimal():
            raise BackendUnavailable(f'{number!r} is no number')
        with self.store.changed:
            portion = super().purge(kind, before, limit, number)
            if not portion.resume:
                return portion
            last = list(self.records._records(kind)[1])[-int(portion.resume)]
            return attrs.evolve(portion, resume=f'{"" if isinstance(last, Rebalance) else last.item}|{portion.resume}')


@mutant
class LocksRevisionPutBack(Overlapping):
    """Who takes the lead writes the revision of locks back as it was a moment before: leaders see nothing of an edit."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.transaction() as tx:
            before = tx.state.locks_revision
        self.let_others_call(lambda: self.state.locks_revision != before)
        with self.store.changed:
            leadership = super().acquire_leadership(ref, epoch)
            self.change(locks_revision=before)
            return leadership


@mutant
class NodesPutBack(Overlapping):
    """Who takes the lead writes the records of others back as they were a moment before: heartbeats are lost."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.transaction() as tx:
            before = tx.state.nodes
        others = [node for name, node in before.items() if name != ref.name]
        self.let_others_call(lambda: any(self.state.nodes.get(node.name) != node for node in others))
        with self.store.changed:
            leadership = super().acquire_leadership(ref, epoch)
            kept = {node.name: node for node in others if self.state.is_joined(node.ref)}
            self.change(nodes={**self.state.nodes, **kept})
            return leadership
