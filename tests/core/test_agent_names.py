"""A name that is taken (rule R6)."""

from __future__ import annotations

import random

from tests.core.bench import AWAY, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.phase import Phase
from jobsync._core.records import NodeState
from jobsync.errors import Evicted, NameTaken, NodeNameInUse


def restarted(bench: Bench, silent: Agent) -> Agent:
    """The agent's process dies, and another is started under its name."""
    bench.kill(silent)
    return bench.start(silent.config.name)


def test_a_silent_name_is_taken_over_after_its_timeout() -> None:
    """A newcomer watches the record for the record's whole timeout, and then replaces it."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer, started = restarted(bench, former), bench.now
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert started + 15.0 <= bench.now < started + 15.1
    assert bench.record('a').incarnation == newcomer.ref.incarnation
    assert bench.record('a').replaces == {former.ref.incarnation}


def test_the_timeout_is_the_records_own() -> None:
    """What counts is how long the other has asked to be waited for, not what the newcomer is configured with."""
    bench = Bench()
    (former,) = bench.cluster('a', heartbeat_timeout_sec=40.0)
    bench.kill(former)
    newcomer, started = bench.start('a', heartbeat_timeout_sec=15.0), bench.now
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert bench.now >= started + 40.0


def test_the_successor_owns_what_the_former_run_owned() -> None:
    """A restarted node gets its own tokens back, and nobody else's are touched."""
    bench = Bench()
    first, second = bench.cluster('a', 'b')
    had, others = second.lease.ownership.tokens, first.lease.ownership.tokens
    newcomer = restarted(bench, second)
    bench.run(40.0)
    assert (newcomer.lease.ownership.tokens, first.lease.ownership.tokens) == (had, others)


def test_a_name_that_stirs_is_in_use() -> None:
    """If the other beats while it is watched, the newcomer fails and says who has the name."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer, started = bench.start('a', host='elsewhere', pid=2), bench.now
    bench.run_until(lambda: newcomer.phase is Phase.FAILED)
    assert bench.now <= started + 2 * newcomer.config.heartbeat_interval_sec + newcomer.config.retry_sec
    failure = newcomer.failure
    assert isinstance(failure, NodeNameInUse)
    assert (failure.name, failure.host, failure.pid) == ('a', 'host of a', 1)
    assert former.is_settled
    assert 'give this worker another name' in str(failure)


def test_a_name_in_use_by_this_very_process() -> None:
    """If the other has this host and pid, a Job of this process has not left, such as that of a notebook cell run twice."""
    bench = Bench()
    bench.cluster('a')
    newcomer = bench.start('a', host='host of a', pid=1)
    bench.run(20.0)
    assert newcomer.phase is Phase.FAILED
    assert 'a Job of that name has not left' in str(newcomer.failure)


def test_a_late_heartbeat_of_a_dead_run_is_no_life() -> None:
    """A run that dies may leave one heartbeat under way: the newcomer counts anew, and takes the name."""
    bench = Bench()
    (former,) = bench.cluster('a')
    under_way = bench.catch(former, commands.Heartbeat)
    newcomer = restarted(bench, former)
    bench.run(3.0)
    bench.perform(under_way.call)
    carried_out = bench.now
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert carried_out + 15.0 <= bench.now < carried_out + 16.0


def test_each_run_of_a_node_counts_the_heartbeats_under_its_name_anew() -> None:
    """Two runs of others, each of which was killed with one heartbeat under way, are not one that is alive."""
    bench = Bench()
    (former,) = bench.cluster('a')
    under_way = bench.catch(former, commands.Heartbeat)
    agent = restarted(bench, former)
    bench.run(3.0)
    bench.perform(under_way.call)
    bench.run_until(lambda: agent.phase is Phase.MEMBER)
    bench.cut_off(agent)
    rival = bench.start('a')
    bench.run_until(lambda: rival.phase is Phase.MEMBER)
    under_way = bench.catch(rival, commands.Heartbeat)
    bench.kill(rival)
    bench.cut.clear()
    bench.run(8.0)
    assert agent.phase is Phase.REGISTERING
    bench.perform(under_way.call)
    bench.run_until(lambda: agent.phase is Phase.MEMBER)


def test_a_newcomer_owns_nothing_while_it_watches() -> None:
    """Until the name is its own, a node has no lease."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer = restarted(bench, former)
    bench.run(14.0)
    assert newcomer.phase is Phase.REGISTERING
    assert newcomer.lease.deadline < 0.0


def test_a_time_in_which_the_watch_was_blind_is_no_silence() -> None:
    """A newcomer that could not read cannot tell whether the other could send a heartbeat."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer = restarted(bench, former)
    bench.run(5.0)
    bench.cut_off(newcomer)
    bench.run(12.0)
    bench.cut.clear()
    seeing = bench.now
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert seeing + 10.0 <= bench.now < seeing + 12.0


def test_a_reading_that_took_long_is_no_silence() -> None:
    """No call has failed: both processes may have been suspended with their machine, and the newcomer's goes on first."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer = restarted(bench, former)
    bench.run(5.0)
    caught = bench.catch(newcomer, commands.Register)
    bench.run(12.0)
    seeing = bench.now
    bench.deliver(caught)
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert seeing + 8.0 <= bench.now < seeing + 11.0


def test_an_outage_costs_nobody_its_name() -> None:
    """P4: a live node that was silent only because the store was away keeps its name, whoever comes back first."""
    bench = Bench()
    (former,) = bench.cluster('a')
    rival = bench.start('a')
    bench.run(1.0)
    for agent in (former, rival):
        bench.cut_off(agent)
    bench.run(40.0)
    bench.cut = {(former, lane) for lane in Lane}
    bench.run(1.5)
    bench.cut.clear()
    bench.run(20.0)
    assert bench.record('a').incarnation == former.ref.incarnation
    assert (former.phase, rival.phase) == (Phase.MEMBER, Phase.FAILED)


