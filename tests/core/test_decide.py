"""What a leader commits (rules R3, R5 and R8), one decision at a time."""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from tests.core.builders import EPOCH, TIMELINE, Scene, assigned, joining, lock, member, node, ref, revision, spelled

from jobsync._core.assignment import Assignment, Changes, TokenGroup
from jobsync._core.leader.admission import LARGE
from jobsync._core.planner.rebalance import rebalance
from jobsync._core.records import NOBODY, Eviction, Pin, Revision, Timeline


def forming(*names: str, tokens: int = 4) -> Scene:
    """A cluster before its first distribution."""
    return Scene.of(Assignment.empty(tokens), *(node(name) for name in names))


# --- the first distribution -------------------------------------------------------------------------------------------------


def test_the_first_distribution_waits_while_the_cluster_forms() -> None:
    """Before its time nothing is distributed; the leader looks again when it has come."""
    scene = forming('a', 'b')
    scene.config_with(wait_on_enter=1030.0)
    decision = scene.decide()
    assert (decision.plan, decision.decide_again_at) == (None, 1030.0)
    scene.now = 1030.0
    assert scene.plan().groups


def test_the_first_distribution_waits_for_minimum_nodes() -> None:
    """With ``minimum_nodes`` given, nothing is distributed among fewer, however late it is."""
    scene = forming('a', 'b')
    scene.config_with(minimum_nodes=3, wait_on_enter=0.0)
    assert scene.decide().plan is None


def test_the_first_distribution_waits_for_minimum_nodes_alone() -> None:
    """With ``minimum_nodes`` given, as many are enough, however early it is."""
    scene = forming('a', 'b', 'c')
    scene.config_with(minimum_nodes=3, wait_on_enter=9999.0)
    assert scene.plan().groups


def test_suspects_do_not_make_up_the_minimum() -> None:
    """Only nodes that are not suspected count towards ``minimum_nodes``."""
    scene = forming('a', 'b', 'c')
    scene.config_with(minimum_nodes=3)
    scene.silent = frozenset('c')
    assert scene.decide().plan is None


@pytest.mark.parametrize(
    ('trusted', 'timeline'),
    [
        (False, TIMELINE),
        (True, Timeline(1, 'second', 'store')),
    ],
)
def test_the_first_distribution_of_a_timeline_waits_a_timeout(trusted: bool, timeline: Timeline) -> None:
    """R8: leases of older timelines must have ended, unless this is the first one of a store that is trusted."""
    scene = forming('a', 'b')
    scene.config_with(durable=trusted)
    scene.timeline, scene.state.timeline_read_at = timeline, 990.0
    decision = scene.decide()
    assert (decision.plan, decision.decide_again_at) == (None, 1005.0)
    scene.now = 1005.0
    assert scene.plan().groups


def test_the_wait_is_the_longest_timeout() -> None:
    """R8: every node's timeout must have passed, not only the leader's."""
    scene = Scene.of(Assignment.empty(4), node('a'), node('b', timeout_sec=60))
    scene.config_with(durable=False)
    scene.state.timeline_read_at = 990.0
    assert scene.decide().decide_again_at == 1050.0


@pytest.mark.parametrize('known_by', ['the store', 'the leader'])
def test_the_first_commit_of_a_timeline_waits_the_longest_timeout_ever_known(known_by: str) -> None:
    """R8: the nodes of an older timeline have no record in this one; the longest timeout is what tells of their leases."""
    scene = forming('a', 'b')
    scene.config_with(durable=False)
    if known_by == 'the store':
        scene.longest_timeout_sec = 60.0
    else:
        scene.longest_read_sec = 60.0
    scene.state.timeline_read_at = 990.0
    assert scene.decide().decide_again_at == 1050.0
    scene.now = 1050.0
    assert scene.plan().groups


def test_the_first_timeline_of_a_trusted_store_need_not_wait() -> None:
    """Generation 0 on a trusted store has no past."""
    scene = forming('a', 'b')
    scene.state.timeline_read_at = 1000.0
    assert scene.plan().groups


def test_the_first_distribution_hands_out_everything() -> None:
    """Every token gets an owner at once, as evenly as can be, and nothing is to be handed over."""
    scene = forming('a', 'b', tokens=5)
    plan = scene.commit()
    assert sorted(Counter(spelled(scene.assignment)).values()) == [2, 3]
    assert not scene.assignment.targets
    assert dict(plan.members) == {'a': member('a', since=1), 'b': member('b', since=1)}
    assert (plan.reason, plan.moved, plan.nodes_before, plan.nodes_after) == ('first distribution', 5, 0, 2)


