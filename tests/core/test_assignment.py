"""The assignment, case by case: how readings of it are put together."""

from __future__ import annotations

import attrs
import pytest
from tests.core.builders import assigned, member, revision, spelled

from jobsync._core.assignment import Assignment, Changes, TokenGroup, TokenRow
from jobsync._core.records import INITIAL, NOBODY, Pin, Revision
from jobsync.errors import TimelineChanged

PIN = Pin(9, 't1', 'a', 'b', 4, 'b%')


def changes(*groups: TokenGroup, base: int | None = 5, version: int = 6) -> Changes:
    members = {'a': member('a'), 'b': member('b')}
    return Changes(revision(version), None if base is None else revision(base), members, groups, ())


def test_an_empty_assignment_has_no_rows() -> None:
    """Before anything has been read, no token has a row and nothing has happened."""
    empty = Assignment.empty(3)
    assert empty.version == INITIAL
    assert [empty.row(token) for token in range(3)] == [TokenRow(None, None, None, 0, absent=True)] * 3


def test_a_complete_reading_replaces_everything() -> None:
    """A reading without a base leaves nothing of what was known before."""
    before = assigned('aab', targets={0: 'b'}, homes={1: 'b'}, pins=[PIN])
    after = before.apply(changes(TokenGroup([2], 'a', version=6), base=None))
    assert spelled(after) == '--a'
    assert (dict(after.targets), dict(after.pins), after.version) == ({}, {}, revision(6))


def test_a_difference_changes_its_rows_only() -> None:
    """A reading on top of a version leaves every row alone that it does not carry."""
    before = assigned('aab.', homes={0: 'b'})
    after = before.apply(changes(TokenGroup([1, 3], 'b', version=6)))
    assert spelled(after) == 'abbb'
    assert [after.row(token).version for token in range(4)] == [5, 6, 5, 6]
    assert after.row(0).home == 'b'


def test_a_difference_on_another_stamp_is_refused() -> None:
    """The same number with another stamp is another version."""
    other = Changes(revision(6), Revision(5, 1), {}, (), ())
    with pytest.raises(ValueError, match='build on'):
        assigned('ab').apply(other)


def test_targets_are_set() -> None:
    """A row with a target shows the token as being handed over, to a name or to nobody."""
    after = assigned('aab').apply(changes(TokenGroup([0], 'a', 'b', version=5), TokenGroup([2], 'b', NOBODY, version=5)))
    assert dict(after.targets) == {0: 'b', 2: NOBODY}
    assert after.row(0) == TokenRow('a', 'b', None, 5)


def test_targets_are_cleared() -> None:
    """A row without a target ends the hand-over of its token, and of no other."""
    before = assigned('aaa', targets={0: 'b', 1: 'b'})
    after = before.apply(changes(TokenGroup([0], 'b', version=6)))
    assert dict(after.targets) == {1: 'b'}


def test_unowned_is_not_absent() -> None:
    """A row that names nobody is a row: nobody can still hold that token."""
    assignment = assigned('.-')
    assert (assignment.row(0).absent, assignment.row(1).absent) == (False, True)


def test_members_follow_a_difference() -> None:
    """Those it names are as it says, those it names with None are gone, and the others stay."""
    before = assigned('abc')
    other = member('b', run=2)
    after = before.apply(attrs.evolve(changes(), members={'a': None, 'b': other, 'd': member('d'), 'e': None}))
    assert dict(after.members) == {'b': other, 'c': before.members['c'], 'd': member('d')}


def test_pins_are_always_complete() -> None:
    """A difference carries all pins, so those it does not name are gone."""
    assert dict(assigned('ac', pins=[PIN]).apply(changes()).pins) == {}


def test_owned_by_includes_what_is_being_handed_over() -> None:
    """The owner of a token is its owner until the hand-over is done."""
    assignment = assigned('abab', targets={2: 'b'})
    assert list(assignment.owned_by('a')) == [0, 2]
    assert list(assignment.owned_by('nobody of that name')) == []


def test_groups_are_few() -> None:
    """Tokens that share everything but their number travel together."""
    assert len(list(assigned('abababab').groups())) == 2


@pytest.mark.parametrize(
    ('assignment', 'unowned'),
    [
        (assigned('..-'), True),
        (assigned('.a'), False),
        (assigned('..', targets={0: 'a'}), False),
        (assigned('..', pins=[PIN]), False),
    ],
)
def test_is_unowned(assignment: Assignment, unowned: bool) -> None:
    """Unowned: no token and no pin has an owner, or is about to have one."""
    assert assignment.is_unowned is unowned


def test_a_reading_of_another_pool_is_refused() -> None:
    """Where nodes with more tokens have replaced the cluster's settings, a node of the old cluster is told so as it reads."""
    reading = Changes(Revision(9, 1), None, {}, (TokenGroup([2, 4], 'a'),), ())
    with pytest.raises(TimelineChanged, match='token 4, and the pool has 4'):
        Assignment.empty(4).apply(reading)
    assert Assignment.empty(5).apply(reading).row(4).owner == 'a'


def test_names_that_are_not_in_use_are_forgotten() -> None:
    """Pods come and go for months, each with a name of its own: the names do not add up, and each row stays as it was."""
    after = assigned('aab.b-', targets={3: 'b'}, homes={0: 'long gone', 4: 'b'})
    kept, most = [after.row(token) for token in range(6)], 0
    for number in range(500):
        version = after.version.number + 1
        owner = 'a' if number % 2 else f'pod {number}'
        after = after.apply(changes(TokenGroup([1], owner, version=version), base=version - 1, version=version))
        assert after.row(1) == TokenRow(owner, None, None, version)
        assert [after.row(token) for token in (0, 2, 3, 4, 5)] == [kept[token] for token in (0, 2, 3, 4, 5)]
        assert after.owned_by(owner).tolist() == ([0, 1] if number % 2 else [1])
        most = max(most, len(after.names))
    assert most <= 128
