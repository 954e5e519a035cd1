"""Task locks and items, and their edits, which any node may make."""

from __future__ import annotations

import datetime as dt

import attrs

from jobsync._core.records.namespace import Unreadable

__all__ = ['ACTIONS', 'DRAINED', 'LockEdit', 'LockFilter', 'LockReading', 'LockRequest', 'TaskLock', 'lock_key']

DRAINED = '#drained'
"""The group of items that name nodes: the leader takes each node of such a name for one of weight 0. No user's group has it."""


ACTIONS = '#actions'
"""The group of items that record what operators have done, and which nodes have led. No user's group has it, and nothing depends
on them."""


@attrs.frozen
class TaskLock:
    """A policy, read by the leader only: this task belongs on a node that matches, or it is an item of a group."""

    id: int
    task_id: str
    patterns: tuple[str, ...]
    """In order of preference: the first that any live node matches decides."""
    reason: str | None
    created_by: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    registered: int
    """The number of the revision that added the lock; 0 if unknown (a row written manually)."""
    group: str = ''
    """Empty for a task lock. Otherwise this is an item, and the nodes share out the items of each group by itself."""
    cost: float = 1.0
    """How much of its owner's share of the group an item takes, relative to the other items of the group."""

    @property
    def key(self) -> str:
        """What no other lock or item has: the task's id; for an item the group in front of that, and NUL between them."""
        return lock_key(self.group, self.task_id)

    @property
    def is_item(self) -> bool:
        """Whether this is an item of a user's group."""
        return self.group not in ('', DRAINED, ACTIONS)

    @property
    def is_policy(self) -> bool:
        """Whether this says where a task may run: it is a task lock, or an item of a user's group."""
        return self.group not in (DRAINED, ACTIONS)


def lock_key(group: str, task_id: str) -> str:
    """Return the ``key`` of the task's lock, or of its item in a group."""
    return f'{group}\0{task_id}' if group else task_id


@attrs.frozen
class LockReading:
    """All task locks and items of a namespace."""

    locks: tuple[TaskLock, ...]
    """In order of their ids."""
    unreadable: tuple[Unreadable, ...] = ()
    """The locks that are left out, because they cannot be read."""


@attrs.frozen
class LockRequest:
    """A lock or item to add, or to put in place of the present one of its task, whose id it keeps."""

    task_id: str
    patterns: tuple[str, ...]
    created_by: str
    reason: str | None = None
    expires_in: dt.timedelta | None = None
    """Counted from the store's time at the edit; None: never."""
    cost: float = 1.0
    """The cost of an item; 1 for a task lock."""


@attrs.frozen
class LockFilter:
    """Which locks or items to remove: those that meet every condition given. With none given, all."""

    created_by: str | None = None
    expired: bool = False
    """Only those whose ``expires_at`` the store's time has reached."""
    task_ids: frozenset[str] | None = None


@attrs.frozen
class LockEdit:
    """One atomic change: first remove, then put. A record that is removed and put again keeps its id."""

    remove: LockFilter | None = None
    put: tuple[LockRequest, ...] = ()
    group: str = ''
    """Empty: the edit is of the task locks, and touches no item. Otherwise it is of the items of this group alone."""
