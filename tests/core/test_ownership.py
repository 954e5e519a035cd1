"""What a node may claim."""

from __future__ import annotations

from tests.core.builders import assigned, ref, token_of

from jobsync._core.agent.ownership import Ownership
from jobsync._core.assignment import Assignment
from jobsync._core.records import NOBODY, Pin


def owned(assignment: Assignment, name: str = 'a', run: int = 1) -> Ownership:
    return Ownership.under(assignment, ref(name, run))


def claims(ownership: Ownership, *keys: str) -> list[bool]:
    return [ownership.claims(key, token_of(key)) for key in keys]


def test_a_node_owns_its_tokens_only() -> None:
    """A task is claimable where its hash token is owned, and nowhere else."""
    assignment = assigned('ab.-')
    assert claims(owned(assignment), 't0', 't1', 't2', 't3') == [True, False, False, False]
    assert claims(owned(assignment, 'b'), 't0', 't1', 't2', 't3') == [False, True, False, False]


def test_another_incarnation_owns_nothing() -> None:
    """A name's tokens belong to the run the assignment means, and to no other run of that name."""
    pins = [Pin(5, 't1', 'a')]
    other = owned(assigned('aa', pins=pins), 'a', run=2)
    assert other.is_empty
    assert claims(other, 't0', 't1') == [False, False]


def test_a_name_that_is_no_member_owns_nothing() -> None:
    """Whoever is not in the plan owns nothing."""
    assert owned(assigned('aa'), 'b').is_empty


def test_a_token_being_handed_over_is_not_claimable() -> None:
    """A token with a target is claimable neither where it is nor where it goes."""
    assignment = assigned('aaa', targets={1: 'b', 2: NOBODY}, members='b')
    assert claims(owned(assignment), 't0', 't1', 't2') == [True, False, False]
    assert owned(assignment, 'b').is_empty


def test_a_pinned_task_is_claimable_at_its_pin_only() -> None:
    """A pinned task goes by its pin on every node, whoever owns its hash token."""
    assignment = assigned('ab', pins=[Pin(5, 't0', 'b')])
    assert claims(owned(assignment), 't0') == [False]
    assert claims(owned(assignment, 'b'), 't0') == [True]


def test_a_pin_drags_no_other_task_along() -> None:
    """Tasks with the same hash token as a pinned one still go by that token."""
    assignment = assigned('ab', pins=[Pin(5, 't0', 'b')])
    assert claims(owned(assignment), 'u0') == [True]
    assert claims(owned(assignment, 'b'), 'u0') == [False]


def test_a_pin_being_handed_over_is_not_claimable() -> None:
    """A pin with a target is claimable nowhere, not even at its hash token."""
    assignment = assigned('aa', pins=[Pin(5, 't0', 'a', 'b')], members='b')
    assert claims(owned(assignment), 't0') == [False]
    assert claims(owned(assignment, 'b'), 't0') == [False]


def test_a_pin_without_owner_is_claimable_nowhere() -> None:
    """A task whose lock no live node matches waits."""
    assert claims(owned(assigned('aa', pins=[Pin(5, 't0', None)])), 't0') == [False]


def test_tokens_include_pins() -> None:
    """A node's tokens are its hash tokens and its pins, without what is being given up."""
    assignment = assigned('aab', targets={1: 'b'}, pins=[Pin(5, 't2', 'a'), Pin(6, 't0', 'a', 'b')])
    assert owned(assignment).tokens == {0, 5}


def test_tokens_are_one_object() -> None:
    """Reading the set again costs nothing while nothing changes."""
    ownership = owned(assigned('ab'))
    assert ownership.tokens is ownership.tokens


def test_nothing_is_empty() -> None:
    """A node that owns nothing claims nothing."""
    nothing = Ownership.nothing(2)
    assert nothing.is_empty
    assert nothing.tokens == frozenset()
    assert claims(nothing, 't0', 't1') == [False, False]


def test_a_pin_alone_is_not_nothing() -> None:
    """A node with a pin and no hash token owns something."""
    assert not owned(assigned('b', pins=[Pin(5, 't0', 'a')])).is_empty


def both(before: Assignment, after: Assignment, *tasks: str) -> Ownership:
    return owned(before).both(owned(after), {task: token_of(task) for task in tasks})


def test_both_allow_what_either_alone_does_not() -> None:
    """Between reading and acknowledging a version, only tokens owned in both are claimable."""
    assert both(assigned('aab'), assigned('baa')).tokens == {1}


def test_a_task_that_becomes_pinned_needs_hash_and_pin() -> None:
    """A task the new version pins is claimable meanwhile if the old one gave it by hash and the new one by pin."""
    pinned_here, pinned_there = assigned('ab', pins=[Pin(5, 't0', 'a')]), assigned('ab', pins=[Pin(5, 't0', 'b')])
    assert claims(both(assigned('ab'), pinned_here, 't0'), 't0') == [True]
    assert claims(both(assigned('ab'), pinned_there, 't0'), 't0') == [False]
    assert claims(both(assigned('bb'), assigned('bb', pins=[Pin(5, 't0', 'a')]), 't0'), 't0') == [False]


def test_a_task_that_is_unpinned_needs_pin_and_hash() -> None:
    """A task the new version no longer pins is claimable meanwhile if the pin and the hash token are both here."""
    elsewhere = assigned('ab', pins=[Pin(5, 't0', 'b')])
    assert claims(both(elsewhere, assigned('ab'), 't0'), 't0') == [False]
    assert claims(both(assigned('ab', pins=[Pin(5, 't0', 'a')]), assigned('ab'), 't0'), 't0') == [True]


def test_both_keeps_the_pins_of_both() -> None:
    """A pin counts among the tokens meanwhile only if both versions have it here."""
    before, after = assigned('b', pins=[Pin(5, 't0', 'a'), Pin(6, 'u0', 'a')]), assigned('b', pins=[Pin(6, 'u0', 'a')])
    assert both(before, after, 't0', 'u0').tokens == {6}


def test_what_is_granted_is_what_may_be_claimed() -> None:
    """In the form that is quickest to ask: by the pin, else by the hash token."""
    pins = [Pin(5, 't0', 'b'), Pin(6, 't1', 'a')]
    for ownership in (owned(assigned('ab')), owned(assigned('ab', pins=pins)), Ownership.nothing(2)):
        deadline, pinned, mine = ownership.granted(7.0)
        assert deadline == 7.0
        assert (pinned is None) == (not ownership.pins)
        assert [pinned[task] if pinned and task in pinned else mine[token_of(task)] for task in ('t0', 't1')] == claims(
            ownership, 't0', 't1'
        )
        assert all(type(answer) is bool for answer in (*mine, *(pinned or {}).values()))
