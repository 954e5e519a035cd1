"""Interrupt a process in the middle of a write: just before one of the function calls that the write makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from random import Random
from types import FrameType, TracebackType

__all__ = ['CallCounter', 'spread']


class CallCounter:
    """Counts the function calls of a ``with`` block in this thread, and runs ``action`` just before call number ``at``."""

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        self.count = 0
        self._at, self._action = at, action

    def _step(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in ('call', 'c_call'):
            self.count += 1
            if self.count == self._at:
                self._action()

    def __enter__(self) -> CallCounter:
        sys.setprofile(self._step)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        sys.setprofile(None)


def spread(random: Random, calls: int, count: int) -> Iterator[int]:
    """Yield the number of a random call in each of ``count`` equal parts of ``calls``."""
    for part in range(count):
        yield 1 + int((part + random.random()) * calls / count)
