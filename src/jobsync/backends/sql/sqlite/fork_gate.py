"""Keeps a fork of the process from falling into a call of SQLite.

::

    t=0  a thread is in SQLite, and holds a lock of the library, such as the one on its memory
    t=1  the main thread forks: in the child the lock is taken, and no thread is left that would release it
    t=2  the child opens a file with SQLite, and waits for ever

So a fork waits until the threads of jobsync are out of SQLite, and keeps others from entering meanwhile. Statements over
connections of the user's own are not counted.
"""

from __future__ import annotations

import os

from jobsync.backends._common.fork_gate import ForkGate

__all__ = ['in_sqlite']

LONGEST_SEC = 1.0
"""How long a fork waits, and keeps others waiting: a call may take long, and a fork must not hang for that."""

_gate = ForkGate(waits_sec=LONGEST_SEC, holds_sec=LONGEST_SEC)
in_sqlite = _gate.passed
os.register_at_fork(before=_gate.shut, after_in_parent=_gate.reopen)
