"""Connections for the user's statements, with the timezone of the user's process, and in the forms that the driver reads.

PostgreSQL takes a ``datetime`` without a timezone for local time of the session. The timezone of a session is the server's unless
another is set. The forms of moments and of text may be others by default too, for the server, the database or the role.
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

# A setting in the URL's options or in the environment (PGTZ, PGOPTIONS) is the user's choice, for psql too, and stays. psycopg
# reads no other styles than these, and no text without an encoding: where that is SQL_ASCII it returns bytes, also to SQLAlchemy.
SETTINGS = """
SELECT set_config(name, wanted, false) FROM pg_settings JOIN (VALUES
    ('TimeZone', %s), ('DateStyle', 'ISO'), ('IntervalStyle', 'postgres'), ('client_encoding', 'UTF8')
) AS settings (name, wanted) USING (name) WHERE source <> 'client'
"""


def connect_for_user(server: PostgresqlServer) -> psycopg.Connection[Any]:
    """Connect, with these settings, in the process's timezone, and without prepared statements, which proxies may lose."""
    connection = psycopg.connect(**server.parameters, autocommit=True, prepare_threshold=None)
    try:
        try:
            connection.execute(SETTINGS, [local_zone() or fixed_zone()])
        except InvalidParameterValue:
            connection.execute(SETTINGS, [fixed_zone()])
    except BaseException:
        connection.close()
        raise
    return connection


def local_zone() -> str | None:
    """Return the name of this process's timezone, which a server may know; None if it has no name."""
    zone = os.environ.get('TZ')
    if zone == '':
        return 'UTC'
    name = '/etc/localtime' if zone is None else zone.removeprefix(':')
    if name.startswith('/'):
        _, found, name = str(Path(name).resolve()).rpartition(ZONES)
        name = name if found else ''
    return name or None


def fixed_zone() -> str:
    """Return the present distance from UTC as POSIX writes a timezone, where a plus means west."""
    minutes = time.localtime().tm_gmtoff // 60
    east, west = ('+', '-') if minutes >= 0 else ('-', '+')
    distance = f'{abs(minutes) // 60:02}:{abs(minutes) % 60:02}'
    return f'<{east}{distance}>{west}{distance}'
