"""When a scheduled function is due: ticks on a grid of seconds or of a cron expression. Pure: the time is an argument.

A tick is a moment that every node computes alike, whenever it starts: a multiple of the seconds counted from the epoch, or a
moment that matches a cron expression in a time zone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Protocol
from zoneinfo import ZoneInfo

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['CronSchedule', 'Schedule', 'SecondsSchedule', 'parse_schedule', 'parse_zone']

_SHORTEST_SEC, _LONGEST_SEC = 0.1, 366 * 86_400
_CRON_FIELDS = (5, 6)
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_SECOND = dt.timedelta(seconds=1)
_MOMENTS = tuple(dt.datetime(2000, month, 1, tzinfo=dt.UTC) for month in (1, 4, 7))
"""Moments that have different offsets in a time zone with daylight saving."""
_FOLD = dt.timedelta(hours=3)
"""More than any time zone sets its clocks back by."""


class Schedule(Protocol):
    """The ticks of a function. All times are in UTC."""

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """Return the last tick that is not after ``now``; None if there was none in 50 years."""

    def following(self, now: dt.datetime) -> dt.datetime | None:
        """Return the first tick after ``now``; None if there is none in 50 years."""


class SecondsSchedule:
    """Ticks at the multiples of a number of seconds since the epoch."""

    def __init__(self, seconds: float) -> None:
        self._period = round(seconds * 1e6) * _MICROSECOND  # a whole number: the grid is the same on every machine

    def latest(self, now: dt.datetime) -> dt.datetime:
        """Return the last multiple that is not after ``now``."""
        return now - (now - _EPOCH) % self._period

    def following(self, now: dt.datetime) -> dt.datetime:
        """Return the first multiple after ``now``."""
        return self.latest(now) + self._period


class CronSchedule:
    """Ticks at the moments that a cron expression matches in a time zone.

    What daylight saving does is what cron does (``cronsim``): a tick at an hour that is left out comes at the end of the gap, a
    tick at an hour that comes twice comes at the first of the two, and a tick of every hour or minute comes at each.
    """

    def __init__(self, expression: str, zone: dt.tzinfo) -> None:
        """Raise ``ConfigError`` if the expression is none, or ``cronsim`` is not installed."""
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            raise ConfigError(
                f"schedule is {safe_repr(expression)}: a cron expression needs cronsim: pip install 'jobsync[cron]'"
            ) from error
        self._expression, self._zone, self._iterator = expression, zone, CronSim
        fields = expression.split()
        # Of five fields cronsim sees it itself; six are no cron expression of Debian, so it has no rule of Debian's for them.
        self._needs_real_times = len(fields) == 6 and not any(field.startswith('*') for field in fields[1:3])
        try:
            self._ticks(_EPOCH, is_reverse=False)
        except CronSimError as error:
            raise ConfigError(f'schedule is {safe_repr(expression)}: must be a cron expression: {error}') from error

    def _ticks(self, start: dt.datetime, *, is_reverse: bool) -> Iterator[dt.datetime]:
        if self._needs_real_times:
            return map(self._real_time, self._iterator(self._expression, start.replace(tzinfo=None), reverse=is_reverse))
        return self._iterator(self._expression, start, reverse=is_reverse)

    def _real_time(self, on_the_wall: dt.datetime) -> dt.datetime:
        """Return the first time at which a clock on the wall shows this; the end of the gap if it leaves this out."""
        tick = on_the_wall.replace(tzinfo=self._zone)
        while tick != tick.astimezone(dt.UTC).astimezone(self._zone):
            tick = tick.replace(second=0) + dt.timedelta(minutes=1)
        return tick

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """Return the last match that is not after ``now``."""
        # t=0  02:30 comes for the first time, and the tick of 02:30 is due
        # t=1  the clock goes back to 02:00
        # t=2  02:10 for the second time: read backwards from there, the last match would be that of the day before
        # So reading begins behind the hour that comes twice.
        start = now.astimezone(self._zone)
        start = start + _FOLD if start.fold else start + _SECOND
        return next((tick for tick in _in_utc(self._ticks(start, is_reverse=True)) if tick <= now), None)

    def following(self, now: dt.datetime) -> dt.datetime | None:
        """Return the first match after ``now``."""
        ticks = self._ticks(now.astimezone(self._zone), is_reverse=False)
        return next((tick for tick in _in_utc(ticks) if tick > now), None)


def _in_utc(ticks: Iterator[dt.datetime]) -> Iterator[dt.datetime]:
    return (tick.astimezone(dt.UTC) for tick in ticks)


def parse_schedule(schedule: object, zone: dt.tzinfo) -> Schedule:
    """Return the schedule for a number of seconds or a cron expression. Raise ``ConfigError`` for anything else."""
    if isinstance(schedule, str) and len(schedule.split()) in _CRON_FIELDS:
        return CronSchedule(schedule, zone)
    is_number = isinstance(schedule, (int, float)) and not isinstance(schedule, bool)
    if not is_number or not _SHORTEST_SEC <= schedule <= _LONGEST_SEC:  # type: ignore[operator]  # known to be a number
        raise ConfigError(
            f'schedule is {safe_repr(schedule)}: must be a number of seconds from {_SHORTEST_SEC} to {_LONGEST_SEC}, or a '
            'cron expression of 5 or 6 fields such as "0 3 * * *"'
        )
    return SecondsSchedule(schedule)  # type: ignore[arg-type]


def parse_zone(zone: object) -> dt.tzinfo:
    """Return the time zone of a name, or the time zone as given. Raise ``ConfigError`` for anything else."""
    if isinstance(zone, dt.tzinfo):
        if any(moment.astimezone(zone).replace(tzinfo=zone) != moment for moment in _MOMENTS):
            raise ConfigError(
                f'tz is {safe_repr(zone)}: must be a tzinfo that knows the time of a date by itself, as those of pytz do not; '
                'give the name of the time zone'
            )
        return zone
    try:
        if isinstance(zone, str):
            return ZoneInfo(zone)
    except (OSError, ValueError, KeyError):  # a name that is a folder, one that is a path, and an unknown one
        pass
    raise ConfigError(
        f'tz is {safe_repr(zone)}: must be the name of a time zone, such as "Europe/Berlin", or a tzinfo; names need '
        "the system's time zones, or the package tzdata"
    )
