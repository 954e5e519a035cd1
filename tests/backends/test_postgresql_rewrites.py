"""Tables of PostgreSQL whose rows an operator's ALTER TABLE writes anew while nodes read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.backend import Backend, TokenGroup
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


READINGS: dict[str, tuple[str, Callable[[Backend], int]]] = {
    'node': ('heartbeat', lambda backend: len(backend.snapshot().nodes)),
    'token': ('version', lambda backend: sum(len(group.tokens) for group in backend.read_assignment().groups)),
    'lock': ('registered', lambda backend: len(backend.read_locks().locks)),
}
"""By the table: a column of numbers, and how much a reading finds."""


@pytest.mark.parametrize('table', READINGS)
def test_a_reading_that_waits_for_a_rewrite(harness: PostgresqlHarness, table: str) -> None:
    """It finds all rows: an empty table would be one whose rows were deleted."""
    column, read = READINGS[table]
    namespace = Namespace(harness.connect())
    namespace.commit(namespace.leader('a'), TokenGroup(range(24), 'a'))
    namespace.lock('x')
    expected = read(namespace.backend)
    assert expected > 0
    name = f'{harness.schema}.sync_{table}'
    waits = f"SELECT count(*) FROM pg_locks WHERE relation = '{name}'::regclass AND NOT granted"
    with psycopg.connect(harness.server.url(socket_only=True)) as operator, ThreadPoolExecutor(1) as pool:
        operator.execute(f'ALTER TABLE {name} ALTER COLUMN {column} TYPE bigint USING ({column} + 0)')
        reading = pool.submit(read, namespace.backend)
        wait_until(lambda: harness.server.psql(waits) == ['1'], 'the reading waits')
        operator.commit()
        assert reading.result(60) == expected
