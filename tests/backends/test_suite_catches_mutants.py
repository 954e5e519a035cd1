"""The suite against backends that break one guarantee each, and the table that tells of it."""

from __future__ import annotations

import multiprocessing.forkserver
import multiprocessing.resource_tracker
from collections.abc import Sequence

import pytest
from tests.backends.mutants import MUTANTS
from tests.backends.mutants.base import Hands, Mutant
from tests.backends.mutants.catching import ARGUMENTS, NAME, Caught, shorten
from tests.backends.mutants.page import rows

pytest_plugins = ['pytester']

ROWS = rows()
KEPT = (multiprocessing.forkserver, multiprocessing.resource_tracker)
"""Modules with a process each. A run of pytest forgets what it has imported, and the next would start another process."""
TRIES = 20
"""Of the tests, on a mutant that it takes a race to notice; one run misses such a mutant at times."""
AGAIN = 'to write the table anew: python -m tests.backends.mutants'


def caught_by(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: type[Mutant], tests: Sequence[str] = ()
) -> list[str]:
    """Which of these tests, or of all, fail on one kind of backend."""
    monkeypatch.setenv(NAME, kind.__name__)
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')  # each run would look for plugins in all that is installed
    shorten(monkeypatch.setattr, 1.0 if tests else 2.5)
    for _ in range(TRIES if kind.races else 1):
        caught = Caught(1 if kind.races else None, tests)
        pytester.inline_run(*ARGUMENTS, plugins=[caught])
        if caught.names:
            break
    return sorted(caught.names)


@pytest.mark.parametrize('kind', MUTANTS, ids=lambda kind: kind.__name__)
def test_mutant_is_caught(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: type[Mutant]) -> None:
    """A backend without this guarantee fails the tests that the documentation names; where it takes a race, one of them, once."""
    says, tests = ROWS[kind.__name__]
    assert says == kind.__doc__, AGAIN
    found = caught_by(pytester, monkeypatch, kind, tests)
    if not kind.races and found != sorted(tests):  # a starved machine may take as long for nothing as a test demands of a wait
        found = sorted({*found, *caught_by(pytester, monkeypatch, kind, tests)})
    assert found if kind.races else found == sorted(tests), f'caught by {found}; {AGAIN}'


def test_what_they_are_made_from_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fault, the same backend fails nothing, its store's outages included."""
    assert caught_by(pytester, monkeypatch, Hands) == []


def test_the_table_has_every_mutant() -> None:
    """And no other."""
    assert list(ROWS) == [kind.__name__ for kind in MUTANTS]
