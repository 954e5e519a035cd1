"""The last thing that a leader does: it gives its share away before it deregisters."""

from __future__ import annotations

import pytest
from tests.core.bench import AWAY, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.phase import Phase
from jobsync._core.records import HistoryKind, LockEdit, LockRequest, Rebalance
from jobsync.errors import Conflict, JobsyncError


def calls(bench: Bench, agent: Agent) -> list[str]:
    """What the agent requested of the store so far, in its work lane."""
    return [
        type(each.call).__name__ for each in bench.made if each.agent is agent and not isinstance(each.call, commands.Heartbeat)
    ]


def test_a_leader_gives_its_share_away_before_it_deregisters() -> None:
    """When it deregisters, others own everything, though no other node has led yet; what others own does not move."""
    bench = Bench()
    leader, *others = bench.cluster('a', 'b', 'c', shutdown_timeout_sec=5.0)
    before = {agent: agent.lease.ownership.tokens for agent in others}
    since = len(calls(bench, leader))
    leader.leave(bench.now)
    deregistration = bench.catch(leader, commands.Deregister)
    assert calls(bench, leader)[since:] == ['PlanAndCommit']
    assert bench.leader == 'a'
    bench.run(1.0)
    assert frozenset().union(*(agent.lease.ownership.tokens for agent in others)) == {0, 1, 2, 3}
    assert all(tokens <= agent.lease.ownership.tokens for agent, tokens in before.items())
    assert 'a' not in others[0].lease.assignment.members
    bench.deliver(deregistration)
    assert leader.phase is Phase.LEFT


def test_the_next_leader_moves_nothing() -> None:
    """It finds that the node has left, and that all is in its place."""
    bench = Bench()
    leader, *others = bench.cluster('a', 'b', 'c')
    leader.leave(bench.now)
    bench.run(1.0)
    after = {agent: agent.lease.ownership.tokens for agent in others}
    bench.run(20.0)
    assert bench.leader == 'b'
    assert {agent: agent.lease.ownership.tokens for agent in others} == after
    found = [each for each in bench.backend.history(HistoryKind.REBALANCE, limit=2) if isinstance(each, Rebalance)]
    assert [(each.trigger_reason, each.tokens_moved) for each in found] == [('node left: a', 0), ('node leaving: a', 2)]


def test_a_pinned_task_goes_with_the_share() -> None:
    """A pin that the leader owns has its next owner in the same commit."""
    bench = Bench()
    leader, other = bench.cluster('a', 'b')
    bench.edit_locks(LockEdit(put=(LockRequest('t0', ('a', 'b'), 'somebody'),)))
    bench.run(20.0)
    assert bench.claims(leader, 't0') == [True]
    leader.leave(bench.now)
    bench.catch(leader, commands.Deregister)
    bench.run(1.0)
    assert bench.claims(other, 't0') == [True]


def test_a_share_that_is_kept_for_the_return_is_not_given_away() -> None:
    """With ``rejoin_grace_sec`` a leader deregisters, and its tokens wait for it."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b', rejoin_grace_sec=30.0)
    leader.leave(bench.now)
    assert leader.next(Lane.WORK, bench.now) == commands.Deregister(leader.ref)


def test_what_is_kept_for_the_return_is_kept_while_the_node_waits() -> None:
    """With ``rejoin_grace_sec`` a node that is still busy keeps its weight, and no other node is to have its tokens."""
    bench = Bench()
    leader, busy = bench.cluster('a', 'b', rejoin_grace_sec=30.0, shutdown_timeout_sec=20.0)
    owned = busy.lease.ownership.tokens
    assert bench.begin(busy, f't{min(owned)}') == [True]
    busy.leave(bench.now)
    bench.run(10.0)
    assert busy.phase is Phase.LEAVING
    assignment = leader.lease.assignment
    assert bench.record('b').weight == 1.0
    assert {token for token in range(4) if assignment.row(token).owner == 'b'} == owned
    assert not assignment.targets


def test_what_a_worker_that_waits_is_busy_with_is_not_given_away() -> None:
    """The task of the thread that leaves may still be recorded as complete: the next owner comes after the deregistration."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b')
    token = min(leader.lease.ownership.tokens)
    assert leader.lease.begin(TaskStart(f't{token}', 7), token, bench.clock)
    leader.leave(bench.now, workers=frozenset({7}))
    assert leader.next(Lane.WORK, bench.now) == commands.Deregister(leader.ref)


def test_a_leader_whose_lease_is_over_gives_nothing_away() -> None:
    """What it has read is too old to plan from."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b', shutdown_timeout_sec=5.0)
    bench.cut_off(leader)
    bench.run(15.0)
    leader.leave(bench.now)
    assert leader.next(Lane.WORK, bench.now) == commands.Deregister(leader.ref)


def test_a_node_whose_lease_is_over_waits_for_no_task() -> None:
    """Another node owns the token of the task by then: there is nothing to hand over, and the node deregisters."""
    bench = Bench()
    _, busy = bench.cluster('a', 'b', shutdown_timeout_sec=1000.0)
    assert bench.begin(busy, f't{min(busy.lease.ownership.tokens)}') == [True]
    busy.leave(bench.now)
    bench.run(1.0)
    assert busy.is_staying(bench.now)
    bench.cut_off(busy)
    bench.run(20.0)
    assert not busy.is_staying(bench.now)


def test_the_last_node_gives_nothing_away() -> None:
    """There is no other node to give it to, and the next one that starts finds whose it was."""
    bench = Bench()
    (leader,) = bench.cluster('a')
    leader.leave(bench.now)
    assert leader.next(Lane.WORK, bench.now) == commands.Deregister(leader.ref)


@pytest.mark.parametrize('error', [Conflict('something has changed'), AWAY], ids=['refused', 'away'])
def test_a_plan_that_fails_is_not_repeated(error: JobsyncError) -> None:
    """The node deregisters, and the next leader does the rest."""
    bench = Bench()
    leader, other = bench.cluster('a', 'b')
    bench.fault = lambda agent, call: error if agent is leader and isinstance(call, commands.PlanAndCommit) else None
    since = len(calls(bench, leader))
    leader.leave(bench.now)
    bench.run(3.0)
    assert calls(bench, leader)[since:] == ['PlanAndCommit', 'Deregister']
    assert leader.phase is Phase.LEFT
    assert other.lease.ownership.tokens == {0, 1, 2, 3}


def test_a_leader_that_was_replaced_deregisters() -> None:
    """A commit that another leader's term refuses has changed nothing."""
    bench = Bench()
    leader, other = bench.cluster('a', 'b')
    leader.leave(bench.now)
    plan = bench.catch(leader, commands.PlanAndCommit)
    bench.perform(commands.AcquireLeadership(other.ref, bench.backend.snapshot().leadership.epoch))
    before = bench.backend.snapshot().version
    bench.deliver(plan)
    assert bench.backend.snapshot().version == before
    assert leader.next(Lane.WORK, bench.now) == commands.Deregister(leader.ref)


def test_a_node_that_dies_after_its_last_plan_is_evicted() -> None:
    """Its record is there, and it owns nothing: the next leader gives it nothing, and removes it after its timeout."""
    bench = Bench()
    leader, other = bench.cluster('a', 'b')
    leader.leave(bench.now)
    bench.catch(leader, commands.Deregister)
    bench.kill(leader)
    bench.run(40.0)
    assert other.lease.ownership.tokens == {0, 1, 2, 3}
    assert [node.name for node in bench.backend.snapshot().nodes] == ['b']
