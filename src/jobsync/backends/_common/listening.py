"""Waiting for a new revision on a connection of its own, for drivers that have one: listen, or ask now and then where nothing is
announced, and begin again whenever the connection is lost.

What is announced is a hint. It may come late, twice or never; so whoever has just connected asks once.
"""

from __future__ import annotations

import abc
import contextlib
import math
import os
import select
import threading
import time
from typing import ClassVar

__all__ = ['POLL_SEC', 'RETRY_SEC', 'Listener']

POLL_SEC = 1.0
"""How often to ask where nothing is announced."""
RETRY_SEC = 0.5
"""Between two attempts to reach a server that is away."""


class Listener(abc.ABC):
    """One per backend. Thread-safe, though only one thread at a time is served; the others wait their turn."""

    losses: ClassVar[tuple[type[Exception], ...]]
    """What the methods below raise when the connection is lost or not to be had."""

    def __init__(self) -> None:
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._newest = 0
        self._wake, self._woken = os.pipe()

    # What a driver adds

    @abc.abstractmethod
    def _open(self, within_sec: float) -> None:
        """Connect, and listen if that is possible."""

    @abc.abstractmethod
    def _ask(self) -> int:
        """The revision's number now."""

    @abc.abstractmethod
    def _heard_on(self) -> int | None:
        """The descriptor on which announcements come, or None if none do."""

    @abc.abstractmethod
    def _hear(self) -> None:
        """Read what has been announced into ``_newest``, without waiting."""

    @abc.abstractmethod
    def _disconnect(self) -> None:
        """Close the connection, if there is one. Raises nothing."""

    # The same for all

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout_sec
        if not self._lock.acquire(timeout=timeout_sec):
            return revision
        try:
            newest = revision
            while not self._closed:
                try:
                    newest = self._look(revision, deadline)
                except self.losses:
                    self._drop()
                    self._sleep(min(RETRY_SEC, deadline - time.monotonic()))
                if newest > revision or time.monotonic() >= deadline:
                    break
            return newest
        finally:
            if self._closed:
                self._end()
            self._lock.release()

    def close(self) -> None:
        """Wake whoever waits and close the connection."""
        self._closed = True
        with contextlib.suppress(OSError):
            os.write(self._woken, b'x')
        # Whoever waits does the rest.
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def _look(self, revision: int, deadline: float) -> int:
        """The newest revision, as soon as it exceeds ``revision`` or the time is over."""
        if not self._is_open:
            self._open(deadline - time.monotonic())
            self._is_open = True
            self._newest = self._ask()
        while self._newest <= revision and not self._closed and (left := deadline - time.monotonic()) > 0:
            descriptor = self._heard_on()
            if descriptor is None:
                self._sleep(min(POLL_SEC, left))
                self._newest = self._ask()
            else:
                self._sleep(left, descriptor)
                self._hear()
        return self._newest

    def _sleep(self, seconds: float, descriptor: int | None = None) -> None:
        """Until the time is over, ``close`` is called, or something comes on ``descriptor``."""
        poll = select.poll()
        for watched in (self._wake, descriptor):
            if watched is not None:
                poll.register(watched, select.POLLIN)
        poll.poll(math.ceil(max(0.0, seconds) * 1000))

    def _drop(self) -> None:
        self._is_open = False
        self._disconnect()

    def _end(self) -> None:
        self._drop()
        self._close_pipe()

    def _close_pipe(self) -> None:
        for descriptor in (self._wake, self._woken):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._wake = self._woken = -1
