"""The tasks one node works on: which are open, which of them are in flight, and their end."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable

import attrs

from jobsync._core.counting import counted
from jobsync._core.redact import cut_repr, listed
from jobsync._event_log import EventLogger
from jobsync._runtime import NodeRuntime, clock, threads
from jobsync._worker.attempts import TaskAttempts
from jobsync._worker.claim_recording import Claimed, ClaimRecording
from jobsync._worker.claim_renewal import ClaimRenewal
from jobsync._worker.completions import Completions
from jobsync._worker.history import DateHistory
from jobsync._worker.session import Session
from jobsync._worker.store_calls import worker_id
from jobsync.errors import ConfigError

__all__ = ['TaskLog']

_logger = EventLogger('jobsync.job')


_numbers = itertools.count(1)


@attrs.frozen
class Starts:
    """A worker's starts of an open task."""

    count: int
    first: int
    last: int
    """The numbers of two of them, in the order of all starts in this process."""


@attrs.define
class OpenTask:
    """The starts of an open task."""

    begun_at: float
    """When it was started last, on ``clock.now``."""
    workers: dict[int, Starts]
    """The workers that have started it: all of them may work on it."""


def _ending_worker() -> int:
    """Return the worker of an attempt that ends a task, or 0, which leaving waits for."""
    # t=0  the main thread ends a task
    # t=1  a signal's handler leaves: it would wait for what goes on once it has returned
    # t=0  another thread ends a task for an asyncio task, whose call was cancelled, and which leaves
    # t=1  another worker begins the task: its mark is removed, and made again
    return worker_id() if threads.is_interruptible() else 0


