"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.support.timings import DEADLINE_SEC

__all__ = ['DEADLINE_SEC', 'wait_until']

_pause = threading.Event()


def wait_until(condition: Callable[[], object], what: str, deadline_sec: float = DEADLINE_SEC) -> float:
    """Return once ``condition`` holds, after how many seconds; fail at the deadline."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        assert waited < deadline_sec, f'not within {deadline_sec:g} s: {what}'
        _pause.wait(0.01)
    return time.monotonic() - started
