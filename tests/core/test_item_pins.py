"""Items as pins (rule R7), one decision at a time. The pool has 4 tokens, so item 1 has pin 5."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest
from tests.core.builders import EPOCH, Scene, assigned, lock

from jobsync._core.agent.ownership import Ownership
from jobsync._core.records import NOBODY, NodeRef, Pin, TaskLock


def item(number: int, task: str, *patterns: str, group: str = 'g') -> TaskLock:
    return attrs.evolve(lock(number, task, *(patterns or ('%',))), group=group)


def scene(owners: str, *locks: TaskLock, pins: tuple[Pin, ...] = ()) -> Scene:
    found = Scene.of(assigned(owners, pins=pins))
    found.locks = locks
    return found


def settled(found: Scene) -> None:
    """Carry out plans, and have them acknowledged, until there is none."""
    for _ in range(10):
        if found.decide().plan is None:
            return
        found.commit()
        found.acknowledge()
    raise AssertionError('there is no end to the plans')


def test_items_begin_with_the_owners_of_their_hash_tokens_and_are_shared_evenly() -> None:
    """A new item may be in flight by its hash: its owner is requested to hand it over, and no token moves."""
    found = scene('aabb', item(1, 't0'), item(2, 't1'), item(3, 't00'), item(4, 't2'))
    plan = found.plan()
    assert [(pin.id, pin.owner, pin.group) for pin in plan.pins] == [(5, 'a', 'g'), (6, 'a', 'g'), (7, 'a', 'g'), (8, 'b', 'g')]
    assert [pin.target for pin in plan.pins].count('b') == 1
    assert (plan.groups, plan.reason) == ((), 'items declared: g')
    settled(found)
    assert sorted(str(pin.owner) for pin in found.assignment.pins.values()) == ['a', 'a', 'b', 'b']


def test_items_of_the_first_distribution_are_in_their_place_at_once() -> None:
    """Where no node can be at work on them, items need no hand-over."""
    found = Scene.of('----', *Scene.of('ab').nodes.values())
    found.locks = (item(1, 't0'), item(2, 't1'))
    plan = found.plan()
    assert [(pin.owner, pin.target) for pin in plan.pins] == [('a', None), ('b', None)]


def test_items_work_without_locks_enabled() -> None:
    """``locks_enabled`` says nothing about items."""
    found = scene('aabb', item(1, 't0'), lock(2, 't1', 'b'))
    found.config_with(locks_enabled=False)
    assert [pin.task_id for pin in found.plan().pins] == ['t0']


def test_a_locked_item_has_one_pin_and_follows_the_lock() -> None:
    """A lock's patterns hold instead of the item's, whichever was first; the item's group stays."""
    found = scene('aabb', item(1, 't0', 'a'), lock(2, 't0', 'b'))
    (pin,) = found.plan().pins
    assert (pin.id, pin.owner, pin.target, pin.pattern, pin.group) == (5, 'a', 'b', 'b', 'g')
    found = scene('aabb', lock(1, 't0', 'b'), item(2, 't0', 'a'), pins=(Pin(5, 't0', 'b', version=5, pattern='b'),))
    (pin,) = found.plan().pins
    assert (pin.id, pin.owner, pin.target, pin.pattern, pin.group) == (5, 'b', None, 'b', 'g')


def test_an_item_whose_lock_goes_keeps_its_pin() -> None:
    """The pin of a lock becomes that of the item, with no hand-over; then the expired lock may be removed from the store."""
    pin = Pin(5, 't0', 'b', version=5, pattern='b')
    over = lock(1, 't0', 'b', expires_at=EPOCH + dt.timedelta(seconds=1))
    found = scene('aabb', over, item(2, 't0', 'b%'), pins=(pin,))
    (after,) = found.commit().pins
    assert after == attrs.evolve(pin, pattern='b%', group='g')
    decision = found.decide()
    assert decision.plan is None
    assert decision.expired


def test_an_item_that_is_declared_no_more_falls_back_to_its_lock_or_its_hash() -> None:
    """With a lock left the pin stays, and is of no group; with nothing left it is released as any pin."""
    pin = Pin(5, 't0', 'b', version=5, pattern='%', group='g')
    found = scene('aabb', lock(2, 't0', 'b'), pins=(pin,))
    plan = found.plan()
    assert plan.pins == (attrs.evolve(pin, pattern='b', group=''),)
    assert plan.reason == 'items declared: g'
    found = scene('aabb', pins=(pin,))
    plan = found.plan()
    assert plan.pins == (attrs.evolve(pin, target=NOBODY, pattern=None),)
    assert plan.reason == 'items declared: g'
    settled(found)
    assert not found.assignment.pins


def test_of_two_groups_with_one_task_the_older_item_counts() -> None:
    """Two nodes declared one id in two groups at once: there is one pin."""
    found = scene('aabb', item(1, 't0', group='h'), item(2, 't0', group='g'))
    (pin,) = found.plan().pins
    assert (pin.id, pin.group) == (5, 'h')


def test_other_patterns_and_moves_are_given_as_reasons() -> None:
    """A plan says that an item's patterns have changed; where only its place has, items are not what has changed."""
    pin = Pin(5, 't0', 'b', version=5, pattern='%', group='g')
    found = scene('aabb', item(1, 't0', 'a'), pins=(pin,))
    assert found.plan().reason == 'patterns of items: g'
    crowded = scene('aabb', item(1, 't0'), item(2, 't1'), pins=(pin, attrs.evolve(pin, id=6, task_id='t1')))
    assert crowded.plan().reason == 'rebalance'


def test_a_held_back_node_is_needed_by_an_items_pattern() -> None:
    """The pattern of an item holds for a node that joins during a replacement, as that of a lock does (P6)."""
    from jobsync._core.leader.pins import wanted

    assert wanted([item(1, 't0', 'b')], {'a', 'b'}, {'b'}) == {'b'}


@pytest.mark.parametrize(('target', 'expected'), [(None, ('t0', 't1')), ('b', ('t1',))])
def test_a_nodes_share_of_a_group(target: str | None, expected: tuple[str, ...]) -> None:
    """A node's share is the items that it owns and is not handing over, by their ids, locked or not."""
    pins = (
        Pin(5, 't0', 'a', target, group='g'),
        Pin(6, 't1', 'a', group='g'),
        Pin(7, 't2', 'b', group='g'),
        Pin(8, 't3', 'a', group='h'),
        Pin(9, 't4', 'a'),
    )
    assignment = assigned('ab', pins=pins)
    mine = Ownership.under(assignment, NodeRef('a', 'a1')).pins
    assert tuple(task for task in assignment.group_tasks.get('g', ()) if mine[task]) == expected
    assert dict(assignment.group_tasks) == {'g': ('t0', 't1', 't2'), 'h': ('t3',)}
