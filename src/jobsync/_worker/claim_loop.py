"""The loop over the tasks this node owns: claims and completions recorded in batches, around the work on each task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from itertools import chain, islice, takewhile
from typing import Generic, TypeVar

from jobsync._core.records import Timeline
from jobsync._runtime import clock
from jobsync._worker.claim_recording import Claimed
from jobsync._worker.task_log import TaskLog
from jobsync._worker.tracing import traced

__all__ = ['ClaimLoop', 'claimed_tasks', 'source_of']

T = TypeVar('T')

_LARGEST_BATCH = 1000
"""Tasks in a batch at most, where the tasks have a length."""
_GROWTH = 2
"""A batch has at most this many times the tasks that were finished in the batch before. Past tasks say how fast tasks were, never
how fast the next ones are: so after a change of speed no more tasks than that are claimed and waiting."""
_BATCH_SEC = 1.0
"""How much work, by the speed of the batch before, a batch claims ahead, and after how long a slower batch ends. The tasks it has
claimed and not started come first in the next batches, and are claimed again with them."""
_MOST_COMPLETED = 10_000
"""How many completed tasks a loop remembers: one over an endless source may run for months."""


class ClaimLoop(Generic[T]):
    """The batches of one loop, one after the other."""

    def __init__(
        self,
        task_log: TaskLog,
        tasks: object,
        parse: Callable[[T], tuple[str, int]],
        is_owned: Callable[[T], bool],
        limit: int | None,
        *,
        once: bool,
    ) -> None:
        """Store the parts.

        ``parse`` returns a task's key and hash token, ``is_owned`` whether it is this node's. ``limit`` is the largest number of
        tasks claimed at once. None: 1,000 where ``tasks`` has a length, 1 where it has none, since the next task may be long in
        coming there. With ``once``, tasks that any node has completed are passed over.
        """
        self._session, self._task_log, self._parse, self.is_owned = task_log.session, task_log, parse, is_owned
        self.node_name = task_log.node_name
        self._limit = limit if limit is not None else _LARGEST_BATCH if isinstance(tasks, Sized) else 1
        self._once, self._completed = once, set[str]()
        """Tasks known to be completed; none unless ``once``."""
        self._has_read = False
        self._timeline: Timeline | None = None
        """The timeline of the store by which these are completed; None until it was read."""
        self.size = 1
        """How many tasks the next batch takes."""
        self._waiting: deque[tuple[T, str, int]] = deque()
        """Tasks taken for a batch and not finished in it, each with its key and hash token: the first ones of the next batch."""
        self._suspects: deque[tuple[T, str, int]] = deque()
        """Tasks that a run was lost at: each is claimed alone, after the others of its batch (see ``attempts``)."""
        self._quarantined: dict[str, int] = {}
        """Tasks that are not started any more, and how many runs were lost at each."""

    @property
    def is_over(self) -> bool:
        """Return whether no more tasks should be taken."""
        return self._session.is_leaving

    @property
    def missing(self) -> int:
        """Return how many tasks the next batch takes besides the waiting ones."""
        return 0 if self.is_over else max(0, self.size - len(self._waiting))

    @property
    def has_waiting(self) -> bool:
        """Return whether tasks wait for the next batch."""
        return bool(self._waiting or self._suspects) and not self.is_over

    def begin(self) -> None:
        """Raise ``JobsyncError`` before the block, where a job owns nothing: the loop would pass over every task in silence."""
        self._session.check_entered()
        self._session.note_progress()  # a worker that finds nothing to do, and checks again a moment later, does not hang

    def take(self, tasks: Iterator[T]) -> list[T]:
        """Take the tasks that the next batch is missing, however long they are in coming."""
        with self._session.waiting():
            return list(islice(tasks, self.missing))

    def run_batch(self, tasks: Sequence[T]) -> Generator[T]:
        """Claim a batch, the waiting tasks before ``tasks``, and yield each that this node owns while it is in flight.

        A task is finished when the next one is requested. However the batch ends, its unfinished tasks wait for the next one.
        """
        self._waiting.extend((task, *self._parse(task)) for task in tasks)
        yield from self._run_part(self.size)
        while self._suspects and not self.is_over:
            self._waiting.appendleft(self._suspects.popleft())
            # What is finished and not recorded would count as lost as well, if this run dies.
            self._task_log.completions.flush_now()
            yield from self._run_part(1, alone=True)
            self._task_log.completions.flush_now()

    def _run_part(self, size: int, *, alone: bool = False) -> Generator[T]:
        """Claim the first waiting tasks together, or one ``alone``, and yield each that this node owns."""
        task_log, waiting, completed = self._task_log, self._waiting, self._completed
        # t=0  this node owns the tasks of the batch: their claims are recorded, in one call
        # t=1  a task of the batch moves to another node, which claims it, works on it and records it as complete
        # t=2  the loop reaches that task: start_claimed checks ownership again, and refuses the task
        # So a claim that was recorded early promises nothing, and no task is yielded on the word of an old check.
        batch = {key: token for _, key, token in islice(waiting, size)}
        fences = dict[str, int | None]()
        if self._once:
            self._follow_timeline()
            self._forget_completed_before()
            task_log.completions.follow(completed)
            fences = {key: task_log.fence(key, token) for key, token in batch.items()}
        task_log.renewal.drop(batch)
        claimed = task_log.claims.record_owned(batch, alone=alone)
        lost = {} if claimed is None else claimed.lost_attempts
        if self._once and claimed is not None:
            self._learn(claimed)
        # t=0   the tasks of the batch are claimed, and the first one hangs
        # t=1h  all of them would look as if they had been in hand for an hour: which one hangs, and is it one alone?
        task_log.renewal.add({key: batch[key] for key in islice(batch, 1, None) if key not in completed and key not in lost})
        finished, took, started = 0, 0.0, clock.now()
        for _ in range(min(size, len(waiting))):
            task, key, token = waiting[0]
            task_log.renewal.drop((key,))
            if key in completed:
                waiting.popleft()
                finished += 1
            elif key in lost:
                if alone:
                    self._quarantined[key] = lost[key]
                else:
                    self._suspects.append(waiting[0])
                waiting.popleft()
            elif (start := task_log.start_claimed(key, token, claimed)) is not None:
                try:
                    # t=0  the token of a task is about to move as its batch is claimed: its claim is not recorded
                    # t=1  the token comes back, and the loop reaches the task
                    # t=2  begun now, it would be found as incomplete by no node, if this one dies
                    is_claimed = claimed is None or claimed.run is None or key in claimed.owned
                    if not is_claimed or (self._once and not self._is_unchanged(key, token, fences.get(key))):
                        task_log.abandon_checked_out(start)
                        waiting.rotate(-1)
                        continue
                    yield task
                    task_log.finish_checked_out(start)
                except BaseException:
                    # The loop was left by an exception or by break: whether the work is done is not known here.
                    task_log.abandon_checked_out(start)
                    task_log.completions.schedule_flush()
                    raise
                finished += 1
                waiting.popleft()
                task_log.flush_if_due()
                took = clock.now() - started
                if took >= _BATCH_SEC:
                    break
            else:
                waiting.popleft()
        task_log.renewal.add({key: token for _, key, token in waiting})
        if finished and not alone:
            at_that_speed = int(finished * _BATCH_SEC / took) if took > 0 else self._limit
            self.size = max(1, min(self._limit, _GROWTH * finished, at_that_speed))

    def _forget_completed_before(self) -> None:
        """Forget most completed tasks that are not at hand. The store returns them if they are claimed again."""
        # t=0  another thread of this node completes a task, which is added to the set, and removed from it here
        # t=1  this loop takes the task: what is not recorded is added to the set again, then the task is claimed
        # So this comes before both. With coordination off no claim returns what is completed.
        if len(self._completed) > _MOST_COMPLETED and self._session.config.enabled:
            self._completed.intersection_update({key for _, key, _ in chain(self._waiting, self._suspects)})

    # t=0  a node completes a task, which this one learns; or this one completes it
    # t=1  the store fails over to a standby that is behind, or a backup is restored: it has no record of that
    # t=2  nodes that have not learned it wait for the task's owner, which is this node: it would pass over the task for ever
    # The task's result may be gone together with the record, in the same database. So it is done again, not recorded again.

    @property
    def _has_gone_back(self) -> bool:
        """Whether the store has gone back in time since ``_follow_timeline``."""
        return self._timeline is not None and self._present_timeline() not in (None, self._timeline)

    def _present_timeline(self) -> Timeline | None:
        runtime = self._session.runtime
        return None if runtime is None else runtime.agent.timeline

    def _follow_timeline(self) -> None:
        """Forget what is completed if the store has gone back in time: it may have no record of that any more."""
        has_gone_back, self._timeline = self._has_gone_back, self._present_timeline() or self._timeline
        if has_gone_back:
            self._forget_timeline()

    def _forget_timeline(self) -> None:
        """Forget what is known of the timeline before."""
        self._completed.clear()
        self._quarantined.clear()

    def _learn(self, claimed: Claimed) -> None:
        """Add what the claim of a batch has returned as completed; with coordination off, what the store has."""
        self._completed.update(claimed.completed)
        if claimed.run is None and not self._has_read:
            self._completed.update(audit.item for audit in self._task_log.history.read_audits())
        self._has_read = True

    def _is_unchanged(self, key: str, token: int, fence: int | None) -> bool:
        """Return whether no node can have completed a task, which is in flight now, since it was claimed with this fence.

        Otherwise the task is claimed again, with the next batch.
        """
        # t=0  this node claims a batch, and one of its tasks is slow
        # t=1  another task of the batch moves to another node, which completes it, and the task's token comes back
        # t=2  the loop reaches that task: it is this node's, but under a higher fence than at t=0
        # A second thread of this node has no fence of its own: what it finishes is in the set before it is no longer in flight.
        return self._task_log.fence(key, token) == fence and key not in self._completed

    @property
    def pause_sec(self) -> float:
        """Return for how long the next batch would find nothing to do, as far as is known. It may be over at any moment."""
        return 0.0

    def pause(self) -> None:
        """Wait until the next batch may find something to do."""

    def note_progress(self) -> None:
        """Note that the loop waits for its tasks, and hangs at none."""
        self._session.note_progress()

    def leave(self) -> None:
        """Start none of the waiting tasks: the user has left the loop."""
        self._drop_waiting()
        if self._once:
            self._task_log.completions.unfollow(self._completed)

    def _drop_waiting(self) -> None:
        keys = [key for _, key, _ in self._waiting]
        self._task_log.renewal.drop(keys)
        self._task_log.claims.give_up_unstarted(keys)
        self._waiting.clear()
        self._suspects.clear()

    def finish(self) -> None:
        """Record what is finished: the loop has come to its end."""
        self._task_log.completions.flush_now()


def claimed_tasks(loop: ClaimLoop[T], tasks: Iterable[T]) -> Generator[T]:
    """Yield the tasks that this node owns, batch by batch."""
    loop.begin()
    owned = filter(loop.is_owned, takewhile(lambda _: not loop.is_over, source_of(tasks)))
    try:
        while (taken := loop.take(owned)) or loop.has_waiting:
            yield from traced(loop.run_batch(taken), loop.node_name)
            loop.pause()
    finally:
        try:
            loop.leave()
        except BaseException:  # of a signal's handler: what is not left here is left by no other call
            loop.leave()
            raise
    loop.finish()


def source_of(tasks: Iterable[T]) -> Iterator[T]:
    """Return an iterator whose end is not the last word for a list: what is appended to it meanwhile comes next."""
    return _Growing(tasks) if isinstance(tasks, list) else iter(tasks)


class _Growing(Iterator[T]):
    """The tasks of a list. A batch is read ahead, and its tasks may append to the list."""

    def __init__(self, tasks: list[T]) -> None:
        self._tasks, self._read = tasks, 0

    def __next__(self) -> T:
        if self._read >= len(self._tasks):
            raise StopIteration
        self._read += 1
        return self._tasks[self._read - 1]
