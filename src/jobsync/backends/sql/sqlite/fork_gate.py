"""Keeps a fork of the process from falling into a call of SQLite.

::

    t=0  a thread is in SQLite, and holds a lock of the library, such as the one on its memory
    t=1  the main thread forks: in the child the lock is taken, and no thread is left that would release it
    t=2  the child opens a file with SQLite, and waits for ever

So a fork waits until the threads of jobsync are out of SQLite, and keeps others from entering meanwhile. Statements over
connections of the user's own are not counted.

Neither side takes a lock, since a signal's handler may raise in the main thread between any two steps: a lock of Python's that it
has just taken would stay taken, and the node's own thread would wait for it. Each side makes its mark first, and then reads the
other's::

    thread     makes its mark     reads that no fork is under way: it goes on
    fork                          makes its mark     reads the mark of the thread: it waits
    or
    fork       makes its mark     reads no other mark: it goes on
    thread                        makes its mark     reads that a fork is under way: it takes its mark back, and waits
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

__all__ = ['in_sqlite']

LONGEST_SEC = 1.0
"""How long a fork waits, and keeps others waiting: a call may take long, and a fork must not hang for that."""
_POLL_SEC = 0.0005


class _ForkGate:
    def __init__(self) -> None:
        self._blocks: dict[object, int] = {}
        """For each block that a thread is in: the thread."""
        self._forks: dict[int, float] = {}
        """For each thread that forks: until when it keeps others waiting."""

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Run a block in which SQLite is called."""
        block, here = object(), threading.get_ident()
        # A thread that is inside already is one that a fork waits for: it must not wait for the fork.
        is_within = here in self._blocks.copy().values()
        try:
            self._blocks[block] = here
            while not is_within and self._is_forked_beside(here):
                del self._blocks[block]
                time.sleep(_POLL_SEC)
                self._blocks[block] = here
            yield
        finally:
            self._blocks.pop(block, None)

    def _is_forked_beside(self, here: int) -> bool:
        now = time.monotonic()
        return any(thread != here and now < until for thread, until in self._forks.copy().items())

    def before_fork(self) -> None:
        here, until = threading.get_ident(), time.monotonic() + LONGEST_SEC
        self._forks[here] = until
        while any(thread != here for thread in self._blocks.copy().values()) and time.monotonic() < until:
            time.sleep(_POLL_SEC)

    def after_fork(self) -> None:
        self._forks.pop(threading.get_ident(), None)

    def after_fork_in_child(self) -> None:
        here = threading.get_ident()
        self._forks.clear()
        for block, thread in self._blocks.copy().items():
            if thread != here:
                del self._blocks[block]


_gate = _ForkGate()
in_sqlite = _gate.inside
os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=_gate.after_fork_in_child)
