"""Measurements of the time that calls take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ['cpu_seconds', 'per_call', 'seconds']

T = TypeVar('T')


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """Return the elapsed seconds of one call, with the work of other programs."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def cpu_seconds(call: Callable[..., object], *arguments: object) -> float:
    """Return the CPU seconds of this thread for one call. Other load makes them less exact."""
    start = time.thread_time()
    call(*arguments)
    return time.thread_time() - start


def per_call(call: Callable[[T], object], arguments: Sequence[T]) -> float:
    """Return the CPU seconds per call, over one call for each of ``arguments``. The loop is included."""
    start = time.thread_time()
    for argument in arguments:
        call(argument)
    return (time.thread_time() - start) / len(arguments)
