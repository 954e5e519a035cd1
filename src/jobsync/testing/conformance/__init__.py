"""The conformance suite: every sentence of ``jobsync.backend`` as a test, for any backend.

A backend's own test file supplies a ``Harness`` and subclasses ``BackendSuite``:

    class FilesHarness(Harness):
        abilities = frozenset({Ability.RESTART, Ability.PROCESSES})

        def connect(self, namespace='sync_', **options): ...

    class TestFiles(BackendSuite):
        @pytest.fixture
        def harness(self, tmp_path):
            harness = FilesHarness(tmp_path)
            yield harness
            harness.close()
"""

from __future__ import annotations

import pkgutil

import pytest

APART = {'harness', 'promises', 'reference', 'runner', 'runner_suite'}
MODULES = tuple(f'{__name__}.{module.name}' for module in pkgutil.iter_modules(__path__) if module.name not in APART)
"""The modules with assertions."""

pytest.register_assert_rewrite(*MODULES)

from jobsync.testing.conformance.harness import Ability, Harness  # noqa: E402 - after the line that lets asserts show values
from jobsync.testing.conformance.suite import BackendSuite  # noqa: E402 - as above

__all__ = ['MODULES', 'Ability', 'BackendSuite', 'Harness']
