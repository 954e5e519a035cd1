"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.support.timings import DEADLINE_SEC

from jobsync import Job

__all__ = ['DEADLINE_SEC', 'wait_for_progress', 'wait_until']

_pause = threading.Event()


def wait_until(condition: Callable[[], object], what: str, deadline_sec: float = DEADLINE_SEC) -> float:
    """Return once ``condition`` holds, after how many seconds; fail at the deadline."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        assert waited < deadline_sec, f'not within {deadline_sec:g} s: {what}'
        _pause.wait(0.01)
    return time.monotonic() - started


def wait_for_progress(job: Job, times: int) -> None:
    """Return once the job has made progress so many times, one after the other."""
    lease = job._session.lease
    assert lease is not None
    for _ in range(times):
        lease.has_progressed = False
        wait_until(lambda: lease.has_progressed, 'there is progress')
