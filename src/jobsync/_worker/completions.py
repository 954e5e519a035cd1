"""Finished tasks on their way into the store: gathered, recorded as complete, and recorded again after an error."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from jobsync._core.counting import counted
from jobsync._core.redact import cut_repr
from jobsync._event_log import EventLogger
from jobsync._runtime import clock
from jobsync._worker.alarm import Alarm
from jobsync._worker.beside import call_beside
from jobsync._worker.session import Session
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

__all__ = ['Completions', 'brief', 'refusal_as_outage']

_logger = EventLogger('jobsync.job')
T = TypeVar('T')

_GATHER_SEC = 0.25
"""How long finished tasks are gathered before they are recorded. An alarm records them after twice as long if no call does."""


class Completions:
    """The finished tasks of one node at one date that the store does not have yet.

    A key leaves this object only when the store has confirmed its audit, so an error loses none.
    """

    def __init__(self, session: Session, date: dt.date, on_recorded: Callable[[Sequence[str]], object]) -> None:
        """Store the parts. ``on_recorded`` is called with finished tasks once the store has them, in any thread."""
        self._on_recorded = on_recorded
        self._session, self._node_name, self._date = session, session.node_name, date
        self._finished: dict[str, None] = {}
        self._recorded_at, self._failures = -math.inf, 0
        self._followers: dict[int, set[str]] = {}
        self._alarm = Alarm(session.node_name, 2 * _GATHER_SEC, self._flush_by_alarm)

    def add(self, keys: Sequence[str]) -> None:
        """Add finished tasks, to be recorded by the next flush."""
        self._finished.update(dict.fromkeys(keys))
        if self._followers:
            self._notify(keys)

    def has(self, key: str) -> bool:
        """Return whether this task is finished and not recorded yet."""
        return key in self._finished

    def follow(self, finished: set[str]) -> None:
        """Add to a set, from now on, the tasks that this node finishes; also those that are not recorded yet."""
        # t=0  another thread finishes a task and adds it here
        # t=1  the set follows, and gets what is not recorded: this task, or the store has it by now
        self._followers[id(finished)] = finished
        finished.update(list(self._finished))

    def unfollow(self, finished: set[str]) -> None:
        """Add no more tasks to this set."""
        self._followers.pop(id(finished), None)

    def _notify(self, keys: Sequence[str]) -> None:
        for finished in list(self._followers.values()):
            finished.update(keys)

    def record_with(self, keys: Sequence[str]) -> None:
        """Record all finished tasks and these in one call. Raise ``BackendUnavailable`` if the store stays away."""
        self._record([*self._finished, *keys])
        self._notify(keys)

    @property
    def is_held_up(self) -> bool:
        """Whether finished tasks are not recorded, because the store was away when that was last tried."""
        return self._failures > 0 and bool(self._finished)

    def flush(self, while_: Callable[[], bool] | None = None) -> None:
        """Record all finished tasks as complete. After an error an alarm tries again, and so may the caller.

        Raises ``BackendUnavailable`` if the store stays away, for as long as ``while_`` returns True or a call may take.
        """
        self._session.check_inside()
        try:
            self._record(list(self._finished), while_)
        except BaseException:
            self.schedule_flush()
            raise

    def flush_if_due(self) -> None:
        """Record the finished tasks in one attempt; by an alarm if the last ones were recorded a moment ago, or could not be."""
        if (self._failures or clock.now() < self._recorded_at + _GATHER_SEC) and not self._session.is_over:
            self.schedule_flush()
        else:
            self.flush_now(lambda: False)

    def flush_now(self, while_: Callable[[], bool] | None = None) -> None:
        """Record the finished tasks now, also after the end of the block. While the store is away, leave them to the alarm."""
        # t=0  this thread flushes; the session is not over
        # t=1  another thread leaves and closes the backend: the flush fails
        # t=2  the session is over: the tasks are recorded by a connection of their own, and no error reaches the user's loop
        if self._finished and not self._session.is_over:
            try:
                self.flush(while_)
            except BackendUnavailable as error:
                self._report(error)
            except JobsyncError:
                if not self._session.is_over:
                    raise
        if self._finished and self._session.is_over:
            self._flush_after_the_end()

    def _report(self, error: Exception) -> None:
        """Log that the store is away, at a falling rate until something is recorded again."""
        if not self._finished:
            return  # another thread has recorded them, after this one's attempt
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            _logger.warning(
                'node %r: %s not recorded as complete yet, and will be when the store is back: %s (failure %d in a row)',
                self._node_name,
                counted(len(self._finished), 'finished task'),
                error,
                self._failures,
            )

    def schedule_flush(self) -> None:
        """Have an alarm record the finished tasks: the user's loop may not come back for long."""
        if self._finished and not self._session.is_over:
            self._alarm.set()

    def flush_before_leaving(self) -> None:
        """Record the finished tasks in one attempt, before leaving waits for anything: leaving may be interrupted.

        What the store was away for is left to ``close``.
        """
        if not self._failures:
            self._record_beside(self._session.may_wait_before_leaving, while_=lambda: False)

    def close(self) -> None:
        """Record the finished tasks before the backend is closed; log a warning if that fails."""
        error = self._record_beside(self._session.may_wait_to_close)
        if error is not None:
            text = 'node %r: done, and not recorded as complete, so it will be done again: %s (%s)'
            _logger.warning(text, self._node_name, brief(list(self._finished)), error)
        self._alarm.cancel()

    def _record_beside(self, go_on: Callable[[float], bool], while_: Callable[[], bool] | None = None) -> JobsyncError | None:
        """Record all finished tasks in a thread of its own, and return what has kept them from being recorded."""
        keys = list(self._finished)
        return call_beside(self._node_name, lambda: self._record(keys, while_), go_on) if keys else None

    def _record(self, keys: list[str], while_: Callable[[], bool] | None = None) -> None:
        if not keys:
            return
        backend = self._session.backend
        if backend is not None:
            write = refusal_as_outage(lambda: backend.append_audits(self._node_name, keys, self._date))
            self._session.caller.call(write, while_)
        failures, self._failures, self._recorded_at = self._failures, 0, clock.now()
        # In this order: after an exception of a signal's handler in between, the tasks are recorded and released once more.
        self._on_recorded(keys)
        for key in keys:
            self._finished.pop(key, None)
        # t=0  the task is recorded, and its token released
        # t=1  another thread finishes the task once more: holds the token again, and adds the task here
        # t=2  the task is taken out: no later record of it would release the token
        self._on_recorded([key for key in keys if key not in self._finished])
        if failures:
            count = counted(len(keys), 'finished task')
            _logger.info('node %r: %s recorded as complete, after %s', self._node_name, count, counted(failures, 'failure'))

    def _flush_by_alarm(self) -> None:
        if not self._finished or self._session.is_over:
            return
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - an alarm's thread has no caller to raise to
            self._report(error)

    def _flush_after_the_end(self) -> None:
        keys = list(self._finished)
        for key in keys:  # another thread may add one meanwhile, and records it itself
            self._finished.pop(key, None)
        try:
            self._session.after_the_end(lambda backend: backend.append_audits(self._node_name, keys, self._date))
        except JobsyncError as error:
            _logger.warning(
                'node %r: finished after the end of the block, and not recorded as complete: %s (%s)',
                self._node_name,
                brief(keys),
                error,
            )
        else:
            _logger.info('node %r: finished after the end of the block, and recorded: %s', self._node_name, brief(keys))


def refusal_as_outage(action: Callable[[], T]) -> Callable[[], T]:
    """Wrap a call so that a refusal by the store counts as an outage.

    This node could make the call as a member, so it may be able to again (rule R9).
    """

    def act() -> T:
        try:
            return action()
        except (ConfigError, SchemaMismatch) as error:
            raise BackendUnavailable(str(error)) from error

    return act


def brief(keys: Collection[str]) -> str:
    """Return tasks as text for a log line: the first key, and how many more there are."""
    return f'task {cut_repr(next(iter(keys)))}' + (f' and {len(keys) - 1} more' if len(keys) > 1 else '') if keys else 'no task'
