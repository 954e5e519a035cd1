"""The attempts of one node at its tasks, so that a task that kills its workers ends in quarantine (``max_attempts``).

A claim counts an attempt. The attempt ends when the task is recorded as complete, or is given up in good order. If the run ends
otherwise, it is lost. A node claims up to 1,000 tasks at a time, and a run that dies loses its attempts at all of them, though it
worked at one::

    t=0  a run claims 1,000 tasks at once, and dies at the seventh: 994 tasks have a lost attempt
    t=1  the next run claims the 994, tolerating none: all are returned, and nothing is recorded
    t=2  it completes its other tasks, then claims the 994 alone, one by one, each after the completion of the last is recorded
    t=3  it dies at the seventh again: this task alone has a second lost attempt

So only the task at which runs die ever gets more than one lost attempt.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress

from jobsync._cluster import actions
from jobsync._core.counting import counted
from jobsync._core.records import NodeRef
from jobsync._event_log import EventLogger
from jobsync._worker.alarm import Alarm
from jobsync._worker.beside import call_beside
from jobsync._worker.completions import brief, refusal_as_outage
from jobsync._worker.session import Session
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.rows import QuarantinedRow

__all__ = ['TaskAttempts', 'quarantined_rows']

_logger = EventLogger('jobsync.job')

_GATHER_SEC = 0.25
"""How long attempts are gathered that are given up, before the store is called."""


class TaskAttempts:
    """The tasks that this node attempts at one date. Does nothing where ``max_attempts`` is not set."""

    def __init__(self, session: Session, date: dt.date) -> None:
        self._session, self.date = session, date
        self._most = session.config.max_attempts if session.config.enabled else None
        self._begun: dict[str, NodeRef] = {}
        """The tasks with an attempt that has not ended, and the run that has begun it."""
        self._given_up: dict[str, NodeRef] = {}
        """The attempts that are given up, and of which the store does not know it yet."""
        self._claims: dict[object, Collection[str]] = {}
        self._forgets: dict[object, Set[str]] = {}
        """The calls under way that begin attempts, and those that have the store forget some, each with its tasks."""
        self._reported: set[str] = set()
        self._alarm = Alarm(session.node_name, _GATHER_SEC, self._flush_quietly)

    @property
    def are_counted(self) -> bool:
        """Whether ``max_attempts`` is set."""
        return self._most is not None

    def tolerated(self, *, alone: bool) -> int | None:
        """Return how many lost attempts a task may have that is claimed ``alone``, or with others; None if none are counted."""
        return None if self._most is None else self._most - 1 if alone else 0

    # t=0  a task is given up: the store is called to forget the attempt, and is slow
    # t=1  the same run claims the task again: an item has one attempt of a run, and this one is recorded already
    # t=2  the store forgets it: were the run lost now, this attempt would not count
    # So the call at t=1 waits for that of t=0. Each notes what it is about before it reads what the other has noted.

    @contextmanager
    def claiming(self, keys: Collection[str]) -> Iterator[None]:
        """Have no attempt at these tasks given up in the block, which claims them."""
        claim = object()
        try:
            self._claims[claim] = keys
            yield
        finally:
            self._claims.pop(claim, None)
            if self._given_up and not self._session.is_over:
                self._alarm.set()  # for what was not given up because of the claim

    def check_claimable(self, keys: Collection[str]) -> None:
        """Raise ``BackendUnavailable`` while the store is called to forget attempts at one of these tasks."""
        if any(not each.isdisjoint(keys) for each in self._forgets.copy().values()):
            raise BackendUnavailable('the store has not answered yet that earlier attempts at these tasks are forgotten')

    def begin(self, keys: Collection[str], ref: NodeRef) -> None:
        """Note that a run has claimed tasks, and the store has counted an attempt at each."""
        for key in keys:
            self._given_up.pop(key, None)
            self._begun[key] = ref
        self._reported.difference_update(keys)  # another node has released them

    def end(self, keys: Iterable[str]) -> None:
        """Note that tasks are recorded as complete."""
        if self._begun:
            for key in keys:
                self._begun.pop(key, None)

    def give_up(self, keys: Iterable[str]) -> None:
        """Have the attempts at these tasks forgotten: the work on them has ended, or not begun, in good order."""
        if not self._begun:
            return
        self._given_up.update({key: ref for key in keys if (ref := self._begun.pop(key, None)) is not None})
        if self._given_up and not self._session.is_over:
            self._alarm.set()

    def give_up_all(self, but: Container[str] = (), go_on: Callable[[float], bool] | None = None) -> None:
        """Give up every attempt, except those at some tasks, in one call. A failure is logged.

        Args:
            but: The tasks whose attempts go on.
            go_on: Given for how many seconds this has waited for the store; returns whether to wait longer. None: always.
        """
        self.give_up([key for key in list(self._begun) if key not in but])
        self._alarm.cancel()
        error: JobsyncError | None = None
        if go_on is not None:
            error = call_beside(self._session.node_name, self._flush, go_on) if self._given_up else None
        else:
            try:
                self._flush()
            except JobsyncError as raised:
                error = raised
        if error is not None:
            _logger.warning(
                'node %r: not worked at, and counted as lost attempts all the same: %s (%s)',
                self._session.node_name,
                counted(len(self._given_up), 'task'),
                error,
            )

    @property
    def quarantined(self) -> Set[str]:
        """Return the tasks that this node has found in quarantine, and has neither released nor claimed since."""
        return self._reported.copy()

    def report(self, lost: Mapping[str, int]) -> None:
        """Log that tasks are in quarantine, each once."""
        for key, count in lost.items():
            if key not in self._reported:
                self._reported.add(key)
                _logger.warning(
                    'node %r: task %r is in quarantine, and is not started: %s lost while attempting it. Find out '
                    'why, and release it (release_quarantined)',
                    self._session.node_name,
                    key,
                    counted(count, 'run was', 'runs were'),
                )

    def _flush(self) -> None:
        # A copy, as another thread may flush beside this one.
        given_up, call = self._given_up.copy(), object()
        try:
            self._forgets[call] = given_up.keys()
            claimed = {key for keys in self._claims.copy().values() for key in keys}
            for ref in set(given_up.values()):
                # Read again: what was claimed since the copy is not given up any more.
                keys = [key for key, run in given_up.items() if run == ref == self._given_up.get(key)]
                self._forget([key for key in keys if key not in claimed], ref)
        finally:
            self._forgets.pop(call, None)

    def _forget(self, keys: list[str], ref: NodeRef) -> None:
        if not keys:
            return
        backend = self._session.needed_backend
        forget = refusal_as_outage(lambda: backend.forget_attempts(keys, self.date, ref))
        self._session.caller.call(forget, while_=lambda: False)
        for key in keys:
            if self._given_up.get(key) == ref:
                self._given_up.pop(key, None)

    def _flush_quietly(self) -> None:
        with suppress(Exception):  # an alarm's thread has no caller to raise to; leaving tries again
            self._flush()

    # --- quarantine ---------------------------------------------------------------------------------------------------------

    def read_quarantined(self) -> list[QuarantinedRow]:
        """Return the tasks in quarantine at the date, those with the most lost attempts first."""
        backend, most = self._session.backend, self._most
        if backend is None or most is None:
            return []
        lost = self._session.caller.call(lambda: backend.lost_attempts(self.date, most))
        return quarantined_rows(lost)

    def release(self, keys: list[str]) -> None:
        """Forget every attempt at tasks, so that they may be claimed again, and record that this node did it."""
        backend, node, call = self._session.needed_backend, self._session.node_name, self._session.caller.call
        call(lambda: backend.forget_attempts(keys, self.date))
        actions.record(backend, node, 'release', keys, f'for {self.date}', call)
        self._reported.difference_update(keys)
        _logger.info('node %r released from quarantine: %s', self._session.node_name, brief(keys))


def quarantined_rows(lost: Mapping[str, int]) -> list[QuarantinedRow]:
    """Return items with their lost attempts as rows, those with the most first."""
    return [{'item': item, 'attempts': lost[item]} for item in sorted(lost, key=lambda item: (-lost[item], item))]