def test_a_first_distribution_that_removes_nodes_says_which() -> None:
    """It is their only trace in the history: they died or left while the cluster formed, or before the store went back."""
    scene = forming('a', 'b', 'c')
    scene.silent = frozenset('b')
    scene.nodes['c'] = node('c', left=True)
    assert scene.plan().reason == 'first distribution; node dead: b; node left: c'


# --- joining and handing over -----------------------------------------------------------------------------------------------


def test_nothing_to_do_makes_no_plan() -> None:
    """A balanced cluster in which nothing has happened is left alone, and nothing is due."""
    decision = Scene.of('aabb').decide()
    assert (decision.plan, decision.decide_again_at) == (None, math.inf)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one entry with every decision that is worked out."""
    made: list[str] = []

    def planned(*arguments: Any) -> Any:
        made.append('planned')
        return rebalance(*arguments)

    monkeypatch.setattr('jobsync._core.leader.decide.rebalance', planned)
    return made


def test_a_cluster_at_rest_is_not_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late it is, and however often the nodes have sent heartbeats: for a million tokens that takes a while."""
    scene, made = Scene.of('aabb'), counted(monkeypatch)
    first = scene.decide()
    scene.now += 1000.0
    scene.nodes = {
        name: attrs.evolve(record, heartbeat=record.heartbeat + 9, last_heartbeat=EPOCH + dt.timedelta(hours=1))
        for name, record in scene.nodes.items()
    }
    assert scene.decide() == first
    assert len(made) == 1


CHANGES: dict[str, Callable[[Scene], object]] = {
    'a node joins': lambda scene: scene.nodes.update(c=node('c')),
    'a node leaves': lambda scene: scene.nodes.update(b=node('b', left=True)),
    'a record goes': lambda scene: scene.nodes.pop('b'),
    'another run': lambda scene: scene.nodes.update(b=node('b', run=2)),
    'a run that replaces': lambda scene: scene.nodes.update(b=node('b', replaces=[3])),
    'a weight': lambda scene: scene.nodes.update(b=node('b', weight=2)),
    'a timeout': lambda scene: scene.nodes.update(b=node('b', timeout_sec=60)),
    'an acknowledgement': lambda scene: scene.nodes.update(b=node('b', seen=4)),
    'what is held': lambda scene: scene.nodes.update(b=node('b', holding=[2])),
    'a suspect': lambda scene: setattr(scene, 'silent', frozenset('b')),
    'a lock': lambda scene: setattr(scene, 'locks', (lock(1, 't0', 'a'),)),
    'another version': lambda scene: setattr(scene, 'assignment', assigned('aabb', version=6)),
    'another timeline': lambda scene: setattr(scene, 'timeline', Timeline(1, 'second', 'store')),
    'the configuration': lambda scene: scene.config_with(rejoin_grace_sec=9.0),
}


