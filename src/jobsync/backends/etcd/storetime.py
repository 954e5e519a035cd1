"""The time in a store without a clock: what most nodes' clocks say, never the clock of one caller.

Each heartbeat brings the node's wall clock. A handle that reads the nodes' records compares each clock with its own *monotonic*
clock, at the moment at which it first reads that heartbeat, and takes the median of the fresh ones. Freshness is that of rule
R2, so no wall clock decides it: a record counts until its node's timeout has passed, on this handle's monotonic clock, since the
first reading. A leader reads all records after each of its heartbeats, and publishes the result with the next one. Other nodes
read the leader's record anyway, and take the time from there.

Until a heartbeat has followed another one, a node that lives cannot be distinguished from one that died a week ago. Such a
record counts for the time that must not be too late, and not for the time that must not be too early: a lock that ends too late
is better than one that ends too early. So there are two times, ``earliest`` and ``latest``. They become one as soon as the handle
has read for a while, and most clocks are right.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from collections.abc import Callable, Iterable

import attrs

from jobsync.backend import NodeState
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends._common.values import BEFORE_ANY, utc_now
from jobsync.backends.etcd.node_record import NodeRecord

__all__ = ['StoreTime']


@attrs.frozen
class Sample:
    """What one node says about the time. A *lead* is how far a clock is ahead of this process's monotonic clock, in seconds."""

    beat: tuple[str, int]
    earliest: float
    latest: float
    """The bounds of the time, as leads."""
    timeout_sec: float
    first_read: float
    last_read: float
    """When this very heartbeat was read, on the monotonic clock."""
    is_followed: bool = False
    """Whether this handle has read it after another heartbeat of the same incarnation."""

    @classmethod
    def of(cls, record: NodeRecord, at: float) -> Sample:
        """Return what a record says that is read at this moment."""
        lead = record.clock.timestamp() - at
        return cls(record.node.beat, lead, lead, record.node.timeout_sec, at, at)

    def is_fresh(self, at: float) -> bool:
        """Return whether the node may still be alive (rule R2)."""
        return at - self.first_read <= self.timeout_sec

    def after(self, before: Sample | None, *, has_node: bool) -> Sample:
        """Return this sample, given the one that was read before, by a handle that has a node or has none."""
        if before is None or before.beat[0] != self.beat[0]:
            return self
        was_blind = self.first_read - before.last_read > self.timeout_sec / 2
        if before.beat != self.beat:
            return attrs.evolve(self, is_followed=not was_blind)
        if was_blind and has_node:  # without one it reads when it is called: a pause is no outage
            return attrs.evolve(self, earliest=before.earliest, latest=before.latest)
        return attrs.evolve(before, last_read=self.last_read)


@attrs.frozen
class Estimate:
    """What is known about the time: leads."""

    earliest: float
    latest: float
    slack_sec: float = 0.0
    """How far the clock of this handle's machine may be off before it counts as wrong: as long as a record may be old."""
    is_sure: bool = True
    """Whether reading for longer would not improve the estimate."""


