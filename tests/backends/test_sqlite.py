"""The SQLite backend: the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.testing import BackendSuite, Harness


class TestSqlite(BackendSuite):
    """SQLite keeps the whole contract."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        """A file of its own for each test."""
        harness = SqliteHarness(tmp_path)
        yield harness
        harness.close()
