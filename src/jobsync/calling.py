"""Calls of the backend on behalf of the user: repeated for a while if the store does not answer, and known to be under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from jobsync.errors import BackendUnavailable

__all__ = ['Caller']

T = TypeVar('T')


class Caller(threading.local):
    """Makes the calls, and knows for each thread whether it is inside one."""

    def __init__(self, patience_sec: float) -> None:
        """``patience_sec``: how long a store that does not answer is asked again."""
        self._patience_sec = patience_sec
        self._depth = 0

    @property
    def is_calling(self) -> bool:
        """Whether the present thread (or what a signal has interrupted in it) is inside a call."""
        return self._depth > 0

    def call(self, action: Callable[[], T], while_: Callable[[], bool] | None = None) -> T:
        """Do ``action``, which may be repeated verbatim, until the store answers, patience ends or ``while_`` says no.

        Raises what ``action`` raises, ``BackendUnavailable`` after the last attempt.
        """
        self._depth += 1
        try:
            until = time.monotonic() + self._patience_sec
            failed = []
            try:
                return action()
            except BackendUnavailable as error:
                failed.append(error)
            # Only now, for what it needs takes a tenth of the time that all of jobsync takes to import.
            from jobsync.asking import ask_again

            return ask_again(action, failed, while_ or (lambda: time.monotonic() < until))
        finally:
            self._depth -= 1
