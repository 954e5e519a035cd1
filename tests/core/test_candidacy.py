"""A leader that lives and cannot work (rule R4)."""

from __future__ import annotations

import math

import pytest
from tests.core.bench import AWAY, TASKS, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import MOST_PAUSE, Candidacy
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import LogMessage
from jobsync._core.assignment import Plan
from jobsync._core.records import Guard, NodeRef, Revision
from jobsync.errors import BackendUnavailable, Conflict, JobsyncError

TIMEOUT = 15.0
KINDS = {
    'commits': commands.PlanAndCommit,
    'snapshots': commands.TakeSnapshot,
    'locks': commands.ReadLocks,
}


def failing(bench: Bench, victim: Agent, kind: type[object], error: JobsyncError = AWAY) -> None:
    """Let all calls of one kind fail for one node from now on; of proposals those alone that change something."""

    def fault(agent: Agent, call: commands.Command) -> JobsyncError | None:
        return error if agent is victim and isinstance(call, kind) else None

    bench.fault = fault


def epochs(bench: Bench) -> int:
    return bench.backend.snapshot().leadership.epoch


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('push', [True, False])
def test_a_leader_whose_work_fails_is_succeeded(kind: str, push: bool) -> None:
    """Within a timeout, and what it takes the next in line to hear of it, somebody leads who can: a newcomer gets its share."""
    bench = Bench(push=push)
    leader, standby = bench.cluster('a', 'b')
    bench.run(60.0)
    failing(bench, leader, KINDS[kind])
    newcomer = bench.start('c')
    began = bench.now
    bench.run_until(lambda: bench.leader == 'b')
    assert bench.now <= began + TIMEOUT + 5.5 + 5.5
    bench.run(8.0)
    assert newcomer.is_settled
    assert (leader.epoch, standby.epoch) == (None, epochs(bench))


def test_a_leader_whose_calls_are_slow_goes_on() -> None:
    """Its work takes longer than a timeout, and no single call does: the next in line would be as slow, and begin anew."""
    bench = Bench()
    leader, second, _ = bench.cluster('a', 'b', 'c')
    bench.kill(leader)
    for kind in (commands.AcquireLeadership, commands.TakeSnapshot, commands.ReadLocks, commands.PlanAndCommit):
        caught = bench.catch(second, kind)
        bench.run(4.0)
        bench.deliver(caught)
    bench.run(1.0)
    assert (bench.leader, bench.record('b').candidate) == ('b', True)
    assert second.is_settled


def test_a_leader_whose_commits_fail_now_and_then_goes_on() -> None:
    """The answers to two commits are lost, an hour apart: each was done, and no commit has failed for long."""
    bench = Bench()
    leader, _, third, fourth = bench.cluster('a', 'b', 'c', 'd')
    for victim in (third, fourth):
        bench.kill(victim)
        is_lost = False
        while not is_lost:
            caught = bench.catch(leader, commands.PlanAndCommit)
            outcome = bench.perform(caught.call)
            is_lost = isinstance(outcome, commands.CommitOutcome) and outcome.revision is not None
            bench.answer(caught, AWAY if is_lost else outcome)
        bench.run(10.0)
        assert (bench.leader, bench.record('a').candidate, leader.is_settled) == ('a', True, True)
        bench.run(3600.0)


def test_a_leader_whose_call_hangs_is_succeeded() -> None:
    """The lane for heartbeats sees that the other one has been at it for too long."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    bench.catch(leader, commands.TakeSnapshot)
    began = bench.now
    bench.run_until(lambda: bench.leader == 'b')
    assert began + TIMEOUT <= bench.now <= began + TIMEOUT + 5.5
    assert not bench.record('a').candidate


def test_refusals_of_its_commits_end_a_reign() -> None:
    """A leader whose every commit conflicts gets as little done as one whose store is away."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    failing(bench, leader, commands.PlanAndCommit, Conflict('something has changed'))
    bench.start('c')
    bench.run_until(lambda: bench.leader == 'b', within=TIMEOUT + 12.0)


def test_the_tokens_of_the_dead_pass_on_under_the_next_leader() -> None:
    """P3 holds of a leader that can work; one that cannot costs a timeout more."""
    bench = Bench()
    leader, standby, victim = bench.cluster('a', 'b', 'c')
    failing(bench, leader, commands.PlanAndCommit)
    bench.kill(victim)
    died = bench.now
    bench.run_until(lambda: len(leader.lease.ownership.tokens | standby.lease.ownership.tokens) == len(TASKS), within=100.0)
    assert bench.now <= died + 3 * TIMEOUT + 12.0


