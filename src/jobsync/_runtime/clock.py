"""The clock of leases: never goes back, and counts the time a machine is suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ['now']

now: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, 'CLOCK_BOOTTIME') else time.monotonic
"""Seconds since some moment. ``CLOCK_BOOTTIME`` where there is one; elsewhere the monotonic clock, which on some systems stands
still while the machine sleeps (a laptop's lid, not a server's pause)."""
