"""A finite set of tasks that all nodes of a cluster work through together, until every task is complete.

A list of the tasks that this node owns is outdated as soon as ownership moves: a task that moves away is not done here, and one
that moves here after the loop has passed it is not done at all. So the loop repeats: it works on the tasks that this node owns,
reads what the others have completed, waits for a change, and begins again, until nothing of the set is left.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from jobsync._core.counting import counted
from jobsync._core.redact import listed
from jobsync._event_log import EventLogger
from jobsync._random import RANDOM
from jobsync._runtime import clock
from jobsync._worker.claim_loop import ClaimLoop
from jobsync._worker.progress import ProgressBar
from jobsync._worker.task_log import TaskLog
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch

if TYPE_CHECKING:
    from jobsync._core.records import Audit

__all__ = ['SharedBatch']

_logger = EventLogger('jobsync.job')
T = TypeVar('T')

_REPORT_SEC = 10.0
"""How often the log says what a batch waits for."""
_CHECK_SEC = 0.02
"""How often a waiting batch checks whether tokens have moved. No I/O."""
_PAUSE_SEC = (0.05, 1.5)
"""The shortest and the longest pause between two readings of what other nodes have completed."""
_GROWTH = 1.5
"""A pause is so many times the one before, while nothing changes."""
_READING_SHARE, _LONGEST_REST_SEC = 0.1, 3.0
"""Readings take at most this share of the time, unless nothing would be read for longer than this. The first reading of a large
batch takes long, and on a starved machine each does: ten times that is long after the last task is done. Meanwhile one task after
another is read by itself, until one is not complete: if none is, the batch seems to be at its end, and is read at once."""
_FIRST_READING = 256
"""How many of the newest audits are read at first; eight times as many while these do not reach back to the reading before."""
_SINCE_GONE_BACK = ' since the store went back in time: if the worker that owns it has gone on to another batch, restart it'
_QUARANTINE_SEC = 2.0
"""How often a waiting batch reads which tasks are in quarantine, at most."""
_OVERLAP = dt.timedelta(seconds=5)
"""How far a reading reaches back behind the newest audit of the reading before: transactions end in another order than their
times. What comes later still is found by the report, which reads the audits of some tasks that are left."""
_EXAMPLES = 20
"""For how many of the tasks that are left the report reads audits and claims, and at most how many are read by themselves."""
_SHOWN_SEC = 2.0
"""How often a progress bar reads what other nodes have completed."""


def rest_sec(took_sec: float) -> float:
    """Return for how long nothing is read after a reading that took so long."""
    return min(took_sec / _READING_SHARE, _LONGEST_REST_SEC)


class SharedBatch(ClaimLoop[T]):
    """The loop over a set of tasks. Each of its batches is one round over the tasks that this node owns."""

    def __init__(
        self,
        task_log: TaskLog,
        tasks: Iterable[T],
        parse: Callable[[T], tuple[str, int]],
        is_owned: Callable[[T], bool],
        *,
        progress: bool,
    ) -> None:
        """Store the parts. Of several tasks with one id the first is taken."""
        super().__init__(task_log, (), parse, is_owned, None, once=True)
        self._tasks: dict[str, T] = {}
        """The whole set."""
        self._unrecorded = list[str]()
        """Tasks that this node has done, and may not have recorded yet."""
        self._in_hand = list[str]()
        """Tasks that this worker has in hand in another loop, which this one cannot wait for."""
        for task in tasks:
            self._tasks.setdefault(parse(task)[0], task)
        self._left = dict(self._tasks)
        """The tasks that are not known to be complete."""
        self._total, self._done_here = len(self._left), 0
        self._pause, self._paused_until = _PAUSE_SEC[0], -math.inf
        self._seen: object = None
        """What this node owned as the last round began."""
        self._read_until: dt.datetime | None = None
        self._next_reading = self._next_quarantine = self._reported_at = self._refused_at = -math.inf
        self._waits_since: float | None = None
        self._has_waited = False
        """Whether a task was not complete when this loop had done what was its own."""
        self._had_gone_back = False
        """Whether the store has gone back in time since this loop began."""
        self._bar = ProgressBar(self.node_name, self._total) if progress else None

    @property
    def missing(self) -> int:
        """Return 0: a round takes its tasks from the set."""
        return 0

    @property
    def has_waiting(self) -> bool:
        """Return whether a task of the set is left, or done here and not recorded, and may be waited for."""
        # t=0  another thread of the user's has a call under way that records its own task
        # t=1  a task is done here, and the store is away
        # t=2  the store is back, and that call succeeds: the last one has not failed, and the task of t=1 is not recorded
        # So each task of the set that was done here counts by itself.
        is_left = self._left or self._has_gone_back or any(map(self._task_log.completions.has, self._unrecorded))
        return bool(is_left) and not self.is_over

    def run_batch(self, tasks: Sequence[T]) -> Generator[T]:  # noqa: ARG002 - a round takes its tasks from the set
        """Yield the tasks that this node owns, or begin a pause if it owns none of those that are left."""
        self._drop_waiting()
        self._follow_timeline()
        self._unrecorded = list(filter(self._task_log.completions.has, self._unrecorded))
        runtime = self._session.runtime
        self._seen, self._paused_until = None if runtime is None else runtime.lease.ownership, -math.inf
        owned = {key: task for key, task in self._left.items() if self.is_owned(task)}
        # t=0  forty asyncio tasks loop over one set, and each has a task in hand
        # t=1  each claims the forty again in every round, though it may start none; the end of a task waits behind these calls
        is_with_another = self._task_log.is_with_another
        ahead, has_worked = (task for key, task in owned.items() if not is_with_another(key)), False
        try:
            while (taken := list(islice(ahead, super().missing))) or super().has_waiting:
                with closing(super().run_batch(taken)) as part:
                    for task in part:
                        has_worked = True
                        yield task
                        self._done_here += 1
                        self._show()
        finally:
            self._forget_completed(owned)
        completions = self._task_log.completions
        if not (self._left or completions.is_held_up):  # what is held up is left to the alarm
            completions.flush_now(lambda: False)
        self._show()
        if has_worked:
            self._pause, self._waits_since = _PAUSE_SEC[0], None
        elif self.has_waiting:
            self._look()

    def _forget_completed_before(self) -> None:
        """Forget nothing: what is completed is taken out of the set, which has an end, after the batch."""

    def leave(self) -> None:
        """Start none of the tasks that are left: the user has left the loop, or it is over."""
        super().leave()
        if self._bar is not None:
            self._bar.close()

    def finish(self) -> None:
        """Record what is finished, and log how the batch has ended."""
        super().finish()
        node, tasks = self.node_name, counted(self._total, 'task')
        if self._in_hand:
            _logger.warning(
                'node %r: a batch of %s leaves out %d that another loop of this worker has in hand: %s. If that loop was left, '
                'and is kept in a variable, close it (close(), or aclose() of an AsyncJob) and call batch again',
                node,
                tasks,
                len(self._in_hand),
                listed(map(repr, self._in_hand), _EXAMPLES),
            )
        if self._left:
            text = 'node %r leaves a batch of %s: %d done here, %d left to other nodes'
            _logger.info(text, node, tasks, self._done_here, len(self._left))
        elif self._quarantined:
            text = 'node %r: a batch of %s is complete except %d in quarantine (max_attempts), %d done here: %s'
            names = listed(map(repr, self._quarantined), _EXAMPLES)
            _logger.warning(text, node, tasks, len(self._quarantined), self._done_here, names)
        elif self._done_here or self._has_waited:
            _logger.info('node %r: a batch of %s is complete, %d done here', node, tasks, self._done_here)
        else:
            _logger.info('node %r: a batch of %s was complete already', node, tasks)

    # --- what is complete ---------------------------------------------------------------------------------------------------

    def _forget_timeline(self) -> None:
        """Begin with the whole set anew, read what is complete, and log what is not any more."""
        is_unrecorded = self._task_log.completions.has
        known = [key for key in self._tasks if key in self._completed and not is_unrecorded(key)]
        super()._forget_timeline()
        self._in_hand.clear()
        self._left, self._had_gone_back = dict(self._tasks), True
        self._read_until, self._next_quarantine = None, -math.inf
        with self._undisturbed():
            self._read_completed()
            if lost := [key for key in known if key in self._left]:
                _logger.warning(
                    'node %r: the store went back in time, and no longer has %s of a batch that were complete: %s. They are done '
                    'again',
                    self.node_name,
                    counted(len(lost), 'task'),
                    listed(map(repr, lost), _EXAMPLES),
                )

    def _forget_completed(self, keys: Iterable[str]) -> None:
        """Take tasks out of the set that are complete, and those that this worker has in hand in a loop around this one."""
        has_unrecorded = self._task_log.completions.has
        for key in keys:
            if key in self._completed or key in self._quarantined or self._task_log.has_checked_out(key):
                if self._left.pop(key, None) is not None and key not in self._completed and key not in self._quarantined:
                    self._in_hand.append(key)
                if has_unrecorded(key):
                    self._unrecorded.append(key)

    def _read_quarantined(self) -> None:
        """Read which tasks are in quarantine: no node will do them, unless they are released."""
        started = clock.now()
        found = {row['item']: row['attempts'] for row in self._task_log.attempts.read_quarantined()}
        # t=0  this node finds that a task is in quarantine, and waits for other tasks
        # t=1  an operator releases the task, and another node, which has not found that, waits for its owner: this node
        for key in [key for key in self._quarantined if key not in found]:
            del self._quarantined[key]
            self._left[key], self._read_until = self._tasks[key], None
        self._quarantined.update({key: count for key, count in found.items() if key in self._left})
        self._task_log.attempts.report(self._quarantined)
        self._forget_completed(list(self._quarantined))
        ended = clock.now()
        self._next_quarantine = ended + max(_QUARANTINE_SEC, (ended - started) / _READING_SHARE)

    def _read_completed(self) -> None:
        """Read what any node has completed since the reading before."""
        started, limit = clock.now(), _FIRST_READING
        until: dt.datetime | None = None
        while self._left:
            audits: Sequence[Audit] = self._task_log.history.read_audits(limit)
            self._add_completed(audits)
            until = audits[0].created_on - _OVERLAP if audits else self._read_until
            if len(audits) < limit or (self._read_until is not None and audits[-1].created_on < self._read_until):
                break
            limit *= 8
        self._read_until = until
        ended = clock.now()
        self._next_reading = ended + rest_sec(ended - started)

    def _seems_complete(self) -> bool:
        """Return whether all of some tasks that are left are complete, and take note of those that are."""
        for key in RANDOM.sample(list(self._left), min(_EXAMPLES, len(self._left))):
            audits = self._task_log.history.read_audits(1, key)
            self._add_completed(audits)
            if not audits:
                return False
        return True

    def _add_completed(self, audits: Iterable[Audit]) -> None:
        """Take note of what is complete. If a reading has missed any of it, all is read anew."""
        completed = {audit.item: audit.created_on for audit in audits if audit.item in self._left}
        # t=0  a reading finds the newest audit; the next one is to reach back to a few seconds before it
        # t=1  the store's clock is set back by an hour: for so long, what is completed is older than that
        # Without this only the tasks of the report would be found, a few every ten seconds.
        if self._read_until is not None and any(moment < self._read_until for moment in completed.values()):
            self._read_until = None
        self._completed.update(completed)
        self._forget_completed(completed)

    # --- waiting ------------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what other nodes have completed, and begin a pause unless that is all."""
        moment = clock.now()
        if self._waits_since is None:
            self._waits_since = self._reported_at = moment
        before = len(self._left)
        with self._undisturbed():
            if self._left and (moment >= self._next_reading or self._seems_complete()):
                self._read_completed()
        if len(self._left) < before:
            self._pause = _PAUSE_SEC[0]
        if self._left and self._task_log.attempts.are_counted and moment >= self._next_quarantine:
            with self._undisturbed():
                self._read_quarantined()
        if not self.has_waiting:
            return
        self._has_waited = True
        if moment >= self._reported_at + _REPORT_SEC:
            self._reported_at = moment
            with self._undisturbed():
                self._report()
        self._paused_until = clock.now() + self._pause
        self._pause = min(_GROWTH * self._pause, _PAUSE_SEC[1])

    # t=0  forty asyncio tasks have nothing to do until others have done theirs; each pauses in one of the job's eight threads
    # t=1  a task is done, and its end waits behind these pauses for a thread: for seconds, with its token and all who wait for it
    # So the pause is no part of the batch: the event loop makes it, and ``pause`` is for a thread of the user's.

    @property
    def pause_sec(self) -> float:
        """Return how long the pause goes on: until its end, or until tokens have moved."""
        runtime = self._session.runtime
        # t=0  this round finds none of the tasks that are left to be this node's
        # t=1  tokens move to this node
        # t=2  the pause begins: what it owns is compared with the one from before the round, so t=1 is not missed
        has_moved = runtime is not None and runtime.lease.ownership is not self._seen
        return 0.0 if has_moved or self.is_over else max(0.0, self._paused_until - clock.now())

    def pause(self) -> None:
        """Wait until the pause is over."""
        while (left := self.pause_sec) > 0:
            self._session.note_progress()
            time.sleep(min(left, _CHECK_SEC))

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Go on without what a reading would have brought: an outage moves nothing, and the batch goes on when the store is back.

        A refusal of the store counts as an outage (rule R9). Once the session is over, no error of it reaches the loop.
        """
        try:
            yield
        except BackendUnavailable:
            pass
        except JobsyncError as error:
            if self._session.is_over:
                return
            if not isinstance(error, ConfigError | SchemaMismatch):
                raise
            if clock.now() >= self._refused_at + _REPORT_SEC:
                self._refused_at = clock.now()
                _logger.warning('node %r: a batch cannot read what is complete, and waits: %s', self.node_name, error)

    def _report(self) -> None:
        """Log what this batch waits for: how many tasks, in whose hands, and since when."""
        examples = RANDOM.sample(list(self._left), min(_EXAMPLES, len(self._left)))
        for key in examples:
            self._add_completed(self._task_log.history.read_audits(1, key))
        if not self._left:
            return
        left = [key for key in examples if key in self._left] or list(self._left)[:1]
        holders = Counter(map(self._holder_of, self._left))
        hands = ', '.join(f'{count} {holder}' for holder, count in holders.most_common(5))
        begun = self._begun(left[0])
        _logger.info(
            'node %r has waited for %.0f s for %d of a batch of %s: %s; task %r, for example, was %s',
            self.node_name,
            clock.now() - (self._waits_since or clock.now()),
            len(self._left),
            counted(self._total, 'task'),
            hands,
            left[0],
            begun,
        )

    def _begun(self, key: str) -> str:
        """Return in words which node has begun a task, and for which date if that is another one than the job's."""
        history = self._task_log.history
        claim = history.read_last_claim(key)
        if claim is not None:
            return f'begun by {claim.node!r} at {claim.created_on:%H:%M:%S} UTC'
        # t=0  the clock of a shows 23:59, that of b, which is in another timezone, 00:59: their jobs have two dates
        # t=1  each completes its own tasks for its own date, and waits for those of the other, for ever
        other = history.read_last_claim(key, of_any_date=True)
        if other is None:
            return 'begun by no node' + (_SINCE_GONE_BACK if self._had_gone_back else '')
        return f'begun by {other.node!r} for {other.date}, and this job is for {history.date}'

    def _holder_of(self, key: str) -> str:
        """Return in words in whose hands a task is, by the assignment that this node has read."""
        runtime = self._session.runtime
        if runtime is None or self.is_owned(self._left[key]):
            return 'with this node, in another loop' if self._task_log.is_with_another(key) else 'with this node'
        assignment = runtime.lease.assignment
        pin = assignment.pin_of.get(key)
        if pin is not None and pin.owner is None:
            return 'locked to a pattern that no live node matches'
        owner = assignment.owner_of(key, self._parse(self._left[key])[1])
        if owner == self.node_name:
            return 'with this node, which may not begin them now'
        return 'with no node at present' if owner is None else f'with {owner!r}'

    def _show(self) -> None:
        """Show the progress of the whole cluster, if a bar is wanted."""
        if self._bar is None:
            return
        if clock.now() >= max(self._next_reading, self._bar.shown_at + _SHOWN_SEC):
            with self._undisturbed():
                self._read_completed()
        self._bar.show(self._total - len(self._left) - len(self._quarantined))
