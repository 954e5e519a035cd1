"""Calls of the backend on behalf of the user: repeated for a while if the store does not answer, and known to be under way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

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
        patience = stop_after_delay(self._patience_sec)
        retrying = Retrying(
            retry=retry_if_exception_type(BackendUnavailable),
            stop=patience if while_ is None else lambda _: not while_(),
            wait=wait_exponential(multiplier=0.05, max=1.0) + wait_random(0, 0.05),
            reraise=True,
        )
        self._depth += 1
        try:
            return retrying(action)
        finally:
            self._depth -= 1
