"""Task locks as pins (rule R7), one decision at a time. The pool has 4 tokens, so lock 1 has pin 5."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest
from tests.core.builders import EPOCH, Scene, assigned, lock, node, ref, spelled

from jobsync._core.assignment import Plan
from jobsync._core.records import NOBODY, Pin, TaskLock


def locked(owners: str, *locks: TaskLock) -> Scene:
    scene = Scene.of(owners)
    scene.locks = locks
    return scene


def pinned(owners: str, pin: Pin, *locks: TaskLock) -> Scene:
    """A settled cluster with a pin."""
    scene = Scene.of(assigned(owners, pins=[pin]))
    scene.locks = locks
    return scene


def only_pin(plan: Plan) -> Pin:
    (pin,) = plan.pins
    return attrs.evolve(pin, version=0)


# --- a new lock -------------------------------------------------------------------------------------------------------------


def test_a_new_pin_belongs_to_the_hash_tokens_owner() -> None:
    """Whoever may be at work on the task by its hash is the pin's first owner, and is asked to hand it over."""
    plan = locked('aabb', lock(1, 't0', 'b')).plan()
    assert only_pin(plan) == Pin(5, 't0', 'a', 'b', 0, 'b')
    assert (plan.groups, plan.moved, plan.reason) == ((), 0, 'task locks')


def test_a_new_pin_of_a_moving_token_belongs_to_its_new_owner() -> None:
    """If the hash token's owner dies in the same commit, the pin's first owner is who gets the token."""
    scene = locked('aabb', lock(1, 't2', 'b', 'a'))
    scene.silent = frozenset('b')
    scene.commit()
    assert scene.assignment.row(2).owner == 'a'
    assert scene.assignment.pins[5].owner == 'a'


def test_a_new_pin_of_a_token_being_handed_over_belongs_to_its_owner() -> None:
    """A hash token on its way is still its owner's, and so is the new pin."""
    scene = Scene.of(assigned('aaab', targets={1: 'b'}))
    scene.locks = (lock(1, 't1', 'b'),)
    scene.nodes['a'] = node('a', seen=4)
    assert only_pin(scene.plan()) == Pin(5, 't1', 'a', 'b', 0, 'b')


def test_a_new_pin_of_a_token_that_nobody_is_to_own_has_no_owner() -> None:
    """Where nobody can take the hash token, nobody is the pin's first owner."""
    scene = Scene.of('..', node('a', seen=5, weight=0.0))
    scene.locks = (lock(1, 't0', 'a'),)
    assert only_pin(scene.plan()) == Pin(3, 't0', None)


def test_a_pin_waits_while_its_hash_tokens_owner_is_unknown() -> None:
    """A hash token without a row may be in anybody's hands: the pin is not made before that is known."""
    scene = locked('aab-', lock(1, 't3', 'b'))
    assert scene.decide().plan is None
    scene.now = 1015.0
    scene.commit()
    assert scene.assignment.pins[5].owner == scene.assignment.row(3).owner


def test_a_pin_waits_while_another_task_has_its_number() -> None:
    """An operator has put another task into a lock's row: the first task's pin is let go of before the second has one."""
    scene = pinned('abab', Pin(5, 't0', 'b', version=5), lock(1, 't2', 'b'))
    scene.commit()
    assert [(pin.task_id, pin.owner, pin.target) for pin in scene.assignment.pins.values()] == [('t0', 'b', NOBODY)]
    scene.acknowledge()
    scene.commit()
    assert not scene.assignment.pins
    scene.commit()
    assert [(pin.task_id, pin.owner, pin.target) for pin in scene.assignment.pins.values()] == [('t2', 'a', 'b')]


