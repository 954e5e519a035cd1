"""How long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ['cpu_seconds', 'per_call', 'seconds']

T = TypeVar('T')


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """By the clock on the wall, which other programs' work is part of."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def cpu_seconds(call: Callable[..., object], *arguments: object) -> float:
    """Of this thread's CPU: a busy machine makes it less exact, but not wrong."""
    start = time.thread_time()
    call(*arguments)
    return time.thread_time() - start


def per_call(call: Callable[[T], object], arguments: Sequence[T]) -> float:
    """CPU seconds of one call, over one for each of ``arguments``; the loop itself is counted in."""
    start = time.thread_time()
    for argument in arguments:
        call(argument)
    return (time.thread_time() - start) / len(arguments)
