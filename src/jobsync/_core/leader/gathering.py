"""How long released tokens wait for the acknowledgements that are still due. Nothing here decides whether a token was released.

One commit is to serve all owners: it makes a new version, and an owner that has not acknowledged the present one must acknowledge
that instead. Without push this costs it a heartbeat interval. So the leader waits for ``NodeConfig.gather_sec`` after the first
owner has released something, and less once all have acknowledged.

Of many owners (``NodeConfig.many_owners``) the acknowledgements come one after the other, and each commit would have all that are
still due sent again. So each that comes extends the wait, to ``NodeConfig.gather_longer_sec`` after the first at most.
"""

from __future__ import annotations

import attrs

from jobsync._core.config import NodeConfig
from jobsync._core.leader.handover import Released, polling_pause
from jobsync._core.records import Revision

__all__ = ['Gathering']

HELD_SEC = 0.1
"""How long the leader waits once every owner has acknowledged the version and some are still busy: an owner that only had to call
``on_revoke`` is ready by then."""


@attrs.define
class Gathering:
    """The acknowledgements of one version, as the leader has read them: times on its own clock."""

    version: Revision | None = None
    read_at: float = 0.0
    """When the version was first planned from."""
    released_at: float | None = None
    """When the first acknowledgement that frees a token was read."""
    seen_at: float | None = None
    """When it was first read that every owner with tokens to release has acknowledged the version."""
    acknowledged: int = 0
    """How many of many owners have acknowledged it; 0 where owners are few."""
    more_until: float = 0.0
    """Until when another acknowledgement may extend the wait; when the version was first planned from, where owners are few."""

    def begin(self, version: Revision, now: float) -> None:
        """Begin to wait for the acknowledgements of a version, if it is a new one."""
        if self.version != version:
            self.version, self.read_at = version, now
            self.released_at = self.seen_at = None
            self.acknowledged, self.more_until = 0, now

    def read(self, released: Released, config: NodeConfig, now: float) -> None:
        """Remember when acknowledgements of the version began to come, when the last came, and when all were there."""
        if released.count and self.released_at is None:
            self.released_at = now
        if released.is_seen and self.seen_at is None:
            self.seen_at = now
        if released.owners > config.many_owners and released.current > self.acknowledged:
            self.acknowledged = released.current
            self.more_until = now + max(config.gather_sec, 2 * polling_pause(now - self.read_at))

    def holds_up(self, released: Released, is_structural: bool, config: NodeConfig, now: float) -> bool:
        """Return whether a plan is to wait for acknowledgements that are still due.

        Not one that ``is_structural``, because it removes or admits a node: the tokens of the dead have no owner (promise P3).
        """
        first, seen = self.released_at, self.seen_at
        if is_structural or released.is_complete or first is None:
            return False
        until = max(first + config.gather_sec, min(self.more_until, first + config.gather_longer_sec))
        return now < until and (seen is None or now < max(first, seen) + HELD_SEC)
