"""Moments: a ``datetime`` without a timezone is the process's local time, wherever the database is."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.job.stores import SQL, Store

import jobsync.database as db

ZONES = ['America/New_York', ':Asia/Kolkata', 'UTC', '', 'CET-1CEST,M3.5.0,M10.5.0', 'Nowhere/Nothing', 'XYZ+3:30']
"""With and without summer time, a half hour, none, one without a name, and two that the server cannot know by name."""


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Puts this process into a timezone."""

    def put(zone: str | None) -> None:
        if zone is None:
            monkeypatch.delenv('TZ', raising=False)
        else:
            monkeypatch.setenv('TZ', zone)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize('zone', ZONES)
def test_the_guides_cutoff(store: Store, in_zone: Callable[[str], None], zone: str) -> None:
    """``created_on < datetime.now() - 5 minutes`` tells old from new, whatever the process's timezone."""
    in_zone(zone)
    with store.job('a') as job:
        job.set_claim(['old', 'new'])
        for item, minutes in (('old', 6), ('new', 4)):
            moment = dt.datetime.now() - dt.timedelta(minutes=minutes)
            db.execute(job._cn, 'UPDATE sync_claim SET created_on = %s WHERE item = %s', moment, item)
        cutoff = dt.datetime.now() - dt.timedelta(minutes=5)
        for when in (cutoff, cutoff.astimezone(), cutoff.astimezone(dt.timezone(dt.timedelta(hours=9)))):
            assert db.select_column(job._cn, 'SELECT item FROM sync_claim WHERE created_on < %s', when) == ['old']
        assert [str(task) for task in job.get_incomplete_tasks(300)] == ['old']


@pytest.mark.parametrize('zone', ZONES[:5])
@pytest.mark.parametrize('month', [1, 7])
def test_summer_and_winter(connect: Callable[[], db.Connection], in_zone: Callable[[str], None], zone: str, month: int) -> None:
    """Local time of another season is what it was then."""
    in_zone(zone)
    cn, local = connect(), dt.datetime(2024, month, 15, 12, 0)
    db.execute(cn, 'INSERT INTO tasks (task_id, at) VALUES (1, %s)', local)
    same = local.astimezone(dt.UTC)
    assert db.select_column(cn, 'SELECT task_id FROM tasks WHERE at = %s', same) == [1]


@pytest.mark.parametrize('store', [name for name in SQL if name == 'sqlite'], indirect=True)
def test_text_on_sqlite(cn: db.Connection, in_zone: Callable[[str], None]) -> None:
    """There a moment is text in UTC, to the microsecond, which compares with ``datetime('now')``."""
    in_zone('Asia/Kolkata')
    db.execute(cn, 'INSERT INTO tasks (task_id, at) VALUES (1, %s)', dt.datetime(2024, 1, 1, 3, 0))
    assert db.select_scalar(cn, 'SELECT at FROM tasks') == '2023-12-31 21:30:00.000000'


@pytest.mark.postgres
class TestPostgresql:
    """The session's timezone."""

    @pytest.fixture
    def url(self, newest_postgres: Any) -> str:
        """A database whose own timezone is none of these."""
        database = 'far_away'
        newest_postgres.psql('DROP DATABASE IF EXISTS far_away', 'CREATE DATABASE far_away')
        newest_postgres.psql("ALTER DATABASE far_away SET timezone = 'Pacific/Auckland'")
        url: str = newest_postgres.url(database)
        return url

    def zone_of(self, url: str) -> str:
        """The session's."""
        with db.connect(url) as cn:
            zone: str = db.select_scalar(cn, 'SHOW TimeZone')
            return zone

    def test_is_the_processs(self, url: str, in_zone: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch) -> None:
        """By name where there is one: from TZ, else from where /etc/localtime leads; else by its distance from UTC."""
        from jobsync.backends.sql.postgresql import user_connection

        in_zone('America/New_York')
        assert self.zone_of(url) == 'America/New_York'
        in_zone('Nowhere/Nothing')
        assert self.zone_of(url) == '<+00:00>-00:00'
        in_zone('IST-5:30')
        monkeypatch.setattr(user_connection, 'local_zone', lambda: None)
        assert self.zone_of(url) == '<+05:30>-05:30'

    def test_without_tz(self, in_zone: Callable[[str | None], None]) -> None:
        """Without TZ the machine's own timezone is meant."""
        from jobsync.backends.sql.postgresql.user_connection import local_zone

        in_zone(None)
        target = str(Path('/etc/localtime').resolve())
        assert local_zone() == (target.partition('zoneinfo/')[2] or None)

    def test_may_be_chosen(self, url: str, in_zone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
        """One that the URL's options or the environment of libpq ask for stays."""
        in_zone('America/New_York')
        assert self.zone_of(f'{url}?options=-c%20timezone%3DAsia/Tokyo') == 'Asia/Tokyo'
        monkeypatch.setenv('PGTZ', 'Asia/Seoul')
        assert self.zone_of(url) == 'Asia/Seoul'

    def test_forms_that_the_driver_does_not_read(self, newest_postgres: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server, database or role may have others by default: values come back as usual. What the client asks for stays."""
        for setting in ("DateStyle = 'SQL, DMY'", 'IntervalStyle = sql_standard', 'client_encoding = SQL_ASCII'):
            newest_postgres.psql(f'ALTER DATABASE far_away SET {setting}')
        day, hours = dt.datetime(2024, 2, 1, tzinfo=dt.UTC), dt.timedelta(days=1, hours=2)
        with db.connect(url) as cn:
            row = db.select_row(cn, 'SELECT %s AS at, %s AS lasts, %s AS name', day, hours, '\N{SNOWMAN}')
            assert row == {'at': day, 'lasts': hours, 'name': '\N{SNOWMAN}'}
            assert db.select_scalar(cn, "SELECT '2/1/2024'::date") == dt.date(2024, 1, 2)  # the order is still the database's
        monkeypatch.setenv('PGDATESTYLE', 'German')
        with db.connect(url) as cn:
            assert db.select_scalar(cn, "SELECT (DATE '2024-02-01')::text") == '01.02.2024'
