"""PostgreSQL: an operator's open transaction holds the lock of a table, and what waits for it ends on the server too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.backend import INITIAL
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


def test_a_wait_for_a_revision_leaves_no_session_behind(harness: PostgresqlHarness) -> None:
    """While a lock keeps the revision from being read, no session of a wait that is over goes on to wait for the lock."""
    Namespace(harness.connect())
    listening = harness.connect(op_timeout_sec=0.5)
    table = f'{harness.schema}.sync_state'
    waits = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    with psycopg.connect(harness.server.url(socket_only=True)) as operator:
        operator.execute(f'LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE')
        listening.wait(0, 5)
        listening.close()
        wait_until(lambda: harness.server.psql(waits) == ['0'], 'no session waits')


def test_a_session_whose_process_is_stopped(harness: PostgresqlHarness) -> None:
    """It keeps its locks through ``pg_terminate_backend``, and ends once its process goes on, as the page of messages says."""
    ref = Namespace(harness.connect()).join('a')
    hasty = harness.connect(op_timeout_sec=1)

    def heartbeat() -> bool:
        try:
            hasty.heartbeat(ref, INITIAL, frozenset())
        except BackendUnavailable:
            return False
        return True

    wait_until(heartbeat, 'a first heartbeat')
    with closing(psycopg.connect(harness.server.url(socket_only=True))) as operator:
        operator.execute(f'SELECT 1 FROM {harness.schema}.sync_node FOR UPDATE')
        os.kill(operator.info.backend_pid, signal.SIGSTOP)
        try:
            assert harness.server.psql(f'SELECT pg_terminate_backend({operator.info.backend_pid})') == ['t']
            wait_until(lambda: not heartbeat(), 'a heartbeat waits for the lock')
        finally:
            os.kill(operator.info.backend_pid, signal.SIGCONT)
        wait_until(heartbeat, 'the session has ended')
