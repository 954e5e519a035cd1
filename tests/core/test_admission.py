"""When newcomers get their share, above all while the nodes of a cluster are being replaced one by one."""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Iterator

import attrs
import pytest
from tests.core.builders import EPOCH, Scene, assigned, lock, node, ref, spelled

from jobsync._core.leader.admission import HELD_SEC, ROLL_SEC
from jobsync._core.leader.inputs import LeaderState
from jobsync._core.records import Node, NodeState

NOW = 1000.0
"""The clock of a scene at its beginning; the store's clock shows the same."""


def born(one: Node, at: float) -> Node:
    """The record with another time of registration."""
    return attrs.evolve(one, created_on=EPOCH + dt.timedelta(seconds=at))


def join(scene: Scene, name: str, weight: float = 1.0) -> None:
    """A node registers now."""
    scene.nodes[name] = born(node(name, weight=weight), scene.now)


def leave(scene: Scene, name: str) -> None:
    """A node leaves in good order."""
    scene.nodes[name] = attrs.evolve(scene.nodes[name], state=NodeState.LEFT, last_heartbeat=None)


def settle(scene: Scene) -> int:
    """Let everything happen that follows within about a second; how many tokens moved."""
    moved = 0
    for _ in range(20):
        scene.acknowledge()
        decision = scene.decide()
        if decision.plan is not None:
            moved += scene.commit().moved
        elif decision.decide_again_at > scene.now + 1.0:
            return moved
        else:
            scene.now = max(scene.now, decision.decide_again_at)
    raise AssertionError('it does not settle')


def rolling() -> Scene:
    """Four nodes, of which one has just been replaced: ``b`` by ``n``. Each has three tokens."""
    scene = Scene.of('aaabbbcccddd')
    join(scene, 'n')
    scene.now += 1.0
    assert settle(scene) == 2
    leave(scene, 'b')
    assert settle(scene) > 0
    assert sorted(map(spelled(scene.assignment).count, 'acdn')) == [3, 3, 3, 3]
    scene.now += 10.0
    return scene


def test_a_newcomer_has_its_share_from_the_next_that_leaves() -> None:
    """While nodes are replaced it becomes a member at once, with nothing, and then all the tokens that move are its own."""
    scene = rolling()
    before = spelled(scene.assignment)
    join(scene, 'o')
    plan = scene.commit()
    assert plan.reason == 'node joined, to replace one that goes: o'
    assert plan.moved == 0
    assert settle(scene) == 0
    scene.now += 10.0
    leave(scene, 'c')
    assert settle(scene) == 3
    assert spelled(scene.assignment) == before.replace('c', 'o')


def test_every_node_but_the_first_costs_one_move() -> None:
    """A replacement of four nodes under new names, each the leader, moves the pool once and a little."""
    scene = Scene.of('aaabbbcccddd')
    moved = 0
    for old, new in ('aw', 'bx', 'cy', 'dz'):
        join(scene, new)
        scene.now += 1.0
        moved += settle(scene)
        scene.now += 5.0
        leave(scene, old)
        scene.state = LeaderState(timeline_read_at=0.0)  # it led, and the next that leads remembers nothing
        moved += settle(scene)
        scene.now += 20.0
    assert sorted(map(spelled(scene.assignment).count, 'wxyz')) == [3, 3, 3, 3]
    assert moved <= 12 + 3


def test_a_newcomer_is_not_held_back_for_long() -> None:
    """If nobody leaves after all, it gets its share when its time is over, and not before."""
    scene = rolling()
    join(scene, 'o')
    settle(scene)
    came = scene.now
    decision = scene.decide()
    assert decision.plan is None
    assert decision.decide_again_at == came + HELD_SEC
    scene.now = came + HELD_SEC - 1.5
    assert settle(scene) == 0
    assert settle(scene) == 0
    scene.now = came + HELD_SEC
    assert settle(scene) == 2
    assert spelled(scene.assignment).count('o') == 2


def test_one_newcomer_for_one_that_goes() -> None:
    """Of several that are held back the oldest comes in, and the others go on waiting."""
    scene = rolling()
    join(scene, 'o')
    settle(scene)
    scene.now += 1.0
    join(scene, 'p')
    settle(scene)
    leave(scene, 'c')
    assert settle(scene) == 3
    assert [spelled(scene.assignment).count(name) for name in 'op'] == [3, 0]
    leave(scene, 'd')
    assert settle(scene) == 3
    assert [spelled(scene.assignment).count(name) for name in 'op'] == [3, 3]


def test_a_node_that_goes_slowly_counts_once() -> None:
    """One that leaves with tasks in flight weighs nothing first: a newcomer comes in then, and no other when it has left."""
    scene = rolling()
    for name in 'op':
        join(scene, name)
    settle(scene)
    scene.nodes['c'] = attrs.evolve(scene.nodes['c'], weight=0.0)
    kept = spelled(scene.assignment).index('c')
    scene.commit()
    scene.acknowledge()
    scene.acknowledge('c', holding=[kept])
    scene.decide()
    scene.now += 1.0
    scene.commit()
    assert [spelled(scene.assignment).count(name) for name in 'cop'] == [1, 2, 0]
    leave(scene, 'c')
    settle(scene)
    assert [spelled(scene.assignment).count(name) for name in 'op'] == [3, 0]


