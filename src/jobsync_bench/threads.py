"""Threads that can be waited for while signals come."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ['Awaited']

_LOOK_SEC = 0.5


class Awaited:
    """A thread, from its construction.

    ``Thread.join`` is no good here: interrupted by the exception of a signal handler, it takes the thread for ended (CPython
    before 3.13).
    """

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self._over = threading.Event()
        self._action = action
        threading.Thread(target=self._run, name=f'jobsync-bench-{name}', daemon=True).start()

    def _run(self) -> None:
        try:
            self._action()
        finally:
            self._over.set()

    def wait(self) -> None:
        """Until it is over."""
        while not self._over.wait(_LOOK_SEC):
            pass