def test_looks_that_succeed_between_commits_that_fail_are_no_work_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader whose commits alone fail reads on, and finds nothing wrong with that."""
    bench = Bench()
    leader, standby, victim = bench.cluster('a', 'b', 'c')
    commit = bench.backend.commit

    def refused(ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        if ref == leader.ref:
            raise AWAY
        return commit(ref, plan, guard)

    monkeypatch.setattr(bench.backend, 'commit', refused)
    bench.kill(victim)
    bench.run_until(lambda: len(leader.lease.ownership.tokens | standby.lease.ownership.tokens) == len(TASKS), within=75.0)
    assert bench.leader == 'b'


def test_failures_with_a_commit_between_them_are_two() -> None:
    """A lost answer now and then is nothing to step back for; nor is an outage, in which heartbeats fail as well."""
    candidacy = Candidacy(TIMEOUT)
    assert not candidacy.has_failed(0.0)
    candidacy.note_success(1.0, committed=True)
    assert not candidacy.has_failed(100.0)
    candidacy.excuse(101.0)
    assert not candidacy.has_failed(200.0)
    assert not candidacy.has_failed(200.0 + TIMEOUT - 0.1)
    assert candidacy.has_failed(200.0 + TIMEOUT)


def test_what_has_failed_and_is_needed_no_more_counts_no_more() -> None:
    """The calls that follow are slow, each by itself: a timeout from one to the next would have every leader step back."""
    candidacy = Candidacy(TIMEOUT)
    candidacy.begin_work(0.0)
    candidacy.note_failure()
    candidacy.rest()
    candidacy.excuse(1.0)
    assert candidacy.stuck_at == math.inf
    candidacy.begin_work(100.0)
    candidacy.note_step()
    candidacy.begin_work(110.0)
    assert candidacy.stuck_at == 110.0 + TIMEOUT


def test_a_node_that_has_stepped_back_begins_anew() -> None:
    """In its pause it does not step back once more, and after it the first commit that fails is nothing to step back for."""
    candidacy = Candidacy(TIMEOUT)
    assert [candidacy.has_failed(now) for now in (0.0, TIMEOUT)] == [False, True]
    back_at = candidacy.step_back(TIMEOUT)
    assert candidacy.note_success(back_at, committed=False)
    assert [candidacy.has_failed(back_at + late) for late in (1.0, TIMEOUT, TIMEOUT + 1.0)] == [False, False, True]
    candidacy.step_back(back_at + TIMEOUT + 1.0)
    assert not any(candidacy.has_failed(back_at + late) for late in (TIMEOUT + 2.0, 3 * TIMEOUT))


def test_a_follower_that_cannot_read_is_passed_over() -> None:
    """The next in line is no candidate either: the one after it leads."""
    bench = Bench()
    leader, stuck, _ = bench.cluster('a', 'b', 'c')
    failing(bench, stuck, commands.TakeSnapshot)
    bench.kill(leader)
    bench.run_until(lambda: bench.leader == 'c', within=3 * TIMEOUT)


def test_a_lone_node_keeps_trying() -> None:
    """If there is no candidate at all the oldest leads, and gets on as soon as its work succeeds."""
    bench = Bench()
    (leader,) = bench.cluster('a')
    failing(bench, leader, commands.TakeSnapshot)
    bench.run(100.0)
    assert not bench.record('a').candidate
    bench.fault = lambda agent, call: None
    newcomer = bench.start('b')
    bench.run(3.0)
    assert bench.leader == 'a'
    assert newcomer.is_settled
    bench.run(6.0)
    assert bench.record('a').candidate


def test_where_there_is_no_candidate_the_oldest_leads() -> None:
    """If the commits of all have failed for long, somebody goes on trying, and gets through as soon as it may."""
    bench = Bench()
    bench.cluster('a', 'b')
    bench.fault = lambda agent, call: AWAY if isinstance(call, commands.PlanAndCommit) else None
    bench.run(400.0)
    bench.run_until(lambda: not any(bench.record(name).candidate for name in 'ab'), within=400.0)
    newcomer = bench.start('c')
    bench.run(1.0)
    bench.run_until(lambda: not any(bench.record(name).candidate for name in 'abc'), within=400.0)
    bench.fault = lambda agent, call: None
    bench.run_until(lambda: newcomer.is_settled, within=12.0)
    assert bench.leader == 'a'


def test_a_commit_that_succeeds_ends_the_pause() -> None:
    """Where no other was able to lead, there is nothing to wait for any more."""
    candidacy = Candidacy(TIMEOUT)
    candidacy.step_back(0.0)
    assert not candidacy.note_success(1.0, committed=False)
    assert candidacy.note_success(2.0, committed=True)
    assert candidacy.is_wanted


def test_a_node_stands_again_once_its_record_says_so() -> None:
    """Else the others, who go by its record, would take the leadership back at once."""
    candidacy = Candidacy(TIMEOUT)
    assert candidacy.stands
    candidacy.step_back(0.0)
    assert not candidacy.stands
    candidacy.note_published(False)
    assert candidacy.note_success(40.0, committed=False)
    candidacy.note_published(False)  # a heartbeat that was under way
    assert not candidacy.stands
    candidacy.note_published(True)
    assert candidacy.stands


def test_a_leader_that_recovers_leads_again() -> None:
    """After its pause the oldest is a candidate as ever."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    failing(bench, leader, commands.TakeSnapshot)
    bench.run_until(lambda: bench.leader == 'b')
    bench.fault = lambda agent, call: None
    bench.run_until(lambda: bench.leader == 'a', within=2 * TIMEOUT + 12.0)
    bench.run(10.0)
    assert bench.record('a').candidate
    assert epochs(bench) == 3


