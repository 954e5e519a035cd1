"""Who leads (rule R4), and what a leader's death means to the others."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import pytest
from tests.core.bench import AWAY, TASKS, Bench
from tests.core.builders import EPOCH

from jobsync._core.agent import commands, monitor
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import LEAST_PAUSE
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import LogMessage
from jobsync._core.agent.monitor import STANDBYS
from jobsync._core.records import Leadership, LockEdit, LockFilter, LockRequest
from jobsync.errors import BackendUnavailable, Conflict, Fenced


def test_the_oldest_node_leads() -> None:
    """Not the name decides, but who registered first; and who comes later changes nothing."""
    bench = Bench()
    bench.cluster('c', 'b', 'a')
    assert bench.leader == 'c'
    assert bench.backend.snapshot().leadership.epoch == 1


def last_sent(agent: Agent) -> float:
    """When its last successful heartbeat was sent, by R1."""
    return agent.lease.deadline - agent.config.lease_sec


def test_a_follower_neither_acquires_nor_proposes() -> None:
    """While an older node is alive, nobody else tries to lead."""
    bench = Bench()
    _, follower = bench.cluster('a', 'b')
    bench.run(60.0)
    leading = (commands.AcquireLeadership, commands.PlanAndCommit, commands.ReadLocks, commands.DropExpiredLocks)
    assert not [one for one in bench.made if one.agent is follower and isinstance(one.call, leading)]


def test_a_node_that_has_the_term_without_knowing_watches_the_others() -> None:
    """A node whose call for the term got no answer leads when the older one, which it thinks is to lead, has died."""
    bench = Bench()
    older, younger = bench.cluster('a', 'b')
    bench.backend.acquire_leadership(younger.ref, bench.backend.snapshot().leadership.epoch)
    bench.kill(older)
    bench.run(8.0)
    bench.answer(bench.catch(younger, commands.Heartbeat), AWAY)  # and so it forgets what it has seen of the other
    bench.run_until(lambda: all(bench.claims(younger, *TASKS)), within=40.0)


def test_a_follower_takes_over_when_the_leader_is_silent() -> None:
    """P3: after the leader's timeout and two seconds at most the next one leads, and its tokens have owners again."""
    bench = Bench()
    leader, follower = bench.cluster('a', 'b')
    bench.run_until(lambda: bench.now >= last_sent(leader) + 4.0)
    bench.kill(leader)
    died = bench.now
    bench.run_until(lambda: len(follower.lease.ownership.tokens) == 4)
    assert bench.leader == 'b'
    assert bench.now <= died + 15.0 + 2.0
    assert [node.name for node in bench.backend.snapshot().nodes] == ['b']


def test_nobody_takes_over_before_the_timeout() -> None:
    """A leader whose heartbeat was last read less than its timeout ago is not suspected."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    beat = last_sent(leader)
    bench.kill(leader)
    bench.run_until(lambda: bench.leader == 'b')
    assert bench.now >= beat + 15.0


def test_the_leaders_own_timeout_counts() -> None:
    """A leader that asked for more time is waited for as long."""
    bench = Bench()
    leader = bench.start('a', heartbeat_timeout_sec=40.0)
    bench.run(1.0)
    bench.start('b')
    bench.run(20.0)
    beat = last_sent(leader)
    bench.kill(leader)
    bench.run_until(lambda: bench.leader == 'b')
    assert bench.now >= beat + 40.0


def test_a_followers_own_timeout_counts() -> None:
    """A node with a longer timeout than the leader's has a longer lease, and is waited for that long."""
    bench = Bench()
    leader = bench.start('a')
    bench.run(3.0)
    patient = bench.start('b', heartbeat_timeout_sec=40.0)
    bench.run(20.0)
    bench.cut_off(patient)
    cut = bench.now
    bench.run_until(lambda: len(leader.lease.ownership.tokens) == len(TASKS))
    assert bench.now >= cut + 40.0 - patient.config.heartbeat_interval_sec
    assert bench.claims(patient, *TASKS) == [False] * 4


def test_the_next_oldest_takes_over() -> None:
    """Of those that are left the oldest leads."""
    bench = Bench()
    leader, *_ = bench.cluster('c', 'b', 'a')
    bench.kill(leader)
    bench.run(30.0)
    assert bench.leader == 'b'


