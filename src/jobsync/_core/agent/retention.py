"""When the leader deletes old records of the history, and how much at a time. Nothing of this is needed for safety.

A *sweep* goes through claims, audits and rebalances once, in portions. Claims come first: an audit is deleted only after the
claims of its item. A portion is followed by a pause as long as it took, so that a sweep takes half of one connection's time; the
pause is shorter in a sweep that is late. A portion that took long is followed by a smaller one, a quick one by a larger one.
Sweeps begin so often that a twentieth of the time that records are kept passes between two of them: what is on record is that
much more than what is to be kept, and the whole is read twenty times meanwhile.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable

from jobsync._core.agent import commands
from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.config import NodeConfig
from jobsync._core.counting import counted
from jobsync._core.records import HistoryKind, Purged

__all__ = ['Retention']

_DAY_SEC = 86_400.0
_PART = 1 / 20
"""Between two sweeps, as a part of the time that records are kept."""
_LEAST_SEC, _MOST_SEC = 1.0, _DAY_SEC
"""The bounds of the time between two sweeps."""
_LEAST, _FIRST, _MOST = 500, 1000, 2000
"""How many records a portion reads."""
_QUICK_SEC, _LONG_SEC = 0.01, 0.05
"""A portion that takes less, or more, is followed by one of another size. A tenth of a second is never to be reached."""
_HURRIED = 0.2
"""The pause of a sweep that takes longer than the time to the next, as a part of what the portion took."""
_MOST_PAUSE_SEC = 5.0
_FAILED_SEC = 30.0
"""How long after a failure the portion is repeated."""


class Retention:
    """The sweeps of one incarnation while it leads."""

    def __init__(self, config: NodeConfig, now: float, emit: Callable[[Event], object]) -> None:
        self._config, self._emit = config, emit
        self._at = self._begun_at = now
        self._limit, self._deleted = _FIRST, 0
        self._sweep: commands.Purge | None = None
        """The next portion; None between two sweeps."""

    def next(self, leads: bool, store_time: dt.datetime | None, now: float) -> commands.Purge | float:
        """Return the portion to purge now, or when to call again. The age of records is counted from the store's time."""
        days = self._config.retention_days
        if days is None or store_time is None or not leads:
            return math.inf
        if now < self._at:
            return self._at
        if self._sweep is None:
            self._begun_at, self._deleted = now, 0
            before = store_time - dt.timedelta(days=days)
            self._sweep = commands.Purge(HistoryKind.CLAIM, before, self._limit)
        return self._sweep

    def take(self, issued: commands.Issued, answer: commands.Reply, now: float) -> None:
        """Take what a portion has deleted, or the error it raised, which says nothing of the other nodes."""
        call = issued.call
        assert isinstance(call, commands.Purge)
        if not isinstance(answer, Purged):
            self._limit, self._sweep = _LEAST, None
            self._at = now + _FAILED_SEC
            self._emit(LogMessage('retry', f'deleting old {call.kind.value}s failed, will be repeated: {answer}'))
            return
        took = now - issued.at
        if took > _LONG_SEC:
            self._limit = max(_LEAST, self._limit // 2)
        elif took < _QUICK_SEC and answer.resume:
            self._limit = min(_MOST, self._limit * 2)
        is_behind = now - self._begun_at > self._interval_sec
        self._at = now + min(took * (_HURRIED if is_behind else 1), _MOST_PAUSE_SEC)
        self._deleted += answer.deleted
        kinds = list(HistoryKind)
        following = kinds[kinds.index(call.kind) + 1 :]
        if answer.resume:
            self._sweep = commands.Purge(call.kind, call.before, self._limit, answer.resume)
        elif following:
            self._sweep = commands.Purge(following[0], call.before, self._limit)
        else:
            self._end(now)

    @property
    def _interval_sec(self) -> float:
        """The time from the beginning of one sweep to that of the next."""
        return min(max(_LEAST_SEC, _PART * (self._config.retention_days or 0) * _DAY_SEC), _MOST_SEC)

    def _end(self, now: float) -> None:
        self._sweep, self._at = None, max(now, self._begun_at + self._interval_sec)
        if self._deleted:
            days = self._config.retention_days
            records = counted(self._deleted, 'record of the history that is', 'records of the history that are')
            text = f'deleted {records} older than {counted(days or 0, "day")} (retention_days)'
            self._emit(LogMessage('info', text))
