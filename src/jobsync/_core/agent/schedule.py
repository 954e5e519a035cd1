"""When a node sends heartbeats, reads the assignment, and writes its weight. Nothing of this is needed for safety.

The nodes send heartbeats in step: the leader first, the others about a tenth of an interval later (each pulse brings the age of
the leader's heartbeat, and the next one comes sooner or a little later), and the leader reads all of them after another tenth.
So the last heartbeat of a node that dies is read about a tenth of an interval after it was sent, rather than up to a whole one,
with one reading for each interval. The other nodes do not all send at once: each has a place of its own, from its name, in the
tenth around the end of the first. A heartbeat out of turn, because of a change, does not bring a node out of step: the next comes
when it would have come anyway.
"""

from __future__ import annotations

import math
from zlib import crc32

from jobsync._core.config import NodeConfig
from jobsync._core.records import INITIAL, Revision

__all__ = ['STEP', 'AssignmentRefresh', 'HeartbeatSchedule', 'WeightSync']

STEP = 0.1
"""The part of an interval between the leader's heartbeat, the others', and the leader's reading."""
_NEVER = -math.inf
_INITIAL_SEC = 300.0
"""How long a new node reads the assignment at ``token_refresh_initial_interval_sec``."""
_LATE_SEC = 900.0
"""How long a call that was given up may be on its way: after about as long a system gives up what it could not send."""


class HeartbeatSchedule:
    """The heartbeats of one incarnation."""

    def __init__(self, config: NodeConfig, now: float) -> None:
        self._config = config
        self._place = STEP * (0.5 + crc32(config.name.encode()) / 2**32)
        self._in_turn = self._is_early = False
        """Whether the last heartbeat was in turn, and whether the one after it is early by more than a step."""
        self.begin(now)

    def begin(self, now: float) -> None:
        """Make the first heartbeat, or the first after an outage, due now, and none before."""
        self._due = self._not_before = now
        self._soon, self._report_at = math.inf, _NEVER

    def soon(self, at: float = _NEVER) -> None:
        """Make a heartbeat due now, or at that time, out of turn; one that is sent before will do."""
        self._soon = min(self._soon, at)

    def next(self, or_at: float) -> float:
        """Return when the next heartbeat is due: at ``or_at`` at the latest, when the node has something else to report."""
        return max(min(self._due, self._soon, max(or_at, self._report_at)), self._not_before)

    def send(self, now: float) -> None:
        """Note that a heartbeat is sent now."""
        self._soon, self._in_turn = math.inf, now >= self._due

    def succeeded(self, sent_at: float, leader_age: float | None) -> None:
        """Make the next heartbeat due one interval after this one, or when it brings this node in step with the leader.

        A heartbeat out of turn changes nothing. ``leader_age`` is the age of the leader's last heartbeat in seconds; None for
        the leader itself, or where the store does not report it.
        """
        self._not_before = self._report_at = _NEVER
        if not self._in_turn:
            return
        interval = self._config.heartbeat_interval_sec
        self._due = sent_at + interval
        if leader_age is not None and (1 + 2 * STEP) * interval < self._config.lease_sec:
            late = (leader_age - self._place * interval) % interval
            if late >= (1 - STEP) * interval:
                late -= interval
            # t=0    the leader, whose interval is 0.5 s, sends a heartbeat; this node, whose interval is 5 s, is to send its own
            #        0.7 s after the leader's
            # t=0.2  it does: taken to be 4.5 s late, it is to send the next one 0.5 s from here, and so on: ten times too many
            # So of two heartbeats one at most is early. Behind a leader of the same interval no other is needed.
            self._is_early = late > STEP * interval and not self._is_early
            if late <= STEP * interval or self._is_early:
                self._due -= late

    def report_again(self, at: float) -> None:
        """Report what the last heartbeat has, which extended no lease and acknowledged nothing, at that time at the earliest."""
        # t=0   the lease is over; reading the version of now fails, and heartbeats, which are small, get through
        # t=1   a task ends: the node has something else to report, and what it reports does not count
        # Without a pause it would be reported as fast as the store answers, which has enough to do.
        self._report_at = at


