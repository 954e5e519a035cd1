"""The pauses between attempts to reach a server that is away."""

from __future__ import annotations

from jobsync._random import RANDOM

__all__ = ['Backoff']

FIRST_SEC = 0.5
LONGEST_SEC = 4.0


class Backoff:
    """Pauses, each about twice as long as the one before, up to ``LONGEST_SEC``. Not thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make the next pause a short one: the server has answered."""
        self._longest = FIRST_SEC

    def next_sec(self) -> float:
        """Return how long to wait now."""
        # t=0  the server is started anew, and the connections of two thousand nodes end at once
        # t=1  all try again at the same moment, and at each one after that: none gets through
        # So the pauses are of random lengths, and grow.
        pause = RANDOM.uniform(self._longest / 2, self._longest)
        self._longest = min(2 * self._longest, LONGEST_SEC)
        return pause
