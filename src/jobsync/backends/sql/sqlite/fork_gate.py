"""Keeps a fork of the process from falling into a call of SQLite.

::

    t=0  a thread is in SQLite, and holds a lock of the library, such as the one on its memory
    t=1  the main thread forks: in the child the lock is taken, and no thread is left that would release it
    t=2  the child opens a file with SQLite, and waits for ever

So a fork waits until the threads of jobsync are out of SQLite, and keeps others from entering meanwhile. Statements over
connections of the user's own are not counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ['in_sqlite']

LONGEST_SEC = 1.0
"""How long a fork waits, and keeps others waiting: a call may take long, and a fork must not hang for that."""


class _ForkGate:
    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, depth: int) -> None:
        self._changed, self._here = threading.Condition(), threading.local()
        self._here.depth, self._threads, self._is_forking = depth, min(depth, 1), False

    @property
    def _depth(self) -> int:
        """How many blocks the present thread is in."""
        depth: int = getattr(self._here, 'depth', 0)
        return depth

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Run a block in which SQLite is called."""
        if not self._depth:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_forking, LONGEST_SEC)
                self._threads += 1
        self._here.depth = self._depth + 1
        try:
            yield
        finally:
            self._here.depth = self._depth - 1
            if not self._depth:
                with self._changed:
                    self._threads -= 1
                    self._changed.notify_all()

    def before_fork(self) -> None:
        self._changed.acquire()
        self._is_forking, mine = True, min(self._depth, 1)
        self._changed.wait_for(lambda: self._threads <= mine, LONGEST_SEC)

    def after_fork(self) -> None:
        self._is_forking = False
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        self._begin(self._depth)


_gate = _ForkGate()
in_sqlite = _gate.inside
os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=_gate.after_fork_in_child)
