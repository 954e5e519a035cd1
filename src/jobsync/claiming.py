"""The loop over tasks that are this node's: claims and completions recorded in batches, around the work on each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Generic, TypeVar

from jobsync.ledger import Ledger
from jobsync.runtime.clock import now

__all__ = ['Batches', 'claimed']

T = TypeVar('T')

_MOST = 1000
"""Tasks in a batch, where the tasks are at hand."""
_SHORT_SEC, _LONG_SEC = 0.125, 1.0
"""A batch that takes less work than the first has one of four times as many tasks after it, which at that speed takes half a
second; one that takes more than the second has a smaller one after it. So a task is claimed about a second before its turn at the
earliest, and is recorded as complete as soon after its end. Of small batches, several are recorded as complete together."""


class Batches(Generic[T]):
    """The batches of one loop, one after the other."""

    def __init__(self, ledger: Ledger, tasks: object, parse: Callable[[T], tuple[str, int]], most: int | None) -> None:
        """``parse`` gives a task's key and hash token. ``most`` is the largest number of tasks claimed at once: by default many
        where ``tasks`` has a length, and one where the next task may be long in coming.
        """
        self._ledger, self._parse = ledger, parse
        self._most = most if most is not None else _MOST if isinstance(tasks, Sized) else 1
        self.size = 1
        """How many tasks the next batch takes."""

    @property
    def are_over(self) -> bool:
        """Whether no more tasks should be taken."""
        return self._ledger.is_closing

    def work(self, tasks: Sequence[T]) -> Iterator[T]:
        """A batch of tasks that are ours, each claimed and in flight while it is out, and done when the next is asked for."""
        ledger = self._ledger
        taken = [(task, *self._parse(task)) for task in tasks]
        run = ledger.claim_ours({key: token for _, key, token in taken})
        started = now()
        for task, key, token in taken:
            if not ledger.begin_claimed(key, token, run):
                continue
            try:
                yield task
            except BaseException:
                # The loop was left, by an exception or by break: whether the work is over, nobody has said.
                ledger.drop(key)
                ledger.flush_later()
                raise
            ledger.done([key])
        took = now() - started
        ledger.flush_soon()
        if took < _SHORT_SEC:
            self.size = min(self._most, 4 * self.size)
        elif took > _LONG_SEC:
            self.size = max(1, self.size // 2)

    def finish(self) -> None:
        """The loop has come to its end."""
        self._ledger.flush()


def claimed(batches: Batches[T], tasks: Iterable[T], is_ours: Callable[[T], bool]) -> Iterator[T]:
    """The tasks that are ours, batch by batch."""
    ours = (task for task in _until_over(batches, tasks) if is_ours(task))
    while taken := list(islice(ours, batches.size)):
        yield from batches.work(taken)
    batches.finish()


def _until_over(batches: Batches[T], tasks: Iterable[T]) -> Iterator[T]:
    for task in tasks:
        if batches.are_over:
            return
        yield task
