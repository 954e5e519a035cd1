"""Calls of the store that the end of a block waits for, and does not hang with."""

from __future__ import annotations

from collections.abc import Callable

from jobsync._runtime import clock, threads
from jobsync._worker.store_calls import PendingCall
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['call_beside']

_CHECK_SEC = 0.1
"""How often the wait checks whether it has been long enough."""


def call_beside(node_name: str, action: Callable[[], object], go_on: Callable[[float], bool]) -> JobsyncError | None:
    """Call a function in a thread of its own, and return the error of jobsync that it raises, if any. Other errors are raised.

    ``go_on`` is given for how many seconds this has waited, and says whether to wait longer.
    """
    # t=0   a signal has come, and the block is to end; the store hangs
    # t=20  shutdown_timeout_sec is over. A call of this thread would go on for bulk_timeout_sec
    call = PendingCall(lambda _: action())
    thread: threads.Running | None = None
    try:
        thread = threads.start(node_name, 'records', call.make)
    except RuntimeError:  # the process can start none any more
        call.make()
    started = clock.now()
    while not call.wait(_CHECK_SEC):
        # t=0  there is no memory for a step of the thread: it ends without an outcome
        # t=1  this thread would wait for that for as long as it may, which is for ever where nothing hurries it
        # The second ``wait`` is for an outcome that came just before the end.
        if thread is not None and not thread.is_alive() and not call.wait(0):
            thread = None
            call.make()
        elif not go_on(clock.now() - started):
            return BackendUnavailable('the store has not answered yet')
    try:
        call.result()
    except JobsyncError as error:
        # Its traceback has this frame, and so its callers: with one that keeps the error they would be garbage.
        return error.with_traceback(None)
    return None
