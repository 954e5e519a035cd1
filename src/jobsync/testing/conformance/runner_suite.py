"""The file that ``runner.run`` lets pytest collect: the suite on the harness that ``runner.make`` returns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobsync.testing.conformance import MODULES, Harness, runner

pytest.register_assert_rewrite(*MODULES)

from jobsync.testing.conformance.suite import BackendSuite  # noqa: E402 - after the line that lets asserts show values

__all__ = ['TestBackend']


class TestBackend(BackendSuite):
    """The suite on the backend of ``runner.run``."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """Yield a harness of the test's own."""
        harness = runner.make()
        yield harness
        harness.close()
