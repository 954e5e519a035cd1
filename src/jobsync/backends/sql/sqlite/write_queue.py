"""Becoming the one writer that SQLite allows, in turns.

SQLite keeps no queue: the process that tries at the right moment is next. Its own pauses between two attempts grow, which favours
newcomers, and a process that writes again and again tries at the right moment most often:

    t=0  process a commits; b, which waits to write, is in a pause
    t=1  a begins its next transaction at once
    t=2  b tries again, finds the file locked, and pauses for longer

So pauses here are short and do not grow, and a process that has met others pauses after its own commit.
"""

from __future__ import annotations

import random
import sqlite3
import time

__all__ = ['WriteQueue']

PAUSE_SEC = (0.002, 0.006)
"""The shortest and longest pause between two attempts: about the time of a commit, most of which is the disk's."""
REMEMBERED_SEC = 1.0
"""How long a process that had to wait assumes that other processes write."""


class WriteQueue:
    """The writes of one process, whose threads share it without a lock: a race between them costs a pause at most."""

    def __init__(self) -> None:
        self._met_others = -REMEMBERED_SEC
        self._wrote = -REMEMBERED_SEC

    def begin(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Begin a transaction that may write; SQLITE_BUSY if other processes write until ``deadline``."""
        now = time.monotonic()
        if now - self._met_others < REMEMBERED_SEC and now - self._wrote < PAUSE_SEC[1]:
            time.sleep(PAUSE_SEC[1])
        while True:
            try:
                # SQLite refuses at once to upgrade a reader to a writer, so a transaction that may write begins as a writer.
                connection.execute('BEGIN IMMEDIATE')
            except sqlite3.OperationalError as error:
                self._met_others = time.monotonic()
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._met_others >= deadline:
                    raise
            else:
                return
            time.sleep(random.uniform(*PAUSE_SEC))

    def wrote(self) -> None:
        """Record that this process has committed."""
        self._wrote = time.monotonic()
