"""Token groups that stores share: what successive layers come to."""

from __future__ import annotations

from array import array
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.backend import TokenGroup
from jobsync.backends._common.tokens import latest, only

TOTAL = 24
PLACES = st.tuples(
    st.sampled_from(['a', 'b', None]), st.sampled_from(['a', None]), st.sampled_from(['b', None]), st.integers(0, 2)
)

Row = tuple[str | None, str | None, str | None, int]


@st.composite
def layers(draw: st.DrawFn) -> tuple[TokenGroup, ...]:
    """Return a layer: each token at most once, and perhaps groups without tokens."""
    rows = draw(st.dictionaries(st.integers(0, TOTAL - 1), PLACES, max_size=TOTAL))
    first, last = sorted(draw(st.tuples(st.integers(0, TOTAL), st.integers(0, TOTAL))))
    rows.update(dict.fromkeys(range(first, last), draw(PLACES)))  # those of a node are mostly runs
    groups = [TokenGroup(array('i', sorted(token for token in rows if rows[token] == row)), *row) for row in {*rows.values()}]
    return (*groups, *(TokenGroup(array('i'), *row) for row in draw(st.lists(PLACES, max_size=1))))


def rows_of(groups: tuple[TokenGroup, ...]) -> dict[int, Row]:
    """Return the row of each token."""
    return {token: (group.owner, group.target, group.home, group.version) for group in groups for token in group.tokens}


@given(st.lists(layers(), max_size=4))
def test_each_token_is_as_the_last_layer_has_it(given_layers: list[tuple[TokenGroup, ...]]) -> None:
    """Each token comes once, rising within its group, and each row comes in one group, which has tokens."""
    found = latest(chain.from_iterable(reversed(given_layers)))
    expected: dict[int, Row] = {}
    for layer in given_layers:
        expected.update(rows_of(layer))
    assert rows_of(found) == expected
    assert sum(len(group.tokens) for group in found) == len(expected)
    assert all(list(group.tokens) == sorted(group.tokens) for group in found)
    assert all(group.tokens for group in found)
    assert len({(group.owner, group.target, group.home, group.version) for group in found}) == len(found)


@pytest.mark.parametrize('tokens', [[0, 9, 2], [1, 1, 3, 3, 5], [1, 3, 2, 4], [3, 2, 1, 3]])
def test_tokens_that_do_not_rise(tokens: list[int]) -> None:
    """Of the commits before, a later one hides no token but its own, in whatever order it has these."""
    earlier = TokenGroup(array('i', range(TOTAL)), 'b', version=1)
    found = latest([TokenGroup(array('i', [TOTAL]), 'c'), TokenGroup(array('i', tokens), 'a', version=2), earlier])
    expected = dict.fromkeys(range(TOTAL), ('b', None, None, 1)) | dict.fromkeys(tokens, ('a', None, None, 2))
    assert rows_of(found) == {TOTAL: ('c', None, None, 0), **expected}
    assert sum(len({*group.tokens}) for group in found) == TOTAL + 1


@given(layers(), st.lists(st.integers(0, TOTAL)))
def test_the_wanted_tokens_alone(layer: tuple[TokenGroup, ...], wanted: list[int]) -> None:
    """Each wanted token that there is comes once, as the layer has it, rising within its group, and no other comes."""
    found = tuple(only(layer, wanted))
    assert rows_of(found) == {token: row for token, row in rows_of(layer).items() if token in wanted}
    assert all(list(group.tokens) == sorted({*group.tokens}) and group.tokens for group in found)
