"""Threads whose end can be awaited while signals are handled."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ['Awaited']

_LOOK_SEC = 0.5


class Awaited:
    """A thread, which runs from its construction on.

    ``Thread.join`` does not do here: after an exception of a signal handler in ``join``, CPython before 3.13 treats the thread
    as ended.
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
        """Wait for the end of the action."""
        while not self._over.wait(_LOOK_SEC):
            pass
