"""Starting threads where a signal's handler may raise between any two steps: in the main thread."""

from __future__ import annotations

import _thread
import mmap
import sys
import threading
import weakref
from collections.abc import Callable
from time import monotonic  # by name: threads are real, also where a test's time is virtual

__all__ = ['others_run', 'start']

STARTING_SEC = 30.0
"""How long a thread may take to start."""
_CHECK_SEC = 0.05
"""How often the wait for a thread checks whether that has ended."""
_ROOM_BYTES = 2**22
"""How much memory there must be for a thread to be started: for its first steps Python requests a megabyte or two at once."""


class _Argument:
    """What a thread has until its end, also one that ends before its first step. Python then loses track of the function."""


def others_run() -> bool:
    """Return whether threads besides the present one can run."""
    # t=0  the main program is over, and so is what ``atexit`` has called
    # t=1  the interpreter ends: no other thread gets a turn any more, nor can one start
    # t=2  the main thread frees what is left: a ``__del__`` of the program's uses a job, or a claim loop that was left is closed
    # A wait for another thread, or for a lock that one had at t=1, would be for ever.
    return not sys.is_finalizing()


def start(make: Callable[[], threading.Thread], within_sec: float = STARTING_SEC) -> bool:
    """Start the thread that ``make`` returns, and lose no exception of a signal's handler; return whether it could be started.

    ``make`` is called in another thread. ``within_sec`` is how long to wait for it.
    """
    if not others_run():
        return False
    # t=0  main thread: ``Thread.start`` waits on a condition, whose lock is released
    # t=1  a signal's handler raises SystemExit there
    # t=2  main thread: the block of the lock ends, and ``RuntimeError('release unlocked lock')`` takes the place of SystemExit;
    #      so does the code that starts a thread when there can be no more of them. The program goes on as if no signal had come
    # A thread that has ended, and that the main thread is the last to refer to, is no better: Python drops what a handler raises
    # while a weak reference to the thread is cleared. So a thread in which no handler runs does both.
    is_tried, started = _thread.allocate_lock(), list[bool]()

    def run(_: _Argument) -> None:
        try:
            thread = make()
            # t=0  there is memory for this thread, and none for a step of the next one: that ends before its first step
            # t=1  ``Thread.start`` waits here for ever, and the thread that waits for this one as long as it may
            mmap.mmap(-1, _ROOM_BYTES).close()
            thread.start()
            started.append(True)
        except (RuntimeError, MemoryError, OSError):  # the process cannot start another thread now
            pass
        finally:
            is_tried.release()

    is_tried.acquire()
    try:
        argument = _Argument()
        running = weakref.ref(argument)
        _thread.start_new_thread(run, (argument,))
    except (RuntimeError, MemoryError):
        return False
    del argument  # from here on only the new thread refers to it
    # t=0  memory is short: the new thread ends before its first step, and Python only prints that
    # t=1  nothing will ever release the lock, nor set the event for which ``Thread.start`` waits in the other thread
    # The wait ends with the first of the two threads. If it is the second that ends so, the wait ends after ``within_sec``. A
    # thread that is only slow, and starts after that, does no harm to any caller.
    until = monotonic() + within_sec
    while not is_tried.acquire(timeout=max(0.0, min(_CHECK_SEC, until - monotonic()))):
        if running() is None or monotonic() >= until:
            return is_tried.acquire(blocking=False) and bool(started)  # it may have come to its end just now
    return bool(started)
