"""A store that fails, wholly or in part (promise P4, rules R2 and R9)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.core.bench import AWAY, TASKS, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import LogMessage
from jobsync._core.agent.phase import Phase
from jobsync.errors import BackendUnavailable, ConfigError, Evicted, JobsyncError, SchemaMismatch, UnsupportedOperation

WRITES = (
    commands.Heartbeat
    | commands.Register
    | commands.PlanAndCommit
    | commands.AcquireLeadership
    | commands.SetWeight
    | commands.DropExpiredLocks
)


def while_it_lasts(bench: Bench, seconds: float, fault: Callable[[Agent, commands.Command], JobsyncError | None]) -> None:
    """Let calls fail for a while."""
    before, bench.fault = bench.fault, fault
    bench.run(seconds)
    bench.fault = before


def assert_nothing_moves(bench: Bench, agents: list[Agent], trouble: Callable[[], object]) -> None:
    """All nodes are the same runs with the same tokens after the trouble."""
    before = [(agent.ref, agent.lease.ownership.tokens) for agent in agents]
    trouble()
    bench.run(30.0)
    assert [(agent.ref, agent.lease.ownership.tokens) for agent in agents] == before
    assert all(bench.now < agent.lease.deadline for agent in agents)


@pytest.mark.parametrize('seconds', [4.0, 8.0, 11.0, 13.0, 14.5, 16.0, 30.0, 60.0])
@pytest.mark.parametrize('phase', [0.1, 0.6, 1.2, 3.0, 4.9])
def test_an_outage_of_any_length_moves_nothing(seconds: float, phase: float) -> None:
    """P4: nobody is evicted because of it, whenever in an interval it begins and however long it lasts."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')
    bench.run(phase)
    assert_nothing_moves(bench, agents, lambda: while_it_lasts(bench, seconds, lambda agent, call: AWAY))


@pytest.mark.parametrize(('timeout', 'seconds'), [(8.0, 3.3), (9.0, 4.2), (10.0, 5.3)])
def test_an_outage_moves_nothing_where_timeouts_are_short(timeout: float, seconds: float) -> None:
    """P4: a node that was due when the outage began has little time after it, so the leader must notice a shorter one."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c', heartbeat_timeout_sec=timeout)
    bench.run(1.3)
    assert_nothing_moves(bench, agents, lambda: while_it_lasts(bench, seconds, lambda agent, call: AWAY))


@pytest.mark.parametrize('seconds', [8.0, 16.0, 31.0, 60.0])
def test_a_store_that_refuses_writes_moves_nothing(seconds: float) -> None:
    """P4: everybody reads on, and sees everybody silent; the calls of its own that fail tell a node why."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')
    assert_nothing_moves(
        bench, agents, lambda: while_it_lasts(bench, seconds, lambda agent, call: AWAY if isinstance(call, WRITES) else None)
    )


def test_whoever_recovers_last_is_not_evicted_by_whoever_recovers_first() -> None:
    """After an outage the leader counts silence from its own first reading, so that the others have a whole timeout."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')

    def trouble() -> None:
        while_it_lasts(bench, 40.0, lambda agent, call: AWAY)
        while_it_lasts(bench, 8.0, lambda agent, call: None if agent is agents[0] else AWAY)

    assert_nothing_moves(bench, agents, trouble)


def test_a_node_that_is_cut_off_alone_is_evicted() -> None:
    """The others' calls succeed, so its silence is its own."""
    bench = Bench()
    leader, victim = bench.cluster('a', 'b')
    bench.cut_off(victim)
    cut = bench.now
    bench.run_until(lambda: len(leader.lease.ownership.tokens) == len(TASKS))
    assert bench.now <= cut + 15.0 + 2.0


@pytest.mark.parametrize('kind', [commands.Heartbeat, commands.TakeSnapshot])
def test_a_failed_call_puts_off_no_suspicion(kind: type[commands.Command]) -> None:
    """P3 holds for a leader of whose calls one fails, in either lane."""
    bench = Bench()
    leader, victim = bench.cluster('a', 'b')
    bench.cut_off(victim)
    cut = bench.now
    bench.run(10.0)
    bench.answer(bench.catch(leader, kind), AWAY)
    bench.run_until(lambda: len(leader.lease.ownership.tokens) == len(TASKS))
    assert bench.now <= cut + 15.0 + 2.0


