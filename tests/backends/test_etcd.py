"""The etcd backend: the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer

from jobsync.testing import BackendSuite, Harness

pytestmark = pytest.mark.etcd


class TestEtcd(BackendSuite):
    """etcd keeps the whole contract."""

    @pytest.fixture
    def harness(self, etcd_server: EtcdServer) -> Iterator[Harness]:
        """All of the server for each test."""
        harness = EtcdHarness(etcd_server)
        yield harness
        harness.close()
