"""Other cluster settings, and a cluster that is not there any more."""

from __future__ import annotations

import itertools

import pytest
from tests.core.bench import AWAY, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import LogMessage
from jobsync._core.agent.phase import Phase
from jobsync._core.records import NodeState, Settings
from jobsync.errors import ConfigMismatch

OTHER = Settings(8, 'xxh3')


def crashed(*names: str, **changes: float) -> Bench:
    """A store with the records of nodes that are all dead since a little while."""
    bench = Bench()
    for agent in bench.cluster(*names, **changes):
        bench.kill(agent)
    bench.run(1.0)
    return bench


def start_other(bench: Bench, name: str, **changes: float) -> Agent:
    return bench.start(name, settings=OTHER, **changes)


def infos(agent: Agent) -> list[str]:
    return [
        event.text
        for event in agent.events
        if isinstance(event, LogMessage) and event.level == 'info' and 'settings' in event.text
    ]


@pytest.mark.parametrize('name', ['a', 'z'])
def test_a_dead_cluster_gives_way_to_other_settings(name: str) -> None:
    """When none of its nodes has sent a heartbeat for its timeout; the log says what is awaited. The name may be theirs."""
    bench = crashed('a', 'b')
    began, agent = bench.now, start_other(bench, name)
    bench.run(2.0)
    assert agent.phase is Phase.OPENING
    (told,) = infos(agent)
    assert 'total_tokens is 4 in the cluster and 8 here' in told
    assert 'a, b' in told
    assert '15 s' in told
    bench.run_until(lambda: agent.phase is Phase.MEMBER)
    assert began + 15.0 <= bench.now <= began + 17.0
    bench.run_until(lambda: len(agent.lease.ownership.tokens) == 8)
    assert [node.ref for node in bench.backend.snapshot().nodes] == [agent.ref]


def test_each_node_is_waited_for_as_long_as_its_own_timeout() -> None:
    """The newcomer's may be shorter."""
    bench = crashed('a', heartbeat_timeout_sec=40.0)
    began, agent = bench.now, start_other(bench, 'b')
    bench.run_until(lambda: agent.phase is Phase.MEMBER)
    assert began + 40.0 <= bench.now <= began + 42.0


def test_one_that_stirs_is_enough_for_a_refusal() -> None:
    """Its second heartbeat shows that the cluster is alive, however many of its nodes are dead."""
    bench = Bench()
    for agent in bench.cluster('a', 'b', 'c')[:2]:
        bench.kill(agent)
    stranger = start_other(bench, 'd')
    bench.run(10.5)
    assert stranger.phase is Phase.FAILED
    assert isinstance(stranger.failure, ConfigMismatch)
    assert bench.backend.open(bench.settings, create=False).settings == bench.settings


def test_late_heartbeats_of_dead_runs_are_no_life() -> None:
    """Each run of a crashed cluster may have left one heartbeat under way: the newcomer replaces the settings."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    under_way = [bench.catch(agent, commands.Heartbeat) for agent in agents]
    for agent in agents:
        bench.kill(agent)
    stranger = start_other(bench, 'c')
    bench.run(3.0)
    for caught in under_way:
        bench.perform(caught.call)
        bench.run(1.0)
    bench.run_until(lambda: stranger.phase is Phase.MEMBER)
    assert bench.backend.open(OTHER, create=False).settings == OTHER


def test_one_that_registers_is_alive() -> None:
    """A node of the old settings that is started meanwhile has come first."""
    bench = crashed('a')
    stranger = start_other(bench, 'b')
    bench.run(5.0)
    bench.start('c')
    bench.run(10.5)
    assert isinstance(stranger.failure, ConfigMismatch)


def test_one_that_stirs_at_the_last_moment_is_seen_by_the_store() -> None:
    """The store compares what the newcomer has read with what is there."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.cut_off(agent)
    stranger = start_other(bench, 'b')
    caught = bench.catch(stranger, commands.Open)
    while not caught.call.dead:
        bench.deliver(caught)
        caught = bench.catch(stranger, commands.Open)
    bench.cut.clear()
    bench.run(2.0)
    bench.deliver(caught)
    assert isinstance(stranger.failure, ConfigMismatch)
    assert bench.record('a').state is NodeState.JOINED


def test_one_that_stirs_in_the_last_reading_is_not_dead() -> None:
    """It was paused for its timeout, and goes on: what it has sent since is no part of its silence."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.cut_off(agent)
    stranger = start_other(bench, 'b')
    bench.run(14.0)
    caught = bench.catch(stranger, commands.TakeSnapshot)
    bench.cut.clear()
    bench.run(2.0)
    bench.deliver(caught)
    bench.run(20.0)
    assert isinstance(stranger.failure, ConfigMismatch)
    assert agent.phase is Phase.MEMBER


def test_a_cluster_that_leaves_meanwhile_is_waited_for_no_more() -> None:
    """Nobody is registered any more, so there is nobody to watch."""
    bench = crashed('a', 'b')
    stranger = start_other(bench, 'c')
    bench.run(5.0)
    for node in bench.backend.snapshot().nodes:
        bench.backend.deregister(node.ref)
    bench.run_until(lambda: stranger.phase is Phase.MEMBER, within=2.0)


def test_one_that_leaves_meanwhile_is_waited_for_no_more() -> None:
    """The others are, from when they were first read."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.kill(a)
    bench.kill(b)
    stranger, began = start_other(bench, 'c'), bench.now
    bench.run(5.0)
    bench.backend.deregister(b.ref)
    bench.run_until(lambda: stranger.phase is Phase.MEMBER)
    assert bench.now <= began + 17.0


