"""Which nodes are suspected of being dead (rule R2).

An observer uses its own clock alone: a node is suspect once the observer has read the same heartbeat for the node's whole
timeout, counted from the observer's first reading of it. A heartbeat was sent before it was read, and a lease is shorter than
the timeout, so when a node becomes suspect its lease is over, whatever any wall clock says.

An observer that could not read for a while was blind, and cannot distinguish another's silence from its own deafness. It was
blind too if none of its own heartbeats got through for a while, a shorter one if a call has failed meanwhile: a store that
answers readings and refuses writes silences every node. Either way the time in which it was blind counts as no silence, nor does
an interval before it, in which no heartbeat may have been due. Therefore a store outage evicts no node (promise P4)::

    t=-4  the observer reads a heartbeat of b
    t=0   the store stops answering; no heartbeat gets through, and no reading
    t=20  it answers again; the last heartbeat the observer has read of b is 24 s old
    t=21  counted from t=-4 b would be dead; counted from t=20 it has a timeout to send its next heartbeat

A failed call alone is no outage, and a longer silence before blindness still counts. If either made the observations start
again, a leader of whose calls one in three fails, and the others are slow, would need minutes to find a node dead (promise P3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from jobsync._core.records import Node

__all__ = ['FailureDetector']

Beat = tuple[str, int]
"""Incarnation and heartbeat."""


@attrs.define
class FailureDetector:
    """One node's readings of the others' heartbeats."""

    blind_after_sec: float
    """How long the observer may be without a reading, and without a heartbeat of its own that gets through."""
    doubt_after_sec: float = math.inf
    """How long without such a heartbeat if a call of the observer's has failed meanwhile; without a reading, if it sends none."""
    due_after_sec: float = 0.0
    """How long a node may be silent without being late. So much silence before blindness counts as part of it."""
    _first_read: dict[str, tuple[Beat, float]] = attrs.field(factory=dict, init=False)
    _last_read_at: float | None = attrs.field(default=None, init=False)
    _last_sent_at: float | None = attrs.field(default=None, init=False)
    """When the last of its own heartbeats that got through was sent; None for an observer that sends none."""
    _last_answered_at: float = attrs.field(default=-math.inf, init=False)
    """When that one was answered."""
    _last_failed_at: float = attrs.field(default=-math.inf, init=False)
    _blind_until: float = attrs.field(default=-math.inf, init=False)
    """Until when blindness is taken into account in the times of the first readings."""

    def note_reading(self, now: float) -> None:
        """Note that a reading of the store succeeded; if the observer was blind until now, count that time as no silence."""
        if self._last_read_at is not None and not self.is_fresh(now):
            since = self._last_read_at if self._last_sent_at is None else min(self._last_read_at, self._last_sent_at)
            # t=8   a heartbeat that was sent at t=0 is the last that got through, and a reading comes: blind for 8 s
            # t=10  the next one gets through: 2 s more, which is not 10 s more
            since = max(since - self.due_after_sec, self._blind_until)
            for name, (beat, at) in self._first_read.items():
                self._first_read[name] = (beat, at + (now - max(at, since)))
            self._blind_until = now
        self._last_read_at = now

    def note_own(self, sent: float, now: float) -> None:
        """Note that a heartbeat of the observer's own got through, which is a reading too."""
        self.note_reading(now)
        self._last_sent_at, self._last_answered_at = sent, now

    def note_failure(self, now: float, *, of_replacing: bool = False) -> None:
        """Note that a call of the observer's failed; if it was to replace suspects, the observer forgets everything."""
        self._last_failed_at = now
        if of_replacing:
            # t=0   the store answers readings and refuses writes: no heartbeat gets through
            # t=15  a process seems dead, and replacing its record fails too
            # t=20  the store takes writes again: repeated, that call would come before a heartbeat of the process, which lives
            self.clear()

    def note(self, name: str, beat: Beat, now: float) -> None:
        """Note that ``name`` was read with this incarnation and heartbeat."""
        before = self._first_read.get(name)
        if before is None or before[0] != beat:
            self._first_read[name] = (beat, now)

    def note_all(self, nodes: Iterable[Node], now: float) -> None:
        """Note a complete reading, and forget every node that is not in it."""
        self.note_reading(now)
        present = set()
        for node in nodes:
            present.add(node.name)
            self.note(node.name, node.beat, now)
        for name in self._first_read.keys() - present:
            del self._first_read[name]

    def is_fresh(self, now: float) -> bool:
        """Return whether the observer was not blind since its last reading and its last heartbeat, which are recent enough."""
        if self._last_read_at is None or now - self._last_read_at > self.blind_after_sec:
            return False
        if self._last_sent_at is None:
            return self._last_failed_at < self._last_read_at or now - self._last_read_at <= self.doubt_after_sec
        # t=0    each call takes 4.5 s, and the observer sends a heartbeat: if a call fails, the store may be away since t=0
        # t=4.5  it is answered, and the next one at t=9.5: if none fails, the answers are as close as in a fast store
        if self._last_failed_at >= self._last_sent_at:
            return now - self._last_sent_at <= self.doubt_after_sec
        return now - self._last_answered_at <= self.blind_after_sec

    def first_read_at(self, name: str) -> float | None:
        """Return when the last heartbeat of ``name`` was first read; None if none was."""
        reading = self._first_read.get(name)
        return None if reading is None else reading[1]

    def suspects(self, timeouts: Mapping[str, float], now: float) -> dict[str, Beat]:
        """Return the suspects among ``timeouts`` (name -> timeout in seconds), with the heartbeat each stopped at.

        An observer that is blind suspects none.
        """
        found: dict[str, Beat] = {}
        if not self.is_fresh(now):
            return found
        for name, timeout in timeouts.items():
            reading = self._first_read.get(name)
            if reading is not None and now >= reading[1] + timeout:
                found[name] = reading[0]
        return found

    def next_suspicion(self, timeouts: Mapping[str, float]) -> float | None:
        """Return when the next of ``timeouts`` becomes suspect if it stays silent; None if none was read."""
        times = [self._first_read[name][1] + timeout for name, timeout in timeouts.items() if name in self._first_read]
        return min(times, default=None)

    def clear(self) -> None:
        """Forget everything."""
        self._first_read.clear()
        self._last_read_at = None
