"""A node leaves in good order."""

from __future__ import annotations

import math

import pytest
from tests.core.bench import AWAY, TASKS, Bench
from tests.support.starts import finish

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import OwnershipChanged
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.phase import Phase
from jobsync._core.records import INITIAL, NodeState


def test_a_leaving_node_owns_nothing_at_once() -> None:
    """From the call on nothing is claimed."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.leave(bench.now)
    assert bench.claims(agent, *TASKS) == [False] * 4
    assert agent.lease.ownership.is_empty


def test_an_acknowledgement_under_way_gains_nothing_for_a_leaving_node() -> None:
    """What would have come with the answer to a heartbeat does not come any more."""
    bench = Bench()
    agent = bench.start('a', shutdown_timeout_sec=5.0)
    while (caught := bench.catch(agent, commands.Heartbeat)).call.seen == INITIAL:
        bench.deliver(caught)
    agent.lease.in_flight[TaskStart('t0')] = None  # so that it stays for a while
    agent.leave(bench.now)
    bench.deliver(caught)
    assert bench.claims(agent, *TASKS) == [False] * 4
    assert agent.lease.ownership.is_empty


def test_an_idle_node_deregisters_at_once() -> None:
    """With no task in flight there is nothing to wait for."""
    bench = Bench()
    (agent,) = bench.cluster('a', shutdown_timeout_sec=5.0)
    agent.leave(bench.now)
    assert agent.next(Lane.WORK, bench.now) == commands.Deregister(agent.ref)


def test_a_leaving_node_waits_for_its_tasks() -> None:
    """It stays registered and goes on beating until they are finished, and then its tokens go at once."""
    bench = Bench()
    agent, other = bench.cluster('a', 'b', shutdown_timeout_sec=20.0)
    (key,) = [f't{token}' for token in sorted(agent.lease.ownership.tokens)[:1]]
    bench.begin(agent, key)
    agent.leave(bench.now)
    beats = bench.record('a').heartbeat
    bench.run(12.0)
    assert bench.record('a').state is NodeState.JOINED
    assert bench.record('a').heartbeat >= beats + 2
    finish(agent.lease, [key])
    bench.run(1.0)
    assert agent.phase is Phase.LEFT
    assert len(other.lease.ownership.tokens) == 4


def test_a_leaving_node_waits_no_longer_than_its_timeout() -> None:
    """After ``shutdown_timeout_sec`` it deregisters, busy or not."""
    bench = Bench()
    (agent,) = bench.cluster('a', shutdown_timeout_sec=5.0)
    bench.begin(agent, 't0')
    agent.leave(bench.now)
    left = bench.now + 5.0
    bench.catch(agent, commands.Deregister)
    assert bench.now == left


@pytest.mark.parametrize('is_hurried', [False, True])
def test_a_task_in_flight_is_kept_until_the_node_deregisters(is_hurried: bool) -> None:
    """What is begun is kept from passing on, whether or not it may still be claimed, until ``shutdown_timeout_sec`` is over."""
    bench = Bench()
    agent, _ = bench.cluster('a', 'b', shutdown_timeout_sec=5.0)
    token = min(agent.lease.ownership.tokens)
    key, fence = f't{token}', agent.lease.assignment.fence(agent.ref, f't{token}', token)
    bench.begin(agent, key)

    def keeps() -> bool:
        return agent.lease.keeps(key, token, fence, lambda: bench.now)

    agent.leave(bench.now)
    assert keeps()
    bench.run(4.5)
    assert (keeps(), agent.lease.may_claim(key, token, lambda: bench.now)) == (True, False)
    if is_hurried:
        agent.leave(bench.now, at_once=True)
    bench.catch(agent, commands.Deregister)
    assert bench.now < agent.lease.deadline
    assert not keeps()


def test_tokens_not_in_use_pass_on_while_a_leaving_node_waits() -> None:
    """Only the token of the task in flight stays; the others are another's within a hand-over."""
    bench = Bench()
    agent, other = bench.cluster('a', 'b', shutdown_timeout_sec=20.0)
    key = f't{min(agent.lease.ownership.tokens)}'
    bench.begin(agent, key)
    agent.leave(bench.now)
    bench.run(2.0)
    assert len(other.lease.ownership.tokens) == 3
    assert agent.lease.in_flight
    assert agent.phase is Phase.LEAVING


def test_a_leader_that_waits_while_leaving_goes_on_leading() -> None:
    """While it finishes its tasks a join is served as ever."""
    bench = Bench()
    agent, _ = bench.cluster('a', 'b', shutdown_timeout_sec=30.0)
    bench.begin(agent, f't{min(agent.lease.ownership.tokens)}')
    agent.leave(bench.now)
    late = bench.start('c')
    bench.run(5.0)
    assert bench.leader == 'a'
    assert late.lease.ownership.tokens