def test_a_node_that_cannot_look_is_no_candidate_again() -> None:
    """The end of the pause is not enough: something must have succeeded after it."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    failing(bench, leader, commands.TakeSnapshot)
    bench.run(300.0)
    assert bench.leader == 'b'
    assert epochs(bench) == 2


def test_commits_that_fail_one_node_alone_cost_less_and_less() -> None:
    """It leads again after each pause, for there is no other way to find out; and each pause is twice as long."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    failing(bench, leader, commands.PlanAndCommit)
    bench.run(1800.0)
    # 30, 60, 120, 240, 480 s and so on: six terms of each in half an hour
    assert epochs(bench) <= 2 * 6 + 1


def test_the_pauses_grow_to_a_bound() -> None:
    """From two timeouts to ``MOST_PAUSE`` of them; a commit brings them back to two."""
    candidacy, pauses = Candidacy(TIMEOUT), []
    for _ in range(9):
        pauses.append(candidacy.step_back(0.0) / TIMEOUT)
        candidacy.note_success(10_000.0, committed=False)
    assert pauses == [2, 4, 8, 16, 32, MOST_PAUSE, MOST_PAUSE, MOST_PAUSE, MOST_PAUSE]
    candidacy.note_success(10_000.0, committed=True)
    assert candidacy.step_back(0.0) == 2 * TIMEOUT


@pytest.mark.parametrize('seconds', [14.0, 16.0, 40.0])
def test_an_outage_makes_nobody_step_back(seconds: float) -> None:
    """While heartbeats fail as well it is the store that is away, and no other would do better."""
    bench = Bench()
    bench.cluster('a', 'b')
    bench.fault = lambda agent, call: BackendUnavailable('away')
    bench.run(seconds)
    bench.fault = lambda agent, call: None
    bench.run(60.0)
    assert (bench.leader, epochs(bench)) == ('a', 1)
    assert all(bench.record(name).candidate for name in 'ab')


def test_a_reading_that_is_not_needed_any_more_makes_nobody_step_back() -> None:
    """A node that could not read when it had to may learn from a heartbeat that nothing has changed."""
    bench = Bench()
    _, follower = bench.cluster('a', 'b', heartbeat_timeout_sec=60.0)
    bench.cut.add((follower, Lane.HEARTBEAT))
    read = bench.catch(follower, commands.ReadAssignment)
    bench.cut.clear()
    bench.run(1.5)
    bench.answer(read, AWAY)
    bench.run(90.0)
    assert bench.record('b').candidate


def test_work_that_takes_long_and_gets_through_makes_nobody_step_back() -> None:
    """A timeout runs from the beginning of what has not got through yet."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    for _ in range(5):
        look = bench.catch(leader, commands.TakeSnapshot)
        bench.run(10.0)
        bench.deliver(look)
        bench.run(1.0)
    assert (bench.leader, epochs(bench)) == ('a', 1)


def test_it_is_told_once_that_a_leader_steps_back_and_that_it_may_lead_again() -> None:
    """One line each."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    leader.events.clear()
    failing(bench, leader, commands.TakeSnapshot)
    bench.run(40.0)
    bench.fault = lambda agent, call: None
    bench.run(60.0)
    notes = [
        event
        for event in leader.events
        if isinstance(event, LogMessage) and ('is to lead' in event.text or 'may lead' in event.text)
    ]
    assert [note.level for note in notes] == ['warning', 'info']


def test_a_leader_gives_way_only_when_the_returning_one_has_said_so() -> None:
    """A node that is a candidate again takes the leadership once: the other has heard of it by then."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    failing(bench, leader, commands.TakeSnapshot)
    bench.run_until(lambda: bench.leader == 'b')
    bench.fault = lambda agent, call: None
    taken = len(bench.made)
    bench.run(60.0)
    assert len([one for one in bench.made[taken:] if isinstance(one.call, commands.AcquireLeadership)]) == 1
