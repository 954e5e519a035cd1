"""One delayed call of a function, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import Empty

import attrs

from jobsync._runtime import threads

__all__ = ['Alarm']


@attrs.define(eq=False)
class _DueCall:
    """A call that is due, or under way."""

    end: threads.Queue[None] = attrs.field(factory=lambda: threads.new_queue())
    """What its thread waits for."""
    thread: threads.Running | None = None
    """None until it is known to be started."""

    @property
    def is_lost(self) -> bool:
        """Return whether its thread is over. One for whose first step there was no memory does not take its call back."""
        return self.thread is not None and not self.thread.is_alive()


class Alarm:
    """Calls a function some seconds after ``set``, one call at a time. Any thread may call any method."""

    def __init__(self, node_name: str, seconds: float, act: Callable[[], object]) -> None:
        self._node_name, self._seconds, self._act = node_name, seconds, act
        self._call: _DueCall | None = None
        self._is_wanted = False

    def set(self) -> None:
        """Call the function after ``seconds``, unless a call is due already; after the one that is under way, if there is one."""
        self._is_wanted = True
        call = self._call
        if call is None or call.is_lost:
            # t=0  set: the thread is started, and this one gets no turn
            # t=1  the thread makes its call and is over; _call is None
            # t=2  this one would store the call of that thread, which would keep every later one out
            # So the call is stored first, and taken back if no thread can be started: then the next call tries again.
            call = self._call = _DueCall()
            try:
                call.thread = threads.start(self._node_name, 'alarm', partial(self._wait, call))
            except BaseException as error:
                if self._call is call:
                    self._call = None
                if not isinstance(error, RuntimeError):
                    raise

    def cancel(self) -> None:
        """Drop the call that is due. A call under way goes on."""
        self._is_wanted = False
        call, self._call = self._call, None
        if call is not None:
            call.end.put(None)

    def _wait(self, call: _DueCall) -> None:
        # t=0  a call begins, and takes a minute: the store hangs
        # t=1  set: another thread would make another call, and one more after each half second
        try:
            while self._is_wanted and self._is_due(call.end):
                self._is_wanted = False
                self._act()
        finally:
            if self._call is call:
                self._call = None
        # t=0  this thread finds that no call is wanted any more
        # t=1  set: a thread is there, so none is started
        # t=2  this thread is over, and here it finds that a call is wanted after all
        if self._is_wanted:
            self.set()

    def _is_due(self, end: threads.Queue[None]) -> bool:
        """Wait until the next call is due; return False if it is cancelled."""
        try:
            end.get(timeout=self._seconds)
        except Empty:
            return True
        return False