def test_a_leaving_node_does_not_wait_for_the_thread_that_leaves() -> None:
    """Its own tasks cannot be finished while it waits; those of other threads can."""
    bench = Bench()
    (agent,) = bench.cluster('a', shutdown_timeout_sec=20.0)
    agent.lease.begin(TaskStart('t0', 7), 0, bench.clock)
    agent.leave(bench.now, workers=frozenset({7}))
    bench.run(1.0)
    assert agent.phase is Phase.LEFT


def test_a_leaving_node_does_not_wait_for_another_thread_once_that_leaves_as_well() -> None:
    """Each of the two waits for the end of the node, and can finish nothing meanwhile."""
    bench = Bench()
    (agent,) = bench.cluster('a', shutdown_timeout_sec=20.0)
    agent.lease.begin(TaskStart('t0', 7), 0, bench.clock)
    agent.lease.begin(TaskStart('t1', 8), 1, bench.clock)
    agent.leave(bench.now, workers=frozenset({7}))
    bench.run(1.0)
    assert bench.record('a').state is NodeState.JOINED
    agent.leave(bench.now, workers=frozenset({7, 8}))
    bench.run(1.0)
    assert agent.phase is Phase.LEFT


def test_a_second_wish_to_leave_leaves_at_once() -> None:
    """Whoever insists does not wait for tasks in flight."""
    bench = Bench()
    (agent,) = bench.cluster('a', shutdown_timeout_sec=20.0)
    bench.begin(agent, 't0')
    agent.leave(bench.now)
    bench.run(3.0)
    assert bench.record('a').state is NodeState.JOINED
    agent.leave(bench.now, at_once=True)
    bench.run(1.0)
    assert agent.phase is Phase.LEFT


def test_a_leaving_node_waits_for_whoever_is_told() -> None:
    """All its tokens are announced, and it stays until they are released."""
    bench = Bench()
    (agent,) = bench.cluster('a', shutdown_timeout_sec=20.0, announces=True)
    agent.events.clear()
    agent.leave(bench.now)
    (change,) = [event for event in agent.events if isinstance(event, OwnershipChanged)]
    assert change.asked == {0, 1, 2, 3}
    assert change.deadline == bench.now + 20.0
    bench.run(5.0)
    assert bench.record('a').state is NodeState.JOINED
    agent.lease.release(change.asked)
    bench.run(1.0)
    assert agent.phase is Phase.LEFT


def test_a_node_that_left_asks_for_nothing() -> None:
    """Once it has left there is nothing to do, and to leave again changes nothing."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.leave(bench.now)
    bench.run(1.0)
    agent.leave(bench.now)
    assert agent.phase is Phase.LEFT
    assert [agent.next(lane, bench.now) for lane in Lane] == [math.inf] * len(Lane)
    assert bench.record('a').state is NodeState.LEFT


def test_a_node_that_never_registered_leaves_without_a_call() -> None:
    """There is nothing to take back."""
    bench = Bench()
    agent = bench.start('a')
    agent.leave(bench.now)
    assert agent.phase is Phase.LEFT


def test_a_leave_while_registering_takes_the_registration_back() -> None:
    """A registration under way may succeed, and must not stay behind."""
    bench = Bench()
    agent = bench.start('a')
    caught = bench.catch(agent, commands.Register)
    agent.leave(bench.now)
    bench.deliver(caught)
    bench.run(1.0)
    assert agent.phase is Phase.LEFT
    assert bench.record('a').state is NodeState.LEFT


def test_a_deregistration_that_failed_is_repeated() -> None:
    """If the store does not answer, the node tries again until it does."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.leave(bench.now)
    bench.answer(bench.catch(agent, commands.Deregister), AWAY)
    assert bench.record('a').state is NodeState.JOINED
    bench.run(2.0)
    assert agent.phase is Phase.LEFT
    assert bench.record('a').state is NodeState.LEFT


def test_a_task_is_not_begun_by_a_question_in_which_its_own_thread_leaves() -> None:
    """The handler of a signal may leave between any two steps, and does not wait for what its own thread is about to begin."""
    bench = Bench()
    one, two = bench.cluster('a', 'b')

    def while_it_leaves(agent: Agent) -> float:
        agent.leave(bench.now, at_once=True)
        return bench.now

    token = min(one.lease.ownership.tokens)
    assert not one.lease.begin(TaskStart(f't{token}'), token, lambda: while_it_leaves(one))
    assert not one.lease.in_flight
    token = min(two.lease.ownership.tokens)
    assert not two.lease.ours({f't{token}': token}, lambda: while_it_leaves(two))


def test_a_call_is_given_up_by_itself() -> None:
    """Of two threads that serve one lane, the one whose call is over takes nothing from the other."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    at = agent.next(Lane.HEARTBEAT, bench.now)
    assert isinstance(at, float)
    call = agent.next(Lane.HEARTBEAT, at)
    assert isinstance(call, commands.Heartbeat)
    agent.give_up(Lane.HEARTBEAT, commands.TakeSnapshot(), at)
    assert agent.next(Lane.HEARTBEAT, at) == math.inf
    agent.give_up(Lane.HEARTBEAT, call, at)
    assert agent.next(Lane.HEARTBEAT, at) != math.inf