def test_a_follower_looks_before_it_takes_over() -> None:
    """Its last look was as long ago as the last heartbeat of the leader: the others need not be dead for that."""
    bench = Bench(push=False)
    leader, _, youngest = bench.cluster('a', 'b', 'c')
    bench.run(60.0)
    before = last_sent(leader)
    bench.run_until(lambda: last_sent(leader) > before)
    bench.kill(leader)
    youngest.set_weight(2.0)  # so it looks at all of them now
    bench.run(30.0)
    assert bench.leader == 'b'
    assert not [one for one in bench.made if one.agent is youngest and isinstance(one.call, commands.AcquireLeadership)]


def stand_back(bench: Bench, agent: Agent) -> float:
    """Have a reading of the nodes hang until the agent is no candidate; return when it may lead again."""
    hanging = bench.catch(agent, commands.TakeSnapshot)
    bench.run_until(lambda: not bench.record(agent.config.name).candidate)
    again_at = bench.now + LEAST_PAUSE * agent.config.heartbeat_timeout_sec
    bench.deliver(hanging)
    return again_at


def test_a_node_that_may_lead_again_leads_though_it_forgot_who_is_dead() -> None:
    """While the leader takes the oldest candidate for the next to lead, that one reads the nodes until it leads."""
    bench = Bench()
    a, b, c = bench.cluster('a', 'b', 'c')
    again_at = stand_back(bench, b)
    bench.run_until(lambda: bench.now >= again_at - 21.0)
    bench.kill(a)
    commit = bench.catch(c, commands.PlanAndCommit)
    assert bench.now < again_at
    assert bench.leader == 'c'
    beats = [bench.catch(b, commands.Heartbeat)]
    while not beats[-1].call.candidate:
        bench.deliver(beats[-1])
        beats.append(bench.catch(b, commands.Heartbeat))
    # b has read that c leads and a is dead, which it forgets with a failure. Meanwhile c removes a.
    bench.deliver(commit)
    bench.answer(beats[-1], AWAY)
    bench.run_until(lambda: bench.record('b').candidate)
    d = bench.start('d')
    bench.run_until(lambda: len(d.lease.ownership.tokens) == 1)
    assert bench.leader == 'b'


@pytest.mark.parametrize('before', [1.0, 8.0, 14.0])
def test_a_node_that_steps_back_goes_on_watching_the_others(before: float) -> None:
    """P3: it leads again in the end, and has counted the silence of a node that died so many seconds before."""
    bench = Bench()
    a, _, c = bench.cluster('a', 'b', 'c')
    again_at = stand_back(bench, a)
    bench.run(again_at - before - bench.now)
    assert bench.leader == 'b'
    bench.kill(c)
    died = bench.now
    bench.run_until(lambda: len(bench.backend.snapshot().nodes) == 2)
    assert bench.leader == 'a'
    assert bench.now <= died + 15.0 + 2.0


def test_a_node_that_is_no_member_yet_watches_the_others() -> None:
    """P3: no leader lives that would make it one, and it counts the silence of a node that dies after it has registered."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.kill(a)
    bench.run(5.0)
    c = bench.start('c')
    bench.run(8.0)
    bench.kill(b)
    died = bench.now
    bench.run_until(lambda: all(bench.claims(c, *TASKS)))
    assert bench.now <= died + 15.0 + 2.0


def test_who_dies_with_the_leader_is_watched_from_when_the_leader_is_late() -> None:
    """Nobody but the leader reads the others' heartbeats; a leader that is late is cause enough to begin with it."""
    bench = Bench()
    a, b, c, d = bench.cluster('a', 'b', 'c', 'd')
    bench.run(60.0)
    died, interval = bench.now, a.config.heartbeat_interval_sec
    for agent in (a, b, c):
        bench.kill(agent)
    bench.run_until(lambda: len(d.lease.ownership.tokens) == len(TASKS))
    assert bench.now <= died + a.config.heartbeat_timeout_sec + 1.3 * interval + 1.0


def lock_to(pattern: str) -> LockEdit:
    return LockEdit(put=(LockRequest('t0', (pattern,), 'somebody'),))


CHANGES: dict[str, Callable[[Bench, list[Agent]], object]] = {
    'a join': lambda bench, agents: agents.append(bench.start('e')),
    'a leave': lambda bench, agents: agents[2].leave(bench.now),
    'a lock': lambda bench, agents: bench.edit_locks(lock_to('c')),
    'a lock that moves nothing': lambda bench, agents: bench.edit_locks(lock_to('nobody else')),
}