def test_the_time_of_an_outage_is_no_silence() -> None:
    """What was not watched proves nothing, and a store that fails the newcomer may fail the others."""
    bench = crashed('a')
    agent = start_other(bench, 'b')
    bench.run(10.0)
    bench.fault = lambda agent, call: AWAY
    bench.run(3.0)
    bench.fault = lambda agent, call: None
    failed = bench.now
    bench.run_until(lambda: agent.phase is Phase.MEMBER)
    assert failed + 5.0 <= bench.now < failed + 7.0


def test_a_dead_cluster_gives_way_though_many_readings_fail() -> None:
    """A watch that began again with each failed call would never end."""
    bench = crashed('a')
    agent = start_other(bench, 'b')
    readings = itertools.count()
    bench.fault = lambda agent, call: AWAY if isinstance(call, commands.TakeSnapshot) and next(readings) % 3 == 0 else None
    bench.run_until(lambda: agent.phase is Phase.MEMBER)


def test_a_store_that_refuses_writes_costs_no_cluster_its_settings() -> None:
    """P4: its nodes are silent only because of that, and keep what they have, whichever node can write first afterwards."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    stranger = start_other(bench, 'b')
    bench.run(1.0)
    bench.fault = lambda agent, call: None if isinstance(call, commands.TakeSnapshot) else AWAY
    bench.run(20.0)
    bench.fault = lambda agent, call: None
    bench.cut_off(agent)
    bench.run(3.0)
    bench.cut.clear()
    bench.run(20.0)
    assert isinstance(stranger.failure, ConfigMismatch)
    assert agent.phase is Phase.MEMBER


def test_several_that_start_together_agree() -> None:
    """One replaces the settings, and the others join it."""
    bench = crashed('a', 'b', 'c')
    agents = [start_other(bench, name) for name in 'abcd']
    bench.run(60.0)
    assert all(agent.is_settled for agent in agents)
    assert sorted(token for agent in agents for token in agent.lease.ownership.tokens) == list(range(8))


def test_one_that_starts_later_joins_whoever_came_first() -> None:
    """The nodes it finds then are those of another cluster than the one it began to watch, with its own settings."""
    bench = crashed('a')
    first = start_other(bench, 'b')
    bench.run(7.0)
    second = start_other(bench, 'c')
    bench.run(60.0)
    assert first.is_settled
    assert second.is_settled


def test_a_timeline_with_other_settings_is_one_that_was_seen() -> None:
    """R8: where the store is emptied under the watch, the nodes that were watched may still have leases."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.cut_off(agent)
    stranger = start_other(bench, 'b')
    bench.run(2.0)
    bench.store.wipe(keep_schema=False)
    wiped = bench.now
    bench.run_until(lambda: not stranger.lease.ownership.is_empty)
    assert bench.now >= wiped + 15.0


def test_a_cluster_of_a_namespace_that_was_made_anew_is_joined() -> None:
    """Its first timeline has the number of the one that the newcomer began to watch, and the newcomer's own settings."""
    bench = crashed('a')
    stranger = start_other(bench, 'b')
    bench.run(0.5)
    bench.store.wipe(keep_schema=False)
    first = start_other(bench, 'c')
    bench.run(60.0)
    assert (first.is_settled, stranger.is_settled) == (True, True)


def test_a_cluster_that_was_left_in_good_order_is_not_waited_for() -> None:
    """No node is registered, so the settings are replaced at once, as ever."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.leave(bench.now)
    bench.run(1.0)
    newcomer = start_other(bench, 'b')
    bench.run(1.0)
    assert newcomer.phase is Phase.MEMBER
    assert infos(newcomer) == []


@pytest.mark.parametrize('how', ['crashed', 'left'])
def test_a_node_of_weight_0_replaces_no_settings(how: str) -> None:
    """However dead the cluster is: it is refused at once, with both values, and the settings in force stay."""
    bench = crashed('a') if how == 'crashed' else Bench()
    if how == 'left':
        (agent,) = bench.cluster('a')
        agent.leave(bench.now)
        bench.run(60.0)
    shell = start_other(bench, 'shell', weight=0)
    bench.run(1.0)
    assert isinstance(shell.failure, ConfigMismatch)
    assert 'total_tokens is 4 in the cluster and 8 here' in str(shell.failure)
    assert 'weight 0' in str(shell.failure)
    assert bench.backend.open(None, create=False).settings == bench.settings


def test_a_node_of_weight_0_joins_what_fits() -> None:
    """With the settings in force, or as the first node of a namespace, it is a member like any other."""
    bench = Bench()
    first = bench.start('shell', weight=0)
    bench.run(5.0)
    worker = bench.start('a')
    bench.run_until(lambda: len(worker.lease.ownership.tokens) == 4)
    assert (first.phase, worker.phase) == (Phase.MEMBER, Phase.MEMBER)
