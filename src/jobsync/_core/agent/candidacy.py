"""Whether this node may lead (rule R4): a leader that lives and cannot work must not lead.

A leader reads, plans and commits, all of it in the work lane. While heartbeats succeed and that lane does not get through for one
heartbeat timeout, the node is no candidate: its heartbeats say so, and the next node in line takes over. A call that hangs is
noticed as well, because the heartbeat lane measures. Calls that succeed, each in less than that time, are no such failure: a slow
store is as slow for every node. While heartbeats fail too, the store is away, perhaps from every node, and no other node would do
better.

A node steps back for a pause, and is a candidate again with the first work that succeeds after it. Where its commits alone fail,
nothing shows that before it leads again. So each pause is twice as long as the one before, from ``LEAST_PAUSE`` timeouts to
``MOST_PAUSE``, until a commit of this node has succeeded. Such a commit also ends a pause at once, where no other node was able
to lead.
"""

from __future__ import annotations

import math

__all__ = ['LEAST_PAUSE', 'MOST_PAUSE', 'Candidacy']

LEAST_PAUSE = 2
"""How many timeouts a node steps back for at the least. The next leader begins to watch the others when it finds that it is to
lead, and must have the time to find one of them dead."""

MOST_PAUSE = 64
"""How many timeouts a node steps back for at the most: 16 minutes with the defaults, of which one timeout is lost each time."""

_FORGET = 64
"""After how many timeouts without a failed commit those before are forgotten. Where every commit fails, the next is due sooner: a
node that was found dead is found dead again when its own timeout, perhaps a longer one, has passed once more."""


class Candidacy:
    """The candidacy of one node, through all its incarnations."""

    def __init__(self, timeout_sec: float) -> None:
        self._timeout_sec, self._pause_sec = timeout_sec, LEAST_PAUSE * timeout_sec
        self.begin_session()

    def begin_session(self) -> None:
        """Begin as a candidate, as each registration does."""
        self.is_wanted = self._is_published = True
        self._since = self._failed_at = self._back_at = math.inf
        self._last_failed_at = -math.inf
        self._is_failing = False
        """Whether a call has failed or was refused since the work last got through."""

    @property
    def stands(self) -> bool:
        """Whether this node is a candidate, and its record says so."""
        return self.is_wanted and self._is_published

    @property
    def stuck_at(self) -> float:
        """When the work that is under way has taken too long."""
        return self._since + self._timeout_sec if self.is_wanted else math.inf

    def begin_work(self, now: float) -> None:
        """Note that a call is made in the work lane."""
        self._since = min(self._since, now)

    def rest(self) -> None:
        """Note that there is nothing to do: what has failed is not needed any more."""
        self._since, self._is_failing = math.inf, False

    def note_failure(self) -> None:
        """Note that a call of the work has failed, or was refused."""
        self._is_failing = True

    def note_step(self) -> None:
        """Note that a call of the work has succeeded, and others are to follow before the work is done."""
        # t=0   every call takes 3 s, whichever node makes it; a new leader takes the term, and reads nodes, locks and nodes again
        # t=15  its first commit is under way. If it stepped back, the next leader would begin at t=0, and step back as well.
        # So calls that are slow are counted each by itself. Once one has failed, all that follow count together with it.
        if not self._is_failing:
            self._since = math.inf

    def excuse(self, now: float) -> None:
        """Count from now what work takes, because a heartbeat failed too."""
        if self._since != math.inf:
            self._since = now
        self._failed_at = math.inf

    def has_failed(self, now: float) -> bool:
        """Note that a commit failed; return whether the node has to step back."""
        # Readings and decisions without a plan may succeed in between, so the first failure counts until a commit succeeds, or
        # none has failed for long:
        # t=0     the answer to a commit is lost; the commit is done, and there is nothing to commit for an hour
        # t=3600  one commit fails: that is the first failure, not one more after an hour of failures
        is_first = now >= self._last_failed_at + _FORGET * self._timeout_sec
        self._failed_at, self._last_failed_at = now if is_first else min(self._failed_at, now), now
        return self.is_wanted and now >= self._failed_at + self._timeout_sec

    def step_back(self, now: float) -> float:
        """Be no candidate for a pause; return its end."""
        self._back_at = now + self._pause_sec
        self._pause_sec = min(2 * self._pause_sec, MOST_PAUSE * self._timeout_sec)
        self._failed_at, self.is_wanted = math.inf, False  # last, once it is known when the pause ends
        return self._back_at

    def note_success(self, now: float, committed: bool) -> bool:
        """Note that the work got through, with a commit or without; return whether that ends the pause."""
        self.rest()
        if committed:
            self._pause_sec, self._failed_at = LEAST_PAUSE * self._timeout_sec, math.inf
        if self.is_wanted or not (committed or now >= self._back_at):
            return False
        self.is_wanted = True
        return True

    def note_published(self, candidate: bool) -> None:
        """Note what a heartbeat that succeeded has said of the candidacy."""
        self._is_published = candidate
