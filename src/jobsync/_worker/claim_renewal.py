"""Tasks that were claimed ahead and wait for their turn: their claims are renewed, so that no monitor takes them for stuck."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from contextlib import suppress

from jobsync._runtime import clock
from jobsync._worker.alarm import Alarm
from jobsync._worker.session import Session

__all__ = ['ClaimRenewal']

_RENEW_SEC = 30.0
"""How often the claims are renewed that are half as old: a task waits under a claim of at most 45 seconds."""


class ClaimRenewal:
    """The tasks of one node at one date that were claimed and not started, in a batch under way or since it has ended."""

    def __init__(self, session: Session, date: dt.date) -> None:
        self._session, self._date = session, date
        self._tasks: dict[str, tuple[int, float]] = {}
        """key -> hash token, and when the task was claimed"""
        self._alarm = Alarm(session.node_name, _RENEW_SEC, self._renew)

    def add(self, tasks: Mapping[str, int]) -> None:
        """Renew the claims of these tasks (key -> hash token) from time to time until they are claimed again with their batch."""
        if tasks and self._session.runtime is not None:
            now = clock.now()
            for key, token in tasks.items():
                self._tasks.setdefault(key, (token, now))
            self._alarm.set()

    def drop(self, keys: Iterable[str]) -> None:
        """Renew the claims of these tasks no longer."""
        if self._tasks:
            for key in keys:
                self._tasks.pop(key, None)

    def cancel(self) -> None:
        """Renew no claim any more."""
        self._alarm.cancel()

    def _renew(self) -> None:
        session, waiting = self._session, self._tasks.copy()
        runtime = session.runtime
        if not waiting or runtime is None or session.is_leaving:
            return
        ref, until = runtime.agent.ref, clock.now() - _RENEW_SEC / 2
        with suppress(Exception):  # only monitors read these claims, and the next alarm tries again
            tasks = {key: token for key, (token, claimed_at) in waiting.items() if claimed_at <= until}
            in_flight = {start.key for start in list(runtime.lease.in_flight)}  # in another loop: their claims say since when
            if owned := [key for key in runtime.lease.ours(tasks, clock.now) if key not in in_flight]:
                backend = session.needed_backend
                backend.append_claims(ref, owned, self._date)
        self._alarm.set()
