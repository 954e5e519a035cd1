"""Starts of tasks that are not over, found by the key of their task."""

from __future__ import annotations

from jobsync._core.agent.in_flight import TaskStart
from jobsync._runtime import clock

__all__ = ['TaskStarts']

_SHELVES = 256


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
        self._shelves: tuple[dict[TaskStart, tuple[float, int]], ...] = tuple({} for _ in range(_SHELVES))
        """The starts, each with its moment on ``clock.now``, and the number that ``add`` was given."""

    def _shelf(self, key: str) -> dict[TaskStart, tuple[float, int]]:
        return self._shelves[hash(key) % _SHELVES]

    def add(self, start: TaskStart, number: int) -> None:
        """Add a start; ``number`` is the place of this step among the numbers of all starts."""
        self._shelf(start.key)[start] = clock.now(), number

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

    def numbered(self, key: str) -> dict[TaskStart, int]:
        """Return the starts of a task, each with the number that ``add`` was given."""
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