@pytest.mark.parametrize('change', CHANGES)
def test_whatever_changes_ends_the_rest(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Anything but a heartbeat is looked at, and what comes of it is what comes of it at first sight."""
    scene, at_first_sight = Scene.of('aabb'), Scene.of('aabb')
    CHANGES[change](at_first_sight)
    expected = at_first_sight.decide()
    scene.decide()
    made = counted(monkeypatch)
    CHANGES[change](scene)
    assert scene.decide() == expected
    assert made


@pytest.mark.parametrize('waiting', ['newcomers', 'an expiry', 'an absent owner', 'an acknowledgement'])
def test_who_waits_is_not_at_rest(monkeypatch: pytest.MonkeyPatch, waiting: str) -> None:
    """Where time alone may bring something, the same is worked out again."""
    match waiting:
        case 'newcomers':
            scene = Scene.of('aabb', node('c'))
        case 'an expiry':
            scene = Scene.of('aabb')
            scene.locks = (lock(1, 't0', 'a', expires_at=EPOCH + dt.timedelta(days=1)),)
            scene.commit()
        case 'an absent owner':
            scene = Scene.of('aabb')
            del scene.nodes['b']
        case _:
            scene = joining()
    assert scene.decide().decide_again_at < math.inf
    made = counted(monkeypatch)
    scene.decide()
    assert made


def test_newcomers_are_gathered() -> None:
    """From the first newcomer on, those that come within the delay are taken in by one plan."""
    scene = Scene.of('aaabbb', node('c'))
    decision = scene.decide()
    assert (decision.plan, decision.decide_again_at) == (None, 1000.5)
    scene.now, scene.nodes['d'] = 1000.3, node('d')
    assert scene.decide().plan is None
    scene.now = 1000.5
    assert scene.plan().members == {'c': member('c', since=6), 'd': member('d', since=6)}


def test_many_newcomers_are_gathered_while_more_come() -> None:
    """With more than twenty, each that comes extends the time, by ten seconds at most."""
    scene = Scene.of('aaabbb', *(node(f'n{number:02}') for number in range(20)))
    assert scene.decide().decide_again_at == 1000.5
    scene.now, scene.nodes['n20'] = 1000.4, node('n20')
    assert scene.decide().decide_again_at == 1000.9
    storm = attrs.evolve(scene, nodes=dict(scene.nodes), state=copy.deepcopy(scene.state))
    scene.now = 1000.9
    assert len(scene.plan().members) == 21
    for number in range(25):
        storm.now, storm.nodes[f'late{number}'] = 1000.5 + 0.4 * number, node(f'late{number}')
        assert storm.decide().plan is None
    storm.now = 1010.5
    assert len(storm.plan().members) == 46


def test_newcomers_of_a_large_cluster_are_gathered_while_more_come() -> None:
    """Where a plan asks a hundred owners, the first waits for a second, and few extend the time as well."""
    owners = [f'o{number:03}' for number in range(LARGE)]
    old = Assignment.empty(len(owners)).apply(
        Changes(
            revision(5),
            None,
            {name: member(name) for name in owners},
            tuple(TokenGroup([token], name) for token, name in enumerate(owners)),
            (),
        )
    )
    scene = Scene.of(old)
    del scene.nodes[owners[0]]
    scene.nodes['x'] = node('x')
    assert scene.decide().decide_again_at == 1000.5  # a hundred nodes
    scene = Scene.of(old, node('x'))
    assert scene.decide().decide_again_at == 1001.0
    scene.now, scene.nodes['y'] = 1000.4, node('y')
    assert scene.decide().decide_again_at == 1001.0
    scene.now, scene.nodes['z'] = 1000.9, node('z')
    assert scene.decide().decide_again_at == 1001.4
    scene.now, scene.nodes['zz'] = 1001.4, node('zz')
    assert scene.decide().decide_again_at == 1001.9


def test_the_longer_many_newcomers_have_been_coming_the_longer_is_the_wait_for_the_next() -> None:
    """A busy machine takes long to start them, and its leader to read of them."""
    scene = Scene.of('aaabbb', *(node(f'n{number:02}') for number in range(21)))
    scene.decide()
    for number, now in enumerate((1000.4, 1000.8, 1001.2, 1001.6, 1002.0, 1002.4, 1002.8, 1003.2, 1003.6, 1004.0)):
        scene.now, scene.nodes[f'late{number}'] = now, node(f'late{number}')
        assert scene.decide().plan is None
    assert scene.decide().decide_again_at == 1005.0


def test_a_lone_newcomer_does_not_wait_for_others() -> None:
    """Of up to five, none extends the time in which the first is waiting."""
    scene = Scene.of('aaabbb', *(node(f'n{number:02}') for number in range(4)))
    assert scene.decide().decide_again_at == 1000.5
    scene.now, scene.nodes['n19'] = 1000.4, node('n19')
    assert scene.decide().decide_again_at == 1000.5
    scene.now = 1000.5
    assert len(scene.plan().members) == 5


def test_some_newcomers_are_gathered_a_second_longer_while_more_come() -> None:
    """They may be the first of hundreds, and a plan for them would move again what they have been given."""
    scene = Scene.of('aaabbb', *(node(f'n{number:02}') for number in range(5)))
    assert scene.decide().decide_again_at == 1000.5
    for number, (now, due) in enumerate(((1000.4, 1000.9), (1000.8, 1001.3), (1001.2, 1001.5), (1001.4, 1001.5))):
        scene.now, scene.nodes[f'late{number}'] = now, node(f'late{number}')
        assert scene.decide().decide_again_at == pytest.approx(due)
    scene.now = 1001.5
    assert len(scene.plan().members) == 9


def test_a_newcomer_takes_over_at_once_from_the_last_member() -> None:
    """With every member gone there is nothing to gather for: the newcomers are members from this very plan on."""
    scene = Scene.of('bbb', node('a'))
    scene.silent = frozenset('b')
    plan = scene.plan()
    assert (plan.members, [eviction.ref.name for eviction in plan.evictions]) == ({'a': member('a', since=6), 'b': None}, ['b'])
    assert plan.moved == 3


def test_a_newcomer_that_vanishes_is_not_waited_for() -> None:
    """Another run that joins later is gathered from its own first reading."""
    scene = Scene.of('aaabbb', node('c'))
    scene.decide()
    scene.now, scene.nodes['c'] = 1000.4, node('c', run=2)
    assert scene.decide().decide_again_at == 1000.9


def test_tokens_of_the_living_become_targets_first() -> None:
    """R3: nobody takes a token from a registered node; it is asked for it."""
    scene = joining()
    assert spelled(scene.assignment) == 'aaabbb'
    assert Counter(scene.assignment.targets.values()) == {'c': 2}


def test_only_what_balance_needs_is_asked_for() -> None:
    """A join writes the rows of the tokens that move, and no others."""
    scene = Scene.of('aaabbb', node('c'))
    scene.state.admission.newcomers[ref('c')] = 0.0
    assert sum(len(group.tokens) for group in scene.plan().groups) == 2


def test_an_acknowledged_token_passes_on() -> None:
    """R3: once its owner has seen the version that asks for it, a token belongs to its target."""
    scene = joining()
    asked = set(scene.assignment.targets)
    scene.acknowledge('a', 'b')
    scene.commit()
    assert {token for token in range(6) if scene.assignment.row(token).owner == 'c'} == asked
    assert not scene.assignment.targets


@pytest.mark.parametrize('seen', [revision(5), Revision(6, 1), revision(7)])
def test_only_the_version_at_hand_is_acknowledged(seen: Revision) -> None:
    """R3: having seen an older version, another of the same number or a later number lets go of nothing."""
    scene = joining()
    for name in 'ab':
        scene.nodes[name] = attrs.evolve(scene.nodes[name], seen=seen)
    decision = scene.decide()
    assert decision.plan is None
    assert decision.decide_again_at < math.inf
    assert scene.now < decision.decide_again_at <= scene.now + 1.0


def test_a_token_in_use_is_not_passed_on() -> None:
    """R3: a token its owner reports as held stays until it is held no longer, and the others do not wait for it."""
    scene = joining()
    one, other = sorted(scene.assignment.targets)
    scene.acknowledge('a', holding=[one])
    scene.acknowledge('b')
    assert scene.decide().plan is None
    scene.now += 0.1
    scene.commit()
    assert dict(scene.assignment.targets) == {one: 'c'}
    assert scene.assignment.row(other).owner == 'c'
    scene.acknowledge('a')
    scene.commit()
    assert scene.assignment.row(one).owner == 'c'


def test_acknowledgements_are_gathered() -> None:
    """The first acknowledgement waits for those of nodes that have not seen the version yet, so that one commit serves all."""
    scene = joining()
    scene.acknowledge('a')
    assert scene.decide().plan is None
    scene.now = 1000.3
    scene.acknowledge('b')
    assert scene.plan().moved == 2


def test_acknowledgements_are_not_gathered_for_long() -> None:
    """A node that is slow to see the version keeps the others' tokens waiting for half a second at most."""
    scene = joining()
    scene.acknowledge('a')
    scene.decide()
    scene.now = 1000.5
    scene.commit()
    assert len(scene.assignment.targets) == 1


def test_whoever_sees_it_last_has_time_to_tell_its_user_too() -> None:
    """A tenth of a second from when all have seen the version, not from the first acknowledgement; half of one at most in all."""
    scene = joining()
    (one,) = [token for token, target in scene.assignment.targets.items() if target and spelled(scene.assignment)[token] == 'b']
    scene.acknowledge('a')
    assert scene.decide().plan is None
    scene.now = 1000.2
    scene.acknowledge('b', holding=[one])
    assert scene.decide().plan is None
    scene.now = 1000.29
    assert scene.decide().plan is None
    scene.acknowledge('b')
    assert scene.plan().moved == 2


def test_a_target_that_died_is_replaced() -> None:
    """A token on its way to a node that is no more goes back to its owner, which never lost it."""
    scene = joining()
    scene.silent = frozenset('c')
    scene.commit()
    assert spelled(scene.assignment) == 'aaabbb'
    assert not scene.assignment.targets


def test_an_owner_that_dies_while_handing_over() -> None:
    """What a dead owner was asked for passes to its target without any acknowledgement, in the commit that evicts it."""
    scene = joining()
    scene.silent = frozenset('b')
    (asked,) = [token for token in scene.assignment.targets if scene.assignment.row(token).owner == 'b']
    plan = scene.commit()
    assert [eviction.ref for eviction in plan.evictions] == [ref('b')]
    assert scene.assignment.row(asked).owner == 'c'


def test_a_drained_node_gives_up_everything() -> None:
    """A node of weight 0 is a member and is asked for all its tokens."""
    scene = Scene.of('aabb', node('b', seen=5, weight=0.0))
    scene.commit()
    assert dict(scene.assignment.targets) == {2: 'a', 3: 'a'}
    scene.acknowledge('b')
    scene.commit()
    assert spelled(scene.assignment) == 'aaaa'
    assert set(scene.assignment.members) == {'a', 'b'}


def test_with_every_node_drained_tokens_are_let_go() -> None:
    """With no node left to take them, tokens are asked for all the same and then owned by nobody."""
    scene = Scene.of('aa', node('a', seen=5, weight=0.0))
    scene.commit()
    assert dict(scene.assignment.targets) == {0: NOBODY, 1: NOBODY}
    scene.acknowledge()
    scene.commit()
    assert spelled(scene.assignment) == '..'


def test_weights_divide_the_tokens() -> None:
    """A node of twice the weight gets twice the tokens."""
    scene = Scene.of(Assignment.empty(6), node('a'), node('b', weight=2.0))
    scene.commit()
    assert Counter(spelled(scene.assignment)) == {'a': 2, 'b': 4}


# --- owners that are no more ------------------------------------------------------------------------------------------------


def test_a_dead_node_is_evicted_and_its_tokens_given_away_in_one_plan() -> None:
    """R5: the eviction names the heartbeat it rests on, and the tokens go in the very same commit."""
    scene = Scene.of('aabbcc')
    scene.silent = frozenset('b')
    plan = scene.commit()
    assert plan.evictions == (Eviction(ref('b'), 7),)
    assert plan.members == {'b': None}
    assert Counter(spelled(scene.assignment)) == {'a': 3, 'c': 3}
    assert not scene.assignment.targets


def test_nobody_elses_tokens_are_touched() -> None:
    """P3: a death writes the rows of the dead node's tokens only."""
    scene = Scene.of('aabbcc')
    scene.silent = frozenset('b')
    assert sorted(token for group in scene.plan().groups for token in group.tokens) == [2, 3]


def test_a_dead_node_without_tokens_is_evicted_too() -> None:
    """A silent newcomer that owns nothing is removed all the same."""
    scene = Scene.of('aabb', node('c'))
    scene.silent = frozenset('c')
    assert scene.plan().evictions == (Eviction(ref('c'), 7),)


def test_a_node_that_left_is_removed_and_its_tokens_given_away() -> None:
    """A leaver's tokens need no wait, and its record goes in the same commit."""
    scene = Scene.of('aabb', node('b', left=True))
    plan = scene.commit()
    assert plan.departed == (ref('b'),)
    assert plan.evictions == ()
    assert spelled(scene.assignment) == 'aaaa'


def test_an_absent_owners_tokens_wait() -> None:
    """R5: absent is not left; its tokens stay for one timeout from the leader's first reading of that."""
    scene = Scene.of('aabb')
    del scene.nodes['b']
    decision = scene.decide()
    assert (decision.plan, decision.decide_again_at) == (None, 1015.0)
    scene.now = 1014.9
    assert scene.decide().plan is None
    scene.now = 1015.0
    plan = scene.commit()
    assert spelled(scene.assignment) == 'aaaa'
    assert plan.reason == 'node removed: b'


def test_an_absent_owner_does_not_hold_up_the_others() -> None:
    """While an absent owner is waited for, the tokens of the living are balanced among themselves."""
    scene = Scene.of('aaaabb', node('c'))
    scene.state.admission.newcomers[ref('c')] = 0.0
    del scene.nodes['b']
    scene.commit()
    assert spelled(scene.assignment) == 'aaaabb'
    assert Counter(scene.assignment.targets.values()) == {'c': 2}
    assert scene.assignment.members['b'] == member('b')


def test_a_replacement_takes_its_predecessors_tokens_without_a_row_written() -> None:
    """A restarted node that declares its former run over owns the same tokens: only what its name means is written."""
    scene = Scene.of('aabb', node('b', run=2, replaces=[1]))
    plan = scene.plan()
    assert plan.groups == ()
    assert plan.members['b'] == member('b', run=2, since=6)
    assert (plan.moved, plan.evictions) == (0, ())


def test_a_namesake_does_not_inherit_at_once() -> None:
    """A run that does not declare the owner over gets its tokens only after the wait."""
    scene = Scene.of('aabb', node('b', run=2))
    assert scene.decide().plan is None
    scene.now = 1015.0
    assert scene.plan().members['b'] == member('b', run=2, since=6)


# --- leaving and coming back ------------------------------------------------------------------------------------------------


def test_a_join_waits_for_no_gathering_where_another_leaves() -> None:
    """Where tokens have to move anyway they go to the newcomer at once, and none moves twice."""
    scene = Scene.of('aabb', node('c'), node('b', left=True))
    scene.config_with(rebalance_delay_sec=10.0)
    plan = scene.commit()
    assert spelled(scene.assignment) == 'aacc'
    assert (plan.moved, dict(scene.assignment.targets)) == (2, {})


def test_a_node_that_left_is_expected_back() -> None:
    """For ``rejoin_grace_sec`` its tokens and its record stay, and the leader looks again when they are over."""
    scene = Scene.of('aabb', node('b', left=True))
    scene.config_with(rejoin_grace_sec=20.0)
    decision = scene.decide()
    assert (decision.plan, decision.decide_again_at) == (None, scene.now + 20.0)
    scene.now += 20.0
    plan = scene.commit()
    assert spelled(scene.assignment) == 'aaaa'
    assert plan.departed == (ref('b'),)


def test_a_node_that_has_died_is_not_expected_back() -> None:
    """Where it is known to be over, its tokens pass on at once, whatever ``rejoin_grace_sec`` says, and the reason says so."""
    scene = Scene.of('aabbcc', node('b', died=True), node('c', left=True))
    scene.config_with(rejoin_grace_sec=20.0)
    plan = scene.commit()
    assert (spelled(scene.assignment), plan.departed, plan.reason) == ('aaaacc', (ref('b'),), 'node dead: b')


def test_a_node_that_is_back_in_time_has_its_tokens_again() -> None:
    """Not one row is written: the tokens are the new run's, and nobody else's move."""
    scene = Scene.of('aabb', node('b', left=True))
    scene.config_with(rejoin_grace_sec=20.0)
    scene.decide()
    scene.now += 10.0
    scene.nodes['b'] = node('b', run=2, replaces=[1])
    plan = scene.commit()
    assert (plan.groups, plan.moved) == ((), 0)
    assert scene.assignment.members['b'].incarnation == ref('b', 2).incarnation


def test_the_others_are_balanced_while_one_is_expected_back() -> None:
    """A join meanwhile shares what the others have; what is kept for the one that left stays."""
    scene = Scene.of('aaaabb', node('b', left=True), node('c'))
    scene.config_with(rejoin_grace_sec=20.0, rebalance_delay_sec=0.0)
    scene.commit()
    scene.acknowledge('a', 'c')
    scene.commit()
    assert spelled(scene.assignment).count('c') == 2
    assert spelled(scene.assignment).endswith('bb')


def test_rows_without_owner_are_given_away_at_once() -> None:
    """A token whose row says nobody is in nobody's hands."""
    scene = Scene.of('aab.')
    scene.commit()
    assert spelled(scene.assignment) == 'aabb'


def test_tokens_without_a_row_wait() -> None:
    """A token without a row may be in its last owner's hands: for a timeout, and until all have acknowledged its absence."""
    scene = Scene.of('aab-')
    assert scene.decide().plan is None
    scene.now = 1014.9
    assert scene.decide().plan is None
    scene.now = 1015.0
    scene.commit()
    assert spelled(scene.assignment) == 'aabb'


def test_tokens_with_a_row_stay_where_they_are() -> None:
    """The plan that gives tokens without a row away concerns no other token."""
    scene = Scene.of('abbaba-b-a')
    scene.decide()
    scene.now += 15.0
    assert sorted(token for group in scene.plan().groups for token in group.tokens) == [6, 8]


def test_tokens_without_a_row_wait_for_every_nodes_acknowledgement() -> None:
    """However long it takes, a live node that has not seen the version may still hold the token."""
    scene = Scene.of('aab-', node('b', seen=4))
    scene.decide()
    scene.now = 1100.0
    decision = scene.decide()
    assert decision.plan is None
    assert decision.decide_again_at < math.inf
    scene.acknowledge('b')
    assert scene.plan().groups


def test_tokens_without_a_row_wait_for_tasks_in_flight() -> None:
    """A node that reports such a token as held is at work on a task of it."""
    scene = Scene.of('aab-')
    scene.acknowledge('b', holding=[3])
    scene.decide()
    scene.now = 1100.0
    assert scene.decide().plan is None
    scene.acknowledge('b')
    assert scene.plan().groups


def test_tokens_without_a_row_wait_for_the_longest_timeout() -> None:
    """The last owner may be a node that asked for more time than the leader."""
    scene = Scene.of('aab-', node('b', seen=5, timeout_sec=60))
    scene.commit()
    scene.acknowledge()
    assert scene.decide().decide_again_at == 1060.0


def test_tokens_without_a_row_wait_for_a_member_without_a_record() -> None:
    """A node that is cut off has a lease for its own timeout, though an operator has deleted its row and its tokens' rows."""
    assignment = assigned('aa--', members='b')
    scene = Scene.of(attrs.evolve(assignment, members={**assignment.members, 'b': member('b', timeout_sec=60.0)}))
    del scene.nodes['b']
    scene.decide()
    scene.now += 59.9
    assert scene.decide().plan is None
    scene.now += 0.1
    scene.commit()
    assert spelled(scene.assignment) == 'aaaa'


def test_tokens_without_a_row_wait_until_a_member_is_absent_for_long_enough() -> None:
    """Its row was deleted after those of its tokens, and after a heartbeat: its lease outlasts the wait for the tokens."""
    scene = Scene.of(assigned('aa--', members='b'))
    scene.acknowledge('a')
    scene.decide()
    scene.now += 5.0
    del scene.nodes['b']
    scene.decide()
    scene.now += 14.9
    assert scene.decide().plan is None
    scene.now += 0.1
    scene.commit()
    assert spelled(scene.assignment) == 'aaaa'


def test_an_owner_without_a_member_entry_is_waited_for_the_longest_timeout_ever_known() -> None:
    """Nothing says how long a lease it may have."""
    assignment = assigned('aabb')
    scene = Scene.of(attrs.evolve(assignment, members={'a': member('a')}))
    scene.longest_timeout_sec = 60.0
    scene.decide()
    scene.now += 59.9
    assert scene.decide().plan is None
    scene.now += 0.1
    scene.commit()
    assert spelled(scene.assignment) == 'aaaa'


# --- nodes whose work does not get through ------------------------------------------------------------------------------------


def test_a_stuck_node_keeps_what_it_owns_and_is_given_nothing() -> None:
    """A member that is no candidate might never read what it is given (R4): a dead node's tokens all go to the others."""
    scene = Scene.of(assigned('aabbcc', pins=[Pin(7, 't0', 'b', pattern='%'), Pin(8, 't1', 'c', pattern='%')]))
    scene.locks = (lock(1, 't0', '%'), lock(2, 't1', '%'))
    scene.nodes['b'] = attrs.evolve(scene.nodes['b'], candidate=False)
    scene.silent = frozenset('c')
    scene.commit()
    assert spelled(scene.assignment) == 'aabbaa'
    assert not scene.assignment.targets
    assert [(pin.owner, pin.target) for pin in scene.assignment.pins.values()] == [('b', None), ('a', None)]
    scene.acknowledge()
    scene.commit()
    assert set(scene.assignment.targets.values()) == {'b'}


def test_a_stuck_node_is_no_target() -> None:
    """What was on its way to a member that is no candidate any more stays with its owner, or goes to another."""
    scene = Scene.of(assigned('aaaa..', targets={2: 'b', 3: 'b'}, members='b'))
    scene.nodes['a'] = attrs.evolve(scene.nodes['a'], holding=frozenset({3}))
    scene.nodes['b'] = attrs.evolve(scene.nodes['b'], candidate=False)
    scene.state.gathering.released_at = 0.0
    scene.state.gathering.version = scene.assignment.version
    scene.commit()
    assert spelled(scene.assignment) == 'aaaaaa'
    assert not scene.assignment.targets


def test_a_stuck_node_that_lets_go_is_believed() -> None:
    """A hand-over by a member that is no candidate goes on: its acknowledgement is as good as any."""
    scene = Scene.of(assigned('aabb', targets={3: 'a'}))
    scene.nodes['b'] = attrs.evolve(scene.nodes['b'], candidate=False)
    scene.commit()
    assert spelled(scene.assignment) == 'aaba'


def test_where_all_are_stuck_all_are_given_their_share() -> None:
    """Without a candidate nobody is better than another."""
    scene = Scene.of('aabbcc')
    scene.nodes = {name: attrs.evolve(node, candidate=False) for name, node in scene.nodes.items()}
    scene.silent = frozenset('c')
    scene.commit()
    assert sorted(spelled(scene.assignment)) == list('aaabbb')


def test_where_nobody_else_weighs_anything_a_stuck_node_is_as_good_as_any() -> None:
    """The leader is drained: it takes nothing from the one node that may own tokens, and gives it what another has lost."""
    scene = Scene.of('bbbcc', node('a', seen=5, weight=0.0))
    scene.nodes['b'] = attrs.evolve(scene.nodes['b'], candidate=False)
    scene.silent = frozenset('c')
    scene.commit()
    assert spelled(scene.assignment) == 'bbbbb'
    assert not scene.assignment.targets


# --- home -------------------------------------------------------------------------------------------------------------------


def test_tokens_remember_who_lost_them() -> None:
    """What a dead or departed node owned is marked with its name."""
    scene = Scene.of('aabb')
    scene.silent = frozenset('b')
    scene.commit()
    assert [scene.assignment.row(token).home for token in range(4)] == [None, None, 'b', 'b']


def test_tokens_go_back_to_who_lost_them() -> None:
    """A node that returns gets its own tokens back, and the mark is gone when it has them."""
    scene = Scene.of(assigned('aaaa', homes={1: 'b', 3: 'b'}), node('b', run=2))
    scene.state.admission.newcomers[ref('b', 2)] = 0.0
    scene.commit()
    assert dict(scene.assignment.targets) == {1: 'b', 3: 'b'}
    assert scene.assignment.row(1).home == 'b'
    scene.acknowledge()
    scene.commit()
    assert spelled(scene.assignment) == 'abab'
    assert [scene.assignment.row(token).home for token in range(4)] == [None] * 4


def test_the_last_loss_counts() -> None:
    """A token whose keeper dies too is marked with that keeper's name."""
    scene = Scene.of(assigned('ab', homes={1: 'c'}))
    scene.silent = frozenset('b')
    scene.commit()
    assert scene.assignment.row(1).home == 'b'


# --- what people read -------------------------------------------------------------------------------------------------------


def test_moves_are_counted_when_they_happen() -> None:
    """A token counts as moved once: in the commit that gives it to its new owner, not in the one that asks for it."""
    scene = Scene.of('aaabbb', node('c'))
    scene.state.admission.newcomers[ref('c')] = 0.0
    assert scene.commit().moved == 0
    scene.acknowledge()
    assert scene.commit().moved == 2


def test_the_transfer_tells_the_reason_of_the_join() -> None:
    """What was begun for a join is recorded as the join's, with the nodes before and after it and its duration."""
    scene = joining()
    scene.now += 0.25
    scene.acknowledge()
    plan = scene.commit()
    assert plan.reason == 'node joined: c'
    assert (plan.nodes_before, plan.nodes_after, plan.duration_ms) == (2, 3, 250)


def test_a_settled_cluster_forgets_the_reason() -> None:
    """What comes after a hand-over is over has a reason of its own."""
    scene = joining()
    scene.acknowledge()
    scene.commit()
    scene.acknowledge()
    assert scene.decide().plan is None
    scene.silent = frozenset('c')
    plan = scene.plan()
    assert (plan.reason, plan.nodes_before, plan.nodes_after, plan.duration_ms) == ('node dead: c', 3, 2, 0)


def test_reasons_are_put_together() -> None:
    """A plan that serves several ends names them all."""
    scene = Scene.of('aabbccdd', node('c', left=True), node('e'))
    scene.state.admission.newcomers[ref('e')] = 0.0
    scene.silent = frozenset('b')
    plan = scene.plan()
    assert plan.reason == 'node dead: b; node left: c; node joined: e'
    assert (plan.nodes_before, plan.nodes_after) == (4, 3)


def test_long_lists_of_names_are_cut() -> None:
    """A reason stays a line: five names, and how many more."""
    scene = Scene.of('a' * 8, *(node(name) for name in 'bcdefgh'))
    for name in 'bcdefgh':
        scene.state.admission.newcomers[ref(name)] = 0.0
    assert scene.plan().reason == 'node joined: b, c, d, e, f and 2 more'


def test_a_new_weight_is_a_rebalance() -> None:
    """Where no node came or went, the reason is the rebalance itself."""
    scene = Scene.of('aabb', node('b', seen=5, weight=3.0))
    assert scene.plan().reason == 'rebalance'


def test_a_drain_is_named() -> None:
    """The reason names the nodes that give up everything, and no task locks, though pins move with the tokens."""
    scene = Scene.of(assigned('aabb', pins=[Pin(5, 't0', 'b', None, 4, '%')]), node('b', seen=5, weight=0.0))
    scene.locks = (lock(1, 't0', '%'),)
    plan = scene.commit()
    assert plan.pins
    assert plan.reason == 'draining: b'
    scene.acknowledge('b')
    assert scene.commit().reason == 'draining: b'


def test_the_end_of_a_drain_is_named() -> None:
    """A member that owned nothing and is given a share is named, one that owned something already is not."""
    scene = Scene.of(assigned('aaac', members='bc'), node('b', seen=5), node('c', seen=5))
    assert scene.plan().reason == 'takes a share: b'


def test_the_end_of_a_drain_beside_a_task_lock() -> None:
    """Where a task is locked to the node, the reason has both: the lock moves a pin, and the tokens are the node's share."""
    scene = Scene.of(assigned('aaaa', members='b'), node('b', seen=5))
    scene.locks = (lock(1, 't0', 'b'),)
    assert scene.plan().reason == 'task locks; takes a share: b'
    scene = Scene.of(assigned('a', members='b'), node('b', seen=5))
    scene.locks = (lock(1, 't0', 'b'),)
    assert scene.plan().reason == 'task locks'


def test_a_drain_beside_a_task_lock() -> None:
    """Where a task lock was registered at that moment too, the reason has both; a node long drained is not named again."""
    scene = Scene.of('aabb', node('b', seen=5, weight=0.0))
    scene.locks = (lock(1, 't0', 'a'),)
    assert scene.commit().reason == 'draining: b; task locks'
    scene = Scene.of(assigned('aaaa', members='b'), node('b', seen=5, weight=0.0))
    scene.locks = (lock(1, 't0', 'a'),)
    assert scene.plan().reason == 'task locks'
