"""What ``running`` has pytest collect: the suite on whatever harness ``running.make`` gives. Imported by pytest alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobsync.testing.conformance import MODULES, Harness, running

pytest.register_assert_rewrite(*MODULES)

from jobsync.testing.conformance.suite import BackendSuite  # noqa: E402 - after the line that makes asserts speak

__all__ = ['TestBackend']


class TestBackend(BackendSuite):
    """The backend that ``running.run`` was asked about."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """A harness of the test's own."""
        harness = running.make()
        yield harness
        harness.close()
