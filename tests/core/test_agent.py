"""The life of a node: joining, its heartbeats, leaving."""

from __future__ import annotations

import math

import attrs
import pytest
from tests.core.bench import AWAY, TASKS, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.monitor import STANDBYS
from jobsync._core.agent.phase import Phase
from jobsync._core.records import Settings
from jobsync.errors import ConfigMismatch

# --- joining --------------------------------------------------------------------------------------------------------------


def test_a_node_begins_by_opening_the_namespace() -> None:
    """The first call is ``open`` with the node's settings; there is nothing to beat for yet."""
    bench = Bench()
    agent = bench.start('a', create=False)
    assert agent.next(Lane.HEARTBEAT, bench.now) == math.inf
    assert agent.next(Lane.WORK, bench.now) == commands.Open(bench.settings, create=False)
    assert agent.phase is Phase.OPENING


def test_one_call_at_a_time_in_each_lane() -> None:
    """While a call is under way its lane asks for nothing."""
    bench = Bench()
    agent = bench.start('a')
    bench.catch(agent, commands.Open)
    assert agent.next(Lane.WORK, bench.now) == math.inf


def test_a_node_registers_as_configured() -> None:
    """The record says what the configuration does."""
    bench = Bench()
    bench.start('a', weight=2.0, host='here', pid=77, heartbeat_timeout_sec=20.0)
    bench.run(0.1)
    record = bench.record('a')
    assert (record.weight, record.host, record.pid, record.timeout_sec) == (2.0, 'here', 77, 20.0)


def test_a_lone_node_owns_everything() -> None:
    """The first node of a cluster leads it and gives itself all the tokens."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    assert bench.leader == 'a'
    assert bench.claims(agent, *TASKS) == [True] * 4


def test_a_cluster_shares_the_tokens() -> None:
    """Each task is claimable on exactly one of the nodes, and all have as many tokens."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    assert [len(agent.lease.ownership.tokens) for agent in agents] == [2, 2]
    assert [sum(bench.claims(agent, key)[0] for agent in agents) for key in TASKS] == [1] * 4


def test_other_settings_are_refused() -> None:
    """A node whose settings are not the running cluster's fails for good with the second heartbeat, and says what differs."""
    bench = Bench()
    bench.cluster('a')
    stranger = bench.start('b', settings=Settings(8, 'xxh3'))
    bench.run(10.5)
    assert stranger.phase is Phase.FAILED
    assert isinstance(stranger.failure, ConfigMismatch)
    assert 'total_tokens is 4 in the cluster and 8 here' in str(stranger.failure)


def test_a_failed_node_asks_for_nothing() -> None:
    """What no retry can mend is not tried again."""
    bench = Bench()
    bench.cluster('a')
    stranger = bench.start('b', settings=Settings(8, 'xxh3'))
    bench.run(10.5)
    assert [stranger.next(lane, bench.now) for lane in Lane] == [math.inf] * len(Lane)


def test_a_registration_whose_answer_was_lost_counts() -> None:
    """Repeating it meets the node's own record, which is as good as the answer."""
    bench = Bench()
    agent = bench.start('a')
    caught = bench.catch(agent, commands.Register)
    bench.perform(caught.call)
    bench.answer(caught, AWAY)
    bench.run(2.0)
    assert agent.phase is Phase.MEMBER
    assert bench.record('a').incarnation == agent.ref.incarnation


def test_a_first_node_of_weight_0_delays_no_worker() -> None:
    """P2: where nobody could be given anything at first, such as before a job that only registers task locks, nobody has it."""
    bench = Bench()
    administrator = bench.start('a', weight=0.0)
    bench.run(3.0)
    worker = bench.start('b')
    bench.run(2.0)
    assert bench.claims(worker, *TASKS) == [True] * 4
    assert bench.claims(administrator, *TASKS) == [False] * 4


# --- hints ----------------------------------------------------------------------------------------------------------------


def test_a_hint_makes_a_follower_beat() -> None:
    """A heartbeat tells all that a follower needs to know of a change."""
    bench = Bench(push=False)
    follower = bench.cluster('a', 'b')[1]
    assert isinstance(follower.next(Lane.HEARTBEAT, bench.now), float)
    follower.hint(bench.backend.snapshot().revision.number + 1, bench.now)
    assert isinstance(follower.next(Lane.HEARTBEAT, bench.now), commands.Heartbeat)


