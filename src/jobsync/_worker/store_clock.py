"""The time of the store: the one clock that all nodes of a cluster share, for what people see as the time of day."""

from __future__ import annotations

import datetime as dt
import math
import time
from contextlib import suppress

from jobsync._runtime import clock
from jobsync._worker.session import Session
from jobsync.errors import JobsyncError

__all__ = ['StoreClock']

_REFRESH_SEC = 60.0
_RETRY_SEC = 1.0


class StoreClock:
    """The store's time, read once a minute and counted on in between by a clock that is never set.

    So a node whose wall clock is wrong runs what is scheduled at the time of all others.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ahead: float | None = None
        """The store's time since the epoch less ``clock.now()``; None before the first reading."""
        self._next_reading = -math.inf

    def read(self) -> dt.datetime | None:
        """Return the store's time in UTC; None if it was never read and the store does not answer. May reach the store."""
        backend = self._session.backend
        if backend is None:
            return dt.datetime.fromtimestamp(time.time(), dt.UTC)
        if clock.now() >= self._next_reading:
            self._next_reading = clock.now() + _RETRY_SEC
            with suppress(JobsyncError):
                store_time = self._session.caller.call(backend.snapshot, while_=lambda: False).now.timestamp()
                # After the answer, so that a slow answer makes this clock late: nothing is done before its time.
                self._ahead, self._next_reading = store_time - clock.now(), clock.now() + _REFRESH_SEC
        return None if self._ahead is None else dt.datetime.fromtimestamp(clock.now() + self._ahead, dt.UTC)
