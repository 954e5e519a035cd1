"""Ctrl-C and SIGTERM as an exception: a run ends its processes and keeps its measurements."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ['Interrupted', 'interruptible', 'run_interruptible']

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal was received. ``except Exception`` does not catch this."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)

    @property
    def status(self) -> int:
        """The exit status after this signal."""
        return 128 + self.signal


def run_interruptible(action: Callable[[], object]) -> NoReturn:
    """Run an action as a whole program, and exit. After a signal the exit status is that of the signal."""
    try:
        with interruptible():
            action()
    except Interrupted as stopped:
        sys.exit(stopped.status)
    sys.exit(0)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make the first signal raise ``Interrupted`` in the main thread. Later signals are ignored during the clean-up."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