class StoreTime:
    """The time, for one handle. Thread-safe."""

    def __init__(self, clock: Callable[[], dt.datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._monotonic = monotonic
        self.forget()
        forget_in_child(self)
        self._nodes: dict[str, Sample] = {}
        self._has_node = False
        """Whether this handle has sent a heartbeat."""
        self._leader: Sample | None = None
        """The leader's record, if the leader is not a node of this handle."""
        self._read_at = -math.inf
        """When all records were last read."""
        self._given = BEFORE_ANY
        """The highest time returned, except those that were corrected."""

    def forget(self) -> None:
        """See ``Forgetful``: no thread of a forked child would release what a thread of the parent holds."""
        self._lock = threading.Lock()

    def earliest(self) -> dt.datetime:
        """Return the time for what must not come too early, and for records. It takes no small steps back."""
        return self.bounds()[0]

    def latest(self) -> dt.datetime:
        """Return the time for what must not come too late."""
        return self.bounds()[1]

    def bounds(self) -> tuple[dt.datetime, dt.datetime]:
        """Return both, of one moment."""
        with self._lock:
            at, own = self._monotonic(), self.clock()
            # t=0  one clock is read; t=1  the process is held up for a minute; t=2  the other clock is read
            # By a second pair of readings, of after t=2, the time of a machine without nodes would be a minute ahead.
            estimate = self._estimate(own.timestamp() - at, at)
            found, latest = (_settled(own, at, lead, estimate.slack_sec) for lead in (estimate.earliest, estimate.latest))
            if found >= self._given or (self._given - found).total_seconds() > estimate.slack_sec:
                self._given = found
            return self._given, max(self._given, latest)

    @property
    def is_sure(self) -> bool:
        """Whether reading for longer would not improve the time."""
        with self._lock:
            at = self._monotonic()
            return self._estimate(self.clock().timestamp() - at, at).is_sure

    @property
    def wants_reading(self) -> bool:
        """Whether the last reading of all records is too old to count, and no leader publishes the time."""
        with self._lock:
            at = self._monotonic()
            shortest = min((sample.timeout_sec for sample in self._nodes.values()), default=0.0)
            return self._fresh_leader(at) is None and at - self._read_at > shortest / 2

    def read_all(self, records: Iterable[NodeRecord]) -> None:
        """Take in the records of all nodes, as they were read just now."""
        at = self._monotonic()
        found = {record.node.name: Sample.of(record, at) for record in records if record.node.state is NodeState.JOINED}
        with self._lock:
            before, has_node = self._nodes, self._has_node
            self._nodes = {name: sample.after(before.get(name), has_node=has_node) for name, sample in found.items()}
            self._read_at = at

    def read_own(self, record: NodeRecord) -> None:
        """Take in the record of a node of this handle, which has just sent a heartbeat."""
        sample = attrs.evolve(Sample.of(record, self._monotonic()), is_followed=True)
        with self._lock:
            self._nodes[record.node.name] = sample
            self._has_node = True

    def read_leader(self, leader: NodeRecord | None) -> None:
        """Take in the leader's record, as it was read just now; None if the leader is a node of this handle, or there is none."""
        at = self._monotonic()
        with self._lock:
            if leader is None or leader.node.last_heartbeat is None:
                self._leader = None
            else:
                earliest, latest = leader.node.last_heartbeat.timestamp() - at, leader.latest.timestamp() - at
                sample = attrs.evolve(Sample.of(leader, at), earliest=earliest, latest=latest)
                self._leader = sample.after(self._leader, has_node=True)

    def _fresh_leader(self, at: float) -> Sample | None:
        return self._leader if self._leader and self._leader.is_followed and self._leader.is_fresh(at) else None

    def _estimate(self, own: float, at: float) -> Estimate:
        """Return what is known at this moment on the monotonic clock, by which this machine's clock is ahead by ``own``."""
        if leader := self._fresh_leader(at):
            return Estimate(leader.earliest, leader.latest, leader.timeout_sec)
        fresh = [sample for sample in self._nodes.values() if sample.is_fresh(at)]
        if not fresh:
            return Estimate(own, own)
        slack = max(sample.timeout_sec for sample in fresh)
        earliest, among_all = _middle(sample.earliest for sample in fresh)
        _, among_followed = _middle([sample.earliest for sample in fresh if sample.is_followed] or [own])
        latest = max(among_all, among_followed)
        if latest - earliest <= slack:
            return Estimate(earliest, earliest, slack)
        return Estimate(earliest, latest, slack, is_sure=all(sample.is_followed for sample in fresh))


def _settled(own: dt.datetime, at: float, lead: float, slack: float) -> dt.datetime:
    """Return the time by this machine's clock, which is the more exact one, where the clock agrees with the lead."""
    return own if abs(own.timestamp() - at - lead) <= slack else dt.datetime.fromtimestamp(at + lead, dt.UTC)


def _middle(leads: Iterable[float]) -> tuple[float, float]:
    """Return the median twice, or of an even number of leads the two in the middle."""
    ordered = sorted(leads)
    return ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
