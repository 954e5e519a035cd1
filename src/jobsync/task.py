"""``Task``: a task's id, with the text that stands for it in claims, audits and task locks."""

from __future__ import annotations

from jobsync._core.hashing import task_key

__all__ = ['Task', 'key_of']


class Task:
    """A task's id, and its ``key``: the text that is hashed, and recorded in claims, audits and task locks.

    Two tasks are equal if their keys are: ``Task(7) == Task('7')``, since they have one token, one task lock and one claim.
    Do not change the attributes of a task.

    Args:
        id: A string, an int, or another hashable value with a text that is the same in every process, and as long as the work is
            to be done: the key of a row, not the row, whose columns may change. Not None, a bool, a float,
            bytes, an empty text or one with NUL. PostgreSQL stores 1,800 bytes of it at most.
        name: A label, which jobsync does not use.

    Raises:
        ConfigError: The id cannot be a task's.
    """

    # No attrs class: a loop makes one for each task, and a frozen attrs class takes twice as long.
    __slots__ = ('id', 'key', 'name')

    def __init__(self, id: object, name: str | None = None) -> None:  # noqa: A002  (the user's word)
        self.id = id
        self.key = task_key(id)
        self.name = name

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f'Task({self.id!r})' if self.name is None else f'Task({self.id!r}, name={self.name!r})'


def key_of(task: object) -> str:
    """Return the key of a ``Task`` or of a bare id. Raise ``ConfigError`` for an id that cannot be a task's."""
    return task.key if isinstance(task, Task) else task_key(task)
