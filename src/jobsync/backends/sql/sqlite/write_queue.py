"""Becoming the one writer that SQLite allows, in turns.

SQLite keeps no queue: whoever asks in the right moment is next. Its own pauses between two attempts grow, which favours
newcomers, and a process that writes again and again asks most often in the right moment, just after its own commit, when
all others are asleep. So pauses here are short and do not grow, and a process that has met others lets them go first.
"""

from __future__ import annotations

import random
import sqlite3
import time

__all__ = ['WriteQueue']

PAUSE_SEC = (0.002, 0.006)
"""Between two attempts: a commit takes about as long, most of it until the disk has it."""
REMEMBERED_SEC = 1.0
"""How long a process that had to wait believes that there are others."""


class WriteQueue:
    """The writes of one process. Its threads may share it; a torn reading costs a pause."""

    def __init__(self) -> None:
        self._met_others = -REMEMBERED_SEC
        self._wrote = -REMEMBERED_SEC

    def begin(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Begin a transaction that may write; SQLITE_BUSY if others write until ``deadline``."""
        now = time.monotonic()
        if now - self._met_others < REMEMBERED_SEC and now - self._wrote < PAUSE_SEC[1]:
            time.sleep(PAUSE_SEC[1])
        while True:
            try:
                # An upgrade from reading to writing is refused without waiting, so what may write begins as a writer.
                connection.execute('BEGIN IMMEDIATE')
            except sqlite3.OperationalError as error:
                self._met_others = time.monotonic()
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._met_others >= deadline:
                    raise
            else:
                return
            time.sleep(random.uniform(*PAUSE_SEC))

    def wrote(self) -> None:
        """Note a commit."""
        self._wrote = time.monotonic()
