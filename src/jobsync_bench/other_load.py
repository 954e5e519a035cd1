"""The load that other programs put on the machine while something is measured."""

from __future__ import annotations

import time
from contextlib import suppress

import attrs
import psutil

__all__ = ['CALM_CORES', 'UsedSoFar', 'other_cores']

CALM_CORES = 0.25
"""A measurement during which others used more cores than this is of a busy machine."""
_IDLE = ('idle', 'iowait')
_COUNTED_TWICE = ('guest', 'guest_nice')
"""Parts of ``user`` and ``nice``."""


@attrs.frozen
class UsedSoFar:
    """The CPU time that was used up to a moment."""

    moment: float
    whole_sec: float
    """By all programs, and by other guests of the host (steal), since the start of the machine."""
    own_sec: float
    """By this process and the processes below it, also those that have ended."""

    @classmethod
    def now(cls) -> UsedSoFar:
        """Read the counters of the system."""
        times = psutil.cpu_times()._asdict()
        whole = sum(value for name, value in times.items() if name not in (*_IDLE, *_COUNTED_TWICE))
        this, own = psutil.Process(), 0.0
        for process in (this, *this.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # what it used is among its parent's children's
                used = process.cpu_times()
                own += used.user + used.system + used.children_user + used.children_system
        return cls(time.monotonic(), whole, own)


def other_cores(since: UsedSoFar, until: UsedSoFar) -> float:
    """Return how many cores others used on average between two moments."""
    others = (until.whole_sec - since.whole_sec) - (until.own_sec - since.own_sec)
    return max(0.0, others / max(until.moment - since.moment, 1e-3))
