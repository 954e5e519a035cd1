"""One piece of work, as the user's loop names it."""

from __future__ import annotations

from jobsync._core.hashing import task_key

__all__ = ['Task', 'key_of']


class Task:
    """A task's id, and the text by which it is known everywhere.

    Two tasks are equal if their keys are: ``Task(7) == Task('7')``, for they have the same token, the same lock and the same
    claim. Not meant to be changed once made.

    Raises ``ConfigError`` for an id that cannot be hashed or recorded (see ``task_key``).
    """

    # Written out, not attrs: one is made for each task in the user's loop, and frozen attrs takes twice as long.
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
    """The key of a ``Task`` or of a bare id. Raises ``ConfigError``."""
    return task.key if isinstance(task, Task) else task_key(task)
