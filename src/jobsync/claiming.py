"""The loop over tasks that are this node's: claims and completions recorded in batches, around the work on each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import TypeVar

from jobsync.ledger import Ledger
from jobsync.runtime.clock import now

__all__ = ['claimed']

T = TypeVar('T')

_MOST = 1000
"""Tasks in a batch, where the tasks are at hand."""
_SHORT_SEC, _LONG_SEC = 0.5, 1.0
"""A batch that takes less work than the first has a larger one after it, one that takes more than the second a smaller one. So a
task is claimed about a second before its turn at the earliest, and is recorded as complete as soon after its end."""


def claimed(
    ledger: Ledger, tasks: Iterable[T], parse: Callable[[T], tuple[str, int]], is_ours: Callable[[T], bool], batch: int | None
) -> Iterator[T]:
    """The tasks that are ours, each claimed and in flight while it is out; the one before is done when the next is asked for.

    ``parse`` gives a task's key and hash token. ``batch`` is the largest number of tasks claimed at once: by default many
    where ``tasks`` has a length, and one where the next task may be long in coming.
    """
    most = batch if batch is not None else _MOST if isinstance(tasks, Sized) else 1
    size = 1
    ours = (task for task in _until_closing(ledger, tasks) if is_ours(task))
    while taken := [(task, *parse(task)) for task in islice(ours, size)]:
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
                raise
            ledger.done([key])
        took = now() - started
        ledger.flush()
        size = min(most, 2 * size) if took < _SHORT_SEC else max(1, size // 2) if took > _LONG_SEC else size


def _until_closing(ledger: Ledger, tasks: Iterable[T]) -> Iterator[T]:
    for task in tasks:
        if ledger.is_closing:
            return
        yield task
