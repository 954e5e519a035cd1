"""The PostgreSQL backend: the conformance suite, on the tests' own server; with ``--full`` on every version installed here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.testing import BackendSuite
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = pytest.mark.postgres


class TestPostgresql(BackendSuite):
    """PostgreSQL keeps the whole contract."""

    @pytest.fixture
    def harness(self, postgres_server: PostgresServer) -> Iterator[PostgresqlHarness]:
        """A schema of its own for each test."""
        harness = PostgresqlHarness(postgres_server)
        yield harness
        harness.close()

    @pytest.fixture
    def namespace(self, harness: PostgresqlHarness) -> Namespace:
        """A namespace in tables that an earlier test has left. The tests of opening, which take the harness, have new ones."""
        return Namespace(harness.connect_to_empty(SETTINGS))
