"""The memory backend: the conformance suite, and what only this backend has."""

from __future__ import annotations

import pytest

from jobsync.testing import BackendSuite, Harness, MemoryHarness


class TestMemory(BackendSuite):
    """The reference keeps the whole contract."""

    @pytest.fixture
    def harness(self) -> Harness:
        """A store of its own for each test."""
        return MemoryHarness()
