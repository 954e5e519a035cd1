"""Starting threads where a signal's handler may raise between any two steps: in the main thread."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable

__all__ = ['others_run', 'start']

STARTING_SEC = 30.0
"""How long a thread may take to start."""


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

    def run() -> None:
        try:
            make().start()
            started.append(True)
        except (RuntimeError, MemoryError):  # the process cannot start another thread now
            pass
        finally:
            is_tried.release()

    is_tried.acquire()
    try:
        _thread.start_new_thread(run, ())
    except (RuntimeError, MemoryError):
        return False
    # t=0  memory is short: the new thread ends before its first step, and Python only prints that
    # t=1  nothing will ever release the lock, nor set the event for which ``Thread.start`` waits in the other thread
    # So the wait has an end. A thread that is only slow, and starts after it, does no harm to any caller.
    return is_tried.acquire(timeout=within_sec) and bool(started)