def test_locks_that_exchange_their_numbers_have_their_pins_again() -> None:
    """An operator has exchanged the tasks of two locks: both pins are let go of, and made again."""
    scene = Scene.of(assigned('abab', pins=[Pin(5, 't0', 'b', version=5), Pin(6, 't1', 'a', version=5)]))
    scene.locks = (lock(1, 't1', 'a'), lock(2, 't0', 'b'))
    scene.commit()
    assert all(pin.target == NOBODY for pin in scene.assignment.pins.values())
    scene.acknowledge()
    scene.commit()
    scene.commit()
    assert [(pin.id, pin.task_id, pin.target) for pin in scene.assignment.pins.values()] == [(5, 't1', 'a'), (6, 't0', 'b')]


def test_a_pin_in_its_place_stays() -> None:
    """If the hash token's owner matches, it keeps the task, and nothing is to be handed over."""
    assert only_pin(locked('aabb', lock(1, 't0', 'a%')).plan()) == Pin(5, 't0', 'a', None, 0, 'a%')


def test_the_first_pattern_that_a_live_node_matches_decides() -> None:
    """A node that matches a later pattern only is passed over, even if it has the task already."""
    assert only_pin(locked('aabb', lock(1, 't0', 'b', '%')).plan()) == Pin(5, 't0', 'a', 'b', 0, 'b')


def test_a_pattern_that_no_live_node_matches_is_passed_over() -> None:
    """The next pattern of the list is the fallback."""
    assert only_pin(locked('aabb', lock(1, 't0', 'z%', 'b')).plan()) == Pin(5, 't0', 'a', 'b', 0, 'b')


def test_a_suspect_is_no_live_node() -> None:
    """A node that is being evicted is not chosen."""
    scene = locked('aabb', lock(1, 't0', 'b', 'a'))
    scene.silent = frozenset('b')
    assert only_pin(scene.plan()) == Pin(5, 't0', 'a', None, 0, 'a')


def test_a_drained_node_is_not_chosen() -> None:
    """A node of weight 0 owns no pins either."""
    scene = Scene.of(assigned('aaaa', members='b'), node('b', seen=5, weight=0.0))
    scene.locks = (lock(1, 't0', 'b', 'a'),)
    assert only_pin(scene.plan()) == Pin(5, 't0', 'a', None, 0, 'a')


def test_without_a_match_the_task_is_let_go() -> None:
    """If no live node matches any pattern, the task's owner is asked for it and nobody takes over."""
    scene = locked('aabb', lock(1, 't0', 'z%'))
    assert only_pin(scene.plan()) == Pin(5, 't0', 'a', NOBODY, 0, None)
    scene.commit()
    scene.acknowledge()
    plan = scene.commit()
    assert only_pin(plan) == Pin(5, 't0', None, None, 0, None)
    assert plan.moved == 0
    scene.acknowledge()
    assert scene.decide().plan is None


def test_a_lock_moves_its_task_only() -> None:
    """The hash token of a locked task stays where it is."""
    scene = locked('aabb', lock(1, 't0', 'b'))
    scene.commit()
    scene.acknowledge()
    scene.commit()
    assert spelled(scene.assignment) == 'aabb'


def test_two_locks_on_one_hash_token_do_not_collide() -> None:
    """Each locked task has a pin of its own."""
    plan = locked('aabb', lock(1, 't0', 'b'), lock(2, 'u0', 'a')).plan()
    assert {pin.id: (pin.task_id, pin.target) for pin in plan.pins} == {5: ('t0', 'b'), 6: ('u0', None)}


def test_locks_of_the_first_distribution_are_in_their_place_at_once() -> None:
    """Where nothing was distributed before, a pin needs no first owner."""
    scene = Scene.of('----', node('a'), node('b'))
    scene.locks = (lock(1, 't0', 'b'), lock(2, 't1', 'z'))
    assert {pin.id: (pin.owner, pin.target) for pin in scene.plan().pins} == {5: ('b', None), 6: (None, None)}


# --- handing over -----------------------------------------------------------------------------------------------------------


