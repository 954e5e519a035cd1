"""How long released tokens wait for the acknowledgements that are still due. Nothing here decides whether a token was released.

One commit is to serve all owners: each makes a new version, which everyone reads sooner or later, and at once who gains by it. So
the leader waits for ``NodeConfig.gather_sec`` after the first owner has released something, and less once all have answered.

Of many owners (``NodeConfig.many_owners``) the answers come one after the other. So each that comes extends the wait, to
``NodeConfig.gather_longer_sec`` after the first at most::

    t=0    version 7 requests tokens of 400 owners, which on a busy machine take 4 s to read that and to answer
    t=0.5  the first few have answered: a version 8 for what those have released, a version 9 half a second later, and so on,
           would keep everyone reading, and the other owners would take the longer to answer

An answer to version 7 is one while version 8 is at hand too (``requests``): else the wait for version 8 would find none of them.
"""

from __future__ import annotations

import attrs

from jobsync._core.config import NodeConfig
from jobsync._core.leader.handover import Released, polling_pause
from jobsync._core.records import Revision

__all__ = ['Gathering']

HELD_SEC = 0.1
"""How long the leader waits once every owner has answered and some are still busy: an owner that only had to call
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
    """When it was first read that every owner with tokens to release has acknowledged what is requested of it."""
    answered: int = 0
    """How many of many owners have; 0 where owners are few."""
    more_until: float = 0.0
    """Until when another answer may extend the wait; when the version was first planned from, where owners are few."""

    def begin(self, version: Revision, now: float) -> None:
        """Begin to wait for the acknowledgements of a version, if it is a new one."""
        if self.version != version:
            self.version, self.read_at = version, now
            self.released_at = self.seen_at = None
            self.answered, self.more_until = 0, now

    def read(self, released: Released, config: NodeConfig, now: float) -> None:
        """Remember when acknowledgements of the version began to come, when the last came, and when all were there."""
        if released.count and self.released_at is None:
            self.released_at = now
        if released.is_seen and self.seen_at is None:
            self.seen_at = now
        if released.owners > config.many_owners and released.answered > self.answered:
            self.answered = released.answered
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