def test_a_store_that_answers_slowly_blinds_nobody() -> None:
    """P3 where each heartbeat of the leader takes nearly as long as it may, and none fails."""
    bench = Bench()
    leader, victim = bench.cluster('a', 'b')
    bench.cut_off(victim)
    for _ in range(4):
        caught = bench.catch(leader, commands.Heartbeat)
        bench.run(4.9)
        bench.deliver(caught)
    bench.run(0.5)
    assert len(leader.lease.ownership.tokens) == len(TASKS)


def test_an_observer_whose_heartbeats_fail_for_a_while_is_blind() -> None:
    """What the leader has observed before, all the while its readings succeed, counts no more."""
    bench = Bench()
    leader, victim = bench.cluster('a', 'b')
    bench.cut_off(victim)
    while_it_lasts(bench, 8.0, lambda agent, call: AWAY if isinstance(call, commands.Heartbeat) else None)
    recovered = bench.now
    bench.run_until(lambda: len(leader.lease.ownership.tokens) == len(TASKS))
    assert bench.now >= recovered + 10.0


@pytest.mark.parametrize('is_everywhere', [False, True])
@pytest.mark.parametrize(('part', 'within'), [(0.1, 30.0), (0.3, 90.0), (0.5, 180.0)])
def test_a_store_of_whose_calls_many_fail(part: float, within: float, is_everywhere: bool) -> None:
    """A dead node's tokens pass on, and each failed call does not cost a timeout: such a leader would find nobody dead."""
    for seed in range(5):
        bench, chance = Bench(), random.Random(seed)
        leader, other, victim = bench.cluster('a', 'b', 'c')
        bench.fault = lambda agent, _: AWAY if (is_everywhere or agent is leader) and chance.random() < part else None  # noqa: B023
        bench.run(30.0)
        bench.kill(victim)
        bench.run_until(lambda: len(leader.lease.ownership.tokens | other.lease.ownership.tokens) == len(TASKS), within=within)  # noqa: B023


@pytest.mark.parametrize('seconds', [4.0, 6.0, 8.0, 12.0])
def test_others_may_recover_seconds_after_the_leader(seconds: float) -> None:
    """P4 of a short outage too: those that connect again a little later than the leader are not evicted."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')

    def trouble() -> None:
        while_it_lasts(bench, seconds, lambda agent, call: AWAY)
        while_it_lasts(bench, 2.0, lambda agent, call: None if agent is agents[0] else AWAY)

    assert_nothing_moves(bench, agents, trouble)


# --- refusals (R9) ----------------------------------------------------------------------------------------------------------

REFUSALS = [
    ConfigError('password authentication failed'),
    UnsupportedOperation('no such command for this user'),
    JobsyncError('permission denied'),
]


@pytest.mark.parametrize('seconds', [3.0, 40.0])
@pytest.mark.parametrize('refusal', REFUSALS, ids=lambda refusal: type(refusal).__name__)
def test_a_refusal_is_an_outage_to_a_node_that_has_been_a_member(refusal: JobsyncError, seconds: float) -> None:
    """It answers False when its lease ends, tries again, and goes on with the same tokens."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')
    assert_nothing_moves(bench, agents, lambda: while_it_lasts(bench, seconds, lambda agent, call: refusal))


def test_a_refusal_is_told_as_a_failed_call() -> None:
    """The caller of the backend learns whether it has answered."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    beat = bench.catch(agent, commands.Heartbeat)
    assert not agent.done(beat.lane, REFUSALS[0], bench.now)
    assert agent.phase is Phase.MEMBER
    look = bench.catch(agent, commands.TakeSnapshot)
    assert agent.done(look.lane, bench.perform(look.call), bench.now)


@pytest.mark.parametrize('kind', [commands.Open, commands.Register])
def test_a_refusal_at_the_first_start_is_final(kind: type[object]) -> None:
    """A node that has never been a member stops at once, with the error as it is."""
    bench = Bench()
    agent = bench.start('a')
    bench.answer(bench.catch(agent, kind), REFUSALS[0])
    assert agent.phase is Phase.FAILED
    assert agent.failure is REFUSALS[0]


@pytest.mark.parametrize('kind', [commands.Open, commands.Register])
def test_a_refusal_while_a_member_starts_over_is_an_outage(kind: type[object]) -> None:
    """A node that was evicted meanwhile tries to come back until it may."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    bench.store.delete_node_row('sync_', 'b')
    while_it_lasts(bench, 20.0, lambda agent, call: REFUSALS[0] if isinstance(call, kind) else None)
    bench.run(40.0)
    assert all(agent.is_settled for agent in agents)


