"""The trail a node leaves: what it began and what it completed."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from jobsync.core.model import HistoryKind, NodeRef
from jobsync.errors import JobsyncError
from jobsync.membership import Membership
from jobsync.runtime import NodeRuntime
from jobsync.runtime.clock import now
from jobsync.task import Task
from jobsync.workers import worker_id

__all__ = ['Ledger']

_logger = logging.getLogger('jobsync.job')

_SOON_SEC = 0.25
"""How long finished tasks are gathered before they are recorded; after twice as long an alarm sees to it, if nobody else does."""


class Ledger:
    """Claims and audits of one node at one date. With coordination off every task may be begun, and no claim is recorded.

    A task is *open* from its beginning until it is recorded as complete or dropped, and *in flight* until its work is over.
    """

    def __init__(self, member: Membership, date: dt.date) -> None:
        self._member, self._node_name, self._caller = member, member.node_name, member.caller
        self._date = date.date() if isinstance(date, dt.datetime) else date
        self._open: dict[str, None] = {}
        self._done: dict[str, None] = {}
        self._flushed_at = float('-inf')
        self._alarm: threading.Timer | None = None

    @property
    def open_tasks(self) -> int:
        """How many tasks were begun and neither completed nor dropped."""
        return len(self._open)

    def is_open(self, key: str) -> bool:
        """Whether this task was begun and neither completed nor dropped."""
        return key in self._open

    @property
    def is_closing(self) -> bool:
        """Whether no task will be begun any more."""
        return self._member.is_leaving

    @property
    def _runtime(self) -> NodeRuntime | None:
        self._member.check_inside()
        return self._member.runtime

    # --- beginning ----------------------------------------------------------------------------------------------------------

    def begin(self, key: str, token: int) -> bool:
        """Mark a task in flight and record the claim, if it is this node's."""
        if self._has_left([key]):
            return False
        runtime = self._runtime
        if runtime is None:
            self._open[key] = None
            return True
        ref = runtime.agent.ref
        if not runtime.agent.tenure.begin(key, token, now(), worker_id()):
            self._refuse([key])
            return False
        if self._record(runtime, [key], ref):
            self._open[key] = None
            return True
        if key not in self._open:
            self._finish([key])
        return False

    def claim(self, tasks: Mapping[str, int]) -> bool:
        """Record that this node began these tasks (key -> hash token), all or none."""
        if self._has_left(tasks):
            return False
        runtime = self._runtime
        if runtime is None:
            return True
        ref = runtime.agent.ref
        ours = runtime.agent.tenure.ours(tasks, now())
        if len(ours) < len(tasks):
            allowed = set(ours)
            self._refuse([key for key in tasks if key not in allowed])
            return False
        return self._record(runtime, ours, ref)

    def claim_ours(self, tasks: Mapping[str, int]) -> NodeRef | bool:
        """The same of those of the tasks that are this node's.

        Gives the run for which they were claimed, where there are runs; else whether they may be begun.
        """
        if self._member.is_leaving:
            return False
        runtime = self._runtime
        if runtime is None:
            return True
        ref = runtime.agent.ref
        ours = runtime.agent.tenure.ours(tasks, now())
        return ref if ours and self._record(runtime, ours, ref) else False

    def begin_claimed(self, key: str, token: int, claimed: NodeRef | bool) -> bool:
        """Mark a task in flight whose claim is recorded, if it is still this node's, in that run, and no other is at it."""
        if self._member.is_leaving or claimed is False:
            return False
        runtime = self._runtime
        if runtime is not None:
            if not runtime.agent.tenure.begin_alone(key, token, now(), worker_id()):
                return False
            if runtime.agent.ref != claimed:
                self._finish([key])
                return False
        self._open[key] = None
        return True

    def _has_left(self, keys: Collection[str]) -> bool:
        """Another thread may leave while the user's loop is still at work: that must not raise there."""
        if self._member.is_over:
            self._refuse(keys)
        return self._member.is_over

    def _refuse(self, keys: Collection[str]) -> None:
        _logger.info("node %r: not begun, for it is not (or no longer) this node's: %s", self._node_name, _listed(keys))

    def _record(self, runtime: NodeRuntime, keys: Sequence[str], ref: NodeRef) -> bool:
        """Write claims for the run of this node that owned the tasks when it was asked; False if that is over.

        Waits for the store for as long as that run has its lease.
        """
        agent, backend = runtime.agent, self._member.needed_backend

        def still_ours() -> bool:
            return agent.ref == ref and now() < agent.tenure.deadline

        try:
            self._caller.call(lambda: backend.append_claims(ref, keys, self._date), while_=still_ours)
        except JobsyncError as error:
            _logger.info('node %r: not begun, for the claim was refused: %s (%s)', self._node_name, _listed(keys), error)
            agent.beat_soon()
            runtime.poke()
            return False
        if not still_ours():
            _logger.warning('node %r: not begun, for the lease ended meanwhile: %s', self._node_name, _listed(keys))
            return False
        return True

    # --- ending -------------------------------------------------------------------------------------------------------------

    def done(self, keys: Iterable[str]) -> None:
        """The work on these tasks is over: they are no longer in flight, and complete once ``flush`` has recorded it."""
        keys = list(keys)
        self._done.update(dict.fromkeys(keys))
        for key in keys:
            self._open.pop(key, None)
        self._finish(keys)

    def drop(self, key: str) -> None:
        """The work on this task has failed: it is no longer in flight, and stays incomplete."""
        self._open.pop(key, None)
        self._finish([key])

    def flush(self) -> None:
        """Record what is done as complete. If that fails it can be called again."""
        self._record_complete(list(self._done))

    def flush_soon(self) -> None:
        """The same, now or a moment later, together with what is done by then."""
        if now() >= self._flushed_at + _SOON_SEC:
            self.flush()
        else:
            self.flush_later()

    def flush_later(self) -> None:
        """The same by an alarm, for nobody knows when the loop goes on."""
        if self._done and self._alarm is None:
            self._alarm = threading.Timer(2 * _SOON_SEC, self._flush_at_last)
            self._alarm.daemon = True
            self._alarm.start()

    def _flush_at_last(self) -> None:
        self._alarm = None
        try:
            self.flush_soon()
        except JobsyncError as error:
            _logger.info('node %r: finished tasks are not recorded as complete yet: %s', self._node_name, error)

    def audit(self) -> None:
        """Record everything open as complete. If that fails it stays open."""
        keys = list(self._open)
        self._record_complete([*self._done, *keys])
        for key in keys:
            self._open.pop(key, None)
        self._finish(keys)

    def _record_complete(self, keys: list[str]) -> None:
        backend = self._member.backend
        if keys and backend is not None:
            self._caller.call(lambda: backend.append_audits(self._node_name, keys, self._date))
        self._flushed_at = now()
        for key in keys:
            self._done.pop(key, None)

    def close(self) -> None:
        """Before the backend is closed: record what is done, if that can be had."""
        try:
            if self._done:
                self.flush()
        except JobsyncError as error:
            count = len(self._done)
            _logger.warning('node %r: %d finished tasks could not be recorded as complete: %s', self._node_name, count, error)

    def _finish(self, keys: list[str]) -> None:
        runtime = self._member.runtime
        if runtime is not None and keys:
            runtime.agent.tenure.finish(keys)
            if runtime.agent.is_asked:
                runtime.poke()

    # --- reading ------------------------------------------------------------------------------------------------------------

    def audited(self) -> list[dict[str, Any]]:
        """Every audit of the date, newest first."""
        backend = self._member.needed_backend
        rows = self._caller.call(lambda: backend.history(HistoryKind.AUDIT, date=self._date))
        return [attrs.asdict(row) for row in rows]

    def incomplete(self, older_than: dt.timedelta) -> list[Task]:
        """What was begun at the date, longer ago than that, and never completed."""
        backend = self._member.needed_backend
        claims = self._caller.call(lambda: backend.incomplete(self._date, older_than))
        return [Task(claim.item) for claim in claims]


def _listed(keys: Collection[str]) -> str:
    return f'task {next(iter(keys))!r}' + (f' and {len(keys) - 1} more' if len(keys) > 1 else '') if keys else 'no task'
