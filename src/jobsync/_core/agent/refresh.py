"""The newest version of the assignment that this node has heard of, and when it must hear again."""

from __future__ import annotations

from jobsync._core.config import NodeConfig
from jobsync._core.records import INITIAL, Revision

__all__ = ['AssignmentRefresh']

_INITIAL_SEC = 300.0


class AssignmentRefresh:
    """What every answer tells of the assignment, one incarnation long."""

    def __init__(self, config: NodeConfig, started_at: float, now: float) -> None:
        """``started_at`` is when the node began: at first it asks more often."""
        self._config, self._started_at = config, started_at
        self.version, self._heard_at = INITIAL, now

    def note(self, version: Revision, now: float) -> None:
        """An answer told of this version. An older one than is known tells nothing: it comes late."""
        if version.number >= self.version.number:
            self.version, self._heard_at = version, now

    def stale_at(self, now: float) -> float:
        """When the version must be looked up, hints or not. Never sooner than the heartbeat that is due and tells it as well."""
        config, interval = self._config, self._config.heartbeat_interval_sec
        refresh = (
            config.token_refresh_initial_interval_sec
            if now - self._started_at < _INITIAL_SEC
            else config.token_refresh_steady_interval_sec
        )
        return self._heard_at + (refresh if refresh < interval else max(refresh, 2 * interval))
