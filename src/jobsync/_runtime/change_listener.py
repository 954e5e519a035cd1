"""The wait for change hints, on which only latency depends."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from jobsync.backend import Backend
from jobsync.errors import BackendUnavailable

__all__ = ['BURST_SEC', 'ChangeListener']

BURST_SEC = 0.05
"""After two changes within this time that do not concern it, a node takes those of the next such time together."""
_LISTEN_SEC = 5.0
"""How long one wait for a change hint takes at most."""


class ChangeListener:
    """Waits for the change hints of a backend that pushes. Not for two threads at once."""

    def __init__(
        self,
        backend: Backend,
        take: Callable[[int], bool],
        read: Callable[[], int] = lambda: 0,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Store the parts.

        ``take`` is called with each revision that a hint brings; returns whether it concerns the caller. ``read`` returns the
        highest revision that the caller has read by other calls. ``is_over`` returns whether the caller waits for no more hints.
        """
        self._backend, self._take, self._read, self._is_over = backend, take, read, is_over
        self._known, self._passed_over_at = 0, -BURST_SEC
        """The last revision that a hint has brought, or should have, and when a hint was last passed over."""

    def listen(self) -> None:
        """Wait for a change hint, for some seconds, and pass it on."""
        started, known = time.monotonic(), self._known
        read, revision = self._read(), known
        with suppress(BackendUnavailable):
            revision = self._backend.wait(known, _LISTEN_SEC)
        if revision > known:
            if not self._take(revision):
                # While many nodes register, all others would wake for each of them.
                if time.monotonic() < self._passed_over_at + BURST_SEC:
                    time.sleep(BURST_SEC)
                self._passed_over_at = time.monotonic()
        elif time.monotonic() - started < _LISTEN_SEC / 2 and not self._is_over():
            time.sleep(0.1)
        # t=0  a switchover: the former primary, to which the backend listens, runs on, and announces nothing any more
        # t=1  this node reads by a heartbeat, from the new primary, that the revision has risen, and no hint of that has come
        # By a wait for more than that the backend finds that it listens to a server with less.
        self._known = max(read, revision)