def test_a_pin_passes_on_after_the_acknowledgement() -> None:
    """R3 holds for pins: exactly the version at hand must be acknowledged."""
    scene = locked('aabb', lock(1, 't0', 'b'))
    scene.commit()
    assert scene.decide().plan is None
    scene.acknowledge('a')
    plan = scene.commit()
    assert only_pin(plan) == Pin(5, 't0', 'b', None, 0, 'b')
    assert plan.moved == 1


def test_a_pin_in_use_is_not_passed_on() -> None:
    """R3 holds for pins: a pin reported as held stays."""
    scene = locked('aabb', lock(1, 't0', 'b'))
    scene.commit()
    scene.acknowledge('a', holding=[5])
    assert scene.decide().plan is None


def test_a_pin_goes_to_the_fallback_when_its_node_dies() -> None:
    """The pin of a dead node goes to whom the next pattern chooses, in the commit that evicts it."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'), lock(1, 't0', 'b', 'a'))
    scene.silent = frozenset('b')
    scene.commit()
    assert (scene.assignment.pins[5].owner, scene.assignment.pins[5].pattern) == ('a', 'a')


def test_a_pin_goes_back_to_its_preferred_node() -> None:
    """When a node that matches an earlier pattern comes, the pin is handed over to it."""
    scene = pinned('aabb', Pin(5, 't0', 'a', None, 3, 'a'), lock(1, 't0', 'c', 'a'))
    scene.nodes['c'] = node('c')
    scene.state.admission.newcomers[ref('c')] = 0.0
    scene.commit()
    assert (scene.assignment.pins[5].owner, scene.assignment.pins[5].target) == ('a', 'c')


def test_a_pin_of_an_absent_owner_waits() -> None:
    """R5 holds for pins: an owner whose record is gone may still be at work on the task."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'), lock(1, 't0', 'a'))
    del scene.nodes['b']
    assert scene.decide().plan is None
    scene.now = 1015.0
    scene.commit()
    assert scene.assignment.pins[5].owner == 'a'


def test_pins_count_in_the_balance() -> None:
    """P5: a node with a pin gets one token fewer."""
    scene = Scene.of(assigned('aabbb', pins=[Pin(6, 't0', 'b', None, 3, 'b')]))
    scene.locks = (lock(1, 't0', 'b'),)
    scene.commit()
    assert len(scene.assignment.targets) == 1


def test_new_patterns_move_the_pin() -> None:
    """A lock that is replaced keeps its pin, which goes where the new patterns say."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'), lock(1, 't0', 'a'))
    assert only_pin(scene.plan()) == Pin(5, 't0', 'b', 'a', 0, 'a')


# --- unlocking --------------------------------------------------------------------------------------------------------------


def test_a_pin_without_lock_is_let_go_and_then_removed() -> None:
    """When the lock goes, the holder lets go of the pin; only then the hash applies again."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'))
    plan = scene.commit()
    assert only_pin(plan) == Pin(5, 't0', 'b', NOBODY, 0, None)
    assert plan.unpinned == frozenset()
    assert scene.decide().plan is None
    scene.acknowledge('b')
    plan = scene.commit()
    assert (plan.pins, plan.unpinned) == ((), frozenset([5]))
    assert not scene.assignment.pins


def test_a_pin_in_use_is_not_removed() -> None:
    """A task being worked on keeps its pin, lock or not."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'))
    scene.commit()
    scene.acknowledge('b', holding=[5])
    assert scene.decide().plan is None


@pytest.mark.parametrize('owner', ['a', None])
def test_a_pin_is_removed_at_once_where_nothing_changes_hands(owner: str | None) -> None:
    """If the pin's owner owns the hash token as well, or there is none, nobody has to let go."""
    plan = pinned('aabb', Pin(5, 't0', owner, None, 3)).plan()
    assert (plan.pins, plan.unpinned) == ((), frozenset([5]))


