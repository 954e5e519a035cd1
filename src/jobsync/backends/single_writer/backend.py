"""Every method of the protocol as one turn: read, look, put."""

from __future__ import annotations

import abc
import datetime as dt
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager

import attrs

from jobsync.backend import (
    Audit,
    BackendInfo,
    BackendOptions,
    Changes,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
    Opened,
    Plan,
    Pulse,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
)
from jobsync.backends.single_writer.assignment import AssignmentTable
from jobsync.backends.single_writer.history import History, Record
from jobsync.backends.single_writer.locks import LockTable
from jobsync.backends.single_writer.namespace import CallContext, NamespaceState

__all__ = ['SingleWriterBackend', 'Transaction']


class Transaction(abc.ABC):
    """A namespace for the length of one call, during which no other call anywhere has it."""

    head: NamespaceState
    moment: CallContext

    @abc.abstractmethod
    def table(self) -> AssignmentTable:
        """The assignment. Asked for by few calls, and never by a heartbeat."""

    @abc.abstractmethod
    def locks(self) -> LockTable:
        """The task locks. Asked for by few calls."""

    @abc.abstractmethod
    def trails(self) -> History:
        """The trails. Asked for by few calls."""

    @abc.abstractmethod
    def put(
        self,
        head: NamespaceState,
        *,
        table: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        trails: History | None = None,
    ) -> None:
        """Replace the head and whatever is given, and append ``records`` to the trails, all or nothing, also in a crash.

        Whoever waits for a revision is to learn of a higher one.
        """


class SingleWriterBackend(abc.ABC):
    """A ``Backend``, but for ``info``, ``turn`` and ``glance``."""

    poll_sec = 0.05
    """How often ``wait`` glances at the store."""

    def __init__(self, options: BackendOptions) -> None:
        self.options = options
        self._closed = threading.Event()

    @property
    @abc.abstractmethod
    def info(self) -> BackendInfo:
        """See ``Backend.info``."""

    @abc.abstractmethod
    def turn(self, *, bulk: bool = False, create: bool = False) -> AbstractContextManager[Transaction]:
        """Wait for a turn, at most as long as ``options`` says, and hold it for the ``with`` block.

        No other caller anywhere has a turn meanwhile. A turn ends with its holder, however that ends, and is never taken from a
        holder that lives, stopped as it may be; where the store cannot promise this, ``Transaction.put`` must refuse, with
        ``BackendUnavailable`` and without an effect, once the namespace is no longer as the turn has read it.

        With ``create`` a namespace that is not there begins: with ``NamespaceState(moment.timeline())``, of which nothing needs
        to be stored before ``put``. Raises ``SchemaMismatch`` if it is not there and not to be made, or of another format;
        ``BackendUnavailable`` for whatever goes wrong with the store before or within the block.
        """

    @abc.abstractmethod
    def current_revision(self) -> int | None:
        """Return the revision's number without a turn, for ``wait``; None if it is not known. Raises nothing."""

    # The namespace

    def open(self, settings: Settings, create: bool, dead: Collection[tuple[str, int]] = ()) -> Opened:
        """See ``Backend.open``."""
        with self.turn(create=create) as turn:
            head = turn.head
            if head.settings is None:
                turn.put(attrs.evolve(head, settings=settings))
            elif head.settings != settings and head.is_empty(dead):
                self._renew(turn, attrs.evolve(head.renewed(turn.moment), settings=settings))
            assert turn.head.settings is not None
            return Opened(turn.head.settings, turn.head.timeline)

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        """See ``Backend.renew_timeline``."""
        with self.turn() as turn:
            if turn.head.timeline == expected:
                self._renew(turn, turn.head.renewed(turn.moment, at_least, longest_timeout_sec))

    @staticmethod
    def _renew(turn: Transaction, head: NamespaceState) -> None:
        turn.put(head, table=AssignmentTable.empty(head.version))

    def close(self) -> None:
        """See ``Backend.close``."""
        self._closed.set()

    def snapshot(self) -> Snapshot:
        """See ``Backend.snapshot``."""
        with self.turn() as turn:
            return turn.head.snapshot(turn.moment)

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout
        while True:
            number = self.current_revision()
            if number is None:
                number = revision
            left = deadline - time.monotonic()
            if number > revision or left <= 0 or self._closed.wait(min(left, self.poll_sec)):
                return number

    # Nodes

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """See ``Backend.register``."""
        with self.turn() as turn:
            turn.put(turn.head.registered(node, timeline, at_least, replacing, turn.moment))

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """See ``Backend.heartbeat``."""
        with self.turn() as turn:
            turn.put(turn.head.beaten(ref, seen, holding, candidate, turn.moment))
            return turn.head.pulse(ref, turn.moment)

    def set_weight(self, ref: NodeRef, weight: float) -> None:
        """See ``Backend.set_weight``."""
        with self.turn() as turn:
            turn.put(turn.head.weighed(ref, weight, turn.moment))

    def deregister(self, ref: NodeRef) -> None:
        """See ``Backend.deregister``."""
        with self.turn() as turn:
            turn.put(turn.head.left(ref, turn.moment))

    # The leader's

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """See ``Backend.acquire_leadership``."""
        with self.turn() as turn:
            turn.put(turn.head.led(ref, epoch, turn.moment))
            return turn.head.leadership

    def read_assignment(self, since: Revision | None = None) -> Changes:
        """See ``Backend.read_assignment``."""
        with self.turn(bulk=True) as turn:
            return turn.table().read(since)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        with self.turn(bulk=True) as turn:
            head = turn.head.committed(ref, plan, guard, turn.moment)
            counts = plan.nodes_before, plan.nodes_after, plan.moved, plan.duration_ms
            moved = [Rebalance(turn.moment.now, plan.reason, ref.name, *counts)] if plan.moved else []
            turn.put(head, table=turn.table().after(plan, head.version), records=moved)
            return head.version

    # Task locks

    def read_locks(self) -> LockReading:
        """See ``Backend.read_locks``."""
        with self.turn(bulk=True) as turn:
            return turn.locks().reading()

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        with self.turn(bulk=True) as turn:
            before, head = turn.locks(), turn.head.changed(turn.moment)
            after = before.edited(edit, turn.moment.now, head.revision.number)
            if (after.by_task, after.unreadable) != (before.by_task, before.unreadable):
                turn.put(attrs.evolve(head, locks_revision=head.revision.number), locks=after)
            return len(before.by_task.keys() - after.by_task.keys())

    # Trails

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_claims``."""
        with self.turn(bulk=True) as turn:
            turn.head.joined(ref)
            turn.put(turn.head, records=[Claim(item, ref.name, date, turn.moment.now) for item in items])

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        with self.turn(bulk=True) as turn:
            turn.put(turn.head, records=[Audit(item, node, date, turn.moment.now) for item in items])

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Record]:
        """See ``Backend.history``."""
        with self.turn(bulk=True) as turn:
            return turn.trails().history(kind, limit, date, item)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        with self.turn(bulk=True) as turn:
            return turn.trails().incomplete(date, turn.moment.now - older_than)

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """See ``Backend.purge``."""
        with self.turn(bulk=True) as turn:
            trails = turn.trails()
            after = trails.purged(kind, before)
            if len(after) < len(trails):
                turn.put(turn.head, trails=after)
            return len(trails) - len(after)
