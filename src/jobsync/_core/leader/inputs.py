"""What a leader goes by and what comes of it, as values; and what it remembers from one time to the next."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import attrs

from jobsync._core.assignment import Assignment, Plan
from jobsync._core.leader.admission import Admission
from jobsync._core.records import Node, NodeRef, Revision, Snapshot, TaskLock

__all__ = ['Decision', 'LeaderState', 'LeaderView', 'Policy']

_STEADY = attrgetter(*(field.name for field in attrs.fields(Node) if field.name not in {'heartbeat', 'last_heartbeat'}))
"""What of a node's record stays the same from one heartbeat to the next."""


@attrs.frozen
class Policy:
    """How a leader goes about it; nothing here decides who may own what."""

    timeout_sec: float
    """Its own heartbeat timeout."""
    rebalance_delay_sec: float
    """Newcomers are gathered this long into one rebalance."""
    form_at: float
    """When the first distribution is due at the latest, on the leader's clock."""
    minimum_nodes: int | None
    """Given: the first distribution waits for this many nodes, and for nothing else."""
    trust_first_timeline: bool
    """The store declares itself durable: generation 0 has no past to wait for."""
    longest_timeout_sec: float = 0.0
    """The longest heartbeat timeout that it has ever read of in the namespace, in whatever timeline."""
    max_removals: int = 1000
    """The most nodes that one plan may name as evicted, departed or absent together."""
    locks_enabled: bool = True
    rejoin_grace_sec: float = 0.0
    """How long the tokens of a node that left are kept for it."""


@attrs.frozen
class LeaderView:
    """What the leader has read. Assignment and snapshot are of one version, locks of one revision with the snapshot."""

    me: NodeRef
    snapshot: Snapshot
    assignment: Assignment = attrs.field(repr=False)
    locks: tuple[TaskLock, ...] = attrs.field(repr=False)
    suspects: Mapping[str, tuple[str, int]]
    """Name -> the (incarnation, heartbeat) at which it stopped."""
    now: float

    @property
    def substance(self) -> tuple[object, ...]:
        """All of it but the time and the heartbeats. A node that misses its heartbeats comes in as a suspect."""
        snapshot = self.snapshot
        structure = snapshot.timeline, snapshot.store, snapshot.revision, snapshot.version, snapshot.leadership
        return self.me, structure, tuple(map(_STEADY, snapshot.nodes)), self.assignment, self.locks, dict(self.suspects)


@attrs.define
class LeaderState:
    """When this leader first read a thing, on its own clock."""

    timeline_read_at: float
    absent: dict[tuple[str, str], float] = attrs.field(factory=dict)
    """Owners (name, incarnation) whose record is not there, or says that they left."""
    lost: dict[int, float] = attrs.field(factory=dict)
    """Tokens without a row."""
    doubted: dict[NodeRef, int] = attrs.field(factory=dict)
    """Nodes that are no candidates, and the number of the version at which that was first read."""
    admission: Admission = attrs.field(factory=Admission)
    version: Revision | None = None
    version_read_at: float = 0.0
    acknowledged_at: float | None = None
    """When the first acknowledgement of that version that frees a token was read."""
    seen_at: float | None = None
    """When it was first read that all who are to let go of something have seen that version."""
    unsettled_since: float | None = None
    cause: tuple[str, int] | None = None
    """Why hand-overs are under way, and how many members there were before: for the record of what they move."""
    rest: tuple[object, Decision] | None = attrs.field(default=None, repr=False)
    """What was last decided, and from what, if nothing was to be done and nothing to be waited for."""


@attrs.frozen
class Decision:
    """A plan to commit, or none yet; and when to look again at the latest."""

    plan: Plan | None
    look_again_at: float | None
    expired: bool = False
    """Expired locks can be removed from the store: their pins are gone."""
