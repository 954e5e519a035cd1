"""Calls of the backend on behalf of the user: repeated for a while if the store does not answer, and known to be under way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from jobsync.errors import BackendUnavailable

__all__ = ['Caller']

T = TypeVar('T')
_logger = logging.getLogger('jobsync.job')
_QUIET_SEC = 1.0
"""How long a call is repeated without a word."""


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
            before_sleep=_Complaint(),
            reraise=True,
        )
        self._depth += 1
        try:
            return retrying(action)
        finally:
            self._depth -= 1


class _Complaint:
    """Tells once, of a call that is repeated for longer than a moment, why."""

    def __init__(self) -> None:
        self._is_made = False

    def __call__(self, state: RetryCallState) -> None:
        if not self._is_made and state.outcome is not None and (state.seconds_since_start or 0) >= _QUIET_SEC:
            self._is_made = True
            _logger.warning('asking the store again: %s', state.outcome.exception())
