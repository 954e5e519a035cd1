"""How a node replaces other cluster settings that it finds in force: only if all nodes of that cluster are dead.

A node of weight 0 never does: it owns nothing, and the nodes that will are to say how many tokens there are.

A store replaces settings while no node is registered. After a crash of all nodes their records are still there, so they are
watched as rule R6 says of one name: a node whose heartbeat moves twice is alive, and the newcomer must not join; a node whose
heartbeat does not move for its whole timeout is dead. The store compares the records once more when it replaces the settings.
"""

from __future__ import annotations

from typing import NoReturn

import attrs

from jobsync._core.agent.failure_detector import FailureDetector
from jobsync._core.config import NodeConfig
from jobsync._core.records import NodeState, Opened, Snapshot
from jobsync._core.redact import listed
from jobsync.errors import ConfigMismatch, TimelineChanged

__all__ = ['SettingsWatch']


class SettingsWatch:
    """A watch over all nodes of a cluster with other settings."""

    def __init__(self, config: NodeConfig, opened: Opened, now: float) -> None:
        self._config, self._opened = config, opened
        self._detector = FailureDetector(config.blind_after_sec, 0.0)
        self._beats: frozenset[tuple[str, int]] | None = None
        """The (incarnation, heartbeat) of each registered node at the last reading."""
        self._changed: set[str] = set()
        """The incarnations seen to send a heartbeat. One that is over may have left one under way, so the second proves life."""
        self.poll_at = now
        """When to read the nodes next."""
        self.dead: frozenset[tuple[str, int]] | None = None
        """The last (incarnation, heartbeat) of each node; None until all of them are proved dead."""

    def take(self, snapshot: Snapshot, now: float) -> str | None:
        """Take a reading of the nodes; return what to log, if anything.

        Raises ``ConfigMismatch`` if any of them is alive, ``TimelineChanged`` if the namespace has passed on meanwhile.
        """
        if snapshot.timeline != self._opened.timeline:
            raise TimelineChanged(f'the namespace has passed from {self._opened.timeline} to {snapshot.timeline}')
        nodes = [node for node in snapshot.nodes if node.state is NodeState.JOINED]
        beats = frozenset(node.beat for node in nodes)
        before, self._beats = self._beats, beats
        changed = set() if before is None else {incarnation for incarnation, _ in beats - before}
        if changed & self._changed:
            self.refuse()
        self._changed |= changed
        timeouts = {node.name: max(self._config.heartbeat_timeout_sec, node.timeout_sec) for node in nodes}
        self._detector.note_all(nodes, now)
        if len(self._detector.suspects(timeouts, now)) == len(nodes):
            self.dead = beats
        self.poll_at = now + self._config.retry_sec
        if before is not None or not nodes:
            return None
        return (
            f'node {self._config.name!r} finds other settings in force ({self._differences}) '
            f'and nodes registered under them: {listed(timeouts)}; '
            f'replacing the settings unless one of these sends heartbeats within {max(timeouts.values()):g} s'
        )

    def note_failure(self, now: float) -> None:
        """Note that a call of this node failed: until its next reading it is blind (rule R2)."""
        self._detector.note_failure(now, of_replacing=self.dead is not None)
        self.dead = None

    def refuse(self) -> NoReturn:
        """Raise ``ConfigMismatch``: a node of the cluster is alive, or this node has the weight 0."""
        how = 'stop all nodes first' if self._config.weight else 'a node with weight must come first, for this one has weight 0'
        raise ConfigMismatch(
            f'node {self._config.name!r} cannot join: {self._differences}. Every node of a cluster must have the same; '
            f'to change them, {how}'
        )

    @property
    def _differences(self) -> str:
        """Each setting in which this node differs from the cluster."""
        here = attrs.asdict(self._config.settings)
        return '; '.join(
            f'{field} is {value!r} in the cluster and {here[field]!r} here'
            for field, value in attrs.asdict(self._opened.settings).items()
            if value != here[field]
        )