PHASES = (0.2, 1.3, 2.6, 3.9, 4.7)
DELAYS = (0.02, 0.7, 1.2, 2.0, 3.0, 4.0, 5.2, 7.0, 9.3)
MOMENTS = list(itertools.product(PHASES, DELAYS))
SOME = list(zip(itertools.cycle(PHASES), DELAYS, strict=False))
"""Each phase and each delay at least once."""


@pytest.mark.slow
@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('who', [0, 1, -1], ids=['leader', 'next', 'youngest'])
@pytest.mark.parametrize('moments', [SOME, pytest.param(MOMENTS, marks=pytest.mark.full)], ids=['each', 'all pairs'])
def test_a_death_soon_after_a_change_is_noticed_as_soon_as_any(
    change: str, who: int, moments: Sequence[tuple[float, float]]
) -> None:
    """P3, whenever in an interval a change comes and however soon after it a node dies: nobody's last heartbeat is read late.

    Of some pairs each of the three who die has a third, so that each change has all of them.
    """
    assert set(PHASES) | set(DELAYS) == {number for pair in moments for number in pair}
    for phase, after in moments if moments is MOMENTS else moments[who % 3 :: 3]:
        assert seconds_to_notice(change, who, phase, after) <= 15.0 + 2.0, (phase, after)


def seconds_to_notice(change: str, who: int, phase: float, after: float) -> float:
    """How long a dead node stays registered: ``phase`` after the leader's heartbeat comes a change, ``after`` that the death."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c', 'd')
    bench.edit_locks(lock_to('nobody'))
    bench.run(60.0)
    bench.run(last_sent(agents[0]) + 5.0 - bench.now + phase)
    CHANGES[change](bench, agents)
    bench.run(after)
    bench.kill(agents[who])
    died, victim = bench.now, agents[who].ref
    bench.run_until(lambda: all(node.ref != victim for node in bench.backend.snapshot().nodes))
    return bench.now - died


def test_who_may_lead_next_looks_once_an_interval() -> None:
    """The nodes next in line look once an interval and once more after a change; those behind them never, until one leaves."""
    bench = Bench()
    agents = bench.cluster(*(f'w{number}' for number in range(STANDBYS + 3)))
    leader, standbys, others = agents[0], agents[1 : STANDBYS + 1], agents[STANDBYS + 1 :]

    def looks(seconds: float) -> Counter[Agent]:
        before = len(bench.made)
        bench.run(seconds)
        return Counter(one.agent for one in bench.made[before:] if isinstance(one.call, commands.TakeSnapshot))

    bench.run(60.0)
    seen = looks(30.0)
    assert set(seen) == {leader, *standbys}
    assert all(5 <= seen[standby] <= 8 for standby in standbys)
    bench.edit_locks(lock_to('nobody'))
    seen = looks(30.0)
    assert set(seen) == {leader, *standbys}
    standbys[0].leave(bench.now)
    bench.run(60.0)
    assert set(looks(30.0)) == {leader, *standbys[1:], others[0]}


def test_a_change_that_a_heartbeat_tells_of_during_a_look_is_looked_at() -> None:
    """The look may have missed it: the leader looks again as soon as that has come back."""
    bench = Bench(push=False)
    leader, _ = bench.cluster('a', 'b')
    look = bench.catch(leader, commands.TakeSnapshot)
    before = bench.perform(look.call)
    bench.edit_locks(lock_to('b'))
    leader.beat_soon()
    bench.run(0.1)
    bench.answer(look, before)
    assert isinstance(leader.next(Lane.WORK, bench.now), commands.TakeSnapshot)


@pytest.mark.parametrize('small', [monitor.SMALL, 2])
def test_a_leader_that_steps_back_and_returns_before_another_one_leads_goes_on(
    small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some nodes have read that it is no candidate, and then read no heartbeat but its own: they do not take it from there."""
    monkeypatch.setattr(monitor, 'SMALL', small)
    bench = Bench()
    leader, *_ = bench.cluster(*(f'w{number}' for number in range(STANDBYS + 7)))
    before, failing = bench.backend.snapshot().leadership, [(leader, commands.TakeSnapshot)]

    def fault(agent: Agent, call: commands.Command) -> BackendUnavailable | None:
        is_failing = any(agent is one and isinstance(call, kind) for one, kind in failing)
        return AWAY if is_failing or isinstance(call, commands.AcquireLeadership) else None

    bench.fault = fault
    bench.run_until(lambda: not bench.record('w0').candidate)
    bench.run(10.0)
    failing.clear()
    bench.run_until(lambda: bench.record('w0').candidate)
    bench.run(10.0)
    bench.fault = lambda agent, call: None
    bench.run(60.0)
    assert bench.backend.snapshot().leadership == before


