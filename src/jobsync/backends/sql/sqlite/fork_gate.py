"""Keeps a fork of the process from falling into a call of SQLite.

::

    t=0  a thread is in SQLite, and holds a lock of the library, such as the one on its memory
    t=1  the main thread forks: in the child the lock is taken, and no thread is left that would release it
    t=2  the child opens a file with SQLite, and waits for ever

So a fork waits until the threads of jobsync are out of SQLite, and keeps others from entering meanwhile. Statements over
connections of the user's own are not counted. Then it closes the connections, which the next call of the parent opens again::

    t=0  the main thread forks. The child has SQLite's list of open files, by which this process has its locks on the database
    t=1  the child opens the database: SQLite takes no lock for it, since it has them by that list. The system has them for the
         parent alone
    t=2  the parent closes its connections. It finds no lock of another process, and so removes the log under the child

What cannot be closed stays in the list: the connection of a call that takes longer than a fork waits, or that the fork
interrupts, and one of the user's in the midst of a transaction.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from jobsync.backends._common.fork_gate import ForkGate

__all__ = ['close_before_fork', 'in_sqlite']

LONGEST_SEC = 5.0
"""How long a fork waits, and keeps others waiting: a call may take long, and a fork must not hang for that.

As long as a call takes by default. No lease of the default length ends meanwhile.
"""

_gate = ForkGate(waits_sec=LONGEST_SEC, holds_sec=LONGEST_SEC)
in_sqlite = _gate.passed
_closing: list[Callable[[], object]] = []


def close_before_fork(close: Callable[[], object]) -> None:
    """Call ``close`` before each fork, once no thread of jobsync's is in SQLite; not at all if one stays there."""
    _closing.append(close)


def _shut() -> None:
    _gate.shut()
    if not _gate.under_way():
        for close in _closing:
            close()


os.register_at_fork(before=_shut, after_in_parent=_gate.reopen)
