"""The records of nodes, their leadership, and what a node reads of them."""

from __future__ import annotations

import datetime as dt
import enum
from functools import cached_property

import attrs

from jobsync._core.records.namespace import INITIAL, Revision, Timeline, Unreadable

__all__ = ['Hint', 'Leadership', 'Node', 'NodeRef', 'NodeState', 'Pulse', 'Registration', 'Snapshot']


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
    """The longest heartbeat timeout that this node has ever read in the namespace, or its own if that is longer."""
    settings: str = '{}'
    """The node's own settings: a JSON object with the names of ``CoordinationConfig``. The store keeps the text as it is."""

    def may_replace(self, record: Node, replacing: tuple[str, int] | None) -> bool:
        """Return whether the node may take its name from this record; ``replacing`` is that of ``Backend.register``."""
        # t=0  this run registers, and the call is slow: the run gives it up, and registers by a second one
        # t=1  the run leaves: its record is LEFT
        # t=2  the store carries the first call out. Nothing revives a run: it would be given tokens, and no process would work.
        if record.state is NodeState.LEFT:
            return record.incarnation != self.ref.incarnation
        return record.beat == replacing

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


class Hint(int):
    """What a ``wait`` for changes brings: the number of a revision, and which nodes the changes that led to it concern."""

    nodes: frozenset[str] | None
    """The names of the nodes that the changes may concern, besides the leader and, if there are any, those next in line. None:
    all nodes."""
    named: frozenset[str]
    """Where ``nodes`` is None: those that one of the changes has named. In a large cluster only these react without a pause."""

    def __new__(cls, revision: int, nodes: frozenset[str] | None = None, named: frozenset[str] = frozenset()) -> Hint:
        """Return the hint of a revision."""
        hint = super().__new__(cls, revision)
        hint.nodes, hint.named = nodes, named
        return hint


@attrs.frozen
class Snapshot:
    """One consistent reading of everything but token rows and locks."""

    timeline: Timeline
    store: str
    now: dt.datetime
    """Store time, with a timezone: for the expiry of locks and the ages of nodes and records, never for ownership."""
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

    @cached_property
    def registered_nodes(self) -> int:
        """How many nodes are registered. Counted once: they may be thousands, and a node's steps are many."""
        return sum(node.last_heartbeat is not None for node in self.nodes)

    @property
    def leader(self) -> Node | None:
        """The record of the node that leads; None if there is none, as when the leader has left and has no successor yet."""
        joined = (node for node in self.nodes if node.state is NodeState.JOINED)
        return next((node for node in joined if node.ref == self.leadership.node), None)
