"""Progress of a run, as shown to the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

__all__ = ['PlainProgress', 'ProgressReporter']

_EVERY_SEC = 10.0


class ProgressReporter(Protocol):
    """Shows the progress of a run."""

    def begin(self, title: str, number: int, total: int) -> None:
        """Show that a part of the run begins."""

    def turn(self, what: str, done: int, total: int) -> None:
        """Show how many turns of a measurement are over. Called often."""

    def say(self, text: str) -> None:
        """Show a line."""


class PlainProgress:
    """Writes lines, with turns at most every ten seconds."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._started = self._told = time.monotonic()

    def begin(self, title: str, number: int, total: int) -> None:
        """See ``ProgressReporter``."""
        self._line(f'{number} of {total}: {title}')

    def turn(self, what: str, done: int, total: int) -> None:
        """See ``ProgressReporter``. Writes at most one line every ten seconds."""
        if time.monotonic() - self._told >= _EVERY_SEC:
            self._line(f'  {what}: {done} of {total}')

    def say(self, text: str) -> None:
        """See ``ProgressReporter``."""
        self._line(f'  {text}')

    def _line(self, text: str) -> None:
        self._told = time.monotonic()
        self._write(f'{self._told - self._started:6.1f} s  {text}')
