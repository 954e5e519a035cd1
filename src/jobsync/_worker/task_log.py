"""The tasks one node works on: which are open, which of them are in flight, and their end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence

from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.counting import counted
from jobsync._core.redact import cut_repr, listed
from jobsync._event_log import EventLogger
from jobsync._runtime import NodeRuntime, clock
from jobsync._worker.attempts import TaskAttempts
from jobsync._worker.claim_recording import Claimed, ClaimRecording
from jobsync._worker.claim_renewal import ClaimRenewal
from jobsync._worker.completions import Completions
from jobsync._worker.history import DateHistory
from jobsync._worker.session import Session
from jobsync._worker.store_calls import worker_id
from jobsync._worker.task_starts import TaskStarts, new_start
from jobsync.errors import ConfigError

__all__ = ['TaskLog']

_logger = EventLogger('jobsync.job')


class TaskLog:
    """The tasks of one node at one date, from their start until they are recorded as complete or abandoned.

    A task is *open* from its start until it is recorded as complete or abandoned, *in flight* until its work is over, and
    *checked out* while a ``claim`` loop or a ``task`` block has it. A *worker* is a thread or an asyncio task (``worker_id``).

    Each ``TaskStart`` has marks of its own, which the end of no other start removes. What ends a task ends the starts that it has
    found.
    """

    def __init__(self, session: Session, date: dt.date) -> None:
        self.session, self.node_name = session, session.node_name
        self._date = date
        self.completions = Completions(session, date, self._release_recorded)
        self.attempts = TaskAttempts(session, date)
        self.history, self.renewal = DateHistory(session, date), ClaimRenewal(session, date)
        self._open = TaskStarts()
        self._checked_out = TaskStarts()
        """The starts for which tasks are checked out. Of several of a task the first has it, and the others are about to end."""
        self.blind_places = set[str]()
        """The places of which a warning was logged that a body has run without them."""
        self.claims = ClaimRecording(session, self.attempts, self._open)

    @property
    def open_tasks(self) -> int:
        """Return how many tasks are open."""
        return len(self._open.keys())

    def oldest_open_sec(self) -> float:
        """Return for how many seconds the oldest of the open tasks has been open; 0 if there is none."""
        begun = self._open.begun_at()
        return max(0.0, clock.now() - min(begun)) if begun else 0.0

    def open_names(self) -> str:
        """Return the open tasks as text for a log line, at most 20 of them by their keys."""
        return listed(map(cut_repr, self._open.keys()), 20)

    def turns(self) -> list[str]:
        """Return the keys of the singletons and scheduled functions that have a turn: checked out, and no open task."""
        checked_out = self._checked_out.keys()
        return [key for key in checked_out if key not in self._open]

    def is_open(self, key: str) -> bool:
        """Return whether this task is open."""
        return key in self._open

    def has_checked_out(self, key: str) -> bool:
        """Return whether this worker has checked out the task."""
        start = self._checked_out.first(key)
        return start is not None and start.worker == worker_id()

    def is_with_another(self, key: str) -> bool:
        """Return whether another worker has checked out the task."""
        start = self._checked_out.first(key)
        return start is not None and start.worker != worker_id()

    @property
    def _runtime(self) -> NodeRuntime | None:
        self.session.check_inside()
        return self.session.runtime

    # --- starts -------------------------------------------------------------------------------------------------------------

    def start(self, key: str, token: int) -> TaskStart | None:
        """Mark a task in flight and record its claim; return None, with nothing recorded, if it is not this node's."""
        start = new_start(key, worker_id())
        try:
            if self._begin_claimed(start, token):
                return start
            self._end([start])
        except BaseException:
            self.take_back(start)
            raise
        return None

    def check_out(self, key: str, token: int) -> TaskStart | None:
        """Start a task and check it out to this worker; return None if another worker has it, or it is not this node's."""
        return self._check_out(new_start(key, worker_id()), lambda start: self._begin_claimed(start, token))

    def occupy(self, key: str, token: int) -> TaskStart | None:
        """Mark a task in flight and check it out to this worker, without a claim.

        Return None, with nothing changed, if the task is not this node's, or any worker has checked it out: this one too.
        """
        if self.session.is_leaving or key in self._checked_out:
            return None
        runtime = self._runtime
        if runtime is None and self.claims.is_entering([key]):
            return None
        return self._check_out(new_start(key, worker_id()), lambda start: self._begin_alone(runtime, start, token))

    def start_claimed(self, key: str, token: int, claimed: Claimed | None) -> TaskStart | None:
        """Mark a claimed task in flight and check it out, if the run that claimed it still owns it and no worker has it.

        A loop within a loop is another one, though its worker is the same: if the inner loop took the task, its end would be
        the end of the task that the outer loop still works on.
        """
        if self.session.is_leaving or claimed is None or key in self._checked_out:
            return None
        runtime = self._runtime

        # t=0  the run a/1 claims the task
        # t=1  a/1 is evicted, another node has the task, and gives it back to the run a/2 of this node
        # t=2  this thread goes on: the task is this node's, but the claim is of a/1, and the other node may have done it
        # A run never comes back. So if the run read after the mark is a/1, the mark was made under a/1.
        def begin(start: TaskStart) -> bool:
            is_ours = self._begin_alone(runtime, start, token) and (runtime is None or runtime.agent.ref == claimed.run)
            if is_ours:
                self._open.add(start)
            return is_ours

        return self._check_out(new_start(key, worker_id()), begin)

    def _check_out(self, start: TaskStart, begin: Callable[[TaskStart], bool]) -> TaskStart | None:
        """Check a task out for a start; return None if another start has it, or ``begin`` does not begin it."""
        # A signal's handler may raise at any step here or in ``start``, and the program may go on: after a timeout by SIGALRM,
        # say, or Ctrl-C at a prompt. A mark that stayed behind would keep all other workers from the task, and delay every
        # hand-over of its token.
        # Each adds its own start, and reads then which was first: two threads at the same task find the same one. And each start
        # is removed by itself: from a dict with one for each task, two that end a task at once could remove that of a third.
        try:
            self._checked_out.add(start)
            if self._checked_out.first(start.key) is not start:
                self._end([start])
                return None
            if begin(start):
                return start
            self.take_back(start)
        except BaseException:
            self.take_back(start)
            raise
        return None

    def _begin_alone(self, runtime: NodeRuntime | None, start: TaskStart, token: int) -> bool:
        """Mark a task in flight, if it is this node's and no other worker was the first of those that have it open."""
        if runtime is None:
            return True
        # Of two workers that have both added the task, each in a batch of it, both would wait, were the first refused as well.
        is_ours = runtime.lease.begin(start, token, clock.now)
        return is_ours and ((first := self._open.first(start.key)) is None or first.worker == start.worker)

    def _begin_claimed(self, start: TaskStart, token: int) -> bool:
        """Mark a task in flight, record its claim, and have it open; return False if it is not this node's."""
        self.session.note_progress()
        key = start.key
        if self.claims.has_left([key]):
            return False
        runtime = self._runtime
        if runtime is None:
            if self.claims.is_entering([key]):
                return False
            self._open.add(start)
            return True
        lease, ref = runtime.lease, runtime.agent.ref
        # t=0  the start is noted, and its claim is on the way
        # t=1  the leader wants the token for another node: this node reports the token as held, because of the start
        # t=2  the claim is recorded, or refused
        # Without it the token could pass on at t=1, and two nodes would have the task.
        if lease.begin(start, token, clock.now):
            if not self.claims.record_alone(runtime, [key], ref):
                return False
            # t=0   the claim is on the way; the token is to be handed over
            # t=30  handover_timeout_sec is over, and the token passes on in spite of the start
            # t=31  the claim is recorded: the lease runs, and another node owns the task
            # So a token that is to be handed over meanwhile is left to the next owner.
            if lease.may_claim(key, token, clock.now):
                self._open.add(start)
                return True
            self.claims.give_up_unstarted([key])
        self.claims.log_refusal([key])
        return False

    def confirm(self, start: TaskStart) -> None:
        """Note that a worker works on a task it has started. Of its earlier starts only the first is remembered."""
        # A program may add a task each time it works on it, and complete none: all its starts would take ever more memory. Each
        # earlier one is known to its caller by now, or will be taken back.
        own = [each for each in self._open.of(start.key) if each.worker == start.worker and each.number < start.number]
        checked_out = self._checked_out.first(start.key)
        self._end([each for each in sorted(own, key=lambda each: each.number)[1:] if each is not checked_out])

    def take_back(self, start: TaskStart) -> bool:
        """Take back a start by a worker who will not work on the task; return whether it has been open, and is not any more."""
        was_open = self._open.has(start)
        try:
            self._abandon(start.key, [start])
        except BaseException:  # of a signal's handler, which may have come before the first step
            self._abandon(start.key, [start])
            raise
        return was_open and start.key not in self._open

    def fence(self, key: str, token: int) -> int | None:
        """Return the fence of a task that this node owns or has in flight; None for any other task, and without coordination."""
        runtime = self.session.runtime
        if runtime is None:
            return None
        return runtime.lease.fence(key, token, clock.now, is_in_flight=key in self._checked_out or key in self._open)

    def check_begun(self, key: str) -> None:
        """Raise ``ConfigError`` for a task that no node has begun at this date.

        A task that is neither open nor waiting to be recorded may have been claimed by ``set_claim``, or be complete already:
        then the store has its claim, or its audit: with coordination off, or once the claim has been purged.
        """
        if key in self._open or self.completions.has(key):
            return
        if self.session.backend is None:
            return
        history = self.history
        if not ((self.session.config.enabled and history.read_last_claim(key)) or history.read_audits(1, key)):
            raise ConfigError(
                f'task {cut_repr(key)}: must have been begun before it is complete, and no node has begun it for {self._date}: '
                'call add_task, or loop over claim'
            )

    # --- ends ---------------------------------------------------------------------------------------------------------------

    def begun(self, key: str | None = None) -> list[TaskStart]:
        """Return what is open of a task, or of all tasks but those that other workers have checked out."""
        if key is not None:
            return self._open.of(key)
        return [start for start in self._open.all() if not self.is_with_another(start.key)]

    def finish(self, key: str, starts: Sequence[TaskStart]) -> None:
        """End starts of a task: no longer in flight, and complete once ``completions`` has recorded it."""
        self.session.note_progress()
        # t=0  this node finishes a task, whose completion is gathered with others for a moment
        # t=1  the leader wants the token for another node, and this node acknowledges: the task is not in flight
        # t=2  the other node claims the task, finds no completion, and does it again
        # So the token is held until the completion is recorded.
        checked_out, runtime = self._checked_out.first(key), self.session.runtime
        try:
            if runtime is not None:
                runtime.lease.unrecorded[key] = worker_id() if checked_out is None else checked_out.worker
            # To the completions first: a signal between the two steps may not lose the task.
            self.completions.add([key])
        except BaseException:  # of a signal's handler
            if runtime is not None and not self.completions.has(key):
                runtime.lease.unrecorded.pop(key, None)
            raise
        self._end(starts)

    # t=0  worker 1 completes the task in the body of its loop, which goes on
    # t=1  worker 2 starts the task, which is given again
    # t=2  the body of worker 1 ends: to end the task here would be to end that of worker 2, which would not be in flight any more
    # So the two methods below end a task for the start for which it was checked out.

    def finish_checked_out(self, start: TaskStart) -> None:
        """End the work on a task for whose start it was checked out, unless that has ended already."""
        # Read at once, so that what is begun after the end of this start is none of them.
        starts = self._open.of(start.key)
        if start in starts:
            self.session.check_may_write()
            self.finish(start.key, starts)
        else:
            self._end([start])  # what has ended it may be amid that, in another thread, and a mark be left

    def abandon_checked_out(self, start: TaskStart) -> None:
        """End the work on a task that has failed, for whose start it was checked out, unless that has ended already.

        What another worker has started since goes on. Otherwise the task is no longer in flight, and incomplete.
        """
        starts = None
        try:
            starts = self._ended_with(start)
            self._abandon(start.key, starts)
        except BaseException:  # of a signal's handler, which may have come before the first step
            self._abandon(start.key, self._ended_with(start) if starts is None else starts)
            raise

    def _ended_with(self, start: TaskStart) -> list[TaskStart]:
        """Return the starts of a task that are to end with a body that has failed."""
        if self._checked_out.first(start.key) not in (None, start):
            return []
        # t=0  a body works on the task, and another worker starts it
        # t=1  the body fails: abandoned now, the task would not be in flight while the other works on it
        # The other one may have begun its start before the body, and have it open since: so its place is that of the opening.
        opened = self._open.numbered(start.key)
        if start not in opened:  # it has ended, and what is open has begun since
            return [start]
        own = [each for each in opened if each.worker == start.worker]
        begun = min(each.number for each in own)
        return own if any(each.worker != start.worker and number > begun for each, number in opened.items()) else list(opened)

    def _abandon(self, key: str, starts: Sequence[TaskStart]) -> None:
        """End starts of a task, and have the attempt at it forgotten, unless it is still open, or finished by now."""
        self._end(starts)
        if starts and key not in self._open and not self.completions.has(key):
            self.attempts.give_up([key])
        self.session.note_progress()

    def flush_if_due(self) -> None:
        """Record the finished tasks if it is time to, or if a hand-over waits for that."""
        runtime = self.session.runtime
        if runtime is not None and runtime.agent.is_asked:
            self.completions.flush_now(lambda: False)
        else:
            self.completions.flush_if_due()

    def _release_recorded(self, keys: Iterable[str]) -> None:
        """Let the tokens of these tasks pass on: their completions are recorded."""
        self.attempts.end(keys)
        runtime = self.session.runtime
        if runtime is not None:
            for key in keys:
                runtime.lease.unrecorded.pop(key, None)
            if runtime.agent.is_asked:
                runtime.wake()

    def complete_all(self, begun: Sequence[TaskStart]) -> None:
        """Record what has ``begun`` and is open as complete, except what others have checked out. An error leaves it open."""
        self.session.check_inside()
        starts = [start for start in begun if self._open.has(start) and not self.is_with_another(start.key)]
        self.completions.record_with(list(dict.fromkeys(start.key for start in starts)))
        self._end(starts)

    def record_before_leaving(self) -> None:
        """Record the finished tasks, and give up what was not started, before leaving waits for anything."""
        self.completions.flush_before_leaving()
        self.attempts.give_up_all(self._open, self.session.may_wait_before_leaving)
        runtime, worker = self.session.runtime, worker_id()
        if runtime is None or self.session.stages.is_hurried:
            return
        if held := dict.fromkeys(start.key for start in list(runtime.lease.in_flight) if start.worker != worker):
            _logger.info(
                'node %r: leaving waits, %g s at most, for what other threads or asyncio tasks have in hand: %s',
                self.node_name,
                self.session.config.shutdown_timeout_sec,
                listed(map(cut_repr, held), 20),
            )

    def close(self) -> None:
        """Record what is finished before the backend is closed, and log how many tasks stay open."""
        self.renewal.cancel()
        self.completions.close()
        self.attempts.give_up_all(go_on=self.session.may_wait_to_close)
        if self.open_tasks:
            _logger.warning(
                'node %r has left with %s not audited: %s. Incomplete tasks are done again by the next owner '
                '(get_incomplete_tasks lists them); what is done, write_audit records before the block ends',
                self.node_name,
                counted(self.open_tasks, 'task'),
                self.open_names(),
            )

    def _end(self, starts: Sequence[TaskStart]) -> None:
        """End starts: nothing is open, checked out or in flight because of them."""
        try:
            self._remove_marks(starts)
        except BaseException:  # of a signal's handler: what is not removed here is removed by no other call
            self._remove_marks(starts)
            raise

    def _remove_marks(self, starts: Sequence[TaskStart]) -> None:
        for start in starts:
            self._open.remove(start)
            self._checked_out.remove(start)
        runtime = self.session.runtime
        if runtime is not None:
            runtime.lease.finish(starts)
            if runtime.agent.is_asked:
                runtime.wake()
