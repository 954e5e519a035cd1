"""Every method of the protocol as one transaction: read, compare, put."""

from __future__ import annotations

import abc
import datetime as dt
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    Purged,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.backends._common.closed import Closed
from jobsync.backends.single_writer.assignment import AssignmentTable
from jobsync.backends.single_writer.history import Attempts, History, Record, Row
from jobsync.backends.single_writer.locks import LockTable
from jobsync.backends.single_writer.namespace import CallContext, NamespaceState

__all__ = ['SingleWriterBackend', 'Transaction']


class Transaction(abc.ABC):
    """A namespace for the length of one call, during which no other call anywhere has it.

    Subclasses set ``state`` and ``context`` when they begin. The other parts are read only by the calls that need them.
    """

    state: NamespaceState
    context: CallContext
    concerned: frozenset[str] | None = None
    """Set before ``put``: the nodes that a new revision concerns, for the answers of ``wait``; None: all nodes."""

    @abc.abstractmethod
    def assignment(self) -> AssignmentTable:
        """Read the assignment. A heartbeat never does."""

    @abc.abstractmethod
    def locks(self) -> LockTable:
        """Read the task locks."""

    @abc.abstractmethod
    def history(self) -> History:
        """Read claims, audits and rebalances."""

    @abc.abstractmethod
    def put(
        self,
        state: NamespaceState,
        *,
        assignment: AssignmentTable | None = None,
        locks: LockTable | None = None,
        records: Iterable[Record] = (),
        purged: Collection[Row] = (),
    ) -> None:
        """Replace the state and every other part that is given, all or nothing, also in a crash.

        Wakes the callers of ``wait`` if the revision has risen.

        Args:
            state: the new state, which ``self.state`` must be afterwards.
            assignment: the new assignment; None to leave it.
            locks: the new task locks; None to leave them.
            records: what to append to the history.
            purged: what to delete from the history.
        """


