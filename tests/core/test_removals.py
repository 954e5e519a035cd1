"""What is too large for one commit is split over several (rule R9)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import attrs
import pytest
from tests.core.bench import TASKS, Bench
from tests.core.builders import EPOCH, Scene, member, node, ref, spelled

from jobsync._core.assignment import Plan
from jobsync._core.leader.removals import Removals
from jobsync._core.records import Eviction, Node, NodeRef


def aged(record: Node, minutes: int) -> Node:
    return attrs.evolve(record, created_on=EPOCH + dt.timedelta(minutes=minutes))


def removed(plan: Plan) -> list[str]:
    return sorted([eviction.ref.name for eviction in plan.evictions] + [gone.name for gone in (*plan.departed, *plan.absent)])


def choose(*records: Node, absent: Collection[str] = (), most: int) -> Removals:
    nodes = {record.name: record for record in records}
    return Removals.choose(nodes, (), (), {name: member(name) for name in absent}, most)


def losing_five() -> Scene:
    """``a`` is left; ``b`` and ``e`` are dead, ``c`` and ``f`` left, ``d`` has no record any more."""
    scene = Scene.of('abcdef')
    for minutes, name in enumerate('abcdef'):
        scene.nodes[name] = aged(node(name, seen=5, left=name in 'cf'), minutes)
    del scene.nodes['d']
    scene.silent = frozenset('be')
    scene.state.absent_since = {('d', ref('d').incarnation): 0.0}
    scene.config_with(max_removals=2)
    return scene


def test_a_plan_removes_no_more_than_the_store_carries() -> None:
    """The oldest first, and of those without a record it is not known how old they are; every one after a few plans."""
    scene = losing_five()
    plans = [scene.commit() for _ in range(3)]
    assert [removed(plan) for plan in plans] == [['b', 'd'], ['c', 'e'], ['f']]
    assert spelled(scene.assignment) == 'aaaaaa'
    assert scene.decide().plan is None


def test_who_is_left_for_later_keeps_what_it_owns_and_is_given_nothing() -> None:
    """It is neither asked nor counted on until the plan that removes it."""
    scene = losing_five()
    scene.commit()
    assert spelled(scene.assignment) == 'aacaef'
    assert dict(scene.assignment.targets) == {}
    assert set(scene.assignment.members) == set('acef')
    assert scene.assignment.members['e'] == member('e')


def test_one_that_goes_and_owns_nothing_is_left_for_later_as_well() -> None:
    """Its record alone counts as much."""
    scene = Scene.of('aaa', *(aged(node(name, left=True), minutes) for minutes, name in enumerate('xyz')))
    scene.config_with(max_removals=2)
    assert scene.commit().departed == (ref('x'), ref('y'))
    assert scene.commit().departed == (ref('z'),)


def test_all_that_a_store_carries_go_at_once() -> None:
    """The number is a bound, and nothing is split without need."""
    scene = losing_five()
    scene.config_with(max_removals=5)
    assert removed(scene.commit()) == ['b', 'c', 'd', 'e', 'f']


@pytest.mark.parametrize('most', [0, 1])
def test_there_is_always_one(most: int) -> None:
    """A record and an owner of another run under one name go together, however little a store carries."""
    found = choose(node('b', 2), absent='b', most=most)
    assert found.evictions == (Eviction(ref('b', 2), 7),)
    assert found.absent == (ref('b'),)
    assert not found.later


def test_both_parts_of_a_name_count() -> None:
    """A plan that names three nodes is no plan for a store that carries two."""
    found = choose(aged(node('b', 2), 1), aged(node('c'), 2), absent='b', most=2)
    assert found.later == {'c'}


def test_the_living_are_never_chosen() -> None:
    """Nor those whose records are to stay."""
    nodes = {'a': node('a'), 'b': node('b', left=True)}
    found = Removals.choose(nodes, {'a'}, {NodeRef('b', ref('b').incarnation)}, {}, 10)
    assert found == Removals((), (), (), frozenset())


def test_many_that_die_together_are_removed_by_plans_that_follow_at_once() -> None:
    """A leader whose store carries little needs no heartbeat between them."""
    bench = Bench()
    leader, *others = bench.cluster(*'abcdefg', max_removals=2)
    for agent in others:
        bench.kill(agent)
    bench.run_until(lambda: len(bench.backend.snapshot().nodes) < 7)
    assert len(bench.backend.snapshot().nodes) == 5
    began = bench.now
    bench.run_until(lambda: len(leader.lease.ownership.tokens) == len(TASKS))
    assert bench.now <= began + 1.0
