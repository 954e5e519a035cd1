"""What a leader decides from (``LeaderView``), what it remembers (``LeaderState``), and what it decides (``Decision``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from operator import attrgetter

import attrs

from jobsync._core.assignment import ABSENT, Assignment, Plan
from jobsync._core.leader.admission import Admission
from jobsync._core.leader.gathering import Gathering
from jobsync._core.leader.requests import Requests
from jobsync._core.patterns import NodeNames
from jobsync._core.records import Node, NodeRef, NodeState, Snapshot, TaskLock

__all__ = ['Decision', 'LeaderState', 'LeaderView']

_STEADY = attrgetter(*(field.name for field in attrs.fields(Node) if field.name not in {'heartbeat', 'last_heartbeat'}))
"""The fields of a node's record that a heartbeat leaves as they are."""


@attrs.frozen
class LeaderView:
    """What the leader has read. Assignment and snapshot are of one version, locks and snapshot of one revision."""

    me: NodeRef
    snapshot: Snapshot
    assignment: Assignment = attrs.field(repr=False)
    locks: tuple[TaskLock, ...] = attrs.field(repr=False)
    suspects: Mapping[str, tuple[str, int]]
    """For each suspected node's name, the (incarnation, heartbeat) at which it stopped."""
    now: float
    started_at: float
    """When the leader's agent began, on its own clock: a first distribution waits ``wait_on_enter`` from there."""
    is_first_timeline: bool
    """Whether the leader's process has seen no other timeline."""
    longest_timeout_sec: float
    """The longest heartbeat timeout that the leader's node has ever read in the namespace, in any timeline."""
    leaving: NodeRef | None = None
    """The leader, if it claims nothing any more, and never will, and has nothing in flight: this plan is its last."""

    @property
    def substance(self) -> tuple[object, ...]:
        """Return the view without the time and the heartbeats. A node that misses its heartbeats comes in as a suspect."""
        snapshot = self.snapshot
        structure = snapshot.timeline, snapshot.store, snapshot.revision, snapshot.version, snapshot.leadership
        known = self.started_at, self.is_first_timeline, self.longest_timeout_sec, self.leaving
        return self.me, structure, known, tuple(map(_STEADY, snapshot.nodes)), self.assignment, self.locks, dict(self.suspects)


@attrs.define
class LeaderState:
    """What a leader remembers from one decision to the next: times on its own clock. ``decide`` changes it, and so do
    ``read_present`` and ``read_rows``.

    Losing it makes things slower, not unsafe.
    """

    timeline_read_at: float
    absent_since: Mapping[tuple[str, str], float] = attrs.field(factory=dict)
    """For owners (name, incarnation) whose record is absent, or says that they left: when that was first read."""
    rowless: Mapping[int, float] = attrs.field(factory=dict)
    """For each token without a row: when that was first read."""
    doubted: Mapping[NodeRef, int] = attrs.field(factory=dict)
    """For each node that is no candidate: the number of the version at which that was first read."""
    admission: Admission = attrs.field(factory=Admission)
    gathering: Gathering = attrs.field(factory=Gathering)
    requests: Requests = attrs.field(factory=Requests)
    unsettled_since: float | None = None
    cause: tuple[str, int] | None = None
    """Why hand-overs are under way, and how many members there were before: for the record of what they move."""
    idle: tuple[object, Decision] | None = attrs.field(default=None, repr=False)
    """The last decision and what it was made from, if there was nothing to do and nothing to wait for."""
    _node_names: NodeNames | None = attrs.field(default=None, init=False, repr=False)
    """The nodes that the patterns of locks chose from in the last decision."""

    def node_names(self, names: Set[str]) -> NodeNames:
        """Return the names with what patterns choose among them, which is kept while they are the same."""
        if self._node_names is None or self._node_names.names != names:
            self._node_names = NodeNames(frozenset(names))
        return self._node_names

    def read_present(self, nodes: Iterable[Node], was_blind: bool) -> None:
        """Forget the absence of every registered node; of all owners if the leader ``was_blind`` since it read them."""
        present = {(node.name, node.incarnation) for node in nodes if node.state is NodeState.JOINED}
        absent = () if was_blind else self.absent_since.items()
        self.absent_since = {owner: since for owner, since in absent if owner not in present}

    def read_rows(self, assignment: Assignment) -> None:
        """Forget the tokens among ``rowless`` that have a row."""
        self.rowless = {token: since for token, since in self.rowless.items() if assignment.owner[token] == ABSENT}


@attrs.frozen
class Decision:
    """A plan to commit, or none yet; and when to decide again at the latest."""

    plan: Plan | None
    decide_again_at: float
    """Infinity: not before something changes."""
    expired: bool = False
    """Whether expired locks can be removed from the store: their pins are gone."""
