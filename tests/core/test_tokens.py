"""Token numbers in flat arrays: against lists, sets and dictionaries, and how much memory a large pool takes with them."""

from __future__ import annotations

import random
import tracemalloc
from array import array
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.builders import Scene, member, ref, revision

from jobsync._core.agent.ownership import Ownership
from jobsync._core.assignment import Assignment, Changes, TokenGroup
from jobsync._core.records import NOBODY
from jobsync._core.tokens import NO_TARGETS, Column, both, is_run, rising, without
from jobsync.errors import TimelineChanged

T = TypeVar('T')
TOTAL = 30
POOL = 40_000
BYTES = 25
"""For each token of the pool, at most: a copy of every column takes 16, and with a dictionary of half the tokens 46."""


@pytest.mark.parametrize('count', [0, 1, 999, 1000, 3000])
@pytest.mark.parametrize('is_array', [True, False])
def test_rising(count: int, is_array: bool) -> None:
    """Different numbers come in rising order, few or many, and those that have it are not copied."""
    tokens = random.Random(count).sample(range(5000), count)
    found = rising(array('i', tokens) if is_array else tokens)
    assert found.tolist() == sorted(tokens)
    assert count < 1000 or rising(found) is found


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_masks(pairs: list[tuple[bool, bool]]) -> None:
    """What is in both masks, and in the first alone."""
    one, other = bytes(first for first, _ in pairs), bytes(second for _, second in pairs)
    assert list(both(one, other)) == [first and second for first, second in pairs]
    assert list(without(one, other)) == [first and not second for first, second in pairs]


some_tokens = st.one_of(
    st.lists(st.integers(0, TOTAL - 1), max_size=TOTAL, unique=True).map(sorted),
    st.tuples(st.integers(0, TOTAL - 1), st.integers(1, TOTAL)).map(lambda run: [*range(run[0], min(sum(run), TOTAL))]),
)
"""Rising numbers, with gaps and without."""
changes = st.lists(st.tuples(some_tokens, st.sampled_from(['a', 'b', NOBODY, None])), max_size=4)


@given(st.lists(changes, max_size=4))
def test_targets_are_a_mapping(steps: list[list[tuple[list[int], str | None]]]) -> None:
    """Whatever is set and removed, targets are what a dictionary has, and there are none or ``NO_TARGETS``."""
    targets, expected = NO_TARGETS, dict[int, str]()
    for groups in steps:
        before, was = targets, dict(expected)
        targets = targets.changed(groups, TOTAL)
        for tokens, name in groups:
            for token in tokens:
                expected.pop(token, None)
                if name is not None:
                    expected[token] = name
        assert targets == expected
        assert (dict(before), list(targets), len(targets)) == (was, sorted(expected), len(expected))
        assert (targets is NO_TARGETS) == (not targets) == (not expected)
        assert {name for name in ('a', 'b', 'c', NOBODY) if targets.receives(name)} == set(expected.values())
        assert [token for token, has in enumerate(targets.mask) if has] == sorted(expected)
        owners = array('i', range(TOTAL))
        assert [(token, targets.names[to]) for token, to in targets.beside(owners)] == sorted(expected.items())
        assert all((token in targets) == (token in expected) for token in range(-1, TOTAL + 1))


@given(st.lists(st.tuples(some_tokens, st.integers(-2, 9)), max_size=6), st.booleans())
def test_a_column_has_what_was_written(steps: list[tuple[list[int], int]], is_shared: bool) -> None:
    """Each token has the value that it was given last, and no other token is written to."""
    given_values = array('i', range(TOTAL))
    column, expected = Column(given_values, is_shared), [*given_values]
    for tokens, value in steps:
        column.write(array('i', tokens), value)
        for token in tokens:
            expected[token] = value
        assert column.values.tolist() == expected
    assert not is_shared or given_values.tolist() == [*range(TOTAL)]


DAMAGED = [
    [1] * 8 + [2],
    [1] * 9,
    [0, 1, 2, 3, 9, 9, 9, 7],
    [0, 9, 2, 3, 4, 5, 6, 7],
    [9, 8, 7, 6, 5, 4, 3, 2],
    [2, 9, 8, 7, 6, 5, 4, 3, 2, 10],
]


