"""The memory backend: the conformance suite, and what only this backend has."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jobsync.backend import BackendInfo, Opened, Settings
from jobsync.backends.memory import MemoryBackend
from jobsync.testing import BackendSuite, Harness, MemoryHarness


class TestMemory(BackendSuite):
    """The reference keeps the whole contract."""

    @pytest.fixture
    def harness(self) -> Harness:
        """A store of its own for each test."""
        return MemoryHarness()


class SmallPools(MemoryBackend):
    """A store for which its author declares less than the pools that a harness names by itself."""

    @property
    def info(self) -> BackendInfo:
        """Less than the usual pool."""
        return attrs.evolve(super().info, max_tokens=500)

    def open(self, settings: Settings | None, *arguments: Any, **more: Any) -> Opened:
        """No pool may be larger than declared."""
        assert settings is None or settings.total_tokens <= self.info.max_tokens
        return super().open(settings, *arguments, **more)


def test_no_pool_is_larger_than_declared() -> None:
    """What a store declares as its largest pool is what the suite tries, not a failure."""
    BackendSuite().test_large_pools(MemoryHarness(SmallPools))