def test_a_missing_table_that_no_heartbeat_needs_is_an_outage() -> None:
    """The lane that needs it tries again; the node stays what it is, and claims."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')
    gone = SchemaMismatch('there is no table sync_lock')
    missing = lambda agent, call: gone if isinstance(call, commands.ReadLocks | commands.TakeSnapshot) else None  # noqa: E731 - in one line beside the others
    assert_nothing_moves(bench, agents, lambda: while_it_lasts(bench, 40.0, missing))


@pytest.mark.parametrize('refused', [commands.Register, commands.Heartbeat])
def test_tables_that_refuse_a_node_are_tried_again_after_a_pause(refused: type[commands.Command]) -> None:
    """A node whose record the tables have no place for, or do not let change, opens and registers once a second."""
    bench = Bench()
    agent = bench.start('a')
    gone = SchemaMismatch('a statement does not fit the tables it found')
    while_it_lasts(bench, 10.0, lambda agent, call: gone if isinstance(call, refused) else None)
    assert 5 <= len([made for made in bench.made if isinstance(made.call, commands.Open)]) <= 15
    bench.run(5.0)
    assert agent.is_settled


def test_tables_that_refuse_a_node_for_long_are_tried_less_and_less_often() -> None:
    """A trigger of somebody's refuses heartbeats for a day: no more attempts than heartbeats, and few lines in the log."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    gone, began = SchemaMismatch('a trigger or function in the database refuses this'), len(bench.made)
    while_it_lasts(bench, 200.0, lambda each, call: gone if isinstance(call, commands.Heartbeat) else None)
    assert len([made for made in bench.made[began:] if isinstance(made.call, commands.Open)]) <= 50
    assert len([event for event in agent.events if isinstance(event, LogMessage) and 'starts over' in event.text]) <= 12
    bench.run(agent.config.heartbeat_interval_sec)
    assert agent.phase is Phase.MEMBER


@pytest.mark.parametrize('kind', [commands.Heartbeat, commands.TakeSnapshot])
def test_sessions_that_end_at_once_begin_with_pauses(kind: type[commands.Command]) -> None:
    """A node that registers in one store, while calls of one kind reach another, does not do so as fast as both answer."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    evicted, began = Evicted("node 'a' is not registered here"), len(bench.made)
    while_it_lasts(bench, 20.0, lambda each, call: evicted if isinstance(call, kind) else None)
    assert 5 <= len([made for made in bench.made[began:] if isinstance(made.call, commands.Open)]) <= 25
    bench.run(40.0)
    assert agent.is_settled


def test_tables_that_refuse_to_register_a_node_are_told_as_a_failed_call() -> None:
    """The error is what entering has to say, and its lines become fewer, however often the node starts over."""
    bench = Bench()
    agent = bench.start('a')
    register = bench.catch(agent, commands.Register)
    agent.events.clear()
    assert not agent.done(register.lane, SchemaMismatch('a statement does not fit the tables it found'), bench.now)
    assert [event.level for event in agent.events if isinstance(event, LogMessage)] == ['retry']


def test_a_namespace_that_is_gone_ends_the_incarnation() -> None:
    """A heartbeat that finds none: there may be another by now, of which this node knows nothing."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    before = agent.ref
    bench.store.wipe(keep_schema=False)
    bench.run_until(lambda: agent.ref != before, within=6.0)
    assert bench.claims(agent, *TASKS) == [False] * 4
    bench.run(40.0)
    assert agent.is_settled


def test_the_store_being_away_is_no_answer() -> None:
    """As for a refusal."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    beat = bench.catch(agent, commands.Heartbeat)
    assert not agent.done(beat.lane, BackendUnavailable('away'), bench.now)
