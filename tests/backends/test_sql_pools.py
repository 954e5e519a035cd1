"""A connection that is given back while a signal handler ends the program."""

from __future__ import annotations

import logging
import sqlite3

import pytest
from sqlalchemy import NullPool, Pool, QueuePool, event

from jobsync.backends.sql.engine import autocommitting


def given_back(pool: type[Pool], error: BaseException) -> None:
    """Give a connection back, in the middle of which ``error`` arrives."""
    engine = autocommitting('sqlite', lambda: sqlite3.connect(':memory:', isolation_level=None), pool)

    def arrive(*_: object) -> None:
        event.remove(engine, 'reset', arrive)
        raise error

    event.listen(engine, 'reset', arrive)
    connection = engine.connect()
    try:
        connection.close()
    finally:
        with engine.connect() as other:
            other.exec_driver_sql('SELECT 1')
        engine.dispose()


@pytest.mark.parametrize('pool', [QueuePool, NullPool])
@pytest.mark.parametrize('error', [SystemExit(0), KeyboardInterrupt()], ids=['exit', 'interrupt'])
def test_leaving_is_not_logged(pool: type[Pool], error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on its way, nothing is logged, and the pool serves on."""
    with caplog.at_level(logging.DEBUG), pytest.raises(type(error)):
        given_back(pool, error)
    assert caplog.records == []


@pytest.mark.parametrize('pool', [QueuePool, NullPool])
def test_faults_are_logged(pool: type[Pool], caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong in a pool is told as ever."""
    given_back(pool, ValueError('a fault'))
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
