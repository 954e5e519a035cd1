"""The clock of the logs."""

from __future__ import annotations

import time

__all__ = ['now']


def now() -> float:
    """Seconds of the clock that all processes of this host share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
