"""Lists of tokens as databases write them, which may be millions of characters long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from jobsync.backends.sql import read_assignment


def row(text: str) -> sa.Row[Any]:
    fields = SimpleNamespace(numbers=text, owner='a', target=None, home=None, version=3)
    return cast('sa.Row[Any]', fields)


@pytest.mark.parametrize('form', ['{}', '[{}]', '{{{}}}'])
@given(tokens=st.lists(st.integers(0, 1_000_000), max_size=30), portion=st.integers(0, 40))
def test_every_number_is_read(form: str, tokens: list[int], portion: int) -> None:
    """Wherever a list is cut, it is read whole and in its order, and a group has it in rising order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_assignment, 'PORTION', portion)
        found = read_assignment.numbers(row(form.format(','.join(map(str, tokens)))))
    assert found.tolist() == tokens
    group = read_assignment.group_of(row(''), found)
    assert (list(group.tokens), group.owner, group.version) == (sorted(tokens), 'a', 3)
