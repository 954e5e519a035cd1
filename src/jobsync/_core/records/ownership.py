"""Parts of the assignment and of the leader's plans: members, pins, evictions and the guard of a commit."""

from __future__ import annotations

import attrs

from jobsync._core.records.namespace import Revision, Timeline
from jobsync._core.records.nodes import NodeRef

__all__ = ['NOBODY', 'Eviction', 'Guard', 'Member', 'Pin']

NOBODY = ''
"""As a target: the owner is to release the token, and no node takes over. No node can have this name."""


@attrs.frozen
class Member:
    """Which run an owning name means, and how long that run must be silent before it may be taken for dead."""

    incarnation: str
    timeout_sec: float
    since: int = 0
    """The number of the revision below which no fence of what this run owns may be: the leader's to set."""


@attrs.frozen(slots=False)  # with slots one takes three times as long to make, and a plan may make thousands
class Pin:
    """A token of its own for a locked task or an item (rule R7)."""

    id: int
    """``total_tokens`` + the id of the lock or item for which it was made. It keeps this id while the task has either."""
    task_id: str
    owner: str | None
    target: str | None = None
    """The name it is being handed to, ``NOBODY`` if it is to be released, None if it stays."""
    version: int = 0
    """The number of the plan that last changed its owner: its fence."""
    pattern: str | None = None
    """The pattern of the lock's list by which its place was last chosen; None before a live node has matched any."""
    home: str | None = None
    """The name that lost this pin by leaving or dying, and is preferred when it is back; None where there is none."""
    group: str = ''
    """The group of items that the task is in; empty for a task with nothing else than a lock."""


@attrs.frozen
class Eviction:
    """A node taken for dead: removed only if it is still this incarnation at this heartbeat."""

    ref: NodeRef
    heartbeat: int


@attrs.frozen
class Guard:
    """What a plan was made from; the commit is refused unless all of it is still so.

    The namespace's revision is no part of it: a lock edited or a node registered meanwhile makes a plan incomplete, not wrong.
    """

    timeline: Timeline
    epoch: int
    version: Revision
    """The version of the assignment."""
