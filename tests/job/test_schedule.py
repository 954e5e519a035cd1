"""When ticks are due: grids of seconds and of cron expressions, on days with daylight saving too."""

from __future__ import annotations

import builtins
import datetime as dt
import itertools
import sys
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobsync import ConfigError
from jobsync._worker.schedule import CronSchedule, SecondsSchedule, parse_schedule, parse_zone

BERLIN = ZoneInfo('Europe/Berlin')


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ('seconds', 'now', 'latest', 'following'),
    [
        (60, utc(2026, 1, 1, 0, 0, 59), utc(2026, 1, 1), utc(2026, 1, 1, 0, 1)),
        (60, utc(2026, 1, 1), utc(2026, 1, 1), utc(2026, 1, 1, 0, 1)),
        (0.25, utc(2026, 1, 1, 0, 0, 0, 300_000), utc(2026, 1, 1, 0, 0, 0, 250_000), utc(2026, 1, 1, 0, 0, 0, 500_000)),
        (7, utc(1970, 1, 1, 0, 0, 13), utc(1970, 1, 1, 0, 0, 7), utc(1970, 1, 1, 0, 0, 14)),
    ],
)
def test_a_grid_of_seconds(seconds: float, now: dt.datetime, latest: dt.datetime, following: dt.datetime) -> None:
    """Ticks are the multiples of the seconds since the epoch, so nodes that start at different times agree."""
    schedule = SecondsSchedule(seconds)
    assert (schedule.latest(now), schedule.following(now)) == (latest, following)


def test_a_tenth_of_a_second_does_not_drift() -> None:
    """Each tick is the one after its predecessor, exactly, however far from the epoch."""
    schedule, moment = SecondsSchedule(0.1), utc(2026, 1, 1)
    for number in range(1000):
        assert schedule.latest(moment) == moment == utc(2026, 1, 1) + number * dt.timedelta(milliseconds=100)
        moment = schedule.following(moment)


@pytest.mark.parametrize(
    ('expression', 'days'),
    [
        *(('30 2 * * *', 3), ('0 3 * * *', 3), ('15 * * * *', 3), ('*/20 * * * *', 3), ('0 2 * * 7', 9), ('59 23 28 * *', 40)),
        *(
            ('10 30 2 * * *', 3),
            ('*/7 30 2 * * *', 3),
            ('5 0-50/25 1-3 * * *', 3),
            ('59 59 2 28 * *', 40),
            ('30 */20 * * * *', 3),
        ),
    ],
)
@pytest.mark.parametrize('day', [utc(2026, 3, 28, 12), utc(2026, 10, 24, 12)], ids=['spring', 'autumn'])
def test_backwards_and_forwards_agree(expression: str, days: int, day: dt.datetime) -> None:
    """At every ten minutes around a change of the clocks, ``latest`` and ``following`` are neighbours on one grid."""
    schedule = CronSchedule(expression, BERLIN)
    span = dt.timedelta(days=days)
    grid = list(itertools.takewhile(lambda tick: tick < day + span, _ticks(schedule, day - span)))
    assert grid == sorted(set(grid))
    for minutes in range(0, 36 * 60, 10):
        now = day + dt.timedelta(minutes=minutes, seconds=30)
        assert schedule.latest(now) == max(tick for tick in grid if tick <= now)
        assert schedule.following(now) == min(tick for tick in grid if tick > now)
        assert schedule.latest(grid[-1]) == grid[-1]


def _ticks(schedule: CronSchedule, start: dt.datetime) -> Any:
    while following := schedule.following(start):
        yield following
        start = following


@pytest.mark.parametrize(('at', 'second'), [('30 2 * * *', 0), ('40 30 2 * * *', 40)])
def test_an_hour_that_comes_twice_and_one_that_is_left_out(at: str, second: int) -> None:
    """A daily tick comes once on each day; one at an hour that is left out comes at the end of the gap."""
    daily = CronSchedule(at, BERLIN)
    ticks = list(itertools.islice(_ticks(daily, utc(2026, 3, 28, 20)), 2))
    assert ticks == [utc(2026, 3, 29, 1), utc(2026, 3, 30, 0, 30, second)]
    ticks = list(itertools.islice(_ticks(daily, utc(2026, 10, 24, 20)), 2))
    assert ticks == [utc(2026, 10, 25, 0, 30, second), utc(2026, 10, 26, 1, 30, second)]


