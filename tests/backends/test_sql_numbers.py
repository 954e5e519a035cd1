"""Lists of tokens as databases write them, which may be millions of characters long."""

from __future__ import annotations

import tracemalloc
from array import array
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from jobsync.backends.sql import read_assignment, token_rows
from jobsync.backends.sql.dialect import joined_numbers
from jobsync.backends.sql.token_rows import TokenRows, portions


def row(tokens: list[int]) -> sa.Row[Any]:
    fields = SimpleNamespace(owner='a', target=None, home=None, version=3, numbers=joined_numbers(tokens))
    return cast('sa.Row[Any]', fields)


@pytest.mark.parametrize('form', ['{}', '[{}]', '{{{}}}'])
@given(tokens=st.lists(st.integers(0, 1_000_000), max_size=30), portion=st.integers(0, 40))
def test_every_number_is_read(form: str, tokens: list[int], portion: int) -> None:
    """Wherever a list is cut, it is read whole and in its order, and a group has it in rising order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_assignment, 'PORTION', portion)
        found = read_assignment.numbers(form.format(','.join(map(str, tokens))))
    assert found.tolist() == tokens
    groups = read_assignment.groups_of([row(tokens[:10]), row(tokens[10:])])
    assert [(list(group.tokens), group.owner, group.version) for group in groups] == (
        [(sorted(tokens), 'a', 3)] if tokens else []
    )


@given(sizes=st.lists(st.tuples(st.sampled_from(['a', 'b', None]), st.integers(0, 25)), max_size=6), portion=st.integers(1, 12))
def test_statements_have_bounded_portions(sizes: list[tuple[str | None, int]], portion: int) -> None:
    """Every row is in one portion, none is too large, and none has rows with an owner and rows without one."""
    rows = [TokenRows(range(100 * at, 100 * at + size), node, None, None, at) for at, (node, size) in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_rows, 'PORTION', portion)
        found = list(portions(rows))
    counts = [sum(size for node, size in sizes if (node is None) == is_unowned) for is_unowned in (False, True)]
    assert len(found) == sum(-(-count // portion) for count in counts)
    assert all(0 < sum(len(row.numbers) for row in some) <= portion for some in found)
    assert all(len({row.node is None for row in some}) == 1 for some in found)
    written = [(number, row.node, row.version) for some in found for row in some for number in row.numbers]
    assert sorted(written, key=lambda row: row[0]) == [(number, row.node, row.version) for row in rows for number in row.numbers]


@pytest.mark.parametrize('count', [0, 1, 8191, 8192, 8193, 40_000])
def test_numbers_are_joined(count: int) -> None:
    """The text is that of all numbers, and beside it there is never one text for each number, which takes 60 bytes."""
    numbers = array('i', range(100_000, 100_000 + count))
    expected = ','.join(map(str, numbers))
    tracemalloc.start()
    try:
        assert joined_numbers(numbers) == expected
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 700_000 + 20 * count
