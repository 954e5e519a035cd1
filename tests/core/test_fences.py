"""Fences only rise (promise P7): from owner to owner, from run to run of a name, and with a lock that comes and goes."""

from __future__ import annotations

import attrs
from tests.core.bench import Bench
from tests.core.builders import Scene, lock, node, ref, token_of
from tests.support.starts import finish, in_flight

from jobsync._core.agent.agent import Agent
from jobsync._core.assignment import Assignment


def fence(assignment: Assignment, key: str = 't0') -> int:
    """The fence of a task, whoever owns it."""
    found = [
        value
        for name, member in assignment.members.items()
        if (value := assignment.fence(attrs.evolve(ref(name), incarnation=member.incarnation), key, token_of(key))) is not None
    ]
    (value,) = found
    return value


def settle(scene: Scene) -> list[int]:
    """Commit whatever there is to commit, all nodes agreeing; the fences of ``t0`` on the way."""
    seen = [fence(scene.assignment)]
    for _ in range(5):
        scene.acknowledge()
        if scene.decide().plan is None:
            return seen
        scene.commit()
        seen.append(fence(scene.assignment))
    raise AssertionError('never settles')


def test_a_new_owner_has_a_higher_fence() -> None:
    """When a token passes to another node its fence rises."""
    scene = Scene.of('aabb')
    before = fence(scene.assignment, 't3')
    scene.silent = frozenset('b')
    scene.commit()
    assert fence(scene.assignment, 't3') > before


def test_a_new_run_of_the_same_name_has_a_higher_fence() -> None:
    """A restarted node owns the same tokens, with no row written, under a fence that the former run never had."""
    scene = Scene.of('bbaa')
    before = fence(scene.assignment)
    scene.nodes['b'] = node('b', run=2, replaces=[1])
    scene.commit()
    after = fence(scene.assignment)
    assert after > before
    assert scene.assignment.fence(ref('b', 1), 't0', 0) is None


def test_other_commits_leave_a_fence_alone() -> None:
    """What happens to other tokens is no reason to raise a fence."""
    scene = Scene.of('abcc')
    before = fence(scene.assignment)
    scene.silent = frozenset('c')
    scene.commit()
    assert fence(scene.assignment) == before


def test_a_lock_and_its_end_only_raise_the_fence() -> None:
    """On the way to its place by a lock, and back by the hash, a task's fence never falls, and each owner's is its own."""
    scene = Scene.of('aabb')
    scene.locks = (lock(1, 't0', 'b'),)
    locked = settle(scene)
    scene.locks = ()
    unlocked = settle(scene)
    assert [*locked, *unlocked] == sorted([*locked, *unlocked])
    assert locked[0] < locked[-1] < unlocked[-1]
    assert scene.assignment.owner_of('t0', 0) == 'a'


def test_a_lock_whose_place_is_where_the_task_is_raises_the_fence_too() -> None:
    """The pin's row is new, and after its end the hash token's counts again: neither may be lower than what was before."""
    scene = Scene.of('aabb')
    scene.locks = (lock(1, 't0', 'a'),)
    locked = settle(scene)
    scene.locks = ()
    unlocked = settle(scene)
    assert [*locked, *unlocked] == sorted([*locked, *unlocked])
    assert unlocked[-1] >= locked[-1]


# --- as a node sees it ------------------------------------------------------------------------------------------------------


def asked(bench: Bench, agent: Agent, key: str) -> int | None:
    return agent.lease.fence(key, token_of(key), bench.clock, is_in_flight=key in in_flight(agent.lease))


def test_a_node_has_a_fence_for_its_own_tasks_only() -> None:
    """What is not this node's has no fence here."""
    bench = Bench()
    one, two = bench.cluster('a', 'b')
    for key in ('t0', 't1', 't2', 't3'):
        fences = [asked(bench, one, key), asked(bench, two, key)]
        assert [found is not None for found in fences] == [*bench.claims(one, key), *bench.claims(two, key)]


def test_no_fence_without_a_lease() -> None:
    """When the lease is over nothing is this node's."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.cut_off(agent)
    bench.run(20.0)
    assert asked(bench, agent, 't0') is None


def test_a_task_in_flight_keeps_its_fence_until_it_is_given_up() -> None:
    """A token being handed over is still this node's while a task of it is in flight; afterwards it is not."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.begin(agent, 't0', 't1', 't2', 't3')
    before = {key: asked(bench, agent, key) for key in in_flight(agent.lease)}
    other = bench.start('b')
    bench.run(10.0)
    moving = [key for key in before if not bench.claims(agent, key)[0]]
    assert len(moving) == 2
    assert all(asked(bench, agent, key) == before[key] for key in moving)
    finish(agent.lease, moving)
    bench.run(10.0)
    assert [asked(bench, agent, key) for key in moving] == [None, None]
    assert all((asked(bench, other, key) or 0) > (before[key] or 0) for key in moving)


def test_a_task_that_was_not_begun_has_no_fence_while_its_token_is_handed_over() -> None:
    """Another task of that token, which is in flight, keeps its own."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.begin(agent, 't0', 't1', 't2', 't3')
    bench.start('b')
    bench.run(10.0)
    moving = [key for key in ('t0', 't1', 't2', 't3') if not bench.claims(agent, key)[0]]
    assert len(moving) == 2
    for key in moving:
        assert token_of(f't0{key[1:]}') == token_of(key)
        assert asked(bench, agent, f't0{key[1:]}') is None
        assert asked(bench, agent, key) is not None
