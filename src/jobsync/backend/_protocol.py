"""The methods of a backend. What holds for every one of them is said in ``jobsync.backend``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from jobsync._core.assignment import Changes, Plan
from jobsync._core.records import (
    Audit,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
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
from jobsync.backend._declarations import BackendInfo

__all__ = ['Backend']


class Backend(Protocol):
    """One namespace of a store."""

    @property
    def info(self) -> BackendInfo:
        """What this store guarantees; constant."""

    # The namespace

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        """Make the namespace ready, and return the settings in force and the timeline.

        Stores ``settings`` if the namespace has none. Replaces other settings only if no node is JOINED except those in ``dead``,
        unless that is None, and renews the timeline with them, because the tokens of the old pool mean nothing in the new one.
        Otherwise changes nothing: the caller compares the settings returned with its own. May be repeated at any time, also by
        several callers at once. A *bulk* call if ``settings`` is None: a store without a clock may have to watch the nodes.

        Args:
            settings: the settings that the caller wants; None, with ``create`` False, to read those in force and change nothing.
            create: whether to make the schema and the namespace if they do not exist.
            dead: incarnation and heartbeat of each node that the caller knows to be dead. A node in another incarnation or at
                another heartbeat counts as JOINED. None: the caller may not replace settings, whatever nodes there are.

        Returns:
            The settings in force after the call, and the timeline.

        Raises:
            SchemaMismatch: the schema has another format, or does not exist and ``create`` is False.
            ConfigError: the store refuses its user's credentials or rights, is too old, or is configured to lose records.
        """

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        """Begin a new timeline (rule R8) if the present one is ``expected``; otherwise do nothing.

        The new timeline has the next generation, a new random id and the store's identity as it is now. It begins without nodes,
        members, token rows and pins, and without a leader; the epoch stays. Revision and version become one new revision. Locks
        and the numbering of their ids, settings and history stay.

        Args:
            expected: the timeline that the caller wants to end.
            at_least: the highest revision number that the caller has read. The new number is one above the higher of this and the
                present one.
            longest_timeout_sec: the longest heartbeat timeout that the caller has read. Raises the namespace's longest timeout
                if it is more.
        """

    def close(self) -> None:
        """Release all resources and end every ``wait``. Does not deregister. May be repeated, and called before ``open``.

        A program that forgets it ends all the same: threads of the handle are daemons.

        Any other call that is under way, or comes later, is answered or raises ``BackendUnavailable``.
        """

    def snapshot(self) -> Snapshot:
        """Return one consistent reading of everything except tokens, pins, members and locks.

        Returns:
            The snapshot, its nodes in the order of ``created_on``.
        """

    def wait(self, revision: int, timeout: float) -> int:
        """Return the revision's number as soon as it exceeds ``revision``, or after the timeout whatever it is.

        A hint: an answer may be early, late or repeated. Returns at once after ``close``. Raises nothing: if the store does not
        answer, returns ``revision`` at the end of the timeout.

        The number may be a ``Hint``, which names the nodes that the changes since ``revision`` concern. A commit concerns those
        that ``plan.affected`` names. A registration, a weight, an edit of locks, and the deregistration of a node that does not
        lead concern no node but the leader, which a hint need not name. Any other change concerns all
        nodes. A store that cannot say which nodes are concerned, or may have missed an announcement, names none
        (``Hint.nodes`` is None, or the number is a plain one). Of several changes it may say which nodes some of them name
        though another concerns all (``Hint.named``).

        Args:
            revision: the number that the caller knows.
            timeout: the longest wait in seconds.

        Returns:
            The number last read, or ``revision``.
        """

    # A node's own record

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """Add the node's record: JOINED, heartbeat 0, ``seen`` INITIAL, holding nothing.

        The name must be free, or its record one of another incarnation that is LEFT, or exactly at ``replacing``. An incarnation
        that is LEFT never comes back: a call that its node had given up may be carried out after it has left. The incarnation
        of a replaced record is added to ``replaces`` of the new one. ``created_on`` is later than that of every record ever made
        in this namespace, whatever the store's clock shows; ``last_heartbeat`` begins as the store's time. Raises the namespace's
        longest timeout to the two timeouts of the registration, if one is more.

        Args:
            node: the record's content.
            timeline: the timeline that the node has read.
            at_least: the highest revision number that the node has read. The new number is one above the higher of this and the
                present one.
            replacing: incarnation and heartbeat of the JOINED record that the node may replace; None for no such record.

        Raises:
            TimelineChanged: the timeline is not ``timeline``.
            NameTaken: another record has the name, and may not be replaced. The error carries that record. It may be the caller's
                own: JOINED, from a call whose answer was lost, or LEFT.
        """

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """Raise the node's heartbeat by one, store the arguments and the store's time, and read what the node must know.

        Args:
            ref: the node and its incarnation.
            seen: the assignment version that the node has applied.
            holding: the tokens and pins that the node was requested to release and is still busy with.
            candidate: whether the node may lead.

        Returns:
            The state at one moment within the call, with this node's new heartbeat.

        The heartbeat counts, and others read it, from that moment on or a little later: the state may change in between, since a
        heartbeat need not wait for a commit. The node's record may not: a call that would change it then (an eviction, a takeover
        of the name) waits for the heartbeat, or the heartbeat raises ``Evicted``.

        Raises:
            Evicted: this incarnation is not JOINED.
        """

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        """Change the node's weight and whether it has stalled, if either differs. Leaves the heartbeat as it is.

        Args:
            ref: the node and its incarnation.
            weight: the new weight.
            stalled: whether the node makes no progress. A registration begins with False.

        Raises:
            Evicted: this incarnation is not JOINED.
        """

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        """Mark the node LEFT, if exactly this incarnation is JOINED; otherwise do nothing.

        The node holds nothing any more and has no ``last_heartbeat``. Leadership, members and token rows stay: the leader gives
        the node's tokens to others. A node that leaves calls this; so does another one that knows that the run is over.

        Args:
            ref: the node and its incarnation.
            died: whether the run is over without having left. The record's ``stalled`` becomes this.
        """

    def remove_node(self, ref: NodeRef) -> bool:
        """Remove the record of a run that may still be at work, if exactly this incarnation is JOINED; otherwise do nothing.

        Called by operators, never by the protocol. Leadership, members and token rows stay, so that the run counts as an absent
        owner: the leader gives its tokens away only after the run's lease has ended. The run finds itself ``Evicted``.

        Args:
            ref: the node and its incarnation.

        Returns:
            Whether this call has removed the record.
        """

    # The leader

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """Make the node leader of the next epoch, if the present epoch is ``epoch``; otherwise change nothing.

        Whether the node is a candidate does not matter: where no node is one, the oldest leads.

        Args:
            ref: the node and its incarnation.
            epoch: the epoch that the node has read.

        Returns:
            The leadership after the call.

        Raises:
            Evicted: this incarnation is not JOINED.
        """

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        """Return the assignment, or what was written after a version.

        A *bulk* call.

        A store may return the whole assignment at any time (``base`` is None). It must do so if ``since`` is not a version of
        this history on which it can build.

        Args:
            since: the version that the caller has; None for the whole assignment.
            tokens: the hash tokens whose rows the caller needs; None for all. A store may leave out the rows of other hash
                tokens, where that is less work for it. Version, members and pins are as without this argument.

        Returns:
            Changes of one version, never a mix of two. Each token is in at most one group. A whole assignment has no member that
            is None.
        """

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """Write a plan if everything it was made from is unchanged (rule R5), all or nothing.

        A *bulk* call.

        Writes groups, pins and members as they are given, their versions included. Removes the members that are None, the pins
        in ``unpinned``, and the records of evicted and departed nodes. Raises the leader's own heartbeat by one. Appends a
        rebalance to the history if ``plan.is_recorded``. ``check_guard`` and ``check_nodes`` have the comparisons, for stores
        that compare in Python.

        Args:
            ref: the leader and its incarnation.
            plan: what to write. The new revision's number is above the present one and at least ``plan.number``.
            guard: what the plan was made from.

        Returns:
            The new revision, which is the assignment's new version.

        Raises:
            Evicted: ``ref`` is not JOINED in this incarnation. This is checked first.
            Fenced: the leadership is not (``guard.epoch``, ``ref``). This is checked second.
            Conflict: timeline or version (number or stamp) is not the guard's; the store's identity is not the timeline's; an
                evicted node is not at that incarnation and heartbeat; a departed node is not LEFT in that incarnation; or an
                absent node is JOINED in that incarnation.
        """

    # Task locks and items

    def read_locks(self) -> LockReading:
        """Return all task locks and items in the order of their ids, expired ones included.

        A *bulk* call.
        """

    def edit_locks(self, edit: LockEdit) -> int:
        """Remove task locks, or the items of a group, and put others in one step.

        A *bulk* call.

        An edit is of the task locks alone, or of the items of one group alone, as its ``group`` says. A task may have a lock and,
        in each group, an item: ``TaskLock.key`` distinguishes them. All have one numbering. The id of a new record is above every
        id ever given in this namespace. A record whose task had one of that group before the edit keeps its id, ``registered``
        and ``created_at``, even if the edit removes it first. Of several requests for one task the last counts. An edit that
        leaves all records as they were leaves the revision as it was.

        Args:
            edit: what to remove, then what to put.

        Returns:
            How many records existed before the edit and do not exist after it. Unreadable records may be counted or not.
        """

    # History

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        """Record that the node began these items, at the store's time, and return those for which no claim is recorded.

        A *bulk* call.

        One record for each item, date and node: an item given twice is recorded once, and a second claim renews ``created_on``.
        For a completed item, which is one with an audit of any node at that date, no claim is recorded or renewed.

        Args:
            ref: the node and its incarnation.
            items: ids of tasks.
            date: the date under which the items are recorded.
            tolerated: how many lost attempts an item may have: with more, no claim of it is recorded or renewed. The items that
                are recorded are attempted by this run. None: attempts are neither read nor written.

        Returns:
            The items that were not recorded, read in the same atomic step. None of them in most calls.

        Raises:
            Evicted: this incarnation is not JOINED.
        """

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        """Forget the attempts at these items: those of one run, which gives them up in good order, or of all runs.

        A *bulk* call.

        Accepted from any node, registered or not. Claims stay as they are. A run attempts an item again when it claims it again.

        Args:
            items: ids of tasks.
            date: the date of the attempts.
            ref: the run whose attempts to forget; None for every run's.
        """

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        """Return the items with lost attempts, and how many.

        A *bulk* call.

        Args:
            date: the date of the attempts.
            at_least: the least number of lost attempts of an item that is returned, at least 1.
        """

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """Record that the node completed these items, at the store's time.

        A *bulk* call.

        Accepted from any node, registered or not, because the work is done. One record for each item, date and node: the first
        one stays as it was recorded.

        Args:
            node: the name of the node.
            items: ids of tasks.
            date: the date under which the items are recorded.
        """

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """Return claims, audits or rebalances, newest first.

        A *bulk* call.

        Args:
            kind: which records.
            limit: how many records at most; None for all.
            date: the date whose records to return; None for all. Rebalances have no date: the argument is ignored.
            item: the item whose records to return; None for all. Rebalances have no item: the argument is ignored.
        """

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """Return the work that was begun and not completed, oldest first.

        A *bulk* call.

        Args:
            date: the date of the claims; None for all.
            older_than: the least age of a claim by the store's time, at most 36,500 days.

        Returns:
            The newest claim of each item and date that no node has audited, if that claim is old enough.
        """

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        """Delete one portion of the claims, audits or rebalances that are older than ``before``.

        A *bulk* call, of which no single request may keep the store from others for longer than a tenth of a second with
        ``limit`` at 1,000. Repeated with the ``resume`` of the answer until that is empty, it has read every record that was
        there at the first call, except records renewed meanwhile. Records made since must not keep it from its end, however fast
        they are appended. What is deleted is decided and deleted in one atomic step for each record; a portion may take several
        such steps.

        A claim is deleted only if its item is audited at its date, because incomplete work stays on record. An audit is deleted
        only if no claim of its item at its date is left, because its work would be incomplete again. So claims are to be purged
        before audits, and ``incomplete`` returns the same before and after.

        Args:
            kind: which records.
            before: records made earlier than this are deleted.
            limit: about how many records to read, deleted or not. A store may take more where its records are stored together.
            after: where to go on: ``resume`` of the portion before; empty for the first portion.

        Returns:
            How many records were deleted, and where the next portion goes on.
        """