@pytest.mark.parametrize('tokens', DAMAGED)
@pytest.mark.parametrize('make', [lambda tokens: array('i', tokens), list, tuple])
def test_tokens_that_do_not_rise(make: Callable[[list[int]], list[int]], tokens: list[int]) -> None:
    """Each has the value, no other token is written to, and the table stays as long as the pool."""
    group = TokenGroup(make(tokens), 'b', 'c', 'd', 2)
    whole = Assignment.empty(TOTAL).apply(Changes(revision(1), None, {}, (TokenGroup(range(TOTAL), 'a', None, 'a', 1),), ()))
    for after in (
        Assignment.empty(TOTAL).apply(Changes(revision(2), None, {}, (group,), ())),
        whole.apply(Changes(revision(2), revision(1), {}, (group,), ())),
    ):
        assert {len(column) for column in (after.owner, after.home, after.since, after.targets.at)} == {TOTAL}
        assert list(after.owned_by('b')) == sorted({*tokens}) == list(after.targets)
        assert [token for token in range(TOTAL) if after.row(token).version == 2] == sorted({*tokens})


@pytest.mark.parametrize('tokens', [[-3], [-3, 4], [-2, -1, 0], [TOTAL], [4, TOTAL]])
def test_tokens_that_the_pool_does_not_have(tokens: list[int]) -> None:
    """They are refused: a number below 0 would be written from the end of the table."""
    found = Changes(revision(1), None, {}, (TokenGroup(array('i', tokens), 'b'),), ())
    with pytest.raises(TimelineChanged, match=rf'has a token (-\d|{TOTAL}), and the pool has {TOTAL}$'):
        Assignment.empty(TOTAL).apply(found)


@given(st.one_of(some_tokens, st.lists(st.integers(-3, TOTAL), max_size=9)), st.integers(0, 3 * 2**19))
def test_runs(tokens: list[int], start: int) -> None:
    """Only each number from the first to the last, once and in this order, is a run, whatever the highest number is."""
    shifted = [token + start for token in tokens]
    is_one = bool(shifted) and shifted[0] >= 0 and shifted == [*range(shifted[0], shifted[0] + len(shifted))]
    assert is_run(array('i', shifted)) == is_one
    assert is_run(shifted) <= is_one
    if is_one:
        assert is_run(range(shifted[0], shifted[-1] + 1))


def test_a_column_is_copied_when_a_value_changes() -> None:
    """What another assignment has is not written to, and not copied for nothing."""
    values = array('i', [1, 2, 3])
    column = Column(values, is_shared=True)
    column.write([1], 2)
    assert column.values is values
    column.write([0, 1], 2)
    assert (column.values.tolist(), values.tolist()) == ([2, 2, 3], [1, 2, 3])


def test_a_hand_over_copies_no_owners() -> None:
    """The version that sets targets shares owners, homes and fences with the one before; the next has owners of its own."""
    before = pool()
    half = array('i', range(POOL // 2))
    asked = before.apply(Changes(revision(2), revision(1), {}, (TokenGroup(half, 'a', 'b', None, 1),), ()))
    assert asked.owner is before.owner
    assert asked.home is before.home
    assert asked.since is before.since
    after = asked.apply(Changes(revision(3), revision(2), {}, (TokenGroup(half, 'b', None, None, 3),), ()))
    assert (after.loads, asked.loads) == ({'a': POOL // 2, 'b': POOL // 2}, {'a': POOL})
    assert after.targets is NO_TARGETS
    assert after.home is before.home


# --- a large pool, of which half is handed over -----------------------------------------------------------------------------


def pool() -> Assignment:
    """All tokens are a's."""
    whole = (TokenGroup(array('i', range(POOL)), 'a', version=1),)
    return Assignment.empty(POOL).apply(Changes(revision(1), None, {'a': member('a'), 'b': member('b')}, whole, ()))


def measured(step: str, run: Callable[[], T]) -> T:
    """Return what a step returns, if it takes little memory."""
    tracemalloc.start()
    try:
        found = run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BYTES * POOL, f'{step}: {peak / POOL:.0f} bytes for each token'
    return found


def test_a_large_pool_takes_little_memory() -> None:
    """Every step of a hand-over of half the tokens, in the leader and in the node that gives them."""
    scene, a = Scene.of(pool()), ref('a')
    for version in (2, 3):
        scene.acknowledge()
        plan = measured('decide', scene.plan)
        assert sum(len(group.tokens) for group in plan.groups) == POOL // 2
        old = scene.assignment
        changes = Changes(revision(version), old.version, plan.members, plan.groups, ())
        scene.assignment = measured('apply', partial(old.apply, changes))
        before, after = Ownership.under(old, a), measured('under', partial(Ownership.under, scene.assignment, a))
        assert measured('both', partial(before.both, after, {})).count == after.count == POOL // 2
    assert not scene.assignment.targets
    assert Ownership.under(scene.assignment, ref('b')).count == POOL // 2