def test_a_leader_that_left_is_succeeded_at_once() -> None:
    """A record that says so needs no timeout."""
    bench = Bench()
    leader, follower = bench.cluster('a', 'b')
    leader.leave(bench.now)
    bench.run(1.0)
    assert bench.leader == 'b'
    assert len(follower.lease.ownership.tokens) == 4


def test_a_leader_without_a_lease_does_not_act() -> None:
    """A node that cannot beat does not commit anything, though it can read."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    bench.cut.add((leader, Lane.HEARTBEAT))
    bench.run_until(lambda: bench.now >= leader.lease.deadline)
    before = len(bench.made)
    bench.start('c')
    bench.run(30.0)
    acting = (commands.AcquireLeadership, commands.PlanAndCommit, commands.DropExpiredLocks)
    assert not [one for one in bench.made[before:] if one.agent is leader and isinstance(one.call, acting)]


def test_a_former_leader_comes_back_as_a_follower() -> None:
    """A leader that was silent for too long has been evicted, and is the youngest when it returns."""
    bench = Bench()
    leader, follower = bench.cluster('a', 'b')
    bench.cut_off(leader)
    bench.run(30.0)
    bench.cut.clear()
    bench.run(30.0)
    assert bench.leader == 'b'
    assert bench.backend.snapshot().leadership == Leadership(2, follower.ref)
    assert leader.is_settled
    assert follower.is_settled


@pytest.mark.parametrize('refusal', [Conflict('something has changed'), Fenced('somebody else leads')])
def test_a_refused_commit_is_planned_again(refusal: Exception) -> None:
    """R5: after a refusal the leader reads again and plans again."""
    bench = Bench()
    (leader,) = bench.cluster('a')
    newcomer = bench.start('b')
    bench.answer(bench.catch(leader, commands.PlanAndCommit), refusal)
    bench.run(3.0)
    assert newcomer.is_settled
    assert len(newcomer.lease.ownership.tokens) == 2


def test_a_commit_whose_answer_was_lost_is_found_out() -> None:
    """The leader reads what has become of its plan, and nothing is moved twice."""
    bench = Bench()
    (leader,) = bench.cluster('a')
    newcomer = bench.start('b')
    bench.run_until(lambda: len(bench.backend.snapshot().nodes) == 2)
    caught, version = bench.catch(leader, commands.PlanAndCommit), bench.backend.snapshot().version
    while True:
        answer = bench.perform(caught.call)
        if bench.backend.snapshot().version != version:
            break
        bench.answer(caught, answer)
        caught = bench.catch(leader, commands.PlanAndCommit)
    bench.answer(caught, AWAY)
    bench.run(5.0)
    assert (len(leader.lease.ownership.tokens), len(newcomer.lease.ownership.tokens)) == (2, 2)
    assert bench.backend.snapshot().timeline.generation == 0


def test_locks_that_no_live_node_matches_are_told_once() -> None:
    """R7: by the leader, when the set of their tasks changes, and when it is empty again."""
    bench = Bench()
    leader, follower = bench.cluster('a', 'b')
    leader.events.clear()
    follower.events.clear()

    def after(edit: LockEdit) -> list[str]:
        bench.backend.edit_locks(edit)
        bench.run(60.0)
        notes = [event.text for event in leader.events if isinstance(event, LogMessage) and 'match' in event.text]
        leader.events.clear()
        return notes

    told = after(LockEdit(put=(LockRequest('t0', ('nobody',), 'somebody'),)))
    assert told == ["no live node matches the patterns of 1 task, which no node may claim: 't0'"]
    assert [pin.task_id for pin in follower.lease.assignment.unplaced] == ['t0']
    assert after(LockEdit(put=(LockRequest('t1', ('b',), 'somebody'),))) == []
    told = after(LockEdit(put=(LockRequest('t0', ('a',), 'somebody'),)))
    assert told == ['every task with a pattern has a node that matches it again']
    assert not [event for event in follower.events if isinstance(event, LogMessage) and 'match' in event.text]


@pytest.mark.parametrize('push', [True, False])
def test_a_node_that_flaps_costs_few_plans(push: bool) -> None:
    """A node that joins and leaves in good order again and again costs at most four plans for each round, nobody being busy."""
    bench = Bench(push=push)
    bench.cluster('a', 'b')
    rounds = 5
    before = len([one for one in bench.made if isinstance(one.call, commands.PlanAndCommit) and one.reached_store])
    for _ in range(rounds):
        agent = bench.start('c')
        bench.run(20.0)
        assert agent.is_settled
        agent.leave(bench.now)
        bench.run(20.0)
        bench.kill(agent)
    after = len([one for one in bench.made if isinstance(one.call, commands.PlanAndCommit) and one.reached_store])
    assert after - before <= 4 * rounds


# --- edits that never end ---------------------------------------------------------------------------------------------------


def edit_a_lock(bench: Bench) -> None:
    """Somebody registers a lock again and again, as a loop over ``register_task_lock`` does."""
    bench.edit_locks(LockEdit(put=(LockRequest('t0', ('a',), 'somebody', reason=str(bench.now)),)))


@pytest.mark.parametrize('push', [True, False])
def test_edits_between_each_reading_and_commit_hold_up_nothing(push: bool) -> None:
    """R5: a lock that was edited makes a plan incomplete, not wrong; a joiner gets its share, and one that dies is replaced."""
    bench = Bench(push=push)
    leader, victim = bench.cluster('a', 'b')

    def edited(agent: Agent, call: commands.Command) -> None:
        if isinstance(call, commands.TakeSnapshot | commands.ReadLocks | commands.PlanAndCommit):
            edit_a_lock(bench)

    bench.fault, bench.call_sec = edited, 0.03
    newcomer = bench.start('c')
    bench.run_until(lambda: newcomer.is_settled, within=3.0 if push else 30.0)
    bench.kill(victim)
    bench.run_until(lambda: len(leader.lease.ownership.tokens | newcomer.lease.ownership.tokens) == len(TASKS) + 1, within=25.0)


def test_a_change_during_each_reading_does_not_keep_the_leader_from_planning() -> None:
    """However fast changes come, some reading of them is planned from."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    bench.call_sec = 0.03
    bench.fault = lambda agent, call: edit_a_lock(bench) if isinstance(call, commands.TakeSnapshot) else None
    bench.start('c')
    began = len(bench.made)

    def proposals() -> list[commands.Command]:
        return [one.call for one in bench.made[began:] if one.agent is leader and isinstance(one.call, commands.PlanAndCommit)]

    bench.run_until(lambda: len(proposals()) >= 5)
    assert bench.backend.snapshot().leadership.epoch == 1


