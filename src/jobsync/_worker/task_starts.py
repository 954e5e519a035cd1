"""Starts of tasks that are not over, found by the key of their task."""

from __future__ import annotations

import itertools
import math

from jobsync._core.agent.in_flight import TaskStart
from jobsync._runtime import clock

__all__ = ['TaskStarts', 'new_start']

_SHELVES = 256

_numbers = itertools.count(1)


def new_start(key: str, worker: int) -> TaskStart:
    """Return a start that is the last of all in this process."""
    return TaskStart(key, worker, next(_numbers))


class TaskStarts:
    """The starts because of which tasks are open, or are checked out, found by the key of their task.

    Any thread may add and remove at any time, also the handler of a signal in the midst of another step: each is one operation of
    a ``dict``.
    """

    # A dict for each task would lose starts:
    # t=0  a thread takes the last start of a task out of the task's dict, and finds that empty
    # t=1  another thread adds its start there
    # t=2  the first removes the dict
    # So many tasks share a shelf, which is never removed.

    def __init__(self) -> None:
        self._shelves: tuple[dict[TaskStart, list[float]], ...] = tuple({} for _ in range(_SHELVES))
        """The starts, each with the moment on ``clock.now`` at which it was added, and the number of that step."""

    def _shelf(self, key: str) -> dict[TaskStart, list[float]]:
        return self._shelves[hash(key) % _SHELVES]

    def add(self, start: TaskStart) -> None:
        """Add a start."""
        # t=0  a thread draws a number, and is to add its start
        # t=1  another worker begins a block, with a later number
        # t=2  the start is added; the block fails, and seems to have begun after it
        # So the number is drawn last, and until then is later than any other.
        step = [clock.now(), math.inf]
        self._shelf(start.key)[start] = step
        step[1] = next(_numbers)

    def remove(self, start: TaskStart) -> None:
        """Remove a start, and no other one."""
        self._shelf(start.key).pop(start, None)

    def has(self, start: TaskStart) -> bool:
        """Return whether a start is there."""
        return start in self._shelf(start.key)

    def __contains__(self, key: object) -> bool:
        """Return whether a task has a start."""
        return isinstance(key, str) and bool(self.of(key))

    def of(self, key: str) -> list[TaskStart]:
        """Return the starts of a task, in the order in which they were added."""
        return [start for start in list(self._shelf(key)) if start.key == key]

    def first(self, key: str) -> TaskStart | None:
        """Return which start of a task was added first."""
        return next(iter(self.of(key)), None)

    def numbered(self, key: str) -> dict[TaskStart, float]:
        """Return the starts of a task, each with the place of its adding among the numbers of all starts."""
        return {start: number for start, (_, number) in self._shelf(key).copy().items() if start.key == key}

    def all(self) -> list[TaskStart]:
        """Return all starts, in their order."""
        return sorted((start for shelf in self._shelves for start in list(shelf)), key=lambda start: start.number)

    def keys(self) -> list[str]:
        """Return the keys of the tasks, in the order of their starts."""
        return list(dict.fromkeys(start.key for start in self.all()))

    def begun_at(self) -> list[float]:
        """Return for each task when its last start was added, on ``clock.now``."""
        last: dict[str, float] = {}
        for shelf in self._shelves:
            for start, (moment, _) in shelf.copy().items():
                last[start.key] = max(moment, last.get(start.key, moment))
        return list(last.values())
