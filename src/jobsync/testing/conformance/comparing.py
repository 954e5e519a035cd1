"""The backend under test beside the reference, as a test of the suite."""

from __future__ import annotations

from jobsync.testing.conformance.harness import Harness

__all__ = ['MachineTests']


class MachineTests:
    """The state machine as a test."""

    def test_compared_with_the_reference(self, harness: Harness) -> None:
        """Whatever the sequence of calls, answers and state are those of the memory backend."""
        # Hypothesis takes long to import, and every process that another test starts imports the suite.
        from jobsync.testing.conformance.machine import compare

        compare(harness)
