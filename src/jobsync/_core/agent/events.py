"""What happened to a node, as values: the runtime logs them, or calls the user's functions with them."""

from __future__ import annotations

import math

import attrs

from jobsync._core.agent.ownership import Ownership

__all__ = ['Event', 'LogMessage', 'OwnershipChanged']


@attrs.frozen
class OwnershipChanged:
    """A change of the tokens that may be claimed."""

    before: Ownership
    after: Ownership
    asked: frozenset[int] = frozenset()
    """The tokens among those that go which this node is to hand over, if it ``announces``: held until they are released. The
    others are lost: the lease or the incarnation is over, or their rows are gone."""
    deadline: float = -math.inf
    """Until when they are held at the longest."""

    @property
    def gained(self) -> frozenset[int]:
        """The tokens that come."""
        return self.after.tokens - self.before.tokens

    @property
    def lost(self) -> frozenset[int]:
        """The tokens that go without a hand-over."""
        return self.before.tokens - self.after.tokens - self.asked


@attrs.frozen
class LogMessage:
    """A line for the log: one for each structural change, never for a heartbeat."""

    level: str
    text: str


Event = OwnershipChanged | LogMessage
