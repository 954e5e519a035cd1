"""How a node leaves: it claims nothing more, finishes what is in flight, and then deregisters.

Leaving takes as long as the node is busy, ``shutdown_timeout_sec`` at most. Meanwhile the node's weight is 0, so its other tokens
pass on at once (unless they are to be kept for its return); and if it leads, it goes on leading. The last thing a leader does is
to give away what it still owns, once nothing is in flight: its tokens need not wait for the next leader.
"""

from __future__ import annotations

import attrs

from jobsync._core.agent.lease import Lease

__all__ = ['Departure']


@attrs.define
class Departure:
    """The departure of one node, from when it is requested."""

    by: float
    """When the node deregisters at the latest, even with tasks in flight."""
    workers: frozenset[int]
    """The workers that wait for the departure: their own tasks are not waited for."""
    is_over: bool = False
    """Whether nothing is left to do but to deregister."""

    def hasten(self, now: float, at_once: bool, workers: frozenset[int]) -> bool:
        """Take another request to leave; return whether it makes the node leave sooner, that is now."""
        # t=0  one thread leaves, and waits for the task of another one
        # t=1  the other one leaves too: it cannot finish its task any more while it waits
        self.workers |= workers
        if not at_once or now >= self.by:
            return False
        self.by = now
        return True

    def is_waiting(self, lease: Lease, now: float) -> bool:
        """Return whether there is anything to wait for."""
        return now < self.by and now < lease.deadline and lease.is_busy(self.workers)

    def may_give(self, lease: Lease, now: float) -> bool:
        """Return whether a leader may give away what it owns: nothing is in flight, not even a task of a worker that waits."""
        return not self.is_over and now < lease.deadline and not lease.is_busy(frozenset())