class SingleWriterBackend(abc.ABC):
    """A ``Backend`` without ``info``, ``transaction`` and ``current_revision``, which a subclass adds.

    Attributes:
        options: The options, with the namespace in lower case, since namespaces that differ only in case are one.
    """

    poll_sec = 0.05
    """How often ``wait`` reads the revision."""

    def __init__(self, options: BackendOptions) -> None:
        self.options = attrs.evolve(options, namespace=options.namespace.lower())
        self._closed = Closed()

    @property
    @abc.abstractmethod
    def info(self) -> BackendInfo:
        """See ``Backend.info``."""

    @abc.abstractmethod
    def transaction(self, *, bulk: bool = False, create: bool = False) -> AbstractContextManager[Transaction]:
        """Wait until no other caller has the namespace, and keep it for the ``with`` block.

        No other caller, on any thread, process or machine, has a transaction meanwhile. A transaction ends with its process,
        however the process ends, and is never taken from a process that lives, not even from a stopped one. Where the store
        cannot promise this, ``Transaction.put`` must compare: if the namespace is not as the transaction has read it, ``put``
        raises ``BackendUnavailable`` and has no effect.

        Args:
            bulk: whether the whole call may take ``bulk_timeout_sec`` rather than ``op_timeout_sec``.
            create: whether a namespace that does not exist begins, with ``NamespaceState(context.timeline())``. Nothing of it
                needs to be stored before ``put``.

        Raises:
            SchemaMismatch: the namespace does not exist and ``create`` is False, or it has another format.
            BackendUnavailable: the store failed, or the wait was too long. An error of the store within the block is raised as
                this too.
        """

    @abc.abstractmethod
    def current_revision(self) -> int | None:
        """Return the revision's number without a transaction, or None if it cannot be read. Raises nothing."""

    # The namespace

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        with self.transaction(create=create and settings is not None) as tx:
            state = tx.state
            if settings is None:
                pass
            elif state.settings is None:
                tx.put(attrs.evolve(state, settings=settings))
            elif state.settings != settings and dead is not None and state.is_empty(dead):
                state = attrs.evolve(state.renew_timeline(tx.context), settings=settings)
                tx.put(state, assignment=AssignmentTable.empty(state.version))
            assert tx.state.settings is not None
            return Opened(tx.state.settings, tx.state.timeline)

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        with self.transaction() as tx:
            # t=0  nodes a and b both read a sign that the store went back
            # t=1  a renews the timeline, and registers in the new one
            # t=2  b renews the timeline that it knew. Without this comparison b would remove a.
            if tx.state.timeline == expected:
                state = tx.state.renew_timeline(tx.context, at_least, longest_timeout_sec)
                tx.put(state, assignment=AssignmentTable.empty(state.version))

    def close(self) -> None:
        self._closed.set()

    def snapshot(self) -> Snapshot:
        with self.transaction() as tx:
            return tx.state.snapshot(tx.context)

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while True:
            found = self.current_revision()
            number = revision if found is None else found
            left = deadline - time.monotonic()
            if number > revision or left <= 0 or self._closed.wait(min(left, self.poll_sec)):
                return number

    # Nodes

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        with self.transaction() as tx:
            tx.concerned = frozenset()
            tx.put(tx.state.register(node, timeline, at_least, replacing, tx.context))

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        with self.transaction() as tx:
            tx.put(tx.state.heartbeat(ref, seen, holding, candidate, tx.context))
            return tx.state.pulse(ref, tx.context)

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        with self.transaction() as tx:
            tx.concerned = frozenset()
            tx.put(tx.state.set_weight(ref, weight, stalled, tx.context))

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        with self.transaction() as tx:
            tx.concerned = None if tx.state.leadership.node == ref else frozenset()
            tx.put(tx.state.deregister(ref, died, tx.context))

    def remove_node(self, ref: NodeRef) -> bool:
        with self.transaction() as tx:
            before = tx.state
            tx.put(before.remove_node(ref, tx.context))
            return tx.state.revision != before.revision

    # The leader

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        with self.transaction() as tx:
            tx.put(tx.state.acquire_leadership(ref, epoch, tx.context))
            return tx.state.leadership

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        with self.transaction(bulk=True) as tx:
            return tx.assignment().read(since, tokens)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        with self.transaction(bulk=True) as tx:
            state = tx.state.commit(ref, plan, guard, tx.context)
            tx.concerned = plan.affected
            recorded = [plan.rebalance(ref.name, tx.context.now)] if plan.is_recorded else []
            tx.put(state, assignment=tx.assignment().commit(plan, state.version), records=recorded)
            return state.version

    # Task locks

    def read_locks(self) -> LockReading:
        with self.transaction(bulk=True) as tx:
            return tx.locks().reading()

    def edit_locks(self, edit: LockEdit) -> int:
        with self.transaction(bulk=True) as tx:
            tx.concerned = frozenset()
            before, number = tx.locks(), tx.state.revision.number + 1
            after = before.edit(edit, tx.context.now, number)
            if (after.by_task, after.unreadable) != (before.by_task, before.unreadable):
                tx.put(tx.state.changed(tx.context, locks_revision=number), locks=after)
            return len(before.by_task.keys() - after.by_task.keys())

    # History

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        with self.transaction(bulk=True) as tx:
            tx.state.joined(ref)
            history = tx.history()
            completed = frozenset(item for item in items if (item, date) in history.audited)
            lost = {}
            if tolerated is not None:
                counts = {item: history.lost_attempts(item, date, tx.state.is_joined) for item in items}
                lost = {item: count for item, count in counts.items() if count > tolerated}
            begun = [item for item in items if item not in completed and item not in lost]
            records: list[Record] = [Claim(item, ref.name, date, tx.context.now) for item in begun]
            if tolerated is not None and begun:
                records.append(Attempts(tuple(begun), date, ref))
            tx.put(tx.state, records=records)
            return Unclaimed(completed, lost)

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        with self.transaction(bulk=True) as tx:
            tx.put(tx.state, records=[Attempts(tuple(items), date, ref, are_forgotten=True)])

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        with self.transaction(bulk=True) as tx:
            history = tx.history()
            items = [item for item, day in history.attempts if day == date]
            counts = {item: history.lost_attempts(item, date, tx.state.is_joined) for item in items}
            return {item: count for item, count in counts.items() if count >= at_least}

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        with self.transaction(bulk=True) as tx:
            tx.put(tx.state, records=[Audit(item, node, date, tx.context.now) for item in items])

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Row]:
        with self.transaction(bulk=True) as tx:
            return tx.history().history(kind, limit, date, item)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        with self.transaction(bulk=True) as tx:
            return tx.history().incomplete(date, tx.context.now - older_than)

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        with self.transaction(bulk=True) as tx:
            old, resume = tx.history().outdated(kind, before, limit, after)
            if old:
                tx.put(tx.state, purged=old)
            return Purged(len(old), resume)
