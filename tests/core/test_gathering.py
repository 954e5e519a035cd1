"""How long what many owners have released waits for the others (``leader.gathering``), one decision at a time."""

from __future__ import annotations

import attrs
import pytest
from tests.core.builders import Scene, node, ref

from jobsync._core.leader.inputs import LeaderState
from jobsync._core.records import NodeState, Pin


def many_hand_over() -> tuple[Scene, list[str]]:
    """Twenty-four nodes have five tokens each, and each is to give one to a newcomer: the targets are committed."""
    owners = list('abcdefghijklmnopqrstuvwx')
    newcomers = [node(name) for name in 'ABCDEF']
    scene = Scene.of(''.join(5 * name for name in owners), *newcomers)
    scene.state.admission.newcomers.update((newcomer.ref, 0.0) for newcomer in newcomers)
    scene.commit()
    assert len(scene.assignment.targets) == len(owners)
    return scene, owners


def test_acknowledgements_of_many_are_gathered_while_more_come() -> None:
    """One commit serves all, though together they take longer than half a second."""
    scene, owners = many_hand_over()
    for name in owners[:-1]:
        scene.acknowledge(name)
        assert scene.decide().plan is None
        scene.now += 0.2
    scene.acknowledge(owners[-1])
    assert scene.plan().moved == len(owners)


@pytest.mark.parametrize('came', [1, 12, 23])
def test_many_do_not_wait_for_one_that_does_not_acknowledge(came: int) -> None:
    """Half a second after the last acknowledgement what was released passes on."""
    scene, owners = many_hand_over()
    for name in owners[:came]:
        scene.acknowledge(name)
    assert scene.decide().plan is None
    scene.now += 0.49
    assert scene.decide().plan is None
    scene.now += 0.02
    assert scene.plan().moved == came


def test_acknowledgements_that_come_slowly_are_not_gathered_for_ever() -> None:
    """Five seconds after the first one what was released passes on."""
    scene, owners = many_hand_over()
    began, came = scene.now, 0
    while scene.decide().plan is None:
        scene.acknowledge(owners[came])
        came += 1
        scene.now += 0.3
    assert 5.0 <= scene.now - began < 5.6
    assert scene.plan().moved == came


@pytest.mark.parametrize('late_sec', [0.0, 2.0, 6.0, 60.0])
def test_acknowledgements_that_begin_late_are_gathered_for_two_polls(late_sec: float) -> None:
    """The later they come the rarer are the polls; but one a second is the least, and two of them show whether more come."""
    scene, owners = many_hand_over()
    scene.decide()
    scene.now += late_sec
    scene.acknowledge(*owners[:3])
    began = scene.now
    while scene.decide().plan is None:
        scene.now += 0.05
    assert scene.now - began == pytest.approx(min(2.0, max(0.5, late_sec / 2)), abs=0.06)


def test_few_owners_are_not_gathered_for_longer() -> None:
    """Where only as many owners as ``many_owners`` are to release something, half a second after the first is the end."""
    scene, owners = many_hand_over()
    scene.config_with(many_owners=len(owners))
    scene.acknowledge(owners[0])
    assert scene.decide().plan is None
    scene.now += 0.4
    scene.acknowledge(owners[1])
    assert scene.decide().plan is None
    scene.now += 0.11
    assert scene.plan().moved == 2


def test_a_death_is_not_held_up() -> None:
    """P3: a plan that evicts an owner gathers nothing, and takes along what was released until then."""
    scene, owners = many_hand_over()
    scene.acknowledge(*owners[:3])
    assert scene.decide().plan is None
    scene.silent = frozenset(owners[-1])
    plan = scene.plan()
    assert [eviction.ref.name for eviction in plan.evictions] == [owners[-1]]
    assert plan.moved == 3 + 5


def test_a_node_that_leaves_is_not_held_up() -> None:
    """P2: neither is a plan that removes a node which has left."""
    scene, owners = many_hand_over()
    scene.acknowledge(*owners[:3])
    assert scene.decide().plan is None
    scene.nodes['x'] = attrs.evolve(scene.nodes['x'], state=NodeState.LEFT)
    plan = scene.plan()
    assert plan.departed == (ref('x'),)
    assert plan.moved == 3 + 5


def test_an_owner_that_died_is_not_waited_for() -> None:
    """The wait is for owners that are registered and not suspected: once all of those have acknowledged, it is over."""
    scene, owners = many_hand_over()
    scene.silent = frozenset(owners[20:])
    scene.commit()
    left = {owner for owner, _ in scene.assignment.moves}
    assert left == set(owners[:20])
    scene.acknowledge(*left)
    assert scene.plan().moved == len(scene.assignment.targets)


def test_an_owner_without_a_record_is_not_waited_for() -> None:
    """Its tokens wait by themselves. Once all others have acknowledged, those that are still busy have a tenth of a second."""
    scene, owners = many_hand_over()
    for name in owners[:3]:
        del scene.nodes[name]
    busy = next(token for token in scene.assignment.targets if scene.assignment.row(token).owner == owners[3])
    scene.acknowledge(owners[3], holding=[busy])
    scene.acknowledge(*owners[4:])
    assert scene.decide().plan is None
    scene.now += 0.11
    assert scene.plan().moved == len(owners) - 4


