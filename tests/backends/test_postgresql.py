"""The PostgreSQL backend: the conformance suite, on the tests' own server; with ``--full`` on every version installed here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.testing import BackendSuite, Harness

pytestmark = pytest.mark.postgres


class TestPostgresql(BackendSuite):
    """PostgreSQL keeps the whole contract."""

    @pytest.fixture
    def harness(self, postgres_server: PostgresServer) -> Iterator[Harness]:
        """A schema of its own for each test."""
        harness = PostgresqlHarness(postgres_server)
        yield harness
        harness.close()
