"""The configuration that an agent and a leader work with, under the names of ``CoordinationConfig`` and ``BackendInfo``."""

from __future__ import annotations

from typing import Any

import attrs

from jobsync._core.records import Settings

__all__ = ['NodeConfig']

_RETRY_SEC = 1.0


@attrs.frozen(kw_only=True)
class NodeConfig:
    """The configuration of one node; times in seconds.

    Nothing that a user sets has a default here. A field without a docstring is documented where the value comes from: in
    ``CoordinationConfig``, ``Job`` (``wait_on_enter``) or ``BackendInfo`` (``durable``, ``max_removals``).
    """

    name: str
    host: str
    """Where the node runs, for people."""
    pid: int
    create: bool
    """Whether ``Backend.open`` may make the schema."""
    announces: bool
    """Whether the user is to be notified before tokens go, and confirms with ``Lease.release``."""
    wait_on_enter: float
    settings: Settings
    published_settings: str
    weight: float
    heartbeat_interval_sec: float
    heartbeat_timeout_sec: float
    lease_sec: float
    rebalance_check_interval_sec: float
    dead_node_check_interval_sec: float
    token_refresh_initial_interval_sec: float
    token_refresh_steady_interval_sec: float
    rebalance_delay_sec: float
    handover_timeout_sec: float
    progress_timeout_sec: float | None
    shutdown_timeout_sec: float
    rejoin_grace_sec: float
    retention_days: float | None
    minimum_nodes: int | None
    locks_enabled: bool
    durable: bool
    max_removals: int
    gather_sec: float = 0.5
    """How long the leader waits for more acknowledgements after the first. No user sets this, nor what follows."""
    gather_longer_sec: float = 5.0
    """How long the leader waits after the first at most, if each that comes extends the wait."""
    many_owners: int = 20
    """With more owners than these, each acknowledgement extends the wait."""

    @classmethod
    def of(cls, *sources: object, name: str, host: str, pid: int, **given: Any) -> NodeConfig:
        """Return the configuration with each field as given, or else as the first of the sources that has it."""
        values = {
            field.name: getattr(source, field.name)
            for source in reversed(sources)
            for field in attrs.fields(cls)
            if hasattr(source, field.name)
        }
        return cls(**{**values, 'name': name, 'host': host, 'pid': pid, **given})

    @property
    def retry_sec(self) -> float:
        """How long after a failure the next attempt comes."""
        return min(_RETRY_SEC, self.heartbeat_interval_sec / 5)

    @property
    def blind_after_sec(self) -> float:
        """How long this node may be without a reading, or a heartbeat that gets through, before it is blind (rule R2).

        It then forgets what it has observed of the others. A store that stalls for that long, and fails no call of this node,
        delays another's heartbeat by as much. The other may have been due for an interval, and may have to try once more: all
        three must be less than a timeout (promise P4).
        """
        interval = self.heartbeat_interval_sec
        spare = self.heartbeat_timeout_sec - interval - self.retry_sec
        return max(1.25 * interval, min(2 * interval + min(1.0, interval), spare))

    @property
    def doubt_after_sec(self) -> float:
        """How long without a heartbeat if a call of its own has failed meanwhile: the others may have to try three times.

        Where a timeout leaves less than an interval, each failed call is blindness.
        """
        return min(self.blind_after_sec, self.heartbeat_timeout_sec - self.heartbeat_interval_sec - 3 * self.retry_sec)
