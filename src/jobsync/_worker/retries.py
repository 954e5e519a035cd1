"""Asking a store again that has not answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential, wait_random

from jobsync._event_log import EventLogger
from jobsync.errors import BackendUnavailable

__all__ = ['ask_again']

T = TypeVar('T')
_logger = EventLogger('jobsync.job')
_QUIET_SEC = 1.0
"""How long a call is repeated without a word."""


def ask_again(action: Callable[[], T], failed: list[BackendUnavailable], while_: Callable[[], bool]) -> T:
    """What ``action`` returns once the store answers; its last error when ``while_`` says no.

    It has been tried once: ``failed`` has what it raised, and is emptied.
    """

    def attempt() -> T:
        if failed:
            raise failed.pop()
        return action()

    retrying = Retrying(
        retry=retry_if_exception_type(BackendUnavailable),
        stop=lambda _: not while_(),
        wait=wait_exponential(multiplier=0.05, max=1.0) + wait_random(0, 0.05),
        before_sleep=_Complaint(),
        reraise=True,
    )
    return retrying(attempt)


class _Complaint:
    """Tells once, of a call that is repeated for longer than a moment, why."""

    def __init__(self) -> None:
        self._is_made = False

    def __call__(self, state: RetryCallState) -> None:
        if not self._is_made and state.outcome is not None and (state.seconds_since_start or 0) >= _QUIET_SEC:
            self._is_made = True
            _logger.warning('asking the store again: %s', state.outcome.exception())
