"""The handles of threads that call a store at the same time."""

from __future__ import annotations

import pytest

from jobsync.backend import Backend
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import NAMESPACE, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['THREADS', 'HandleFixtures', 'patient']

THREADS = 6


def patient(harness: Harness, namespace: str = NAMESPACE) -> Backend:
    """Return a handle with long timeouts, so that no call fails because the machine is busy."""
    return harness.connect(namespace, op_timeout_sec=DEADLINE_SEC / 2, bulk_timeout_sec=DEADLINE_SEC / 2)


class HandleFixtures:
    """The fixtures of tests with several threads."""

    @pytest.fixture(params=['handles of their own', 'one handle'])
    def backends(self, request: pytest.FixtureRequest, harness: Harness) -> list[Backend]:
        """Return a handle for each thread."""
        handles = THREADS if request.param == 'handles of their own' else 1
        return [Namespace(patient(harness)).backend for _ in range(handles)] * (THREADS // handles)

    @pytest.fixture
    def rounds(self, harness: Harness) -> int:
        """Return ``Harness.rounds``."""
        return harness.rounds