def test_another_leader_lets_everybody_in() -> None:
    """What was remembered goes with the leader: nobody waits for ever because of that."""
    scene = rolling()
    join(scene, 'o')
    settle(scene)
    scene.state = LeaderState(timeline_read_at=0.0)
    assert settle(scene) == 2


def test_a_lock_that_waits_for_the_newcomer() -> None:
    """P6: it is let in at once if a task may be done by nobody else, or by somebody less preferred."""
    scene = rolling()
    scene.locks = (lock(1, 't0', 'o', '%'), lock(2, 't1', '%'))
    settle(scene)
    join(scene, 'o')
    scene.commit()
    settle(scene)
    assert {pin.task_id: pin.owner for pin in scene.assignment.pins.values()}['t0'] == 'o'
    scene.now += 1.0
    assert settle(scene) == 0


def test_a_lock_that_others_match_as_well() -> None:
    """It does not matter then."""
    scene = rolling()
    scene.locks = (lock(1, 't0', '%'),)
    settle(scene)
    join(scene, 'o')
    settle(scene)
    assert 'o' not in spelled(scene.assignment)


def test_a_name_that_returns_has_its_own_again() -> None:
    """A node that has left tokens behind is not held back, for they are to be its own again."""
    scene = rolling()
    leave(scene, 'c')
    settle(scene)
    lost = [token for token in range(12) if scene.assignment.row(token).home == 'c']
    assert lost
    join(scene, 'c')
    scene.nodes['c'] = attrs.evolve(scene.nodes['c'], incarnation=ref('c', 2).incarnation)
    settle(scene)
    assert {spelled(scene.assignment)[token] for token in lost} == {'c'}


class _Scanned(array):  # type: ignore[type-arg]  # Python 3.11 takes no argument here
    """An array that counts how often it is read as a whole."""

    scans = 0

    def __contains__(self, value: object) -> bool:
        _Scanned.scans += 1
        return bool(super().__contains__(value))

    def __iter__(self) -> Iterator[int]:
        _Scanned.scans += 1
        return super().__iter__()


def test_newcomers_do_not_each_take_a_look_at_every_token() -> None:
    """Names that the assignment still knows, as in a deployment that keeps the names: a pool may have a million tokens."""
    scene = rolling()
    names = tuple('uvwxyz')
    home = _Scanned('i', scene.assignment.home)
    scene.assignment = attrs.evolve(scene.assignment, names=(*scene.assignment.names, *names), home=home)
    for name in names:
        join(scene, name)
    _Scanned.scans = 0
    scene.decide()
    assert _Scanned.scans == 1


def test_a_newcomer_that_leaves_lets_nobody_in() -> None:
    """It had nothing, so nothing moves."""
    scene = rolling()
    for name in 'op':
        join(scene, name)
    settle(scene)
    leave(scene, 'o')
    assert settle(scene) == 0
    assert 'p' not in spelled(scene.assignment)


def test_the_share_of_one_that_goes_is_for_a_newcomer_that_is_still_there() -> None:
    """One that was held back and has gone takes no other's turn."""
    scene = rolling()
    join(scene, 'm')
    scene.now += 1.0
    join(scene, 'k')
    assert settle(scene) == 0
    leave(scene, 'm')
    assert settle(scene) == 0
    leave(scene, 'c')
    assert settle(scene) == 3
    assert sorted(map(spelled(scene.assignment).count, 'adkn')) == [3, 3, 3, 3]


def test_nobody_is_held_back_if_nobody_else_can_own_anything() -> None:
    """When all the others are drained, the newcomer is what there is."""
    scene = rolling()
    for name in 'acdn':
        scene.nodes[name] = attrs.evolve(scene.nodes[name], weight=0.0)
    join(scene, 'o')
    scene.commit()
    scene.acknowledge()
    scene.commit()
    assert spelled(scene.assignment) == 12 * 'o'


@pytest.mark.parametrize(
    ('came', 'went', 'held'),
    [
        (NOW - 20, NOW - 20 - HELD_SEC, True),
        (NOW - 20, NOW - 19 - HELD_SEC, False),
        (NOW - ROLL_SEC + 1, 0, True),
        (NOW - ROLL_SEC, 0, False),
        (0, NOW - 20, False),
    ],
)
def test_what_tells_of_a_replacement(came: float, went: float, held: bool) -> None:
    """A node leaves that is older than one which came a short while ago: not one as young as it, not the youngest itself."""
    scene = Scene.of(assigned('aaabbbccc'), born(node('b', seen=5), went), born(node('c', seen=5), came))
    leave(scene, 'b')
    settle(scene)
    scene.now += 1.0
    join(scene, 'n')
    assert (settle(scene) == 0) == held


@pytest.mark.parametrize('is_known', [False, True])
def test_a_death_tells_of_nothing(is_known: bool) -> None:
    """A node that died, and another that was started in its place: the next that joins gets its share at once."""
    scene = Scene.of('aaabbbccc')
    scene.nodes['c'] = born(scene.nodes['c'], NOW - 10)
    if is_known:
        scene.nodes['b'] = node('b', died=True)
    else:
        scene.silent = frozenset('b')
    settle(scene)
    join(scene, 'n')
    assert settle(scene) == 3


def test_a_replacement_is_over_some_time_after_its_last_step() -> None:
    """Whoever joins later is no part of it."""
    scene = rolling()
    scene.now += ROLL_SEC
    join(scene, 'o')
    assert settle(scene) == 2
