"""Calls of the store that the end of a block waits for, and does not hang with."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty

from jobsync._runtime import clock, threads
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
    outcome: threads.Queue[BaseException | None] = threads.new_queue()

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised again below
            outcome.put(error)
        else:
            outcome.put(None)

    thread: threads.Running | None = None
    try:
        thread = threads.start(node_name, 'records', act)
    except RuntimeError:  # the process can start none any more
        act()
    started, has_ended = clock.now(), False
    while True:
        try:
            error = outcome.get(timeout=_CHECK_SEC)
        except Empty:
            # t=0  there is no memory for a step of the thread: it ends without an outcome
            # t=1  this thread would wait for that for as long as it may, which is for ever where nothing hurries it
            # Found here twice: an outcome that came just before the end is there by now.
            if has_ended:
                thread, has_ended = None, False
                act()
            elif not go_on(clock.now() - started):
                return BackendUnavailable('the store has not answered yet')
            else:
                has_ended = thread is not None and not thread.is_alive()
        else:
            if error is None or isinstance(error, JobsyncError):
                return error
            raise error
