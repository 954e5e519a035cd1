"""``handle_signals``: from SIGTERM and SIGINT to a block that ends in good order."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from jobsync.errors import JobsyncError
from jobsync.membership import Membership

__all__ = ['Signals']

_logger = logging.getLogger('jobsync.job')
_CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The handlers of one job, from its entering to its leaving.

    The first signal asks the node to leave and lets the program go on: its loop ends for want of tasks, and so does its block. If
    the block has not ended when ``shutdown_timeout_sec`` is over, or at a second signal, ``SystemExit`` is raised in it.
    """

    def __init__(self, member: Membership, shutdown_timeout_sec: float) -> None:
        self._member, self._shutdown_timeout_sec = member, shutdown_timeout_sec
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None
        self._is_late = False
        self.caught = False
        """Whether a signal has come."""
        self.is_leaving = False
        """Whether the block is being left: then there is nothing to interrupt."""

    def catch(self) -> None:
        """Handle the signals, unless it does already. Only Python's main thread can begin to."""
        if self._before:
            return
        if threading.current_thread() is not threading.main_thread():
            raise JobsyncError(
                f'job {self._member.node_name!r}: handle_signals=True works in the main thread only; enter the job there, or '
                'handle signals yourself'
            )
        for number in _CAUGHT:
            self._before[number] = signal.signal(number, self._handle)

    def let_go(self) -> None:
        """Put the handlers back that were there before."""
        if self._timer is not None:
            self._timer.cancel()
        if threading.current_thread() is threading.main_thread():
            while self._before:
                number, handler = self._before.popitem()
                signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self.caught:
            self.caught = True
            self._member.begin_to_leave()
            self._timer = threading.Timer(self._shutdown_timeout_sec, self._end, (number,))
            self._timer.daemon = True
            self._timer.start()
            return
        self._member.begin_to_leave(at_once=True)
        if not self.is_leaving:
            raise SystemExit(0 if self._is_late else 128 + number)

    def _end(self, number: int) -> None:
        self._is_late = True
        os.kill(os.getpid(), number)
