"""The records of a namespace, as values, however a store keeps them.

Each record has one writer: a node writes its own, the node that wins the comparison writes the leadership, the leader writes the
assignment, any node writes task locks.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping

import attrs

__all__ = [
    'ACTIONS',
    'DRAINED',
    'INITIAL',
    'NOBODY',
    'Audit',
    'Claim',
    'Eviction',
    'Guard',
    'HistoryKind',
    'Leadership',
    'LockEdit',
    'LockFilter',
    'LockReading',
    'LockRequest',
    'Member',
    'Node',
    'NodeRef',
    'NodeState',
    'Opened',
    'Pin',
    'Pulse',
    'Purged',
    'Rebalance',
    'Registration',
    'Revision',
    'Settings',
    'Snapshot',
    'TaskLock',
    'Timeline',
    'Unclaimed',
    'Unreadable',
    'lock_key',
]

NOBODY = ''
"""As a target: the owner is to release the token, and no node takes over. No node can have this name."""


DRAINED = '#drained'
"""The group of items that name nodes: the leader takes each node of such a name for one of weight 0. No user's group has it."""

ACTIONS = '#actions'
"""The group of items that record what operators have done. No user's group has it, and nothing depends on them."""


@attrs.frozen(order=False)
class Revision:
    """The number of a structural change and the random stamp drawn with it.

    The number alone does not distinguish two histories of one store (rule R8): two revisions are equal only if both parts are.
    """

    number: int
    stamp: int


INITIAL = Revision(0, 0)
"""The revision of a namespace in which nothing has happened, and the version of its empty assignment."""


@attrs.frozen
class Timeline:
    """An unbroken history of the store (rule R8)."""

    generation: int
    """0 is the namespace's first; each renewal adds one."""
    id: str
    """Random: two renewals never share it."""
    store: str
    """The store's own identity when the timeline was made; another one now means another store answers."""


@attrs.frozen
class Settings:
    """The settings that every node of a cluster must agree on."""

    total_tokens: int
    hash_function: str
    format: int = 1


@attrs.frozen
class Opened:
    """What ``Backend.open`` found: the settings in force and the timeline."""

    settings: Settings
    timeline: Timeline


@attrs.frozen
class NodeRef:
    """One run of a node: its name and the id drawn for that run."""

    name: str
    incarnation: str


class NodeState(enum.Enum):
    """The state of a node's record: JOINED while registered; LEFT until the leader has given its tokens away."""

    JOINED = 'joined'
    LEFT = 'left'


@attrs.frozen
class Registration:
    """What a node registers with."""

    ref: NodeRef
    timeout_sec: float
    """Its heartbeat timeout: how long an observer must see no heartbeat before it may suspect this node."""
    weight: float = 1.0
    """Its share of the tokens relative to the others'; 0 owns nothing."""
    replaces: frozenset[str] = frozenset()
    """Incarnations of this name that are known to be over."""
    host: str = ''
    pid: int = 0
    longest_timeout_sec: float = 0.0
    """The longest heartbeat timeout that this node has ever read in the namespace, its own excepted."""
    settings: str = '{}'
    """The node's own settings: a JSON object with the names of ``CoordinationConfig``. The store keeps the text as it is."""

    def record(self, created_on: dt.datetime, now: dt.datetime, before: Node | None) -> Node:
        """Return the node's first record at the store's time ``now``, in place of ``before``, its name's record if any."""
        return Node(
            name=self.ref.name,
            incarnation=self.ref.incarnation,
            heartbeat=0,
            seen=INITIAL,
            holding=frozenset(),
            state=NodeState.JOINED,
            replaces=self.replaces | {before.incarnation} if before else self.replaces,
            weight=self.weight,
            timeout_sec=self.timeout_sec,
            host=self.host,
            pid=self.pid,
            created_on=created_on,
            last_heartbeat=now,
            settings=self.settings,
        )


