"""A PostgreSQL server given by its parts is reached, with a password of any characters."""

from __future__ import annotations

import types
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from libb import Setting  # type: ignore[import-untyped]
from tests.support.servers import PostgresServer
from tests.support.timings import FAST, TOKENS

import jobsync.database as db
from jobsync import CoordinationConfig, Job

pytestmark = pytest.mark.postgres

PASSWORDS = ["p@ss:w/o?r#d% '\\&", 'plus+and space', '100%25', 'ünï-密码', '"double"', '[brackets]', '=;,$`|<>{}^~*!']


@pytest.fixture(params=PASSWORDS)
def password(request: pytest.FixtureRequest) -> str:
    """Characters that a URL or a connection string could stumble over."""
    word: str = request.param
    return word


@pytest.fixture
def parts(newest_postgres: PostgresServer, password: str) -> Iterator[dict[str, Any]]:
    """A database and its owner, whose names need quotes, too."""
    mark = uuid.uuid4().hex[:8]
    user, database = f'us er@{mark}', f'da/ta {mark}'
    secret = password.replace("'", "''")
    newest_postgres.psql(f"""CREATE ROLE "{user}" LOGIN PASSWORD '{secret}'""")
    newest_postgres.psql(f'CREATE DATABASE "{database}" OWNER "{user}"')
    yield {'host': '127.0.0.1', 'port': newest_postgres.port, 'dbname': database, 'user': user, 'password': password}
    newest_postgres.psql(f'DROP DATABASE "{database}" WITH (FORCE)')
    newest_postgres.psql(f'DROP ROLE "{user}"')


def check(job: Job, parts: dict[str, Any], table: str) -> None:
    """The job is at work, as that user in that database, in tables of that prefix; its password is not shown."""
    assert len(job.my_tokens) == TOKENS
    assert db.select_row(job._cn, 'SELECT current_user AS me, current_database() AS here') == {
        'me': parts['user'],
        'here': parts['dbname'],
    }
    assert db.select_scalar(job._cn, f'SELECT count(*) FROM {table}') == TOKENS
    assert job._tables['Token'] == table
    assert parts['password'] not in repr(job._config)


def test_coordination_config(parts: dict[str, Any]) -> None:
    """``CoordinationConfig(host=, port=, dbname=, user=, password=, appname=)``."""
    with Job('a', coordination_config=CoordinationConfig(**parts, **FAST, appname='app_')) as job:
        check(job, parts, 'app_token')


@pytest.mark.parametrize('words', ['host dbname user passwd', 'hostname database username password'])
def test_config_sync_sql(parts: dict[str, Any], words: str) -> None:
    """``config.sync.sql`` in a module with libb's ``Setting``, in either set of words."""
    config, locked = types.ModuleType('config'), Setting._locked
    Setting.unlock()
    sync = Setting()
    for name, value in FAST.items():
        setattr(sync.coordination, name, value)
    for name, given in zip(words.split(), ('host', 'dbname', 'user', 'password'), strict=True):
        setattr(sync.sql, name, parts[given])
    sync.sql.port, sync.sql.appname = parts['port'], 'app_'
    vars(config)['sync'] = sync
    Setting.lock()
    try:
        with Job('a', 'production', config) as job:
            check(job, parts, 'app_token')
    finally:
        Setting._locked = locked