def test_a_plan_that_is_refused_again_and_again_is_made_less_often() -> None:
    """A commit that always conflicts does not keep the store busy."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    bench.fault = lambda agent, call: Conflict('something has changed') if isinstance(call, commands.PlanAndCommit) else None
    bench.start('c')
    began = len(bench.made)
    bench.run(10.0)
    assert len([one for one in bench.made[began:] if one.agent is leader]) <= 100


def test_a_row_that_was_back_is_waited_for_anew() -> None:
    """R5: the wait for the last owner of a token ends when the token has a row again, before the leader makes another plan."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    state = leader._membership.leader_term._state
    bench.store.delete_token_rows('sync_', [0])
    bench.run_until(lambda: 0 in state.rowless)
    given = bench.catch(leader, commands.ReadAssignment)
    assert 0 in state.rowless
    bench.deliver(given)
    assert leader.lease.assignment.owner[0] >= 0
    assert not state.rowless


@pytest.mark.parametrize('group', ['', 'g'])
def test_what_has_expired_and_is_not_removed_keeps_no_leader_busy(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item whose row was given an end manually, and a lock of which the store does not find that it has expired."""
    bench = Bench()
    bench.cluster('a', 'b')
    bench.edit_locks(LockEdit(LockFilter(), (LockRequest('t1', ('%',), 'test'),), group))
    bench.run(20.0)
    locks = bench.store.spaces['sync_'].locks.by_task
    ended = {key: attrs.evolve(lock, expires_at=EPOCH + dt.timedelta(seconds=bench.now)) for key, lock in locks.items()}
    with bench.store.changed:
        bench.store._edit_locks('sync_', ended)
    monkeypatch.setattr(bench.backend, 'edit_locks', lambda edit: 0)
    began = len(bench.made)
    bench.run(60.0)
    drops = [made for made in bench.made[began:] if isinstance(made.call, commands.DropExpiredLocks)]
    assert len(drops) == 0 if group else 1 <= len(drops) <= 60
    assert len([made for made in bench.made[began:] if made.reached_store]) <= 150