def test_a_hint_makes_the_leader_look() -> None:
    """The leader needs to know more than a heartbeat tells."""
    bench = Bench(push=False)
    (leader,) = bench.cluster('a')
    leader.hint(bench.backend.snapshot().revision.number + 1, bench.now)
    assert leader.next(Lane.WORK, bench.now) == commands.TakeSnapshot()


def test_a_hint_during_a_look_is_not_lost() -> None:
    """A look that was under way when a hint came may have missed what was hinted at: the leader looks again."""
    bench = Bench(push=False)
    (leader,) = bench.cluster('a')
    look = bench.catch(leader, commands.TakeSnapshot)
    seen = bench.perform(look.call)
    leader.hint(bench.backend.snapshot().revision.number + 1, bench.now)
    bench.answer(look, seen)
    assert leader.next(Lane.WORK, bench.now) == commands.TakeSnapshot()


def test_a_hint_before_a_look_is_answered_by_it() -> None:
    """A hint costs one look, also if the clock stands still meanwhile."""
    bench = Bench(push=False)
    (leader,) = bench.cluster('a')
    leader.hint(bench.backend.snapshot().revision.number + 1, bench.now)
    call = leader.next(Lane.WORK, bench.now)
    assert call == commands.TakeSnapshot()
    leader.done(Lane.WORK, bench.perform(call), bench.now)
    assert leader.next(Lane.WORK, bench.now) != commands.TakeSnapshot()


def test_a_leader_looks_if_what_it_has_read_is_newer_than_what_it_has_seen() -> None:
    """It cannot plan from two versions, so it looks at once; it does not ask for a time that is past."""
    bench = Bench(push=False)
    (leader,) = bench.cluster('a')
    bench.run_until(lambda: bench.made[-1].call == commands.TakeSnapshot())
    bench.cut.add((leader, Lane.HEARTBEAT))
    bench.store.delete_token_rows('sync_', [0])
    read = bench.catch(leader, commands.ReadAssignment)
    bench.store.delete_token_rows('sync_', [1])
    bench.deliver(read)
    assert bench.now < leader.lease.deadline
    assert leader.next(Lane.WORK, bench.now) == commands.TakeSnapshot()


def test_a_hint_of_what_is_known_does_nothing() -> None:
    """Doubled and late hints cost no call."""
    bench = Bench(push=False)
    agents = bench.cluster('a', 'b')
    for agent in agents:
        asked = [agent.next(lane, bench.now) for lane in Lane]
        agent.hint(bench.backend.snapshot().revision.number, bench.now)
        assert [agent.next(lane, bench.now) for lane in Lane] == asked


def test_nothing_depends_on_hints() -> None:
    """Without any, everything comes about a few heartbeats later."""
    bench = Bench(push=False)
    agents = [bench.start(name) for name in 'abc']
    bench.run(60.0)
    assert all(agent.is_settled for agent in agents)


# --- heartbeats -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_idle_cluster_asks_little() -> None:
    """A settled follower makes at most 13 calls a minute, the leader and its standbys 26; no node reads what has not changed."""
    bench = Bench()
    names = [f'w{number}' for number in range(STANDBYS + 3)]
    agents = bench.cluster(*names)
    looking, followers = agents[: STANDBYS + 1], agents[STANDBYS + 1 :]
    before = len(bench.made)
    bench.run(600.0)
    made = bench.made[before:]
    asked = {agent: [one.call for one in made if one.agent is agent and one.reached_store] for agent in bench.agents}
    assert not [call for calls_made in asked.values() for call in calls_made if isinstance(call, commands.ReadAssignment)]
    assert all(len(asked[agent]) <= 260 for agent in looking)
    assert all(len(asked[follower]) <= 130 for follower in followers)


def beats(bench: Bench, agent: Agent, seconds: float) -> list[float]:
    """When this agent sent heartbeats in the time that is left to pass."""
    before = len(bench.made)
    bench.run(seconds)
    return [one.at for one in bench.made[before:] if one.agent is agent and isinstance(one.call, commands.Heartbeat)]


