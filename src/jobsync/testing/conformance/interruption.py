"""Stop or kill a process in the middle of a write: just before one of the function calls that the write makes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from random import Random
from types import FrameType, TracebackType

from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['CallCounter', 'kill', 'spread', 'stop', 'stopped']


def stop() -> None:
    """Stop this process until another process sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def kill() -> None:
    """Kill this process without notice."""
    os.kill(os.getpid(), signal.SIGKILL)


class CallCounter:
    """Counts the function calls of a ``with`` block in this thread, and runs ``action`` just before call number ``at``."""

    def __init__(self, at: int = 0, action: Callable[[], None] = stop) -> None:
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


def stopped(pid: int, is_over: Callable[[], bool]) -> bool:
    """Wait until a child process has stopped itself; return False if its work is over before."""
    deadline = time.monotonic() + DEADLINE_SEC
    while time.monotonic() < deadline:
        found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        if found is not None:
            return True
        if is_over():
            return False
        time.sleep(0.001)
    raise AssertionError(f'process {pid} has neither stopped nor ended its work after {DEADLINE_SEC} s')


def spread(random: Random, calls: int, count: int) -> Iterator[int]:
    """Yield the number of a random call in each of ``count`` equal parts of ``calls``."""
    for part in range(count):
        yield 1 + int((part + random.random()) * calls / count)
