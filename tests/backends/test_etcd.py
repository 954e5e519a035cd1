"""The etcd backend: the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.etcd import EtcdClusterHarness, EtcdHarness
from tests.support.servers import EtcdServer

from jobsync.testing import BackendSuite, Harness

pytestmark = pytest.mark.etcd

UNDER_LOAD = {'test_writes_acknowledged_under_load_survive', 'test_calls_under_a_kill_are_linearizable'}
"""What kills the store while it acknowledges writes."""


class TestEtcd(BackendSuite):
    """etcd keeps the whole contract."""

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest, etcd_server: EtcdServer) -> Iterator[Harness]:
        """All of the server for each test; three members for what kills them under load."""
        harness = EtcdClusterHarness() if request.node.originalname in UNDER_LOAD else EtcdHarness(etcd_server)
        yield harness
        harness.close()
