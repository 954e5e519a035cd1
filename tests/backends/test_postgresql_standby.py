"""A synchronous standby that is away: what the server commits alone is not acknowledged. A server that is a standby itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync._core.records import INITIAL
from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.postgres

CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@contextlib.contextmanager
def without_standby(server: PostgresServer) -> Iterator[None]:
    """Let commits wait for a standby that there is not, for the length of the block."""
    server.arrange("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    server.arrange('SELECT pg_reload_conf()')
    try:
        yield
    finally:
        server.arrange('ALTER SYSTEM RESET synchronous_standby_names')
        server.arrange('SELECT pg_reload_conf()')


@contextlib.contextmanager
def cancelling(server: PostgresServer) -> Iterator[None]:
    """Let an operator cancel the commits that wait, for the length of the block."""
    ended = threading.Event()

    def cancel() -> None:
        with psycopg.connect(server.url(socket_only=True), autocommit=True) as operator:
            while not ended.wait(0.05):
                operator.execute(CANCEL)

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_confirmed(call: Callable[[], object]) -> bool:
    """Make a call, and return whether the standby is no reason for it to fail."""
    try:
        call()
    except BackendUnavailable as error:
        return 'no synchronous standby' not in str(error)
    return True


@pytest.mark.parametrize('setting', ['synchronous_commit = off', 'client_min_messages = error'])
def test_a_commit_whose_wait_for_the_standby_is_cancelled(server: PostgresServer, setting: str) -> None:
    """The server says that it has committed. It gives no lease all the same: a standby that is promoted knows nothing of it.

    A role or a database may have such waits, or the warnings of them, switched off.
    """
    server.arrange(f'ALTER DATABASE postgres SET {setting}')
    harness = PostgresqlHarness(server)
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    with cancelling(server), without_standby(server):
        wait_until(lambda: not is_confirmed(lambda: namespace.beat(leader)), 'commits wait for the standby')
        assert not is_confirmed(lambda: namespace.join('b'))
        assert not is_confirmed(lambda: namespace.commit(leader))
        assert not is_confirmed(lambda: namespace.claim(leader, 'x'))
    wait_until(lambda: is_confirmed(lambda: namespace.beat(leader)), 'commits wait no longer')
    harness.close()


def test_what_is_said_of_commits_that_wait(server: PostgresServer) -> None:
    """The first heartbeat has no answer, and its session keeps the row from the next ones: the standby is named by both."""
    harness = PostgresqlHarness(server)
    leader = Namespace(harness.connect()).leader()
    hurried = harness.connect(op_timeout_sec=0.5)
    said = ['']

    def is_kept_waiting() -> bool:
        try:
            hurried.heartbeat(leader, INITIAL, frozenset())
        except BackendUnavailable as error:
            said.append(str(error))
        return 'canceling statement' in said[-1]

    with without_standby(server):
        wait_until(is_kept_waiting, 'heartbeats wait for the row')
    assert all('commits wait for a synchronous standby' in each for each in said[1:])
    harness.close()


def test_a_server_that_is_a_standby_is_named(server: PostgresServer) -> None:
    """By what writes and by what only reads, as the commands do: no other error says that the URL leads to the wrong server."""
    harness = PostgresqlHarness(server)
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    server.arrange('CHECKPOINT')
    server.kill()
    (server.folder / 'data' / 'standby.signal').touch()
    server.start()
    for call in (lambda: namespace.beat(leader), namespace.snapshot, namespace.backend.read_assignment):
        with pytest.raises(BackendUnavailable, match='the server is a standby: the URL must lead to the one'):
            call()
    server.arrange('SELECT pg_promote()')
    harness.close()
