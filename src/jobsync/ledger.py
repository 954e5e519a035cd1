"""The trail a node leaves: what it began and what it completed."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from typing import Any

import attrs

from jobsync.backend import Backend
from jobsync.calling import Caller
from jobsync.core.model import HistoryKind
from jobsync.errors import BackendUnavailable, Evicted
from jobsync.runtime import NodeRuntime
from jobsync.runtime.clock import now
from jobsync.task import Task

__all__ = ['Ledger']

_logger = logging.getLogger('jobsync.job')


class Ledger:
    """Claims and audits of one node at one date. Without a runtime (coordination off) every task may be begun."""

    def __init__(
        self, node_name: str, date: dt.date, backend: Backend | None, runtime: NodeRuntime | None, caller: Caller
    ) -> None:
        self._node_name, self._backend, self._runtime, self._caller = node_name, backend, runtime, caller
        self._date = date.date() if isinstance(date, dt.datetime) else date
        self._open: dict[str, None] = {}

    @property
    def open_tasks(self) -> int:
        """How many tasks were begun and not audited."""
        return len(self._open)

    def begin(self, key: str, token: int) -> bool:
        """Mark a task in flight and record the claim, if it is this node's."""
        if self._runtime is None:
            self._open[key] = None
            return True
        if not self._runtime.agent.begin(key, token, now()):
            _logger.info("node %r: task %r is not (or no longer) this node's, not begun", self._node_name, key)
            return False
        if self.claim([key]):
            self._open[key] = None
            return True
        self._finish([key])
        return False

    def claim(self, keys: Sequence[str]) -> bool:
        """Record that this node began these tasks; waits for the store as long as the lease lasts. False if it may not."""
        runtime, backend = self._runtime, self._backend
        if runtime is None or backend is None:
            return True
        try:
            self._caller.call(
                lambda: backend.append_claims(runtime.agent.ref, keys, self._date), while_=lambda: now() < runtime.agent.deadline
            )
        except (Evicted, BackendUnavailable) as error:
            _logger.info('node %r: claim of %d tasks refused: %s', self._node_name, len(keys), error)
            runtime.agent.beat_soon()
            runtime.poke()
            return False
        return True

    def audit(self) -> None:
        """Record every open task as complete. If that fails they stay open."""
        keys, backend = list(self._open), self._backend
        if not keys:
            return
        if backend is not None:
            self._caller.call(lambda: backend.append_audits(self._node_name, keys, self._date))
        for key in keys:
            self._open.pop(key, None)
        self._finish(keys)

    def _finish(self, keys: list[str]) -> None:
        if self._runtime is not None:
            self._runtime.agent.finish(keys)
            self._runtime.poke()

    def audited(self, backend: Backend) -> list[dict[str, Any]]:
        """Every audit of the date, newest first."""
        rows = self._caller.call(lambda: backend.history(HistoryKind.AUDIT, date=self._date))
        return [attrs.asdict(row) for row in rows]

    def incomplete(self, backend: Backend, older_than: dt.timedelta) -> list[Task]:
        """What was begun at the date, longer ago than that, and never completed."""
        claims = self._caller.call(lambda: backend.incomplete(self._date, older_than))
        return [Task(claim.item) for claim in claims]
