"""One delayed call of a function, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty

from jobsync._runtime import threads

__all__ = ['Alarm']


class Alarm:
    """Calls a function once, some seconds after ``set``. Any thread may call any method."""

    def __init__(self, node_name: str, seconds: float, act: Callable[[], object]) -> None:
        self._node_name, self._seconds, self._act = node_name, seconds, act
        self._end: threads.Queue[None] | None = None
        """What the thread of the call that is due waits for."""

    def set(self) -> None:
        """Call the function after ``seconds``, unless a call is due already."""
        if self._end is None:
            end: threads.Queue[None] = threads.new_queue()
            # t=0  set: the process cannot start another thread, and start() raises
            # t=1  set again: _end is still None, so this call tries again
            # Stored before start(), the end of a thread that never ran would keep every later call out.
            with suppress(RuntimeError):
                threads.start(self._node_name, 'alarm', partial(self._wait, end))
                self._end = end

    def cancel(self) -> None:
        """Drop the call that is due. A call under way goes on."""
        end, self._end = self._end, None
        if end is not None:
            end.put(None)

    def _wait(self, end: threads.Queue[None]) -> None:
        try:
            end.get(timeout=self._seconds)
        except Empty:
            self._end = None
            self._act()
