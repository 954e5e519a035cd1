"""When a node sends its heartbeats. Nothing of this is needed for safety.

The nodes beat in step: the leader first, the others about a tenth of an interval later (each pulse tells how long ago the
leader's heartbeat was, and the next one comes sooner or a little later), and the leader looks at all of them after another tenth.
So the last heartbeat of a node that dies is read about a tenth of an interval after it was sent, rather than up to a whole one,
with one look for each interval. The others do not all beat at once: each has a place of its own, from its name, in the tenth
around the first one's end. A heartbeat out of turn, because of a change, brings nobody out of step: the next comes when it would
have.
"""

from __future__ import annotations

from zlib import crc32

from jobsync._core.config import NodeConfig

__all__ = ['STEP', 'HeartbeatSchedule']

STEP = 0.1
"""The part of an interval between the leader's heartbeat, the others', and the leader's look."""
_NEVER = float('-inf')


class HeartbeatSchedule:
    """One incarnation's heartbeats."""

    def __init__(self, config: NodeConfig, now: float) -> None:
        self._config = config
        self._place = STEP * (0.5 + crc32(config.name.encode()) / 2**32)
        self._is_urgent = self._in_turn = False
        self.begin(now)

    def begin(self, now: float) -> None:
        """The first, or the first after an outage, is due now, and none is before."""
        self._due = self._not_before = now

    def soon(self) -> None:
        """One is wanted now."""
        self._is_urgent = True

    def next(self, or_at: float, now: float) -> float:
        """When the next is due; at ``or_at`` at the latest, for there will be something else to report."""
        return max(now if self._is_urgent else min(self._due, or_at), self._not_before)

    def send(self, now: float) -> None:
        """It is being sent."""
        self._is_urgent, self._in_turn = False, now >= self._due

    def succeeded(self, sent_at: float, leader_age: float | None) -> None:
        """The next is one interval later, or sooner or a little later where that brings this node in step with the leader.

        One out of turn changes nothing about that. ``leader_age``: how long ago the leader's was; None for the leader
        itself, or where it is not known.
        """
        self._not_before = _NEVER
        if not self._in_turn:
            return
        interval = self._config.heartbeat_interval_sec
        self._due = sent_at + interval
        if leader_age is not None and (1 + 2 * STEP) * interval < self._config.lease_sec:
            late = (leader_age - self._place * interval) % interval
            self._due -= late if late < (1 - STEP) * interval else late - interval