def test_each_version_is_gathered_for_itself() -> None:
    """How many have acknowledged the version before says nothing of this one."""
    scene, owners = many_hand_over()
    scene.acknowledge(*owners)
    scene.commit()
    for name in owners[:6]:
        scene.nodes[name] = attrs.evolve(scene.nodes[name], weight=0.0)
    scene.config_with(many_owners=5)
    scene.commit()
    for name in owners[:5]:
        scene.acknowledge(name)
        assert scene.decide().plan is None
        scene.now += 0.3
    scene.acknowledge(owners[5])
    assert scene.plan().moved == 6 * 4


def test_answers_to_the_version_before_are_gathered_too() -> None:
    """A commit in between does not make the rest come one by one, each with a commit of its own."""
    scene, owners = many_hand_over()
    asked = scene.assignment.version
    scene.acknowledge(owners[0])
    assert scene.decide().plan is None
    scene.now += 0.51
    plan = scene.commit()
    assert (plan.moved, plan.affected) == (1, frozenset('A'))
    scene.now += 3.0
    for name in owners[1:-1]:
        scene.nodes[name] = attrs.evolve(scene.nodes[name], seen=asked)
        assert scene.decide().plan is None
        scene.now += 0.2
    scene.nodes[owners[-1]] = attrs.evolve(scene.nodes[owners[-1]], seen=asked)
    assert scene.plan().moved == len(owners) - 1


@pytest.mark.parametrize(('due', 'waits_sec'), [(20, 0.5), (21, 10.5)])
def test_newcomers_wait_while_many_owners_are_to_release_something(due: int, waits_sec: float) -> None:
    """Another plan would ask all of them again."""
    scene, owners = many_hand_over()
    scene.acknowledge(*owners[due:])
    scene.now += 10.0
    scene.decide()
    scene.now += 10.0
    scene.commit()  # what the others have released
    scene.nodes['y'] = node('y')
    scene.decide()
    scene.now += waits_sec - 0.01
    assert scene.decide().plan is None
    scene.now += 0.02
    assert 'y' in scene.plan().members


@pytest.mark.parametrize('goes', ['an owner', 'all others answer'])
def test_newcomers_do_not_wait_for_owners_if(goes: str) -> None:
    """Tokens have to move anyway, or all have answered."""
    scene, owners = many_hand_over()
    scene.nodes['y'] = node('y')
    scene.decide()
    scene.now += 3.0
    assert scene.decide().plan is None
    if goes == 'an owner':
        scene.nodes['x'] = attrs.evolve(scene.nodes['x'], state=NodeState.LEFT)
    else:
        scene.acknowledge(*owners)
    assert 'y' in scene.plan().members


def test_another_leader_asks_once_again() -> None:
    """It does not know of what the owners were asked before; after its own first plan it does."""
    scene, owners = many_hand_over()
    scene.state = LeaderState(timeline_read_at=scene.state.timeline_read_at)
    scene.acknowledge(*owners[:2])
    scene.decide()
    scene.now += 0.51
    first = scene.commit()
    assert first.moved == 2
    assert first.affected is not None
    assert first.affected >= set(owners[2:])
    scene.acknowledge(*owners[2:4])
    scene.decide()
    scene.now += 2.0
    second = scene.commit()
    assert second.moved == 2
    assert second.affected is not None
    assert not second.affected & set(owners)


def test_the_removal_of_a_pin_asks_once_again() -> None:
    """What was acknowledged before does not count after it (``requests``); the plan after that one calls nobody twice."""
    scene, owners = many_hand_over()
    scene.assignment = attrs.evolve(scene.assignment, pins={7: Pin(7, 't0', 'a')})
    removal = scene.commit()
    assert removal.unpinned == {7}
    assert removal.affected is not None
    assert removal.affected >= set(owners)
    scene.acknowledge(*owners[:2])
    scene.decide()
    scene.now += 0.51
    following = scene.commit()
    assert following.moved == 2
    assert following.affected is not None
    assert not following.affected & set(owners)


def test_an_owner_that_is_asked_for_more_has_not_answered() -> None:
    """The leader waits for it, as for one that has acknowledged nothing."""
    scene, (first, *others, last) = many_hand_over()
    scene.acknowledge(first, *others)
    scene.decide()
    scene.nodes[first] = attrs.evolve(scene.nodes[first], weight=0.0)
    scene.now += 0.51
    assert scene.commit().moved == 1 + len(others)
    assert {owner for owner, _ in scene.assignment.moves} == {first, last}
    scene.acknowledge(last)
    assert scene.decide().plan is None
    scene.now += 0.45
    assert scene.decide().plan is None
    scene.now += 0.06
    assert scene.plan().moved == 1


def test_another_leader_gathers_anew() -> None:
    """It remembers nothing, and waits for half a second from its own first reading, however long the last one has waited."""
    scene, owners = many_hand_over()
    scene.acknowledge(*owners[:3])
    assert scene.decide().plan is None
    scene.now += 0.4
    scene.state = LeaderState(timeline_read_at=scene.state.timeline_read_at)
    assert scene.decide().plan is None
    scene.now += 0.4
    assert scene.decide().plan is None
    scene.now += 0.11
    assert scene.plan().moved == 3


def test_an_owner_that_starts_again_does_not_extend_the_wait() -> None:
    """Its new run has acknowledged nothing: what counts is that there are more than there were, not that something came."""
    scene, owners = many_hand_over()
    scene.acknowledge(*owners[:3])
    began = scene.now
    seen, unseen = scene.nodes[owners[0]], attrs.evolve(scene.nodes[owners[0]], seen=node(owners[0]).seen)
    turn = 0
    while scene.decide().plan is None:
        scene.now += 0.1
        turn += 1
        scene.nodes[owners[0]] = unseen if turn % 2 else seen
    assert scene.now - began < 0.7
