"""The comparison with the reference, as a test of the suite."""

from __future__ import annotations

from jobsync.testing.conformance.harness import Harness

__all__ = ['ComparisonTests']


class ComparisonTests:
    """The backend under test and the reference receive the same calls."""

    def test_compared_with_the_reference(self, harness: Harness) -> None:
        """After any sequence of calls, answers and state equal those of the memory backend."""
        # Hypothesis takes long to import, and each process that another test starts imports the suite.
        from jobsync.testing.conformance.machine import compare

        compare(harness)
