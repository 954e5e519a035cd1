"""One delayed call of a function, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ['Alarm']


class Alarm:
    """Calls a function once, some seconds after ``set``. Any thread may call any method."""

    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        self._seconds, self._act = seconds, act
        self._timer: threading.Timer | None = None

    def set(self) -> None:
        """Call the function after ``seconds``, unless a call is due already."""
        if self._timer is None:
            timer = threading.Timer(self._seconds, self._ring)
            timer.daemon = True
            # t=0  set: the process cannot start another thread, and start() raises
            # t=1  set again: _timer is still None, so this call tries again
            # Stored before start(), a timer that never ran would keep every later call out.
            with suppress(RuntimeError):
                timer.start()
                self._timer = timer

    def cancel(self) -> None:
        """Drop the call that is due. A call under way goes on."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        self._act()
