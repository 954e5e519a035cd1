"""A connection that is taken, or given back, while an exception from outside ends the call."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, NullPool, Pool, event
from tests.signals import AlarmError, Interruption

from jobsync import CoordinationConfig, Job, Task
from jobsync.backends.sql.engine import IdlePool, PrivatePool, autocommitting

DEADLINE_SEC = 30
FULL = 2
"""``PRAGMA synchronous`` as SQLite has it by default."""


def connect() -> sqlite3.Connection:
    return sqlite3.connect(':memory:', isolation_level=None, check_same_thread=False)


def engine_with(pool: type[Pool]) -> Engine:
    options = {'pool_size': 1, 'max_overflow': -1} if issubclass(pool, IdlePool) else {}
    return autocommitting('sqlite', connect, pool, **options)


def given_back(pool: type[Pool], error: BaseException) -> None:
    """Give a connection back, in the middle of which ``error`` arrives."""
    engine = engine_with(pool)

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


@pytest.mark.parametrize('pool', [IdlePool, NullPool])
@pytest.mark.parametrize('error', [SystemExit(0), KeyboardInterrupt()], ids=['exit', 'interrupt'])
def test_leaving_is_not_logged(pool: type[Pool], error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on its way, nothing is logged, and the pool serves on."""
    with caplog.at_level(logging.DEBUG), pytest.raises(type(error)):
        given_back(pool, error)
    assert caplog.records == []


@pytest.mark.parametrize('pool', [IdlePool, NullPool])
def test_faults_are_logged(pool: type[Pool], caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong in a pool is told as ever."""
    given_back(pool, ValueError('a fault'))
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]


def test_an_exception_at_any_step_keeps_no_other_thread_waiting() -> None:
    """Wherever one ends the taking or the return of a connection, other threads are served, and the pool can be disposed of."""
    others = 'threading.py', 'sqlalchemy/util/queue.py', 'sqlalchemy/pool/impl.py'
    made = list[sqlite3.Connection]()

    def make() -> sqlite3.Connection:
        made.append(connect())
        return made[-1]

    engine = autocommitting('sqlite', make, IdlePool, pool_size=1, max_overflow=-1)
    with engine.connect(), Interruption(None, *others) as counted:
        engine.connect().close()
    assert counted.count > 0
    for point in range(1, counted.count + 1):
        with contextlib.suppress(AlarmError), Interruption(point, *others):
            engine.connect().close()
        other = threading.Thread(target=lambda: engine.connect().close(), daemon=True)
        other.start()
        other.join(DEADLINE_SEC)
        assert not other.is_alive(), f'a thread waits after point {point}'
    engine.dispose()
    for each in made:  # one that the exception kept from the pool would be closed as garbage, amid another test
        each.close()


def test_a_pool_keeps_as_many_idle_connections_as_it_may() -> None:
    """What was returned is taken again; more than that are closed."""
    made = list[sqlite3.Connection]()

    def make() -> sqlite3.Connection:
        made.append(connect())
        return made[-1]

    engine = autocommitting('sqlite', make, IdlePool, pool_size=2, max_overflow=-1)
    for _ in range(2):
        with engine.connect(), engine.connect(), engine.connect():
            pass
    assert len(made) == 4
    engine.dispose()
    for each in made:
        with pytest.raises(sqlite3.ProgrammingError, match='closed'):
            each.execute('SELECT 1')


@pytest.mark.parametrize('moment', ['before', 'meanwhile'])
def test_a_pool_that_is_disposed_of_keeps_no_connection(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is returned after that is closed, also if the pool is disposed of at the very last moment before the return."""
    made = list[sqlite3.Connection]()

    def make() -> sqlite3.Connection:
        made.append(connect())
        return made[-1]

    pool = autocommitting('sqlite', make, IdlePool, pool_size=1, max_overflow=-1).pool
    assert isinstance(pool, IdlePool)
    put = pool._pool.put

    def put_late(item: Any, block: bool) -> None:
        pool.dispose()
        put(item, block)

    late, later = pool.connect(), pool.connect()
    if moment == 'before':
        pool.dispose()
    else:
        monkeypatch.setattr(pool._pool, 'put', put_late)
    for each in (late, later, pool.connect()):
        each.close()
    assert len(made) == 3
    for raw in made:
        with pytest.raises(sqlite3.ProgrammingError, match='closed'):
            raw.execute('SELECT 1')


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What listeners to all engines of the process have heard, of which each does what a program may have it do."""
    names = list[str]()

    def unsafe(connection: sqlite3.Connection, _: object) -> None:
        names.append('connect')
        connection.execute('PRAGMA synchronous = OFF')

    def nested(connection: Connection) -> None:
        names.append('begin')
        connection.exec_driver_sql('BEGIN')

    def counted(*_: object) -> None:
        names.append('statement')

    listeners: list[tuple[str, Callable[..., Any]]] = [('connect', unsafe), ('begin', nested), ('before_cursor_execute', counted)]
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    yield names
    for name, listener in listeners:
        event.remove(Engine, name, listener)


@pytest.mark.parametrize('moment', ['before', 'after'])
def test_listeners_to_all_engines(moment: str, request: pytest.FixtureRequest) -> None:
    """A program that listens to every engine changes no connection of jobsync's own, whichever of the two was there first."""
    heard: list[str] = request.getfixturevalue('heard') if moment == 'before' else []
    engine = engine_with(PrivatePool)
    heard = heard if moment == 'before' else request.getfixturevalue('heard')
    with engine.connect() as connection:
        assert connection.exec_driver_sql('PRAGMA synchronous').scalar() == FULL
        connection.exec_driver_sql('BEGIN')
        connection.exec_driver_sql('COMMIT')
    engine.dispose()
    assert heard == []


def test_listeners_and_a_node(heard: list[str], tmp_path: Path) -> None:
    """A node joins and records there as elsewhere."""
    config = CoordinationConfig(backend=f'sqlite:///{tmp_path}/jobs.db')
    with Job('a', None, coordination_config=config, wait_on_enter=0) as job:
        assert job.add_task(Task(1))
        assert job.am_i_healthy()
    assert heard == []
