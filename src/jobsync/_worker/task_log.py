"""The trail a node leaves: what it began and what it completed."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from jobsync._core.records import HistoryKind, NodeRef
from jobsync._event_log import EventLogger
from jobsync._runtime import NodeRuntime
from jobsync._runtime.clock import now
from jobsync._worker.session import Session
from jobsync._worker.workers import worker_id
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch
from jobsync.task import Task

__all__ = ['TaskLog']

_logger = EventLogger('jobsync.job')

_SOON_SEC = 0.25
"""How long finished tasks are gathered before they are recorded; after twice as long an alarm sees to it, if nobody else does."""
_RENEW_SEC = 30.0
"""How often tasks are claimed again that were claimed ahead and have to wait: a monitor must not take them for stuck."""


class _Alarm:
    """Calls a function once, a while after it is set, in a thread of its own. May be set from any thread."""

    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        self._seconds, self._act = seconds, act
        self._timer: threading.Timer | None = None

    def set(self) -> None:
        """Call the function after ``seconds``, unless that is set already."""
        if self._timer is None:
            timer = threading.Timer(self._seconds, self._ring)
            timer.daemon = True
            with suppress(RuntimeError):  # no thread is to be had now: the next time, perhaps
                timer.start()
                self._timer = timer

    def cancel(self) -> None:
        """Do not call it, unless that is under way."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        self._act()