class AssignmentRefresh:
    """The newest version of the assignment that one incarnation has read of, and when to read the assignment itself."""

    def __init__(self, config: NodeConfig, started_at: float, now: float) -> None:
        self._config, self._started_at = config, started_at
        self.version, self._read_at = INITIAL, now
        self._newer_due = now
        """When to read the assignment if it has a newer version than the last one read."""
        self._is_hinted = False
        self._may_concern, self._seen_until = 0, 0
        """The last revisions that, as hints have it, may concern this node, and that are known to concern it or not."""

    def hint(self, revision: int, *, concerns: bool | None) -> None:
        """Take a hint of changes, the last of them this revision, that concern this node or not; None: perhaps.

        If they do, read the assignment now: a reading that is under way may have missed them.
        """
        self._is_hinted |= concerns is True
        self._seen_until = max(revision, self._seen_until)
        if concerns is not False:
            self._may_concern = max(revision, self._may_concern)

    def read_again(self) -> None:
        """Read the assignment now."""
        self._is_hinted = True

    def begin(self) -> None:
        """Note that the assignment is being read: every change hinted at until now will be in it."""
        self._is_hinted = False

    def note(self, version: Revision, known: Revision, now: float, delay_sec: float = 0.0) -> None:
        """Take the version that an answer brought, and ``known``, that of the assignment as this node has it.

        One older than the newest is of a late answer, and dropped. One that is known not to concern this node is read later:
        in so many seconds.
        """
        if version.number < self.version.number:
            return
        due = now + delay_sec if self._may_concern < version.number <= self._seen_until else now
        self._newer_due = due if self.version == known else min(self._newer_due, due)
        self.version, self._read_at = version, now

    def due(self, known: Revision, now: float) -> float:
        """Return when to read the assignment, which this node has at the version ``known``.

        Without a newer version or a hint it is read now and then, never sooner than the heartbeat that is due and brings the
        version as well.
        """
        if self._is_hinted:
            return now
        config, interval = self._config, self._config.heartbeat_interval_sec
        is_new = now - self._started_at < _INITIAL_SEC
        refresh = config.token_refresh_initial_interval_sec if is_new else config.token_refresh_steady_interval_sec
        stale = self._read_at + (refresh if refresh < interval else max(refresh, 2 * interval))
        return stale if self.version == known else min(self._newer_due, stale)


class WeightSync:
    """The weight that a node is to have and whether it has stalled, and what its record says, through all its incarnations."""

    def __init__(self, weight: float) -> None:
        self.wanted, self.is_stalled = weight, False
        self._in_force = weight, False
        self._again_at = math.inf
        """When to write the weight again: a call that was given up may be carried out late, over one that came after it."""
        self._late_until = -math.inf
        """Until when that may happen."""

    def begin_session(self) -> None:
        """Begin as a new incarnation, which registers with the wanted weight, and which no earlier call can change."""
        self._in_force, self._again_at, self._late_until = (self.wanted, False), math.inf, -math.inf

    def found(self, weight: float, stalled: bool) -> None:
        """Take what the record of this incarnation says: perhaps not what is wanted by now."""
        self._in_force = weight, stalled

    def due(self, now: float) -> float:
        """Return when to write the record; infinity if it is right."""
        return now if (self.wanted, self.is_stalled) != self._in_force else self._again_at

    def given(self, weight: float, stalled: bool, again_at: float) -> None:
        """Note what the store has, unless a call that was given up is carried out after this one."""
        self._in_force = weight, stalled
        # t=0     the store is away for a minute; no node makes progress, and none can write so
        # t=60    it is back; each node writes its weight, and reads all nodes after that
        # t=3600  repeated for good, that would be many times what an idle cluster reads
        self._again_at = min(again_at, self._late_until) if self._again_at < self._late_until else math.inf

    def failed(self, again_at: float) -> None:
        """Note that a call was given up, which the store may have carried out, or may yet carry out."""
        self._again_at, self._late_until = again_at, again_at + _LATE_SEC