@pytest.mark.parametrize('phase', [0.2, 1.0, 2.6, 3.9, 4.8])
def test_a_newcomer_beats_in_step_within_an_interval(phase: float) -> None:
    """Whenever it comes, its heartbeats follow the leader's by about a tenth of an interval from its second regular one on."""
    bench = Bench()
    (leader,) = bench.cluster('a')
    first = beats(bench, leader, 6.0)[0]
    bench.run(first + 10.0 + phase - bench.now)
    newcomer = bench.start('b')
    bench.run(1.1 * 5.0)
    begun = len(bench.made)
    bench.run(20.0)
    made = [one for one in bench.made[begun:] if isinstance(one.call, commands.Heartbeat)]
    theirs = [one.at for one in made if one.agent is leader]
    ours = [one.at for one in made if one.agent is newcomer and one.at > theirs[0]]
    behind = [after - before for before, after in zip(theirs, ours, strict=False)]
    assert 0.25 <= behind[0] < 0.77
    assert behind == pytest.approx(behind[:1] * len(ours), abs=0.02)


@pytest.mark.parametrize('name', 'bdgku')
def test_a_leader_whose_interval_is_shorter_does_not_make_a_node_beat_as_often(name: str) -> None:
    """At the most every other heartbeat is early, to come in step with a leader that may have the interval of the node."""
    bench = Bench(push=False)
    bench.cluster('a', heartbeat_interval_sec=0.5, heartbeat_timeout_sec=2.0)
    follower = bench.start(name)
    bench.run(30.0)
    assert len(beats(bench, follower, 60.0)) <= 24


@pytest.mark.slow
def test_many_nodes_do_not_beat_at_once() -> None:
    """In each half of the time that they have for it, a good part of them does."""
    bench = Bench()
    leader, *_ = bench.cluster(*map(str, range(30)))
    bench.run(60.0)
    at = beats(bench, leader, 5.1)[-1]
    begun = len(bench.made)
    bench.run(at + 6.0 - bench.now)
    others = [one.at - at for one in bench.made[begun:] if one.agent is not leader and isinstance(one.call, commands.Heartbeat)]
    behind = [later % 5.0 for later in others]
    assert all(0.23 <= after <= 0.77 for after in behind)
    assert 8 <= sum(after < 0.5 for after in behind) <= len(behind) - 8


def test_a_heartbeat_out_of_turn_leaves_the_next_where_it_was() -> None:
    """A hint makes a follower beat at once, and again when it would have."""
    bench = Bench()
    _, follower = bench.cluster('a', 'b')
    bench.run(60.0)
    *_, last = beats(bench, follower, 5.1)
    bench.run(last + 2.0 - bench.now)
    hinted = bench.now
    follower.hint(bench.backend.snapshot().revision.number + 1, hinted)
    assert beats(bench, follower, 4.0) == pytest.approx([hinted, last + 5.0], abs=0.02)


@pytest.mark.parametrize(('interval', 'retry'), [(5.0, 1.0), (1.0, 0.2)])
def test_retries_are_as_frequent_as_heartbeats_allow(interval: float, retry: float) -> None:
    """A failed call is repeated after a second, or after a fifth of the interval if that is less."""
    bench = Bench()
    config = attrs.evolve(bench.start('a').config, heartbeat_interval_sec=interval)
    assert config.retry_sec == retry


@pytest.mark.parametrize(
    ('interval', 'timeout', 'blind_after'), [(5.0, 15.0, 9.0), (1.0, 3.0, 1.8), (5.0, 60.0, 11.0), (5.0, 6.0, 6.25)]
)
def test_a_stall_that_goes_unnoticed_is_shorter_than_a_timeout_less_what_others_may_be_late(
    interval: float, timeout: float, blind_after: float
) -> None:
    """A store that stalls for as long delays a heartbeat by no more than the timeout allows, where the timeout allows any."""
    bench = Bench()
    config = attrs.evolve(bench.start('a').config, heartbeat_interval_sec=interval, heartbeat_timeout_sec=timeout)
    assert config.blind_after_sec == pytest.approx(blind_after)