@attrs.frozen
class Node:
    """A node's record."""

    name: str
    incarnation: str
    heartbeat: int
    """Counts the node's own writes: heartbeats, and commits when it leads."""
    seen: Revision
    """The assignment version it has applied and acknowledged."""
    holding: frozenset[int]
    """Tokens it is to hand over and is still busy with."""
    state: NodeState
    replaces: frozenset[str]
    weight: float
    timeout_sec: float
    host: str
    pid: int
    created_on: dt.datetime
    """Store time of the registration, never twice the same within a namespace; with the name it orders the succession."""
    last_heartbeat: dt.datetime | None
    """Store time, for people only; None once the node has left."""
    candidate: bool = True
    """Whether the node may lead: False while it lives and what a leader does fails it (rule R4). Each heartbeat sets it."""
    settings: str = '{}'
    """See ``Registration.settings``: for people and for comparison; no decision depends on it."""
    stalled: bool = False
    """Whether the node owned work and made no progress (``progress_timeout_sec``): it lives, and is given nothing. In a record
    that is LEFT: whether the run did not leave, but is known to be over."""

    @property
    def has_died(self) -> bool:
        """Whether this run is known to be over without having left."""
        return self.state is NodeState.LEFT and self.stalled

    @property
    def ref(self) -> NodeRef:
        """The run this record belongs to."""
        return NodeRef(self.name, self.incarnation)

    @property
    def seniority(self) -> tuple[dt.datetime, str]:
        """What orders the succession: the lowest is the oldest node."""
        return self.created_on, self.name

    @property
    def beat(self) -> tuple[str, int]:
        """What observers compare (rule R2): if unchanged, the node has written nothing since."""
        return self.incarnation, self.heartbeat


@attrs.frozen
class Leadership:
    """The leader and its term. The epoch rises by one at every change and is never reused."""

    epoch: int
    node: NodeRef | None


@attrs.frozen
class Pulse:
    """What a heartbeat brings back."""

    heartbeat: int
    """The node's own counter after this heartbeat."""
    timeline: Timeline
    store: str
    """The store's own identity now."""
    revision: Revision
    version: Revision
    leadership: Leadership
    leader_heartbeat: int | None
    """The leader's counter; None if no node is registered as the leadership names it."""
    leader_is_candidate: bool = True
    """What the leader's record says of its candidacy; True if no node is registered as the leadership names it."""
    position: int | None = None
    """See ``Snapshot.position``."""
    leader_age_sec: float | None = None
    """How long ago, by the store's clock, the leader's last heartbeat was; None if there is none or the store does not report it.
    It helps the nodes to send heartbeats in step, and decides nothing."""


@attrs.frozen
class Unreadable:
    """A record that cannot be read in full, for people (rule R9)."""

    kind: str
    """``'node'``, ``'lock'`` or ``'item'``."""
    key: str
    """The node's name or the lock's task id, as far as they can be read."""
    problem: str
    """The field, the value found and what is done about it."""


@attrs.frozen
class Snapshot:
    """One consistent reading of everything but token rows and locks."""

    timeline: Timeline
    store: str
    now: dt.datetime
    """Store time, with a timezone: for the expiry of locks, never for ownership."""
    revision: Revision
    version: Revision
    leadership: Leadership
    nodes: tuple[Node, ...]
    locks_revision: int
    """The number of the last revision that changed a task lock or an item."""
    longest_timeout_sec: float = 0.0
    """The longest heartbeat timeout that any node of the namespace ever registered or brought along; a renewal keeps it."""
    position: int | None = None
    """How far the store's own history has got: never falls while that history goes on (rule R8); None where a store has no such
    number."""
    unreadable: tuple[Unreadable, ...] = ()
    """The records of nodes that could not be read in full."""


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
    """Of an item; 1 for a lock."""


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
    """Of the assignment."""


class HistoryKind(enum.Enum):
    """The three kinds of history that a backend keeps."""

    CLAIM = 'claim'
    AUDIT = 'audit'
    REBALANCE = 'rebalance'


@attrs.frozen
class Claim:
    """A node began a task. One record for each item, date and node; beginning again renews ``created_on``."""

    item: str
    node: str
    date: dt.date
    created_on: dt.datetime


@attrs.frozen
class Unclaimed:
    """The items of a claim that were not recorded, and why."""

    completed: frozenset[str] = frozenset()
    """The items that any node had completed already."""
    lost_attempts: Mapping[str, int] = attrs.field(factory=dict)
    """The items with more lost attempts than are tolerated, each with their number."""


@attrs.frozen
class Audit:
    """A node completed a task. One record for each item, date and node."""

    item: str
    node: str
    date: dt.date
    created_on: dt.datetime


@attrs.frozen
class Rebalance:
    """A commit that changed owners."""

    triggered_at: dt.datetime
    trigger_reason: str
    leader_node: str
    nodes_before: int
    nodes_after: int
    tokens_moved: int
    """Tokens and pins that passed to a new owner in this commit."""
    duration_ms: int
    version: int = 0
    """The plan's number, which is the version of the tokens and pins that passed; 0 in a record of an older schema."""


@attrs.frozen
class Purged:
    """What one portion of a purge did."""

    deleted: int
    """How many records it deleted."""
    resume: str = ''
    """Where the next portion goes on, in the store's own terms; empty once every record has been read."""


Members = Mapping[str, Member]
