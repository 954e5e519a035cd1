"""Becoming the one writer that SQLite allows, in turns.

SQLite keeps no queue: the process that tries at the right moment is next. Its own pauses between two attempts grow, which favours
newcomers, and a process that writes again and again tries at the right moment most often:

    t=0  process a commits; b, which waits to write, is in a pause
    t=1  a begins its next transaction at once
    t=2  b tries again, finds the file locked, and pauses for longer

Pauses that are always short are fair to a few processes and the end of hundreds: their attempts take the processors from the one
that writes, so the file stays locked for longer and still more of them try. So three things are done here:

- A process counts how often it finds the file free, and pauses for longer the rarer that is. All of them see the same file, so
  they come to like pauses.
- The longer a call has waited, the shorter its pauses.
- A process that has met others pauses after its own commit too.
"""

from __future__ import annotations

import sqlite3
import time

from jobsync._random import RANDOM

__all__ = ['WriteQueue']

PAUSE_SEC = (0.002, 0.5)
"""The shortest and longest pause between two attempts, before chance is added. A commit takes about as long as the shortest."""
_EVEN_SEC = 0.0008
"""A pause is this, divided by the square of the share of attempts that find the file free: a square, so that the attempts of
hundreds of processes take no more than a part of a processor."""
_WEIGHT = 0.02
"""How much one attempt changes that share."""
_IMPATIENCE = (0.01, 3.0)
"""By what a pause is multiplied: at most, for a call that has just begun; this less one for each second; at least."""
REMEMBERED_SEC = 1.0
"""How long a process that had to wait assumes that other processes write."""


class WriteQueue:
    """The writes of one process, whose threads share it without a lock: a race between them costs a pause at most."""

    def __init__(self) -> None:
        self._met_others = -REMEMBERED_SEC
        self._wrote = -REMEMBERED_SEC
        self._free = 0.5
        """The share of attempts that found the file free, of which the last ones count most."""

    def begin(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Begin a transaction that may write; SQLITE_BUSY if other processes write until ``deadline``."""
        began = now = time.monotonic()
        time.sleep(self.first_pause(now))
        while True:
            try:
                # SQLite refuses at once to upgrade a reader to a writer, so a transaction that may write begins as a writer.
                connection.execute('BEGIN IMMEDIATE')
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                self.refused(now)
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now >= deadline:
                    raise
            else:
                self.granted()
                return
            time.sleep(min(self.pause(now - began), max(deadline - now, 0.0)))

    def first_pause(self, now: float) -> float:
        """Return the seconds before the first attempt of a call: 0, unless this process has just written and others wait."""
        if now - self._met_others >= REMEMBERED_SEC or now - self._wrote >= PAUSE_SEC[1]:
            return 0.0
        return max(self.pause(_IMPATIENCE[1] - 1) - (now - self._wrote), 0.0)

    def pause(self, waited: float) -> float:
        """Return the seconds between an attempt of a call that has waited so long, and the next."""
        impatience = max(_IMPATIENCE[1] - waited, _IMPATIENCE[0])
        even = _EVEN_SEC / self._free**2 * impatience
        return min(max(even, PAUSE_SEC[0]), PAUSE_SEC[1]) * RANDOM.uniform(0.5, 1.5)

    def refused(self, now: float) -> None:
        """Record that another process was found writing."""
        self._met_others = now
        self._free -= _WEIGHT * self._free

    def granted(self) -> None:
        """Record that this process writes."""
        self._free += _WEIGHT * (1 - self._free)

    def wrote(self) -> None:
        """Record that this process has committed."""
        self._wrote = time.monotonic()
