"""Wakes an event loop now and then, so that Python calls the handler of a signal that has come to it unseen."""

from __future__ import annotations

import asyncio

__all__ = ['SignalTimer']

WAKE_SEC = 1.0
"""How long a signal may be unseen."""


class SignalTimer:
    """A timer of an event loop that has nothing to do but to begin again.

    Python calls a handler in the main thread, between two of its steps. A signal that comes while the loop waits ends the wait::

        t=0  the loop has nothing to do, and is about to wait for a file or a timer
        t=1  a signal comes, to this thread or to another one: Python notes it
        t=2  this thread begins to wait: the handler is called once the loop wakes, on a quiet one never

    A descriptor for ``signal.set_wakeup_fd`` would end that wait at once, but a process has only one, which may be the program's.
    """

    def __init__(self) -> None:
        self._next: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the loop from now on."""
        self._next = loop.call_later(WAKE_SEC, self.begin, loop)

    def end(self) -> None:
        """Wake it no longer."""
        if self._next is not None:
            self._next.cancel()
