"""PostgreSQL behind a connection whose other end is gone without a word."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.backends.dark import DarkRelay
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.backend import BackendOptions
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.postgresql.plugin import connect
from jobsync.backends.sql.postgresql.store import PostgresqlStore
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace

pytestmark = [pytest.mark.postgres, pytest.mark.skipif(sys.platform != 'linux', reason='packet filters are a thing of Linux')]

OPTIONS = BackendOptions(op_timeout_sec=2.0, bulk_timeout_sec=3600.0)
LONG_SEC = 200.0
"""No more than a fraction of the time for a bulk call, and far more than it takes to notice."""


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


@pytest.fixture
def relay(harness: PostgresqlHarness) -> Iterator[DarkRelay]:
    with DarkRelay(harness.url) as relay:
        yield relay


@pytest.fixture
def backend(harness: PostgresqlHarness, relay: DarkRelay) -> Iterator[SqlBackend]:
    """A handle by way of the relay."""
    Namespace(harness.connect())
    with closing(connect(relay.url, OPTIONS)) as backend:
        assert isinstance(backend, SqlBackend)
        yield backend


def outcome(call: object) -> tuple[threading.Thread, list[BaseException]]:
    """Make a call in a thread of its own, and note how it fails."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_a_bulk_call_that_is_being_sent(backend: SqlBackend, relay: DarkRelay) -> None:
    """It ends long before the time for a bulk call is over: what is sent and never taken ends the connection."""
    wait_until(lambda: _reads(backend), 'a first reading')
    relay.go_dark()
    thread, failures = outcome(backend.read_assignment)
    thread.join(LONG_SEC)
    assert [type(failure) for failure in failures] == [BackendUnavailable]


def test_a_bulk_call_that_waits_for_its_answer(backend: SqlBackend, relay: DarkRelay, harness: PostgresqlHarness) -> None:
    """It ends long before the time for a bulk call is over: the probes are not answered."""
    wait_until(lambda: _reads(backend), 'a first reading')
    held = harness.connect()
    assert isinstance(held, SqlBackend)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sync_token%'"
    with held.connection() as other:
        other.exec_driver_sql('BEGIN; LOCK TABLE sync_token IN ACCESS EXCLUSIVE MODE')
        thread, failures = outcome(backend.read_assignment)
        wait_until(lambda: harness.query(waiting) != [('0',)], 'the reading waits')
        relay.go_dark()
        thread.join(LONG_SEC)
        assert [type(failure) for failure in failures] == [BackendUnavailable]
        other.rollback()


def test_a_listener_comes_back(backend: SqlBackend, relay: DarkRelay, harness: PostgresqlHarness) -> None:
    """It gives the silent connection up, and hears on another one."""
    namespace = Namespace(harness.connect())
    revision = namespace.revision.number
    backend.wait(revision, 0.5)
    relay.go_dark()
    relay.light_up()
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(backend.wait(revision, LONG_SEC)))
    thread.start()
    namespace.join('a')
    thread.join(LONG_SEC)
    assert answers == [revision + 1]


@pytest.mark.parametrize('which', ['call', 'listener', 'user'])
def test_every_connection_looks_after_its_peer(backend: SqlBackend, which: str) -> None:
    """The kernel is told to probe an idle connection, and to give up what is not taken, in about ``op_timeout_sec``."""
    store = backend.store
    assert isinstance(store, PostgresqlStore)
    if which == 'listener':
        wait_until(lambda: backend.wait(-1, 5.0) >= 0 and store._listener._connection is not None, 'the listener listens')
        assert store._listener._connection is not None
        descriptor = store._listener._connection.fileno()
    else:
        connection = backend.connection() if which == 'user' else store._engine.connect()
        raw = connection.connection.dbapi_connection
        assert raw is not None
        descriptor = raw.fileno()
    with socket.socket(fileno=socket.dup(descriptor)) as found:
        options = {'TCP_USER_TIMEOUT': 2000, 'TCP_KEEPIDLE': 1, 'TCP_KEEPINTVL': 1, 'TCP_KEEPCNT': 1}
        assert {name: found.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in options} == options
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if which != 'listener':
        connection.close()


def _reads(backend: SqlBackend) -> bool:
    try:
        backend.read_assignment()
    except BackendUnavailable:
        return False
    return True
