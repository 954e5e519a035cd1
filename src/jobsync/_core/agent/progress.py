"""Whether this node makes progress with what it owns (``progress_timeout_sec``).

The lease shows that the process lives; the code of its user may hang all the same. So the user's threads leave a mark whenever
they request work or finish some, and the agent checks for the mark. A node that owns something and leaves no mark for the timeout
has *stalled*: its record says so, and the leader gives its share to others by the ordinary hand-over (rule R3). The first mark
after that brings the share back.

The mark is one attribute without a time, because reading the clock would make ``can_claim_task`` slower. So a mark counts from
the moment at which the agent finds it, at most a step later than it was made.
"""

from __future__ import annotations

import math

__all__ = ['Progress']

_MOST_STEP_SEC = 0.5
"""How often the agent checks for the mark, at the least."""
_MOST_PART = 0.25
"""How much of the timeout passes, at the most, from one check to the next. What is beyond that is not counted."""


class Progress:
    """The progress of one node, through all its incarnations. Without a timeout it never stalls."""

    def __init__(self, timeout_sec: float | None, now: float) -> None:
        self._timeout_sec = math.inf if timeout_sec is None else timeout_sec
        self.is_watched = timeout_sec is not None
        self._step_sec = min(_MOST_STEP_SEC, self._timeout_sec / 8)
        self._marked_at = self._checked_at = now

    def check(self, is_marked: bool, owns: bool, was_stalled: bool, now: float) -> bool:
        """Take whether there was a mark since the last check; return whether the node has stalled by now."""
        # t=0     a program is at a task, and its machine is suspended
        # t=3600  the machine goes on: the program has done nothing for an hour, nor has the agent, which has not checked
        self._marked_at += max(0.0, now - self._checked_at - _MOST_PART * self._timeout_sec)
        self._checked_at = now
        if is_marked or not (owns or was_stalled):
            self._marked_at = now
            return False
        return was_stalled or now >= self._marked_at + self._timeout_sec

    def due(self, now: float) -> float:
        """Return when to check for the mark again; infinity without a timeout."""
        return now + self._step_sec if self.is_watched else math.inf