def test_a_store_that_refuses_writes_costs_nobody_its_name() -> None:
    """P4: a live node is silent only because of that, and keeps its name, though the rival reads on that it is taken."""
    bench = Bench()
    (former,) = bench.cluster('a')
    rival = bench.start('a')
    bench.run(1.0)
    bench.fault = lambda agent, call: None if isinstance(call, commands.Register) and call.replacing is None else AWAY
    bench.run(20.0)
    bench.fault = lambda agent, call: None
    bench.cut_off(former)
    bench.run(3.0)
    bench.cut.clear()
    bench.run(20.0)
    assert bench.record('a').incarnation == former.ref.incarnation
    assert (former.phase, rival.phase) == (Phase.MEMBER, Phase.FAILED)


def test_a_name_that_was_left_is_free() -> None:
    """A node that left in good order can be started again at once."""
    bench = Bench()
    (former,) = bench.cluster('a')
    former.leave(bench.now)
    bench.run(1.0)
    newcomer = restarted(bench, former)
    bench.run(1.0)
    assert newcomer.phase is Phase.MEMBER


def test_an_earlier_record_of_its_own_is_replaced_at_once() -> None:
    """A node that starts over knows its former run to be over, and does not wait for it."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    former = bench.record('a')
    bench.answer(bench.catch(agent, commands.Heartbeat), Evicted('no longer registered'))
    started = bench.now
    bench.run_until(lambda: agent.phase is Phase.MEMBER)
    assert bench.now < started + 0.1
    assert bench.record('a').incarnation == agent.ref.incarnation != former.incarnation
    assert former.incarnation in bench.record('a').replaces


def test_a_record_stays_small_however_often_its_node_starts_over() -> None:
    """The runs before are in the record of a node, so only the last ones are: one may still have a write under way."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    for _ in range(150):
        former = agent.ref.incarnation
        bench.answer(bench.catch(agent, commands.Heartbeat), Evicted('no longer registered'))
        bench.run_until(lambda: agent.phase is Phase.MEMBER, within=10.0)  # it knows the one before to be over
    assert former in bench.record('a').replaces
    assert len(bench.record('a').replaces) <= 100


def test_an_earlier_record_that_stirs_is_its_own_still() -> None:
    """A late write of the former run, which is this very process, is no sign of another process."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    beat = bench.catch(agent, commands.Heartbeat)
    bench.answer(beat, Evicted('no longer registered'))
    caught = bench.catch(agent, commands.Register)
    taken = bench.perform(caught.call)
    bench.perform(beat.call)
    bench.answer(caught, taken)
    bench.run(2.0)
    assert agent.phase is Phase.MEMBER


def test_the_time_around_a_failed_call_is_no_silence() -> None:
    """A store that fails the newcomer may fail the other as well, which is silent then without being dead."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer, started = restarted(bench, former), bench.now
    bench.run(5.0)
    bench.answer(bench.catch(newcomer, commands.Register), AWAY)
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert started + 15.0 + 2 * former.config.retry_sec <= bench.now < started + 18.0


def test_a_silent_name_is_taken_over_though_many_calls_fail() -> None:
    """A watch that began again with each failed call would never end."""
    bench = Bench()
    (former,) = bench.cluster('a')
    newcomer = restarted(bench, former)
    rng = random.Random(0)
    bench.fault = lambda agent, call: None if rng.random() > 1 / 3 else AWAY
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER, within=120.0)


def test_a_usurper_does_not_share_the_tokens() -> None:
    """If a name is taken while its owner is alive (its row deleted by hand), the two never claim the same task."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    bench.store.delete_node_row('sync_', 'b')
    usurper = bench.start('b')
    for _ in range(400):
        bench.run(0.1)
        for key in ('t0', 't1', 't2', 't3'):
            assert sum(bench.claims(agent, key)[0] for agent in [*agents, usurper]) <= 1


def test_a_registration_that_comes_after_its_run_has_left_revives_nothing() -> None:
    """A call that the run had given up is carried out when its record is LEFT: no tokens go to a run that is over."""
    bench = Bench()
    (other,) = bench.cluster('a')
    leaver = bench.start('b')
    late = bench.catch(leaver, commands.Register)
    bench.perform(late.call)
    bench.answer(late, AWAY)
    bench.run_until(lambda: leaver.phase is Phase.MEMBER)
    leaver.leave(bench.now)
    bench.run_until(lambda: leaver.phase is Phase.LEFT)
    refusal = bench.perform(late.call)
    assert isinstance(refusal, NameTaken)
    assert bench.record('b').state is NodeState.LEFT
    bench.run(30.0)
    assert other.lease.ownership.tokens == frozenset(range(4))


def test_a_run_that_is_deregistered_before_it_knows_of_its_record_begins_anew() -> None:
    """The answer to its registration was lost, and an operator deregisters it: it goes on as another incarnation."""
    bench = Bench()
    newcomer = bench.start('b')
    lost = bench.catch(newcomer, commands.Register)
    bench.perform(lost.call)
    bench.backend.deregister(former := newcomer.ref)
    bench.answer(lost, AWAY)
    bench.run_until(lambda: newcomer.phase is Phase.MEMBER)
    assert bench.record('b').ref == newcomer.ref != former
    assert bench.record('b').replaces == {former.incarnation}
