"""The assignment: its views against plain loops over its rows, and versions that follow from each other."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync._core.agent.ownership import Ownership
from jobsync._core.assignment import ABSENT, UNOWNED, Assignment, Changes, TokenGroup, TokenRow
from jobsync._core.records import INITIAL, NOBODY, Member, NodeRef, Pin, Revision
from jobsync._core.tokens import NO_TARGETS, Targets

NAMES = ('a', 'b', 'c')


def targets_of(targets: Mapping[int, str], total: int) -> Targets:
    """The same targets in flat arrays."""
    return NO_TARGETS.changed((((token,), name) for token, name in targets.items()), total)


@st.composite
def assignments(draw: st.DrawFn) -> Assignment:
    """Of up to 30 tokens over three names."""
    total = draw(st.integers(1, 30))

    def column(*values: int) -> array[int]:
        return array('i', draw(st.lists(st.sampled_from(values), min_size=total, max_size=total)))

    owner = column(ABSENT, UNOWNED, 0, 1, 2)
    target = st.sampled_from((*NAMES, NOBODY))
    held = [token for token in range(total) if owner[token] != ABSENT]
    pins = [Pin(total + 1, 'x', 'a'), Pin(total + 2, 'y', 'a', 'b'), Pin(total + 4, 'z', 'b'), Pin(total + 5, 'nobody', None)]
    return Assignment(
        version=Revision(7, 3),
        members={name: Member('run-' + name, 15.0) for name in NAMES},
        names=NAMES,
        owner=owner,
        home=column(UNOWNED, 0, 1, 2),
        since=array('q', column(1, 7)),
        targets=targets_of(draw(st.dictionaries(st.sampled_from(held), target)) if held else {}, total),
        pins={pin.id: pin for pin in pins},
    )


@given(assignments())
def test_owned_by(assignment: Assignment) -> None:
    """Whose a token is, asked for a name, is what its row says; a name never heard of owns nothing."""
    for name in (*NAMES, 'stranger'):
        expected = [token for token in range(assignment.total_tokens) if assignment.row(token).owner == name]
        assert list(assignment.owned_by(name)) == expected
        assert [token for token, mine in enumerate(assignment.owned_mask(name)) if mine] == expected


@pytest.mark.parametrize('names', [1, 2, 253, 254, 255, 256, 257, 65_533, 65_534, 65_535, 65_536, 66_000])
def test_owned_by_among_many_names(names: int) -> None:
    """However many names there are, no two are taken for each other, nor for nobody."""
    owners = {*range(min(names, 3)), *range(max(0, names - 3), names), *range(names)[253:259], UNOWNED, ABSENT}
    owner = array('i', [*owners, *owners])
    assignment = attrs.evolve(Assignment.empty(len(owner)), names=tuple(map(str, range(names))), owner=owner)
    for position in owners - {UNOWNED, ABSENT}:
        expected = [token for token, at in enumerate(owner) if at == position]
        assert list(assignment.owned_by(str(position))) == expected
    assert assignment.owners == owners


@given(assignments())
def test_whom_hand_overs_concern(assignment: Assignment) -> None:
    """A name receives what is handed over to it, and is awaited if it is to hand something over, or if a token has no row."""
    rows = [*map(assignment.row, range(assignment.total_tokens))]
    all_held: list[TokenRow | Pin] = [*rows, *assignment.pins.values()]
    has_absent = any(row.absent for row in rows)
    assert assignment.has_absent == has_absent
    for name in (*NAMES, NOBODY, 'stranger'):
        for _ in range(2):
            assert assignment.receives(name) == (name in {held.target for held in all_held})
        gives = any(held.owner == name and held.target is not None for held in all_held)
        assert assignment.awaits(name) == (gives or has_absent)


@given(assignments())
def test_groups_are_a_complete_reading(assignment: Assignment) -> None:
    """Every row is in one group, tokens rising, and together they make the assignment again."""
    groups = tuple(assignment.groups())
    assert all(list(group.tokens) == sorted(group.tokens) for group in groups)
    assert len({(group.owner, group.target, group.home, group.version) for group in groups}) == len(groups)
    changes = Changes(assignment.version, None, assignment.members, groups, tuple(assignment.pins.values()))
    again = Assignment.empty(assignment.total_tokens).apply(changes)
    for token in range(assignment.total_tokens):
        row = assignment.row(token)
        assert again.row(token) == (row if not row.absent else Assignment.empty(1).row(0))
    assert again.pins == assignment.pins


@given(assignments(), st.randoms(use_true_random=False))
def test_a_difference_writes_what_it_names_and_nothing_else(assignment: Assignment, rng: random.Random) -> None:
    """A target goes when a group names none, and the version before is left as it was."""
    total = assignment.total_tokens
    before = [assignment.row(token) for token in range(total)]
    first = sorted(rng.sample(range(total), rng.randint(0, total)))
    groups = (TokenGroup(array('i', first[::2]), 'b', None, 'd', 8), TokenGroup(array('i', first[1::2]), 'e', 'a', None, 8))
    after = assignment.apply(Changes(Revision(8, 1), assignment.version, assignment.members, groups, ()))
    for token in range(total):
        row = after.row(token)
        if token in first[::2]:
            assert (row.owner, row.target, row.home, row.version) == ('b', None, 'd', 8)
        elif token in first[1::2]:
            assert (row.owner, row.target, row.home, row.version) == ('e', 'a', None, 8)
        else:
            assert row == before[token]
    assert [assignment.row(token) for token in range(total)] == before


def test_a_difference_needs_its_base() -> None:
    """A difference that builds on another version is refused."""
    with pytest.raises(ValueError, match='build on'):
        Assignment.empty(1).apply(Changes(Revision(9, 9), Revision(8, 8), {}, (), ()))
    assert Assignment.empty(1).version == INITIAL


@given(assignments())
def test_what_a_node_may_claim(assignment: Assignment) -> None:
    """Its tokens and pins, but for those being handed over; another run of its name owns nothing."""
    for name in NAMES:
        owned = Ownership.under(assignment, NodeRef(name, 'run-' + name))
        tokens = {
            token
            for token in range(assignment.total_tokens)
            if assignment.row(token).owner == name and assignment.row(token).target is None
        }
        pins = {pin.id for pin in assignment.pins.values() if pin.owner == name and pin.target is None}
        assert owned.tokens == tokens | pins
        assert [bool(mine) for mine in owned.mine] == [token in tokens for token in range(assignment.total_tokens)]
        for pin in assignment.pins.values():
            assert all(owned.claims(pin.task_id, token) is (pin.id in pins) for token in range(assignment.total_tokens))
        assert all(owned.claims('free', token) is (token in tokens) for token in range(assignment.total_tokens))
        other_run = Ownership.under(assignment, NodeRef(name, 'another'))
        assert other_run.is_empty
        assert not any(other_run.claims(key, token) for key in ('x', 'free') for token in range(assignment.total_tokens))


@given(assignments(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_what_two_versions_both_allow(assignment: Assignment, one: str, other: str) -> None:
    """A task is in both if it is in each, by whichever of pin and hash token each of them goes by."""
    first, second = (Ownership.under(assignment, NodeRef(name, 'run-' + name)) for name in (one, other))
    second = attrs.evolve(second, pins={key: pinned for key, pinned in second.pins.items() if key != 'x'})
    total = assignment.total_tokens
    hashes = {pin.task_id: pin.id % total for pin in assignment.pins.values()}
    both = first.both(second, hashes)
    for key, token in hashes.items():
        assert both.claims(key, token) == (first.claims(key, token) and second.claims(key, token))
    for token in range(total):
        assert both.claims('free', token) == (first.claims('free', token) and second.claims('free', token))
