"""The suite against backends that break one guarantee each, and the table that tells of it."""

from __future__ import annotations

import pytest
from tests.backends.mutants import MUTANTS
from tests.backends.mutants.base import Hands
from tests.backends.mutants.catching import catchers
from tests.backends.mutants.page import rows

ROWS = rows()
AGAIN = 'to write the table anew: python -m tests.backends.mutants'


@pytest.mark.parametrize('kind', MUTANTS, ids=lambda kind: kind.__name__)
def test_mutant_is_caught(kind: type[Hands]) -> None:
    """A backend without this guarantee fails the tests that the documentation names; where it takes a race, one of them."""
    says, tests = ROWS[kind.__name__]
    assert says == kind.__doc__, AGAIN
    caught = catchers(kind.__name__, tests)
    assert caught if kind.races else sorted(caught) == sorted(tests), f'caught by {caught}; {AGAIN}'


def test_what_they_are_made_from_passes() -> None:
    """Without a fault, the same backend fails nothing, its store's outages included."""
    assert catchers(Hands.__name__) == []


def test_the_table_has_every_mutant() -> None:
    """And no other."""
    assert list(ROWS) == [kind.__name__ for kind in MUTANTS]