def test_a_pin_of_a_dead_node_is_removed_at_once() -> None:
    """A pin without lock whose owner is evicted goes with it."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'))
    scene.silent = frozenset('b')
    assert scene.plan().unpinned == {5}


def test_locking_again_while_letting_go() -> None:
    """A lock that comes back before the pin is gone keeps it, and its holder need not let go."""
    scene = pinned('aabb', Pin(5, 't0', 'b', NOBODY, 3), lock(1, 't0', 'b'))
    scene.nodes['b'] = node('b', seen=4)
    assert only_pin(scene.plan()) == Pin(5, 't0', 'b', None, 0, 'b')


def expiring(seconds: float) -> TaskLock:
    return lock(1, 't0', 'b', expires_at=EPOCH + dt.timedelta(seconds=seconds))


def test_a_lock_expires_by_the_stores_time() -> None:
    """A lock whose time has come has no pin any more; the leader looks when that is."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'), expiring(1060))
    decision = scene.decide()
    assert (decision.plan, decision.decide_again_at) == (None, 1060.0)
    scene.now = 1060.0
    assert only_pin(scene.plan()) == Pin(5, 't0', 'b', NOBODY, 0, None)


def test_an_expired_lock_makes_no_pin() -> None:
    """A lock that is over before the leader reads it has no effect."""
    assert locked('aabb', expiring(1000)).decide().plan is None


def test_expired_locks_are_dropped_when_their_pins_are_gone() -> None:
    """An expired lock may be removed from the store once no pin has its number any more, and not before."""
    scene = pinned('aabb', Pin(5, 't0', 'b', None, 3, 'b'), expiring(1000))
    assert not scene.decide().expired
    scene.commit()
    assert not scene.decide().expired
    scene.acknowledge()
    scene.commit()
    scene.acknowledge()
    decision = scene.decide()
    assert (decision.plan, decision.expired) == (None, True)


def test_without_locks_enabled_there_are_no_pins() -> None:
    """A leader that is told to disregard locks lets go of the pins there are."""
    scene = pinned('aabb', Pin(5, 't0', 'a', None, 3, 'a'), lock(1, 't0', 'a'), lock(2, 't1', 'b'))
    scene.config_with(locks_enabled=False)
    plan = scene.plan()
    assert (plan.pins, plan.unpinned) == ((), frozenset([5]))


# --- home -------------------------------------------------------------------------------------------------------------------


def test_a_pin_lost_by_a_death_has_its_home_there_and_goes_back() -> None:
    """The pin of a node that died is another's until the node is back, and then it is its own again."""
    scene = pinned('aabb', Pin(5, 't0', 'b', pattern='%'), lock(1, 't0', '%'))
    scene.silent = frozenset('b')
    scene.commit()
    assert attrs.evolve(scene.assignment.pins[5], version=0) == Pin(5, 't0', 'a', None, 0, '%', home='b')
    scene.nodes['b'] = node('b', run=2)
    scene.state.admission.newcomers[ref('b', 2)] = 0.0
    scene.commit()
    assert attrs.evolve(scene.assignment.pins[5], version=0) == Pin(5, 't0', 'a', 'b', 0, '%', home='b')
    scene.acknowledge()
    scene.commit()
    assert attrs.evolve(scene.assignment.pins[5], version=0) == Pin(5, 't0', 'b', None, 0, '%')


def test_a_pin_that_is_handed_over_has_no_home() -> None:
    """A pin that another node was asked for and let go of does not go back."""
    pin = Pin(5, 't0', 'a', 'b', pattern='b', home='c')
    scene = pinned('aab.', pin, lock(1, 't0', 'b'))
    scene.nodes['a'] = node('a', seen=5)
    scene.commit()
    assert scene.assignment.pins[5].home is None


def test_a_pin_without_owner_keeps_its_home() -> None:
    """While no node matches, the home is not forgotten."""
    scene = pinned('aabb', Pin(5, 't0', 'b', pattern='b'), lock(1, 't0', 'b'))
    scene.silent = frozenset('b')
    scene.commit()
    assert attrs.evolve(scene.assignment.pins[5], version=0) == Pin(5, 't0', None, None, 0, 'b', home='b')
