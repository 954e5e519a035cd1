"""The Backend protocol: what jobsync asks of a store.

A store keeps the records of one *namespace* (``appname``, a prefix; namespaces that are prefixes of each other do not see
each
other). It decides nothing. It offers two atomic shapes: put one record if what it replaces is as expected, and write many
records if two integers are as expected. It needs no TTL, no lock and no trusted clock.

Every method

- is atomic: concurrent callers see all of it or nothing, and a reading never mixes two states;
- is synchronous and may be called from any thread;
- is bounded by ``op_timeout_sec`` (those marked *bulk*: ``bulk_timeout_sec``);
- raises ``BackendUnavailable`` when the store did not answer, in which case it may or may not have happened, and may be
  repeated verbatim: the second call then changes nothing that the first did not;
- lets no exception of a driver escape.

**Revision.** One number for the namespace with a random stamp beside it. ``register``, ``deregister`` (if it changed
anything),
``acquire_leadership`` (if it changed anything), ``commit``, ``edit_locks`` and ``renew_timeline`` raise the number by at
least one
and draw a new stamp; nothing else touches either. The assignment's **version** is the revision of its last commit.

**Edits by hand.** Where people can reach the records with other tools (SQL), an edit of token rows must become the
namespace's
new revision *and* version, and the next ``read_assignment`` with an older ``since`` must be complete; an edit of nodes or
locks must become its new revision. A store where that is impossible says so in its documentation.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from typing import Protocol

import attrs

from jobsync.core.model import (
    Audit,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    NodeRef,
    Opened,
    Pulse,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    TaskLock,
    Timeline,
)
from jobsync.core.tokens import Changes, Plan

__all__ = ['Backend', 'BackendInfo', 'BackendOptions', 'Reach']


class Reach(enum.Enum):
    """How far apart two nodes of a cluster on this store may be."""

    PROCESS = 'process'
    HOST = 'host'
    NETWORK = 'network'


@attrs.frozen
class BackendInfo:
    """What a backend declares of its store. The conformance suite checks each field."""

    name: str
    durable: bool
    """An acknowledged write survives a crash of the store."""
    push: bool
    """``wait`` returns promptly after a change, rather than at the end of a poll."""
    reach: Reach
    max_tokens: int
    """The largest pool it carries."""
    sql: bool = False
    """Offers ``connection()`` and ``tables`` (see ``jobsync.database``)."""


@attrs.frozen
class BackendOptions:
    """What a backend is told besides its URL."""

    namespace: str = 'sync_'
    op_timeout_sec: float = 5.0
    bulk_timeout_sec: float = 60.0


class Backend(Protocol):
    """A store, seen through one namespace."""

    @property
    def info(self) -> BackendInfo:
        """What this store guarantees; constant."""

    def open(self, settings: Settings, create: bool) -> Opened:
        """Make the store ready and return the settings in force and the timeline.

        Makes the schema if ``create`` (safely when many start at once). Stores ``settings`` if there are none. If others are
        stored
        and no node is registered, stores ``settings`` in their place and renews the timeline, for the tokens of the old pool
        mean nothing in the new one. If others are stored and a node is registered, changes nothing: the caller compares.
        May be called again.

        Raises ``SchemaMismatch`` if the schema is of another format, or absent and ``create`` is False.
        """

    def renew_timeline(self, expected: Timeline, at_least: int) -> None:
        """Begin a new timeline (rule R8), only if the present one is still ``expected``; else do nothing.

        Generation + 1, a new random id, the store's identity as it is now; no nodes, no leader (the epoch stays), no owners,
        no pins, no members; revision and version become one above the higher of their own number and ``at_least``. Locks,
        settings and
        trails stay.
        """

    def close(self) -> None:
        """Release everything and wake any ``wait``. Does not deregister. May be repeated."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """Add the node as JOINED with heartbeat 0, ``seen`` INITIAL and nothing held.

        The name must be free, or its record LEFT, or its (incarnation, heartbeat) exactly ``replacing``; the incarnation
        that goes is
        added to the new record's ``replaces``. The revision's number becomes one above the higher of itself and ``at_least``.
        ``created_on`` is later than that of every record before it, whatever the clock says.

        Raises ``NameTaken`` with the record that has the name (which may be the caller's own, from a call whose answer was
        lost),
        ``TimelineChanged`` if the timeline is not ``timeline``.
        """

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int]) -> Pulse:
        """Raise the node's counter, store ``seen``, ``holding`` and the store's time, and return how things stand after it.

        Raises ``Evicted`` unless exactly this incarnation is JOINED.
        """

    def deregister(self, ref: NodeRef) -> None:
        """Mark the node LEFT, hold nothing, no ``last_heartbeat``, if exactly this incarnation is JOINED; else do nothing."""

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """Make ``ref`` the leader with ``epoch`` + 1 if the epoch is still ``epoch``; return the leadership as it now stands.

        Raises ``Evicted`` unless exactly this incarnation is JOINED.
        """

    def snapshot(self) -> Snapshot:
        """One consistent reading of everything but tokens, pins and locks. Nodes in order of ``created_on``."""

    def read_assignment(self, since: Revision | None = None) -> Changes:
        """*Bulk.* The whole assignment, or what was written after version ``since``; never a mix of two versions.

        A store may always answer in full, and must if ``since`` is not a version of this history that it can build on (then
        ``base``
        is None).
        """

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """*Bulk.* Write a plan (rule R5), all or nothing, and return the revision, which is the new version.

        Writes the groups, pins and members, removes the pins in ``unpinned``, the evicted and the departed; gives the new
        revision's number as version to each token and pin whose owner changes (one that had no row included); raises the
        leader's own
        heartbeat counter by one; appends a rebalance record if ``plan.moved``.

        Raises ``Evicted`` unless exactly ``ref`` is JOINED; ``Fenced`` unless the leadership is (``guard.epoch``, ``ref``);
        ``Conflict`` unless
        timeline and revision (number and stamp) are the guard's, the store's own identity is that of the timeline, each
        eviction's node is still at that incarnation and heartbeat, and each departed one still LEFT in that incarnation.
        """

    def read_locks(self) -> tuple[TaskLock, ...]:
        """*Bulk.* All task locks, expired ones included, by id."""

    def edit_locks(self, edit: LockEdit) -> int:
        """*Bulk.* Remove and put task locks in one step; return how many were there before and are gone after it.

        A new lock's id is above every id ever given in this namespace; a task that has a lock (or had one that this very edit
        removed) keeps its id and its ``registered``. An edit that changes nothing leaves the revision alone.
        """

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """*Bulk.* Record that ``ref`` began these items; the store's time.

        Raises ``Evicted`` unless exactly this incarnation is JOINED, and then writes nothing.
        """

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """*Bulk.* Record that ``node`` completed these items; the store's time. Accepted from anyone: the work was done."""

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """*Bulk.* A trail, newest first; of one date or one item if given (not for rebalances, which have neither)."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """*Bulk.* For each item claimed at ``date`` (None: at any date) and not audited at the date of the claim, its newest
        claim, if that is
        older than ``older_than`` by the store's time; oldest first.
        """

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """*Bulk.* Delete the trail's records older than ``before`` (claims only with their audit done); return how many."""

    def wait(self, revision: int, timeout: float) -> int:
        """Return the revision's number as soon as it exceeds ``revision``, or whatever it is after ``timeout`` seconds.

        A hint: early, late and doubled answers are allowed. Returns at once after ``close``. Does not raise for a store that
        is away:
        returns ``revision`` at the end of the time.
        """
