"""Nodes that an operator has drained: for the leader their weight is 0, until the drain is undone."""

from __future__ import annotations

import attrs
from tests.core.builders import Scene, lock, node

from jobsync._core.records import DRAINED, NOBODY, TaskLock


def drains(*names: str) -> tuple[TaskLock, ...]:
    return tuple(attrs.evolve(lock(number, name, '%'), group=DRAINED) for number, name in enumerate(names, 1))


def test_a_drained_node_gives_up_everything() -> None:
    """Its tokens are requested of it, in a hand-over with its name in the reason, and pass on once it has released them."""
    scene = Scene.of('aabb')
    scene.locks = drains('b')
    plan = scene.commit()
    assert plan.reason == 'draining: b'
    assert [(group.owner, group.target, list(group.tokens)) for group in plan.groups] == [('b', 'a', [2, 3])]
    assert not plan.pins
    scene.acknowledge('b')
    scene.commit()
    assert list(scene.assignment.owned_by('a')) == [0, 1, 2, 3]
    scene.acknowledge()
    assert scene.decide().plan is None


def test_a_drained_node_is_given_nothing_when_it_joins() -> None:
    """The drain is there before the node: it becomes a member, and owns nothing."""
    scene = Scene.of('aaaa', node('b'))
    scene.locks = drains('b')
    scene.now += 10
    plan = scene.decide().plan
    assert plan is None or not plan.groups


def test_its_tokens_come_back_when_the_drain_is_undone() -> None:
    """Without the drain the node's own weight counts."""
    scene = Scene.of('aaaa', node('b', seen=5))
    scene.state.admission.newcomers[scene.nodes['b'].ref] = 0.0
    scene.locks = drains('b')
    scene.decide()
    scene.locks = ()
    plan = scene.plan()
    assert sum(len(group.tokens) for group in plan.groups if group.target == 'b') == 2


def test_where_all_are_drained_nobody_owns_anything() -> None:
    """The operator has said so: every owner is to release what it has."""
    scene = Scene.of('aabb')
    scene.locks = drains('a', 'b')
    assert {group.target for group in scene.plan().groups} == {NOBODY}


def test_the_name_of_a_drained_node_is_no_task() -> None:
    """A task whose id is the name of a drained node has no pin by that."""
    scene = Scene.of('aabb')
    scene.locks = drains('t0')
    assert scene.decide().plan is None


def test_a_drain_just_after_a_join_has_its_own_reason() -> None:
    """The hand-overs of a join are over, and the leader has not come to rest: what the drain moves is not the join's."""
    scene = Scene.of('aaaa', node('b', seen=5))
    scene.state.admission.newcomers[scene.nodes['b'].ref] = 0.0
    assert scene.commit().reason == 'node joined: b'
    scene.acknowledge()
    assert scene.commit().reason == 'node joined: b'
    scene.acknowledge()
    scene.locks = drains('b')
    assert scene.commit().reason == 'draining: b'
    scene.acknowledge()
    assert scene.commit().reason == 'draining: b'


def test_a_drain_during_another_hand_over_is_named() -> None:
    """A hand-over for a task lock is under way: what moves from then on moves for both reasons."""
    scene = Scene.of('aabb')
    scene.locks = (lock(1, 't0', 'b'),)
    assert scene.commit().reason == 'task locks'
    scene.locks = (*scene.locks, *drains('a'))
    assert scene.commit().reason == 'task locks; draining: a'
    scene.acknowledge()
    assert scene.commit().reason == 'task locks; draining: a'
    scene.acknowledge()
    assert scene.decide().plan is None
    assert list(scene.assignment.owned_by('b')) == [0, 1, 2, 3]
