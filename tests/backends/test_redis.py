"""The Redis backend: the conformance suite, on every server that is to be had here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import RedisServer

from jobsync.testing.conformance import BackendSuite, Harness

pytestmark = pytest.mark.redis


class TestRedis(BackendSuite):
    """A server that keeps what it acknowledges keeps the whole contract."""

    @pytest.fixture
    def harness(self, redis_server: RedisServer) -> Iterator[Harness]:
        """A server that is empty."""
        harness = RedisHarness(redis_server)
        yield harness
        harness.close()


class TestForgetfulRedis(BackendSuite):
    """A server that keeps nothing keeps all of it but what ``durable`` promises."""

    @pytest.fixture
    def harness(self, forgetful_redis_server: RedisServer) -> Iterator[Harness]:
        """A server that is empty."""
        harness = RedisHarness(forgetful_redis_server)
        yield harness
        harness.close()
