"""The Redis backend: the conformance suite, on the tests' own server; with ``--full`` on every server installed here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import RedisServer

from jobsync.testing import BackendSuite, Harness
from jobsync.testing.conformance.external_changes import FailoverTests
from jobsync.testing.conformance.opening import InfoTests, OpeningTests
from jobsync.testing.conformance.outages import OutageTests
from jobsync.testing.conformance.readings import PositionTests
from jobsync.testing.conformance.suite import SuiteFixtures
from jobsync.testing.conformance.timelines import TimelineTests

pytestmark = pytest.mark.redis


class TestRedis(BackendSuite):
    """A server that keeps what it acknowledges keeps the whole contract."""

    @pytest.fixture
    def harness(self, redis_server: RedisServer) -> Iterator[Harness]:
        """A server that is empty."""
        harness = RedisHarness(redis_server)
        yield harness
        harness.close()


@pytest.fixture
def forgetful(forgetful_redis_server: RedisServer) -> Iterator[Harness]:
    """Return a server that is empty and keeps nothing."""
    harness = RedisHarness(forgetful_redis_server)
    yield harness
    harness.close()


class TestForgetfulRedis(InfoTests, OpeningTests, TimelineTests, PositionTests, FailoverTests, OutageTests, SuiteFixtures):
    """A server that keeps nothing keeps the parts of the contract that its memory has to do with."""

    @pytest.fixture
    def harness(self, forgetful: Harness) -> Harness:
        """Return a server that is empty and keeps nothing."""
        return forgetful


@pytest.mark.full
class TestAllOfForgetfulRedis(BackendSuite):
    """A server that keeps nothing keeps the whole contract, except what ``durable`` promises."""

    @pytest.fixture
    def harness(self, forgetful: Harness) -> Harness:
        """Return a server that is empty and keeps nothing."""
        return forgetful
