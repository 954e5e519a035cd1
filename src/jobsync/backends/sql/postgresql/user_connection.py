"""Connections for the user's statements, which speak of time as the user's process does.

To PostgreSQL a ``datetime`` without a timezone is local time of the session, and the session's timezone is the server's unless
it is told another.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import InvalidParameterValue

from jobsync.backends.sql.postgresql.url import PostgresqlServer

__all__ = ['connect_for_user', 'local_zone']

ZONES = 'zoneinfo/'

# A zone that the URL's options or the environment (PGTZ, PGOPTIONS) ask for is the user's choice; psql goes by the same.
SET_ZONE = "SELECT set_config('TimeZone', %s, false) FROM pg_settings WHERE name = 'TimeZone' AND source <> 'client'"


def connect_for_user(server: PostgresqlServer) -> psycopg.Connection[Any]:
    """A connection without prepared statements, which proxies may lose."""
    connection = psycopg.connect(**server.parameters, autocommit=True, prepare_threshold=None)
    try:
        try:
            connection.execute(SET_ZONE, [local_zone() or fixed_zone()])
        except InvalidParameterValue:
            connection.execute(SET_ZONE, [fixed_zone()])
    except BaseException:
        connection.close()
        raise
    return connection


def local_zone() -> str | None:
    """This process's timezone by a name that a server may know; None if it has none."""
    told = os.environ.get('TZ')
    if told == '':
        return 'UTC'
    name = '/etc/localtime' if told is None else told.removeprefix(':')
    if name.startswith('/'):
        _, found, name = str(Path(name).resolve()).rpartition(ZONES)
        name = name if found else ''
    return name or None


def fixed_zone() -> str:
    """The present distance from UTC, as POSIX writes a timezone: with the sign the other way round."""
    minutes = time.localtime().tm_gmtoff // 60
    east, west = ('+', '-') if minutes >= 0 else ('-', '+')
    distance = f'{abs(minutes) // 60:02}:{abs(minutes) % 60:02}'
    return f'<{east}{distance}>{west}{distance}'
