"""A consistent reading of a cluster: the records of one moment, as an observer outside the cluster has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jobsync._core.agent.settings_comparison import settings_of
from jobsync._core.assignment import Assignment
from jobsync._core.counting import counted
from jobsync._core.hashing import tokenizer
from jobsync._core.records import DRAINED, LockReading, Node, NodeState, Pin, Settings, Snapshot, TaskLock
from jobsync._core.redact import listed
from jobsync.backend import Backend
from jobsync.errors import BackendUnavailable, TimelineChanged

__all__ = ['ClusterReader', 'ClusterReading']

_ATTEMPTS = 10
"""How many commits in a row may come between a snapshot and the reading of the assignment."""


@attrs.frozen
class ClusterReading:
    """Settings, nodes, assignment and task locks. Snapshot and assignment are of one version."""

    settings: Settings
    snapshot: Snapshot
    assignment: Assignment
    locks: LockReading
    is_durable: bool
    """Whether the URL declares a store that keeps its identity when it is restarted."""

    @property
    def is_copy(self) -> bool:
        """Whether nodes seem to be at work that have begun in another store than the one that answers.

        To a URL without ``durable`` a server that was restarted is another store, also where all nodes have a URL that says it.
        """
        return self.is_durable and bool(self.live) and self.snapshot.store != self.snapshot.timeline.store

    def silence_sec(self, node: Node) -> float | None:
        """Return how long ago the node's last heartbeat was, by the store's clock; None once the node has left."""
        if node.last_heartbeat is None:
            return None
        return max(0.0, (self.snapshot.now - node.last_heartbeat).total_seconds())

    def is_silent(self, node: Node) -> bool:
        """Return whether a registered node has sent no heartbeat for its timeout, by the store's clock. For people only."""
        silence = self.silence_sec(node)
        return node.state is NodeState.JOINED and silence is not None and silence >= node.timeout_sec

    @property
    def live(self) -> dict[str, Node]:
        """The registered nodes that are not silent, by name."""
        return {node.name: node for node in self.snapshot.nodes if node.state is NodeState.JOINED and not self.is_silent(node)}

    @property
    def gone(self) -> set[str]:
        """The names whose runs have left or died: what they own has no owner, and the leader is to give it to other nodes."""
        runs = {node.name: {node.incarnation, *node.replaces} for node in self.snapshot.nodes if node.state is NodeState.LEFT}
        return {name for name, member in self.assignment.members.items() if member.incarnation in runs.get(name, ())}

    @property
    def pin_of(self) -> Mapping[str, Pin]:
        """The pins by the task they are for, those that names in ``gone`` own without an owner."""
        pins, gone = self.assignment.pin_of, self.gone
        if not gone:
            return pins
        return {task: attrs.evolve(pin, owner=None) if pin.owner in gone else pin for task, pin in pins.items()}

    @property
    def drained(self) -> dict[str, TaskLock]:
        """What drains nodes, by their names: who has drained them, when and why."""
        return {lock.task_id: lock for lock in self.locks.locks if lock.group == DRAINED}

    @property
    def idle(self) -> dict[str, str]:
        """Why the leader gives registered nodes nothing, by their names. Stalled ones get something if there are no others."""
        drained, live = self.drained, self.live
        nodes = [node for node in self.snapshot.nodes if node.state is NodeState.JOINED]
        found = {node.name: 'drained' for node in nodes if node.name in drained}
        found = dict.fromkeys((node.name for node in nodes if node.weight == 0), 'of weight 0') | found
        stalled = {node.name for node in nodes if node.stalled} - found.keys()
        return dict.fromkeys(stalled, 'stalled') | found if live.keys() - found.keys() - stalled else found

    @property
    def nothing_given(self) -> str | None:
        """Why the leader gives no token to any node, as far as records say it; None if it is to give each to one."""
        live, idle, members = self.live, self.idle, self.assignment.members
        if live and not live.keys() - idle.keys():
            return f'each node at work is to own nothing: {listed(f"{name!r} is {idle[name]}" for name in live)}'
        if members or not live:
            return None
        leader, least = self.snapshot.leadership.node, self._leader_settings.get('minimum_nodes')
        if leader is None or not isinstance(least, int) or len(live) >= least:
            return 'the cluster has not formed yet'
        at_work = counted(len(live), 'node is', 'nodes are')
        return f'the cluster has not formed yet: minimum_nodes of the leader {leader.name!r} is {least}, and {at_work} at work'

    @property
    def ignores_locks(self) -> bool:
        """Whether the leader places tasks as if there were no task locks (``locks_enabled``)."""
        return self._leader_settings.get('locks_enabled') is False

    @property
    def rejoin_grace_sec(self) -> float:
        """How long the leader keeps the tokens of a node that has left for it (``rejoin_grace_sec``)."""
        found = self._leader_settings.get('rejoin_grace_sec')
        return found if isinstance(found, int | float) else 0.0

    @property
    def _leader_settings(self) -> Mapping[str, Any]:
        leader = self.snapshot.leadership.node
        node = None if leader is None else self.node(leader.name)
        return {} if node is None else settings_of(node.settings)

    def node(self, name: str | None) -> Node | None:
        """Return the record of a name."""
        return next((node for node in self.snapshot.nodes if node.name == name), None)


class ClusterReader:
    """Reads a cluster again and again. What has not changed is not read a second time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._last: ClusterReading | None = None

    def read(self, key: str | None = None) -> ClusterReading:
        """Return a reading of this moment.

        Args:
            key: of the hash tokens only the token of the task with this key is needed, and others may seem to have no row. None:
                all are needed.

        Raises:
            SchemaMismatch: the namespace does not exist, or belongs to another version.
            BackendUnavailable: the store does not answer, or the assignment changes faster than it can be read.
        """
        for _ in range(_ATTEMPTS):
            # t=0  the snapshot shows version 7
            # t=1  the leader commits version 8
            # t=2  the assignment is read: it is of version 8, and the nodes are those of version 7, so all is read again
            found = self._attempt(key)
            if found is not None:
                if key is None:
                    self._last = found
                return found
        raise BackendUnavailable(f'the assignment has changed {_ATTEMPTS} times while it was read: try again')

    def _attempt(self, key: str | None) -> ClusterReading | None:
        backend, last = self._backend, self._last
        # The first call: it refuses a server of another kind, and says what is missing or of another version.
        opened = backend.open(None, create=False) if last is None else None
        snapshot = backend.snapshot()
        if last is not None and last.snapshot.timeline == snapshot.timeline:
            settings, assignment = last.settings, last.assignment
        else:
            opened = opened or backend.open(None, create=False)
            if opened.timeline != snapshot.timeline:
                return None
            settings, assignment = opened.settings, None
        if assignment is None or assignment.version != snapshot.version:
            wanted = None if key is None else [tokenizer(settings.hash_function, settings.total_tokens)(key)]
            changes = backend.read_assignment(None if assignment is None else assignment.version, wanted)
            if changes.version != snapshot.version:
                return None
            try:
                assignment = (assignment or Assignment.empty(settings.total_tokens)).apply(changes)
            except TimelineChanged:
                return None
        if last is None or last.snapshot.timeline != snapshot.timeline or last.snapshot.locks_revision != snapshot.locks_revision:
            locks = backend.read_locks()
        else:
            locks = last.locks
        return ClusterReading(settings, snapshot, assignment, locks, backend.info.durable)