@pytest.mark.parametrize(
    ('expression', 'spring', 'autumn'), [('*/20 2 * * *', 0, 6), ('0 */20 2 * * *', 0, 6), ('0,20,40 2 * * *', 1, 3)]
)
def test_several_ticks_of_an_hour_as_the_clocks_change(expression: str, spring: int, autumn: int) -> None:
    """By a minute that begins with ``*`` each time of that hour has its ticks, as cron has it; by a list one has."""
    schedule = CronSchedule(expression, BERLIN)
    for start, count in ((utc(2026, 3, 28, 20), spring), (utc(2026, 10, 24, 20), autumn)):
        ticks = list(itertools.islice(_ticks(schedule, start), 10))
        assert sum(tick - start < dt.timedelta(hours=24) for tick in ticks) == count


@pytest.mark.parametrize('start', [utc(2026, 3, 28, 20), utc(2026, 10, 24, 20)], ids=['spring', 'autumn'])
@pytest.mark.parametrize('every_hour', ['0 * * * *', '0 0 * * * *'])
def test_ticks_of_every_hour_as_the_clocks_change(every_hour: str, start: dt.datetime) -> None:
    """An hour is an hour: none is left out, and none comes twice."""
    ticks = list(itertools.islice(_ticks(CronSchedule(every_hour, BERLIN), start), 12))
    assert {second - first for first, second in itertools.pairwise(ticks)} == {dt.timedelta(hours=1)}


@pytest.mark.parametrize(
    'schedule', [0, 0.05, -1, True, None, float('nan'), float('inf'), 1e9, '', 'daily', '* * *', '61 * * * *', b'1']
)
def test_what_is_no_schedule(schedule: object) -> None:
    """It is refused with its value and what is allowed."""
    with pytest.raises(ConfigError, match=r'schedule is .*must be'):
        parse_schedule(schedule, dt.UTC)


def test_the_longest_interval_is_shown_in_full() -> None:
    """The limits of a number are as a person writes them, without an exponent."""
    with pytest.raises(ConfigError, match=r'from 0\.1 to 31622400, or'):
        parse_schedule(1e9, dt.UTC)


@pytest.mark.parametrize('zone', ['', 'Berlin', '../etc', 'Europe', None, 1])
def test_what_is_no_time_zone(zone: object) -> None:
    """It is refused; a tzinfo and the name of a zone are taken."""
    with pytest.raises(ConfigError, match=r'tz is .*must be'):
        parse_zone(zone)
    assert parse_zone('Europe/Berlin') == BERLIN == parse_zone(BERLIN)


class ZoneOfPytz(dt.tzinfo):
    """A zone whose offset, until ``fromutc`` has chosen another object, is the mean time of the place, as those of pytz."""

    def __init__(self, offset: dt.timedelta = dt.timedelta(minutes=53)) -> None:
        """Store the offset."""
        self._offset = offset

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        """Return the offset, whatever the date."""
        return self._offset

    def dst(self, _: dt.datetime | None) -> None:
        """Return that it is not known."""

    def tzname(self, _: dt.datetime | None) -> str:
        """Return a name."""
        return 'Pytz'

    def fromutc(self, time: dt.datetime) -> dt.datetime:
        """Return the time with a zone that has the offset of this date."""
        offset = dt.timedelta(hours=1)
        return (time + offset).replace(tzinfo=ZoneOfPytz(offset))


def test_time_zone_that_does_not_know_its_offset() -> None:
    """It is refused: a tick of "0 0 3 * * *" would come at another time than 3 o'clock."""
    with pytest.raises(ConfigError, match=r'tz is .*must be .*pytz.*give the name'):
        parse_zone(ZoneOfPytz())


def test_cron_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    inner = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == 'cronsim':
            raise ImportError(name)
        return inner(name, *rest)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ConfigError, match=r'jobsync\[cron\]'):
        CronSchedule('0 3 * * *', dt.UTC)


@pytest.mark.parametrize('schedule', ['5', '5s', '@daily', ''])
def test_a_text_that_is_no_cron_expression(monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    """The error says first that seconds are a number, with or without the library of cron expressions."""
    monkeypatch.setitem(sys.modules, 'cronsim', None)
    with pytest.raises(ConfigError, match=f"schedule is '{schedule}' .*must be a number of seconds from .* or a cron expression"):
        parse_schedule(schedule, dt.UTC)
