"""What an agent must know of its node."""

from __future__ import annotations

import attrs

from jobsync._core.records import Settings
from jobsync.errors import ConfigMismatch

__all__ = ['AgentConfig', 'check_settings', 'differences']

_RETRY_SEC = 1.0


@attrs.frozen
class AgentConfig:
    """What an agent must know of its node; times in seconds."""

    name: str
    settings: Settings
    create: bool = True
    weight: float = 1.0
    host: str = ''
    pid: int = 0
    heartbeat_interval_sec: float = 5.0
    heartbeat_timeout_sec: float = 15.0
    lease_margin: float = 0.1
    rebalance_delay_sec: float = 0.5
    handover_timeout_sec: float = 30.0
    shutdown_timeout_sec: float = 0.0
    """How long a leaving node waits for what it is busy with."""
    announces: bool = False
    """Somebody is told before tokens go, and says when he is ready (``Agent.release``)."""
    rejoin_grace_sec: float = 0.0
    """How long, as leader, it keeps the tokens of a node that left for it."""
    form_sec: float = 120.0
    """How long, from the agent's start, a first distribution is put off while a cluster forms."""
    minimum_nodes: int | None = None
    """Given: the first distribution waits for this many nodes, and for nothing else."""
    look_sec: float = 10.0
    """How often a leader looks at the heartbeats at least; it does so after each heartbeat of its own."""
    refresh_initial_sec: float = 5.0
    """How often the version is looked up at least in the first five minutes; heartbeats count."""
    refresh_sec: float = 30.0
    """The same after the first five minutes."""
    relock_sec: float = 30.0
    """How often a leader reads the task locks at least."""
    durable: bool = True
    """What the backend declares."""
    max_removals: int = 1000
    """What the backend declares."""
    locks_enabled: bool = True

    @property
    def lease_sec(self) -> float:
        """How long a heartbeat is good for, from before it was sent."""
        return self.heartbeat_timeout_sec * (1 - self.lease_margin)

    @property
    def retry_sec(self) -> float:
        """How long after a failure the next attempt comes."""
        return min(_RETRY_SEC, self.heartbeat_interval_sec / 5)

    @property
    def blind_after_sec(self) -> float:
        """How long this node may be without a reading before it forgets what it has observed of the others (rule R2).

        A store that stalls for that long, and fails no call of this node, delays another's heartbeat by as much. The other may
        have been due for an interval, and may have to try once more: all three must be less than a timeout (promise P4).
        """
        interval = self.heartbeat_interval_sec
        spare = self.heartbeat_timeout_sec - interval - self.retry_sec
        return max(1.25 * interval, min(2 * interval + min(1.0, interval), spare))


def differences(ours: Settings, cluster: Settings) -> list[str]:
    """Describe each setting in which this node differs from the cluster."""
    here = attrs.asdict(ours)
    return [
        f'{field} is {value!r} in the cluster and {here[field]!r} here'
        for field, value in attrs.asdict(cluster).items()
        if value != here[field]
    ]


def check_settings(name: str, ours: Settings, cluster: Settings) -> None:
    """Raise ``ConfigMismatch`` if this node's settings are not the cluster's."""
    differing = differences(ours, cluster)
    if differing:
        raise ConfigMismatch(
            f'node {name!r} cannot join: {"; ".join(differing)}. Every node of a cluster must have the same; '
            'to change them, stop all nodes first'
        )
