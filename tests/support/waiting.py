"""Waiting for what another thread or a server brings about."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.timings import DEADLINE_SEC

__all__ = ['eventually']


def eventually(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_SEC
    while not condition():
        assert time.monotonic() < deadline, f'still not so after {DEADLINE_SEC:g} s'
        time.sleep(0.02)
