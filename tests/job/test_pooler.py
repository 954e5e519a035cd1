"""Jobs whose connections to PostgreSQL go through a pooler that lends them for one transaction at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.servers import PgbouncerServer, PostgresServer
from tests.support.servers.pgbouncer import CONNECTIONS
from tests.support.timings import TOKENS

pytestmark = [pytest.mark.postgres, pytest.mark.full]
NODES = 6


@pytest.fixture
def behind() -> Iterator[PostgresServer]:
    """A server to which nothing else connects."""
    with closing(PostgresServer()) as server:
        yield server


@pytest.fixture
def pooler(behind: PostgresServer) -> Iterator[PgbouncerServer]:
    """The pooler before it. Absent, it is missed: this runs with ``--full`` only."""
    with closing(PgbouncerServer(behind)) as server:
        yield server


def test_more_nodes_than_connections(pooler: PgbouncerServer, behind: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """They share the tokens, work, hand over and outlive a restart of the pooler, and hold no connection of the server."""
    store = Store(pooler.url())
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with ExitStack() as stack, caplog.at_level(logging.INFO):
        jobs = [stack.enter_context(store.job(f'w{number}')) for number in range(NODES)]

        def loads() -> list[int]:
            return sorted(len(job.my_tokens) for job in jobs)

        wait_until(lambda: sum(loads()) == TOKENS and loads()[-1] - loads()[0] <= 1, 'all have their share')
        assert 'announcements do not come through' in caplog.text
        tasks = [f'task {number}' for number in range(60)]
        done = [task for job in jobs for task in job.claim(tasks)]
        assert sorted(done) == sorted(tasks)
        assert int(behind.psql(query)[0]) <= CONNECTIONS
        pooler.kill()
        pooler.start()
        jobs.pop().__exit__(None, None, None)
        wait_until(lambda: sum(loads()) == TOKENS and loads()[-1] - loads()[0] <= 1, 'the others have its share')
        for job in jobs:
            job._task_log.completions.flush()
    assert sorted(store.audits) == sorted(tasks)
    store.close()
