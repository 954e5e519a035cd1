"""The Backend protocol: what jobsync asks of a store.

A store keeps the records of one *namespace* (``appname``, a prefix; namespaces that are prefixes of each other do not see
each other). It decides nothing. It offers two atomic shapes: put one record if what it replaces is as expected, and write
many records if two integers are as expected. It needs no TTL, no lock and no trusted clock.

Every method

- is atomic: concurrent callers see all of it or nothing, and a reading never mixes two states;
- is synchronous and may be called from any thread;
- is bounded by ``op_timeout_sec`` (those marked *bulk*: ``bulk_timeout_sec``);
- raises ``BackendUnavailable`` when the store did not answer, in which case it may or may not have happened, and may be
  repeated verbatim: the second call then changes nothing that the first did not, but for counters and the store's times;
- raises ``SchemaMismatch``, ``open`` and ``close`` apart, while the namespace is not there (never opened, or lost with all
  its records since): the caller opens it anew;
- changes nothing when it raises any other error of ``jobsync.errors``;
- lets no exception of a driver escape;
- logs, if at all, through an ``EventLogger``: the threads that call it must not wait for a log.

Names, ids, task ids, patterns and reasons are any text of one character or more that UTF-8 can carry, NUL apart; the store
compares them exactly (case, blanks at the end, forms of Unicode). Times are the store's, with a timezone.

**Revision.** One number for the namespace with a random stamp beside it, INITIAL at first. ``register``, ``commit``, and, if
they changed anything, ``set_weight``, ``deregister``, ``acquire_leadership``, ``edit_locks`` and ``renew_timeline`` raise the
number by at least one and draw a new stamp; so does ``open`` when it replaces settings. Nothing else touches either. The
assignment's **version** is the revision of its last commit or renewal.

**Records that cannot be read** (rule R9). Where people can reach the records with other tools, one of them may be spoilt. A
spoilt record never makes a reading fail: ``snapshot`` and ``read_locks`` report it as unreadable and leave it out, ``history``
and ``incomplete`` leave it out. A node's record may instead be read with a harmless value in the place of a spoilt weight (1),
timeout (the namespace's longest) or time, and is reported all the same. A record of a node that is left out counts as absent for
every method: ``heartbeat`` raises ``Evicted``, and ``register`` puts a new record in its place. A lock that is left out gives way
to one that is put for its task, and goes with an edit that removes its task by name, or all locks.

**Edits by hand.** Where people can reach the records with other tools (SQL), an edit of token rows must become the
namespace's new revision *and* version, and the next ``read_assignment`` with an older ``since`` must be complete; an edit of
nodes or locks must become its new revision. The row of a pin must survive an attempt to delete it by hand (ignore it):
without the row its task would fall back to its hash while the pin's holder may still be at work. A store where that is
impossible says so in its documentation.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Collection, Sequence
from typing import Protocol

import attrs

from jobsync._core.assignment import ABSENT, UNOWNED, Assignment, Changes, Plan, TokenGroup, TokenRow, members_after
from jobsync._core.records import (
    INITIAL,
    NOBODY,
    Audit,
    Claim,
    Eviction,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockFilter,
    LockReading,
    LockRequest,
    Member,
    Node,
    NodeRef,
    NodeState,
    Opened,
    Pin,
    Pulse,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    TaskLock,
    Timeline,
    Unreadable,
)
from jobsync._core.redact import redact_url, safe_repr
from jobsync._event_log import Diverted, EventLogger

__all__ = [
    'ABSENT',
    'INITIAL',
    'NOBODY',
    'UNOWNED',
    'Assignment',
    'Audit',
    'Backend',
    'BackendInfo',
    'BackendOptions',
    'Changes',
    'Claim',
    'Diverted',
    'EventLogger',
    'Eviction',
    'Guard',
    'HistoryKind',
    'Leadership',
    'LockEdit',
    'LockFilter',
    'LockReading',
    'LockRequest',
    'Member',
    'Node',
    'NodeRef',
    'NodeState',
    'Opened',
    'Pin',
    'Plan',
    'Pulse',
    'Reach',
    'Rebalance',
    'Registration',
    'Revision',
    'Settings',
    'Snapshot',
    'TaskLock',
    'Timeline',
    'TokenGroup',
    'TokenRow',
    'Unreadable',
    'members_after',
    'redact_url',
    'safe_repr',
]


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
    max_removals: int = 1000
    """The most nodes that one plan may name as evicted, departed or absent together; the leader spreads more over several."""
    sql: bool = False
    """Offers ``connection()`` and ``tables`` (see ``jobsync.database``)."""


@attrs.frozen
class BackendOptions:
    """What a backend is told besides its URL."""

    namespace: str = 'sync_'
    """How the names of tables and keys begin: letters, digits and underscores; case alone tells no two apart."""
    op_timeout_sec: float = 5.0
    bulk_timeout_sec: float = 60.0


class Backend(Protocol):
    """A store, seen through one namespace."""

    @property
    def info(self) -> BackendInfo:
        """What this store guarantees; constant."""

    def open(self, settings: Settings, create: bool, dead: Collection[tuple[str, int]] = ()) -> Opened:
        """Make the store ready and return the settings in force and the timeline.

        Makes the schema if ``create`` (safely when many start at once). Stores ``settings`` if there are none. If others are
        stored and no node is JOINED, except those at an (incarnation, heartbeat) in ``dead``, stores ``settings`` in their place
        and renews the timeline, for the tokens of the old pool mean nothing in the new one. If others are stored and another
        node is JOINED, changes nothing: the caller compares. May be called again.

        Raises ``SchemaMismatch`` if the schema is of another format, or absent and ``create`` is False.
        """

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        """Begin a new timeline (rule R8), only if the present one is still ``expected``; else do nothing.

        Generation + 1, a new random id, the store's identity as it is now; no nodes, no leader (the epoch stays), no owners,
        no token rows, no pins, no members; revision and version become one revision whose number is one above the higher of
        the revision's and ``at_least``. Locks (with the numbering of their ids), settings and trails stay, and so does the
        longest timeout, which is raised to ``longest_timeout_sec`` if that is more.
        """

    def close(self) -> None:
        """Release everything and wake any ``wait``. Does not deregister. May be repeated."""

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """Add the node as JOINED with heartbeat 0, ``seen`` INITIAL and nothing held.

        The name must be free, or its record LEFT, or its (incarnation, heartbeat) exactly ``replacing``; the incarnation
        that goes is added to the new record's ``replaces``. The revision's number becomes one above the higher of itself and
        ``at_least``. ``created_on`` is later than that of every record ever made in this namespace, whatever the clock says;
        ``last_heartbeat`` begins as the store's time. The namespace's longest timeout becomes the longest of itself and the two
        that the registration names.

        Raises ``TimelineChanged`` if the timeline is not ``timeline``, ``NameTaken`` with the record that has the name (which
        may be the caller's own, from a call whose answer was lost).
        """

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """Raise the node's counter, store the arguments and the store's time, and return how things stand after it.

        Raises ``Evicted`` unless exactly this incarnation is JOINED.
        """

    def set_weight(self, ref: NodeRef, weight: float) -> None:
        """Change the node's weight, if it is another. Leaves its heartbeat alone.

        Raises ``Evicted`` unless exactly this incarnation is JOINED.
        """

    def deregister(self, ref: NodeRef) -> None:
        """Mark the node LEFT, hold nothing, no ``last_heartbeat``, if exactly this incarnation is JOINED; else do nothing.

        Leadership, members and token rows stay as they are: giving them away is the leader's part.
        """

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """Make ``ref`` the leader with ``epoch`` + 1 if the epoch is still ``epoch``; return the leadership as it now stands.

        Raises ``Evicted`` unless exactly this incarnation is JOINED.
        """

    def snapshot(self) -> Snapshot:
        """One consistent reading of everything but tokens, pins and locks. Nodes in order of ``created_on``."""

    def read_assignment(self, since: Revision | None = None) -> Changes:
        """*Bulk.* The whole assignment, or what was written after version ``since``; never a mix of two versions.

        A store may always answer in full (``base`` is None), and must if ``since`` is not a version of this history that it
        can build on. Each token is in one group at most, and no member of a full answer is None.
        """

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """*Bulk.* Write a plan (rule R5), all or nothing, and return the revision, which is the new version.

        Writes the groups, pins and members as they are given, versions included; removes the members that are None, the pins
        in ``unpinned``, the evicted and the departed; raises the leader's own heartbeat counter by one; appends a rebalance
        record if ``plan.moved``. The new revision's number is above the present one's, and at least ``plan.number``.

        Raises, in this order: ``Evicted`` unless exactly ``ref`` is JOINED; ``Fenced`` unless the leadership is
        (``guard.epoch``, ``ref``); ``Conflict`` unless timeline and version (number and stamp) are the guard's, the store's
        own identity is that of the timeline, each eviction's node is still at that incarnation and heartbeat, each departed one
        still LEFT in that incarnation, and none of ``plan.absent`` JOINED in that incarnation.
        """

    def read_locks(self) -> LockReading:
        """*Bulk.* All task locks, expired ones included, by id."""

    def edit_locks(self, edit: LockEdit) -> int:
        """*Bulk.* Remove and put task locks in one step; return how many were there before and are gone after it.

        A new lock's id is above every id ever given in this namespace; a task that has a lock (or had one that this very edit
        removed) keeps its id, its ``registered`` and its ``created_at``. Of several requests for one task the last counts.
        An edit after which all locks are as before leaves the revision alone.
        """

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """*Bulk.* Record that ``ref`` began these items, each once however often it is given; the store's time.

        Raises ``Evicted`` unless exactly this incarnation is JOINED, and then writes nothing.
        """

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """*Bulk.* Record that ``node`` completed these items; the store's time. Accepted from anyone: the work was done.

        What it has completed already at this date stays as it was recorded.
        """

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """*Bulk.* A trail, newest first; of one date or one item if given (not for rebalances, which have neither)."""

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """*Bulk.* The work that was begun and not completed, oldest first.

        For each (item, date) that was claimed, at ``date`` unless that is None, and not audited by anyone: its newest claim,
        if that is at least ``older_than`` old by the store's time.
        """

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """*Bulk.* Delete the trail's records older than ``before``; return how many.

        Claims only of an (item, date) that is audited: work that is not complete stays on record.
        """

    def wait(self, revision: int, timeout: float) -> int:
        """Return the revision's number as soon as it exceeds ``revision``, or whatever it is after ``timeout`` seconds.

        A hint: early, late and doubled answers are allowed. Returns at once after ``close``. Does not raise for a store that
        is away: returns ``revision`` at the end of the time.
        """
