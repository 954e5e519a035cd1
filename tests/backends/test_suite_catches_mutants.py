"""The suite against backends that break one guarantee each."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.backends.mutants import MUTANTS

from jobsync.backends.memory import MemoryBackend
from jobsync.testing.conformance import waiting

pytest_plugins = ['pytester']

SUITE = """
import pytest
from {module} import {kind}
from jobsync.testing.conformance import BackendSuite
from jobsync.testing.conformance.reference import MemoryHarness

class TestMutant(BackendSuite):
    @pytest.fixture
    def harness(self):
        harness = MemoryHarness({kind})
        harness.pool_sizes, harness.lock_counts, harness.examples = (1_000,), (100,), 10
        return harness
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: type[MemoryBackend]) -> dict[str, int]:
    """How many tests of the suite pass on one kind of backend, up to the first that fails."""
    monkeypatch.setattr(waiting, 'DEADLINE_SEC', 2.0)
    pytester.syspathinsert(Path(__file__).parents[2])
    pytester.makepyfile(SUITE.format(module=kind.__module__, kind=kind.__name__))
    return pytester.runpytest_inprocess('-x', '-q', '-p', 'no:cacheprovider').parseoutcomes()


@pytest.mark.parametrize('kind', MUTANTS, ids=lambda kind: kind.__name__)
def test_mutant_is_caught(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: type[MemoryBackend]) -> None:
    """A backend without this guarantee fails the suite."""
    outcomes = run(pytester, monkeypatch, kind)
    assert outcomes.get('failed') == 1, outcomes


def test_the_reference_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mutants are made from fails nothing."""
    outcomes = run(pytester, monkeypatch, MemoryBackend)
    assert set(outcomes) == {'passed'}, outcomes