class TaskLog:
    """Claims and audits of one node at one date. With coordination off every task may be begun, and no claim is recorded.

    A task is *open* from its beginning until it is recorded as complete or dropped, and *in flight* until its work is over.
    """

    def __init__(self, member: Session, date: dt.date) -> None:
        self._session, self._node_name, self._caller = member, member.node_name, member.caller
        self._date = date.date() if isinstance(date, dt.datetime) else date
        self._open: dict[str, None] = {}
        self._done: dict[str, None] = {}
        self._out: dict[str, int] = {}
        """The tasks that are out in a loop or a block, with the worker that has each."""
        self._ahead: dict[str, int] = {}
        """The tasks (key -> hash token) that were claimed and have to wait, for their batch has ended."""
        self._flushed_at = float('-inf')
        self._late = _Alarm(2 * _SOON_SEC, self._flush_at_last)
        self._renewal = _Alarm(_RENEW_SEC, self._renew)

    @property
    def open_tasks(self) -> int:
        """How many tasks were begun and neither completed nor dropped."""
        return len(self._open)

    def is_open(self, key: str) -> bool:
        """Whether this task was begun and neither completed nor dropped."""
        return key in self._open

    def is_out(self, key: str) -> bool:
        """Whether this worker has the task out in a loop or a block."""
        return self._out.get(key) == worker_id()

    @property
    def is_closing(self) -> bool:
        """Whether no task will be begun any more."""
        return self._session.is_leaving

    @property
    def _runtime(self) -> NodeRuntime | None:
        self._session.check_inside()
        return self._session.runtime

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
        was_open = key in self._open
        try:
            if not runtime.agent.lease.begin(key, token, now, worker_id()):
                self._refuse([key])
                return False
            if self._record(runtime, [key], ref):
                self._open[key] = None
                return True
        except BaseException:  # whatever it is, Ctrl-C included: a mark that stays would hold up every hand-over of the token
            if not was_open:
                self.drop(key)
            raise
        if not was_open:
            self._finish([key])
        return False

    def begin_out(self, key: str, token: int) -> bool:
        """Begin a task, and count it as out with this worker until it is over; refuse it while another worker has it out."""
        worker = worker_id()
        if self._out.setdefault(key, worker) != worker:
            return False
        has_begun = False
        try:
            has_begun = self.begin(key, token)
        finally:
            if not has_begun:
                self._out.pop(key, None)
        return has_begun

    def claim(self, tasks: Mapping[str, int]) -> bool:
        """Record that this node began these tasks (key -> hash token), all or none."""
        if self._has_left(tasks):
            return False
        runtime = self._runtime
        if runtime is None:
            return True
        ref = runtime.agent.ref
        ours = runtime.agent.lease.ours(tasks, now)
        if len(ours) < len(tasks):
            allowed = set(ours)
            self._refuse([key for key in tasks if key not in allowed])
            return False
        return self._record(runtime, ours, ref)

    def claim_ours(self, tasks: Mapping[str, int]) -> NodeRef | bool:
        """Record that this node began those of the tasks (key -> hash token) that are its own.

        Gives the run for which they were claimed, where there are runs; else whether they may be begun.
        """
        for key in tasks if self._ahead else ():
            self._ahead.pop(key, None)
        if self._session.is_leaving:
            return False
        runtime = self._runtime
        if runtime is None:
            return True
        ref = runtime.agent.ref
        ours = runtime.agent.lease.ours(tasks, now)
        return ref if ours and self._record(runtime, ours, ref) else False

    def begin_claimed(self, key: str, token: int, claimed: NodeRef | bool) -> bool:
        """Mark a task in flight whose claim is recorded, if it is still this node's, in that run, and no other loop is at it.

        A loop within a loop is another: if it took the task, its end would be the end of the task that the outer one has out.
        """
        if self._session.is_leaving or claimed is False or key in self._out:
            return False
        runtime, worker = self._runtime, worker_id()
        if runtime is not None:
            if not runtime.agent.lease.begin_alone(key, token, now, worker):
                return False
            if runtime.agent.ref != claimed:
                self._finish([key])
                return False
        self._out[key] = worker
        self._open[key] = None
        return True

    def put_off(self, tasks: Mapping[str, int]) -> None:
        """These tasks (key -> hash token) are claimed, and are not begun before others are done. They will be claimed again then.

        Until then their claims are renewed now and then.
        """
        if tasks and self._session.runtime is not None:
            self._ahead.update(tasks)
            self._renewal.set()

    def give_up(self, keys: Iterable[str]) -> None:
        """The tasks that were put off are not begun at all."""
        for key in keys:
            self._ahead.pop(key, None)

    def _renew(self) -> None:
        """Claim again what is put off."""
        member, tasks = self._session, self._ahead.copy()
        runtime = member.runtime
        if not tasks or runtime is None or member.is_leaving:
            return
        ref = runtime.agent.ref
        with suppress(Exception):  # it is only for monitors, and is tried again
            if ours := runtime.agent.lease.ours(tasks, now):
                backend = member.needed_backend
                backend.append_claims(ref, ours, self._date)
        self._renewal.set()

    def _has_left(self, keys: Collection[str]) -> bool:
        """Another thread may leave while the user's loop is still at work: that must not raise there."""
        if self._session.is_over:
            self._refuse(keys)
        return self._session.is_over

    def _refuse(self, keys: Collection[str]) -> None:
        _logger.info("node %r: not begun, for it is not (or no longer) this node's: %s", self._node_name, _listed(keys))

    def _record(self, runtime: NodeRuntime, keys: Sequence[str], ref: NodeRef) -> bool:
        """Write claims for the run of this node that owned the tasks when it was asked; False if that is over.

        Waits for the store for as long as that run has its lease.
        """
        agent, backend = runtime.agent, self._session.needed_backend

        def still_ours() -> bool:
            return agent.lease.holds_lease(ref, now)

        try:
            self._caller.call(_not_refused(lambda: backend.append_claims(ref, keys, self._date)), while_=still_ours)
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
            self._out.pop(key, None)
        self._finish(keys)

    def drop(self, key: str) -> None:
        """The work on this task has failed: it is no longer in flight, and stays incomplete."""
        self._open.pop(key, None)
        self._out.pop(key, None)
        self._finish([key])

    def complete(self, key: str) -> None:
        """The work on this task is over: record it as complete now, after the block's end if that can be had."""
        self.done([key])
        self.flush_now()

    def flush(self) -> None:
        """Record what is done as complete. If that fails it is tried again a while later, and can be called again."""
        self._session.check_inside()
        try:
            self._record_complete(list(self._done))
        except BaseException:
            self.flush_later()
            raise

    def flush_soon(self) -> None:
        """Record what is done as complete, now or a moment later, together with what is done by then.

        What is done after the block's end, which has not waited for it, is recorded if that can be had; nothing is raised then.
        """
        if now() < self._flushed_at + _SOON_SEC and not self._session.is_over:
            self.flush_later()
        else:
            self.flush_now()

    def flush_now(self) -> None:
        """Record what is done as complete: as ``flush_soon``, but now."""
        if self._done and not self._session.is_over:
            try:
                self.flush()
            except JobsyncError:
                if not self._session.is_over:
                    raise
        if self._done and self._session.is_over:
            self._flush_after_the_end()

    def flush_later(self) -> None:
        """Record what is done as complete by an alarm, for nobody knows when the loop goes on."""
        if self._done and not self._session.is_over:
            self._late.set()

    def _flush_at_last(self) -> None:
        if not self._done or self._session.is_over:
            return
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - the thread of an alarm has nobody to raise it to
            _logger.info('node %r: finished tasks are not recorded as complete yet: %s', self._node_name, error)

    def _flush_after_the_end(self) -> None:
        keys = list(self._done)
        self._done.clear()
        try:
            self._session.after_the_end(lambda backend: backend.append_audits(self._node_name, keys, self._date))
        except JobsyncError as error:
            _logger.warning(
                'node %r: done after the end of the block, and not recorded as complete: %s (%s)',
                self._node_name,
                _listed(keys),
                error,
            )
        else:
            _logger.info('node %r: done after the end of the block, and recorded: %s', self._node_name, _listed(keys))

    def audit(self) -> None:
        """Record everything open as complete, except what another worker has out. If that fails it stays open."""
        self._session.check_inside()
        worker = worker_id()
        keys = [key for key in list(self._open) if self._out.get(key, worker) == worker]
        self._record_complete([*self._done, *keys])
        for key in keys:
            self._open.pop(key, None)
            self._out.pop(key, None)
        self._finish(keys)

    def _record_complete(self, keys: list[str], while_: Callable[[], bool] | None = None) -> None:
        if not keys:
            return
        backend = self._session.backend
        if backend is not None:
            self._caller.call(_not_refused(lambda: backend.append_audits(self._node_name, keys, self._date)), while_)
        self._flushed_at = now()
        for key in keys:
            self._done.pop(key, None)

    def begin_to_close(self) -> None:
        """Before leaving waits for anything, which may take long or be ended: record what is done, if it can be had at once."""
        with suppress(JobsyncError):
            self._record_complete(list(self._done), while_=lambda: False)

    def close(self) -> None:
        """Before the backend is closed: record what is done, if that can be had."""
        self._renewal.cancel()
        try:
            self._record_complete(list(self._done))
        except JobsyncError as error:
            count = len(self._done)
            _logger.warning('node %r: %d finished tasks could not be recorded as complete: %s', self._node_name, count, error)
        self._late.cancel()
        if self._open:
            _logger.warning('node %r has left with %d tasks not audited', self._node_name, len(self._open))

    def _finish(self, keys: list[str]) -> None:
        runtime = self._session.runtime
        if runtime is not None and keys:
            runtime.agent.lease.finish(keys)
            if runtime.agent.is_asked:
                runtime.poke()

    # --- reading ------------------------------------------------------------------------------------------------------------

    def audited(self) -> list[dict[str, Any]]:
        """Every audit of the date, newest first."""
        backend = self._session.needed_backend
        rows = self._caller.call(lambda: backend.history(HistoryKind.AUDIT, date=self._date))
        return [attrs.asdict(row) for row in rows]

    def incomplete(self, older_than: dt.timedelta) -> list[Task]:
        """What was begun at the date, longer ago than that, and never completed."""
        backend = self._session.needed_backend
        claims = self._caller.call(lambda: backend.incomplete(self._date, older_than))
        return [Task(claim.item) for claim in claims]


def _not_refused(action: Callable[[], object]) -> Callable[[], object]:
    """The action, whose refusal by the store is an outage: what this node could do as a member it may do again (rule R9)."""

    def act() -> object:
        try:
            return action()
        except (ConfigError, SchemaMismatch) as error:
            raise BackendUnavailable(str(error)) from error

    return act


def _listed(keys: Collection[str]) -> str:
    return f'task {next(iter(keys))!r}' + (f' and {len(keys) - 1} more' if len(keys) > 1 else '') if keys else 'no task'
