"""Keeps a fork of the process from falling into an import of jobsync's in another thread.

::

    t=0  a thread enters a job, the first one of the process: that imports the driver, under a lock of Python's for each module
    t=1  the main thread forks a worker: in the child these locks are taken, and no thread is left that would release them
    t=2  the child enters a job of its own, which imports the same modules: it waits for ever

So a fork waits until the imports of other threads are over, and keeps others from beginning meanwhile.
"""

from __future__ import annotations

import os

from jobsync.backends._common.fork_gate import ForkGate

__all__ = ['importing']

LONGEST_SEC = 10.0
"""How long a fork waits, and keeps others waiting. It may come as a module is imported, for whose end the other thread waits."""

_gate = ForkGate(waits_sec=LONGEST_SEC, holds_sec=LONGEST_SEC)
importing = _gate.passed
"""Returns a context to import in."""
os.register_at_fork(before=_gate.shut, after_in_parent=_gate.reopen)
