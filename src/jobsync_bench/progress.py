"""Where a run says how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

__all__ = ['PlainProgress', 'ProgressReporter']

_EVERY_SEC = 10.0


class ProgressReporter(Protocol):
    """Told what happens while it happens."""

    def begins(self, title: str, number: int, total: int) -> None:
        """One of the run's parts begins."""

    def turn(self, what: str, done: int, total: int) -> None:
        """So many turns of one measurement are over; called often."""

    def say(self, text: str) -> None:
        """Something worth a line."""


class PlainProgress:
    """Lines, not too many of them."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._started = self._told = time.monotonic()

    def begins(self, title: str, number: int, total: int) -> None:
        """See ``ProgressReporter``."""
        self._line(f'{number} of {total}: {title}')

    def turn(self, what: str, done: int, total: int) -> None:
        """See ``ProgressReporter``; one line in ten seconds at most."""
        if time.monotonic() - self._told >= _EVERY_SEC:
            self._line(f'  {what}: {done} of {total}')

    def say(self, text: str) -> None:
        """See ``ProgressReporter``."""
        self._line(f'  {text}')

    def _line(self, text: str) -> None:
        self._told = time.monotonic()
        self._write(f'{self._told - self._started:6.1f} s  {text}')
