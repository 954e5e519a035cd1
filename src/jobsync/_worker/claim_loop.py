"""The loop over tasks that are this node's: claims and completions recorded in batches, around the work on each task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Generic, TypeVar

from jobsync._runtime.clock import now
from jobsync._worker.task_log import TaskLog

__all__ = ['ClaimLoop', 'claimed']

T = TypeVar('T')

_MOST = 1000
"""Tasks in a batch, where the tasks are at hand."""
_GROWTH = 2
"""A batch has at most so many times the tasks that were done in the batch before it. The past says how fast tasks were, never how
fast the next ones are: so a change of speed leaves no more tasks claimed and waiting than that."""
_BATCH_SEC = 1.0
"""How much work, by the speed of the batch before, a batch claims ahead; and when a batch ends that has turned out slower. What
it has claimed and not begun comes first in the batches after it, and is claimed again with them."""


class ClaimLoop(Generic[T]):
    """The batches of one loop, one after the other."""

    def __init__(self, task_log: TaskLog, tasks: object, parse: Callable[[T], tuple[str, int]], most: int | None) -> None:
        """``parse`` gives a task's key and hash token. ``most`` is the largest number of tasks claimed at once: by default many
        where ``tasks`` has a length, and one where the next task may be long in coming.
        """
        self._task_log, self._parse = task_log, parse
        self._most = most if most is not None else _MOST if isinstance(tasks, Sized) else 1
        self.size = 1
        """How many tasks the next batch takes."""
        self._waiting: deque[tuple[T, str, int]] = deque()
        """Tasks that were taken for a batch and not done in it, each with its key and token: the first ones of the next."""

    @property
    def are_over(self) -> bool:
        """Whether no more tasks should be taken."""
        return self._task_log.is_closing

    @property
    def missing(self) -> int:
        """How many tasks the next batch takes beside those that wait."""
        return 0 if self.are_over else max(0, self.size - len(self._waiting))

    def work(self, tasks: Sequence[T]) -> Iterator[T]:
        """A batch of tasks that are ours, each claimed and in flight while it is out, and done when the next is asked for.

        Those that wait come before ``tasks``. However the batch ends, what it has not done waits for the next one.
        """
        task_log, waiting = self._task_log, self._waiting
        waiting.extend((task, *self._parse(task)) for task in tasks)
        batch = {key: token for _, key, token in islice(waiting, self.size)}
        run = task_log.claim_ours(batch)
        done, took, started = 0, 0.0, now()
        for _ in range(min(self.size, len(waiting))):
            task, key, token = waiting[0]
            if task_log.begin_claimed(key, token, run):
                try:
                    yield task
                except BaseException:
                    # The loop was left, by an exception or by break: whether the work is over, nobody has said.
                    task_log.drop(key)
                    task_log.flush_later()
                    raise
                done += 1
                task_log.done([key])
                waiting.popleft()
                task_log.flush_soon()
                took = now() - started
                if took >= _BATCH_SEC:
                    break
            else:
                waiting.popleft()
        task_log.put_off({key: token for _, key, token in waiting})
        if done:
            at_that_speed = int(done * _BATCH_SEC / took) if took > 0 else self._most
            self.size = max(1, min(self._most, _GROWTH * done, at_that_speed))

    @property
    def have_more(self) -> bool:
        """Whether there are tasks that wait for the next batch."""
        return bool(self._waiting) and not self.are_over

    def abandon(self) -> None:
        """Begin none of the tasks that wait: the loop is left."""
        self._task_log.give_up([key for _, key, _ in self._waiting])
        self._waiting.clear()

    def finish(self) -> None:
        """The loop has come to its end."""
        self._task_log.flush_now()


def claimed(batches: ClaimLoop[T], tasks: Iterable[T], is_ours: Callable[[T], bool]) -> Iterator[T]:
    """The tasks that are ours, batch by batch."""
    ours = (task for task in _until_over(batches, tasks) if is_ours(task))
    try:
        while (taken := list(islice(ours, batches.missing))) or batches.have_more:
            yield from batches.work(taken)
    finally:
        batches.abandon()
    batches.finish()


def _until_over(batches: ClaimLoop[T], tasks: Iterable[T]) -> Iterator[T]:
    for task in tasks:
        if batches.are_over:
            return
        yield task
