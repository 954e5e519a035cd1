"""What an agent has to tell: values that somebody else logs, or calls the user's functions with."""

from __future__ import annotations

import attrs

from jobsync._core.agent.ownership import Ownership

__all__ = ['Event', 'LogMessage', 'OwnershipChanged']


@attrs.frozen
class OwnershipChanged:
    """The set of tokens that may be claimed has changed."""

    before: Ownership
    after: Ownership
    asked: frozenset[int] = frozenset()
    """Those of the tokens that go which this node was asked for, if it ``announces``; they are held until they are released. The
    others are lost: the lease or the incarnation is over, or their rows are gone."""
    deadline: float = float('-inf')
    """Until when they are held at the longest."""

    @property
    def gained(self) -> frozenset[int]:
        """The tokens that come."""
        return self.after.tokens - self.before.tokens

    @property
    def lost(self) -> frozenset[int]:
        """The tokens that go and were not asked for."""
        return self.before.tokens - self.after.tokens - self.asked


@attrs.frozen
class LogMessage:
    """Something worth a log line: once for each structural change, never for a heartbeat."""

    level: str
    text: str


Event = OwnershipChanged | LogMessage