class TaskLog:
    """The tasks of one node at one date, from their start until they are recorded as complete or abandoned.

    A task is *open* from its start until it is recorded as complete or abandoned, *in flight* until its work is over, and
    *checked out* while a ``claim`` loop or a ``task`` block has it. A *worker* is a thread or an asyncio task (``worker_id``).
    """

    def __init__(self, session: Session, date: dt.date) -> None:
        self.session, self.node_name = session, session.node_name
        self._date = date
        self.completions = Completions(session, date, self._release_recorded)
        self.attempts = TaskAttempts(session, date)
        self.history, self.renewal = DateHistory(session, date), ClaimRenewal(session, date)
        self._open: dict[str, OpenTask] = {}
        self._checked_out: dict[str, int] = {}
        """The tasks that are checked out, with the worker of each."""
        self.claims = ClaimRecording(session, self.attempts, self._open)
        session.on_leaving = self._leave_to_others

    @property
    def open_tasks(self) -> int:
        """Return how many tasks are open."""
        return len(self._open)

    def oldest_open_sec(self) -> float:
        """Return for how many seconds the oldest of the open tasks has been open; 0 if there is none."""
        begun = self._open.copy().values()
        return max(0.0, clock.now() - min(each.begun_at for each in begun)) if begun else 0.0

    def open_names(self) -> str:
        """Return the open tasks as text for a log line, at most 20 of them by their keys."""
        return listed(map(cut_repr, list(self._open)), 20)

    def turns(self) -> list[str]:
        """Return the keys of the singletons and scheduled functions that have a turn: checked out, and no open task."""
        return [key for key in list(self._checked_out) if key not in self._open]

    def is_open(self, key: str) -> bool:
        """Return whether this task is open."""
        return key in self._open

    def has_checked_out(self, key: str) -> bool:
        """Return whether this worker has checked out the task."""
        return self._checked_out.get(key) == worker_id()

    def is_with_another(self, key: str) -> bool:
        """Return whether another worker has checked out the task."""
        return self._checked_out.get(key, worker_id()) != worker_id()

    @property
    def _runtime(self) -> NodeRuntime | None:
        self.session.check_inside()
        return self.session.runtime

    # --- starts -------------------------------------------------------------------------------------------------------------

    def start(self, key: str, token: int, number: int | None = None) -> bool:
        """Mark a task in flight and record its claim; return False, with nothing recorded, if it is not this node's.

        ``number`` is that of this start, if another step of it has come before.
        """
        self.session.note_progress()
        if self.claims.has_left([key]):
            return False
        runtime = self._runtime
        if runtime is None:
            if self.claims.is_entering([key]):
                return False
            self._open_task(key, worker_id(), number or next(_numbers))
            return True
        lease, ref, worker = runtime.lease, runtime.agent.ref, worker_id()
        before = self._starts(key, worker)
        attempts, attempt = lease.attempts, object()
        # t=0  this thread has an attempt at the task, and its claim is on the way
        # t=1  the leader wants the token for another node: this node reports the token as held, because of the attempt
        # t=2  the claim is recorded, or refused
        # Without it the token could pass on at t=1, and two nodes would have the task. And it is this thread's alone:
        # t=0  two threads add one task, and the claim of the second is recorded first: it works on the task
        # t=1  the leader wants the token for another node
        # t=2  the claim of the first is recorded: it is refused, and leaves the task of the second in flight
        try:
            try:
                attempts[attempt] = key, worker
                if not lease.may_claim(key, token, clock.now):
                    self.claims.log_refusal([key])
                elif self.claims.record_alone(runtime, [key], ref):
                    # t=0   this thread has an attempt at the task, and its claim is on the way; the token is to be handed over
                    # t=30  handover_timeout_sec is over, and the token passes on in spite of the attempt
                    # t=31  the claim is recorded: the lease runs, and another node owns the task
                    # So a token that is to be handed over meanwhile is left to the next owner.
                    if lease.begin(key, token, clock.now, worker):
                        self._open_task(key, worker, number or next(_numbers))
                        return True
                    self.claims.log_refusal([key])
                    self.claims.give_up_unstarted([key])
            finally:
                attempts.pop(attempt, None)
                if runtime.agent.is_asked:
                    runtime.wake()
        except BaseException:
            self._take_back(key, worker, before)
            raise
        return False

    def check_out(self, key: str, token: int) -> bool:
        """Start a task and check it out to this worker; return False if another worker has it, or it is not this node's."""
        # The number comes first: another worker may start the task while the claim is on the way, and work on it as the block
        # fails.
        worker, number = worker_id(), next(_numbers)
        before = self._starts(key, worker)
        try:
            # setdefault is one step: of two threads at the same task one finds its own number, the other that of the first.
            if self._checked_out.setdefault(key, worker) != worker:
                return False
            # t=0  the claim is on the way
            # t=1  another worker completes the task, which was added before: its check-out ends with it
            # t=2  the claim is recorded: the check-out is to end with the block, and keeps others from the task until then
            if self.start(key, token, number) and self._checked_out.setdefault(key, worker) == worker:
                return True
            self._check_in(key, worker, before)
        except BaseException:
            self._check_in(key, worker, before)
            raise
        return False

    def occupy(self, key: str, token: int) -> bool:
        """Mark a task in flight and check it out to this worker, without a claim.

        Return False, with nothing changed, if the task is not this node's, or any worker has checked it out: this one too.
        """
        if self.session.is_leaving or key in self._checked_out:
            return False
        runtime, worker = self._runtime, worker_id()
        before = self._starts(key, worker)
        if runtime is None and self.claims.is_entering([key]):
            return False
        try:
            if runtime is not None and not runtime.lease.begin_alone(key, token, clock.now, worker):
                return False
            return self._checked_out.setdefault(key, worker) == worker
        except BaseException:
            self._check_in(key, worker, before)
            raise

    # A signal's handler may raise at any step above, and the program may go on: after a timeout by SIGALRM, say, or Ctrl-C at a
    # prompt. A mark that stayed behind would keep all other workers from the task, and delay every hand-over of its token.

    def _starts(self, key: str, worker: int) -> int:
        """Return how often this worker has started the task, if that is open."""
        task = self._open.get(key)
        starts = None if task is None else task.workers.get(worker)
        return 0 if starts is None else starts.count

    def _check_in(self, key: str, worker: int, before: int) -> None:
        """Take back a task that this worker has not checked out completely."""
        if self._checked_out.get(key) == worker:
            self._checked_out.pop(key, None)
        self._take_back(key, worker, before)

    def _take_back(self, key: str, worker: int, before: int) -> None:
        """Take back a task that this worker has not started completely, which it had started so often ``before``."""
        if not self._is_left(key, worker, before):
            runtime = self.session.runtime
            if runtime is None or runtime.lease.in_flight.get(key) == worker:
                self._give_up(key, worker)
            else:
                self.claims.give_up_unstarted([key])

    def start_claimed(self, key: str, token: int, claimed: Claimed | None) -> bool:
        """Mark a claimed task in flight and check it out, if the run that claimed it still owns it and no worker has it.

        A loop within a loop is another one, though its worker is the same: if the inner loop took the task, its end would be
        the end of the task that the outer loop still works on.
        """
        if self.session.is_leaving or claimed is None or key in self._checked_out:
            return False
        runtime, worker, number = self._runtime, worker_id(), next(_numbers)
        before = self._starts(key, worker)
        try:
            if self._checked_out.setdefault(key, worker) != worker:
                return False
            # t=0  the run a/1 claims the task
            # t=1  a/1 is evicted, another node has the task, and gives it back to the run a/2 of this node
            # t=2  this thread goes on: the task is this node's, but the claim is of a/1, and the other node may have done it
            # A run never comes back. So if the run read after the mark is a/1, the mark was made under a/1.
            if runtime is None or (runtime.lease.begin_alone(key, token, clock.now, worker) and runtime.agent.ref == claimed.run):
                self._open_task(key, worker, number)
                if self._checked_out.setdefault(key, worker) == worker:  # see ``check_out``
                    return True
            self._check_in(key, worker, before)
        except BaseException:
            self._check_in(key, worker, before)
            raise
        return False

    def _open_task(self, key: str, worker: int, number: int) -> None:
        task, begun = None, OpenTask(clock.now(), {worker: Starts(1, number, number)})
        # setdefault is one step: of two workers at the same task one finds what the other has begun. Until it finds what it has
        # changed itself, since a worker that ends the task may take it out meanwhile.
        while (found := self._open.setdefault(key, begun)) is not task:
            # t=0  this worker is noted with what another worker takes out, which is to put it back for those it finds there
            # t=1  this worker begins the task anew, and ends it
            # t=2  the other one would put back what is over: the task would stay in flight for good
            if task is not None:
                task.workers.pop(worker, None)
            task = found
            if task is begun:
                break
            task.begun_at, had = begun.begun_at, task.workers.get(worker)
            task.workers[worker] = begun.workers[worker] if had is None else Starts(had.count + 1, had.first, number)
        runtime = self.session.runtime
        if runtime is not None:
            if runtime.lease.in_flight.setdefault(key, worker) not in task.workers:  # see ``_close_unless_started``
                runtime.lease.in_flight[key] = worker
            if key not in self._open:  # completed just before that line
                self._end_flight([key])

    def take_back(self, key: str, worker: int) -> bool:
        """Take back the last start of a task by a worker who will not work on it: abandon the task if there is no other start.

        Return whether the task is abandoned.
        """
        starts = self._starts(key, worker)
        if not starts or self._is_left(key, worker, starts - 1):
            return False
        self._give_up(key, worker)
        return True

    def _is_left(self, key: str, worker: int, starts: int) -> bool:
        """Leave so many starts of an open task to a worker, at most; return whether any worker is left with one."""
        task = self._open.get(key)
        if task is None:
            return False
        had = task.workers.get(worker)
        if had is not None and (left := min(starts, had.count)):
            task.workers[worker] = attrs.evolve(had, count=left)
        else:
            task.workers.pop(worker, None)
        # Read first: a worker that is noted after this line keeps a task that is given up (``_close_unless_started``).
        is_left = bool(task.workers)
        self._pass_on(key, worker, task)
        return is_left

    def _pass_on(self, key: str, worker: int, task: OpenTask) -> None:
        """Count a task in flight as another worker's, if it counts as this one's, which has no start of it any more."""
        runtime = self.session.runtime
        # t=0  two workers have started the task, the second of which does not work on it
        # t=1  the second leaves, and waits for the tasks of others alone: were this one its own, it would pass on amid the work
        while runtime is not None and runtime.lease.in_flight.get(key, worker) == worker:
            if worker in (workers := list(task.workers)) or not workers:
                return
            runtime.lease.in_flight[key] = worker = workers[-1]
            if key not in self._open:  # it has ended just before that line
                runtime.lease.finish([key])

    def _leave_to_next(self, key: str, worker: int) -> bool:
        """Leave a task open and in flight for the worker that has started it since; return False, with no start, if none has."""
        # t=0  a body works on the task, and another worker starts it
        # t=1  the body fails: abandoned now, the task would not be in flight while the other works on it
        task = self._open.get(key)
        if task is None:
            return False
        workers = task.workers.copy()
        begun = workers[worker].first if worker in workers else 0
        is_left = any(each != worker and starts.last > begun for each, starts in workers.items())
        for each in [worker] if is_left else workers:
            starts = task.workers.pop(each, None)
            if each != worker and starts is not None and starts.last > workers[each].last:  # it was started just before that line
                task.workers.setdefault(each, starts)
        # Read again: the other start may have been taken back meanwhile, or another one made.
        is_left = bool(task.workers)
        self._pass_on(key, worker, task)
        if is_left and self._checked_out.get(key) == worker:
            self._checked_out.pop(key, None)
        return is_left

    def _give_up(self, key: str, worker: int) -> None:
        """Abandon a task that no worker is left at."""
        try:
            self._close_unless_started(key, worker)
        except BaseException:  # of a signal's handler
            self._close_unless_started(key, worker)
            raise

    def _close_unless_started(self, key: str, worker: int | None) -> None:
        """Abandon a task whose work is over, and keep it open and in flight for a worker that starts it meanwhile."""
        # t=0  this worker is the last at the task, and is to abandon it
        # t=1  another worker starts the task: its call returns True
        # t=2  the marks are removed: the task would not be in flight while the other works on it
        # So they are made again, here or by the other, and the attempts of both hold the token meanwhile.
        runtime, attempt = self.session.runtime, object()
        attempts = {} if runtime is None else runtime.lease.attempts
        try:
            attempts[attempt] = key, _ending_worker()
            while (task := self._open.pop(key, None)) is not None and worker is not None and task.workers:
                back = self._open.setdefault(key, task)
                back.workers.update(task.workers)
                if back.workers:
                    break
            if worker is None or self._checked_out.get(key) == worker:
                self._checked_out.pop(key, None)
            self._end_flight([key])
        finally:
            attempts.pop(attempt, None)
            if runtime is not None and runtime.agent.is_asked:
                runtime.wake()
        if key not in self._open:
            if runtime is not None and not self.completions.has(key):
                runtime.lease.unrecorded.pop(key, None)
            self.attempts.give_up([key])
        self.session.note_progress()

    def fence(self, key: str, token: int) -> int | None:
        """Return the fence of a task that this node owns or has in flight; None for any other task, and without coordination."""
        runtime = self.session.runtime
        return None if runtime is None else runtime.lease.fence(key, token, clock.now)

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

    def finish(self, key: str) -> None:
        """End the work on a task: no longer in flight, and complete once ``completions`` has recorded it."""
        self.session.note_progress()
        # t=0  this node finishes a task, whose completion is gathered with others for a moment
        # t=1  the leader wants the token for another node, and this node acknowledges: the task is not in flight
        # t=2  the other node claims the task, finds no completion, and does it again
        # So the token is held until the completion is recorded.
        runtime = self.session.runtime
        if runtime is not None:
            runtime.lease.unrecorded[key] = self._checked_out.get(key) or worker_id()
        # To the completions first: a signal between the two steps may not lose the task.
        self.completions.add([key])
        self._close_tasks([key])

    # t=0  worker 1 completes the task in the body of its loop, which goes on
    # t=1  worker 2 starts the task, which is given again
    # t=2  the body of worker 1 ends: to end the task here would be to end that of worker 2, which would not be in flight any more
    # So the two methods below end a task for the worker that has checked it out, if that is given.

    def finish_checked_out(self, key: str, worker: int) -> None:
        """End the work of a worker on a task that it has checked out, unless that has ended already."""
        if self._checked_out.get(key) == worker:
            self.session.check_may_write()
            self.finish(key)

    def abandon(self, key: str, worker: int | None = None) -> None:
        """End the work on a task that has failed: no longer in flight, and incomplete."""
        try:
            self._abandon(key, worker)
        except BaseException:  # of a signal's handler, which may have come before the first step
            self._abandon(key, worker)
            raise

    def _abandon(self, key: str, worker: int | None) -> None:
        if worker is None or (self._checked_out.get(key, worker) == worker and not self._leave_to_next(key, worker)):
            self._close_unless_started(key, worker)

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

    def complete_all(self) -> None:
        """Record everything open as complete, except what other workers have checked out. After an error it stays open."""
        self.session.check_inside()
        worker = worker_id()
        keys = [key for key in list(self._open) if self._checked_out.get(key, worker) == worker]
        self.completions.record_with(keys)
        self._close_tasks(keys)

    def _leave_to_others(self, worker: int) -> None:
        """Count the tasks of a worker that is about to leave as those of the other workers at them, by now or from now on."""
        # t=0  the main thread adds a task, which counts as its own
        # t=1  it leaves, which waits for no task of its own; another thread adds the task as well, before that or just after it
        # t=2  that one works on the task: it would pass on in the midst of the work
        # A handler in the main thread may leave just after it has given the task up: then the mark may still be its own, or none.
        for key in list(self._open):
            self._is_left(key, worker, 0)

    def record_before_leaving(self) -> None:
        """Record the finished tasks, and give up what was not started, before leaving waits for anything."""
        self.completions.flush_before_leaving()
        self.attempts.give_up_all(self._open, self.session.may_wait_before_leaving)
        runtime, worker = self.session.runtime, worker_id()
        if runtime is None or self.session.stages.is_hurried:
            return
        if held := [key for key, holder in runtime.lease.in_flight.copy().items() if holder != worker]:
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
        if self._open:
            _logger.warning(
                'node %r has left with %s not audited: %s. Incomplete tasks are done again by the next owner '
                '(get_incomplete_tasks lists them); what is done, write_audit records before the block ends',
                self.node_name,
                counted(len(self._open), 'task'),
                self.open_names(),
            )

    def _close_tasks(self, keys: list[str]) -> None:
        try:
            self._remove_marks(keys)
        except BaseException:  # of a signal's handler: what is not removed here is removed by no other call
            self._remove_marks(keys)
            raise

    def _remove_marks(self, keys: list[str]) -> None:
        for key in keys:
            self._open.pop(key, None)
            self._checked_out.pop(key, None)
        self._end_flight(keys)

    def _end_flight(self, keys: list[str]) -> None:
        """Mark tasks as no longer in flight, except what a worker has started since it was last ended."""
        runtime = self.session.runtime
        if runtime is not None and keys:
            in_flight, attempts, attempt = runtime.lease.in_flight, runtime.lease.attempts, object()
            try:
                for key in keys:
                    # What is open by now keeps its mark, or has an attempt: a token could pass on at a moment without both.
                    if (task := self._open.get(key)) is None or not task.workers:
                        attempts[attempt] = key, _ending_worker()
                        in_flight.pop(key, None)
                        task = self._open.get(key)
                    if task is not None and (workers := list(task.workers)) and in_flight.get(key) not in workers:
                        in_flight[key] = workers[-1]
                        if key not in self._open:  # it has ended just before that line
                            in_flight.pop(key, None)
            finally:
                attempts.pop(attempt, None)
            if runtime.agent.is_asked:
                runtime.wake()
