"""Ctrl-C and SIGTERM end a run as an exception does: what was started is ended, and what was measured is kept."""

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
    """A signal has come. No ``except Exception`` stands in its way."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)

    @property
    def status(self) -> int:
        """The exit status that says so."""
        return 128 + self.signal


def run_interruptible(action: Callable[[], object]) -> NoReturn:
    """Do something as a whole program: a signal ends it, with everything that it has started, and with a status that says so."""
    try:
        with interruptible():
            action()
    except Interrupted as stopped:
        sys.exit(stopped.status)
    sys.exit(0)


@contextmanager
def interruptible() -> Iterator[None]:
    """The first signal raises ``Interrupted`` in the main thread; later ones are ignored: all that is left is to clean up."""

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
