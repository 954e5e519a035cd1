"""What a node does in a term as leader that is not its first, or that it does not know of."""

from __future__ import annotations

from tests.core.bench import AWAY, TASKS, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import LEAST_PAUSE
from jobsync._core.agent.events import LogMessage
from jobsync._core.records import HistoryKind, LockEdit, LockFilter, LockRequest, Rebalance


def lock_to(pattern: str) -> LockEdit:
    """Lock ``t0`` to the nodes that match."""
    return LockEdit(put=(LockRequest('t0', (pattern,), 'somebody'),))


def logged(agent: Agent, words: str) -> list[str]:
    """The messages with these words that the agent has logged since the last time."""
    found = [event.text for event in agent.events if isinstance(event, LogMessage) and words in event.text]
    agent.events.clear()
    return found


def leads(agent: Agent) -> bool:
    """Whether the agent knows that it leads."""
    return agent._membership.leader_term.is_on


def step_back(bench: Bench, leader: Agent, other: Agent) -> None:
    """Have a reading of the nodes hang until the leader is no candidate, and the other one leads."""
    hanging = bench.catch(leader, commands.TakeSnapshot)
    bench.run_until(lambda: bench.leader == other.config.name)
    bench.deliver(hanging)


def lead_again(bench: Bench, leader: Agent) -> None:
    """Let time pass until the node that has stepped back leads again, in the same incarnation."""
    ref = leader.ref
    bench.run_until(lambda: leads(leader), within=2 * LEAST_PAUSE * leader.config.heartbeat_timeout_sec)
    assert leader.ref == ref


def test_a_leader_logs_in_each_of_its_terms_which_tasks_no_node_matches() -> None:
    """R7: the warning is in the log of each term, though this node has logged it in an earlier one."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.edit_locks(lock_to('none'))
    bench.run(5.0)
    warning = ["no live node matches the patterns of 1 task, which no node may claim: 't0'"]
    assert logged(a, 'match') == warning
    step_back(bench, a, b)
    bench.run(5.0)
    assert logged(b, 'match') == warning
    lead_again(bench, a)
    bench.run(5.0)
    assert logged(a, 'match') == warning


def test_a_leader_logs_the_end_of_nothing_that_it_has_not_logged_in_its_term() -> None:
    """The lock is removed while another node leads, which logs that."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.edit_locks(lock_to('none'))
    bench.run(5.0)
    step_back(bench, a, b)
    bench.run(5.0)
    logged(a, 'match')
    logged(b, 'match')
    bench.edit_locks(LockEdit(LockFilter()))
    bench.run(5.0)
    assert logged(b, 'match') == ['every task with a pattern has a node that matches it again']
    lead_again(bench, a)
    bench.run(5.0)
    bench.start('c')
    bench.run(20.0)
    assert logged(a, 'match') == []


def test_a_node_whose_call_for_the_term_got_no_answer_leads_in_full() -> None:
    """It takes the term once more, so that it does all that a leader does: it logs that it leads, and what no node matches."""
    bench = Bench()
    a = bench.start('a')
    call = bench.catch(a, commands.AcquireLeadership)
    bench.perform(call.call)
    bench.answer(call, AWAY)
    bench.run(20.0)
    assert bench.leader == 'a'
    assert leads(a)
    assert len(logged(a, 'leads in epoch')) == 1
    bench.edit_locks(lock_to('none'))
    bench.run(5.0)
    assert len(logged(a, 'no live node matches')) == 1


def test_the_record_of_a_hand_over_has_nothing_of_an_earlier_term() -> None:
    """What this node planned in an earlier term was ended by another leader: no later hand-over is recorded as a part of it."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.begin(a, *TASKS)
    bench.begin(b, *TASKS)
    c = bench.start('c')
    bench.run_until(lambda: a.lease.assignment.receives('c'))
    step_back(bench, a, b)
    for agent in (a, b):
        agent.lease.finish(list(agent.lease.in_flight))
    bench.run_until(lambda: c.is_settled and len(c.lease.ownership.tokens) == 1)
    may_lead_at = bench.now + (LEAST_PAUSE - 0.5) * a.config.heartbeat_timeout_sec
    bench.run(may_lead_at - bench.now)
    assert bench.leader == 'b'
    for agent in (a, b):
        bench.begin(agent, *TASKS)
    d = bench.start('d')
    bench.run_until(lambda: b.lease.assignment.receives('d'))
    assert bench.leader == 'b'
    lead_again(bench, a)
    led_at = bench.now
    assert a.lease.assignment.receives('d')
    for agent in (a, b):
        agent.lease.finish(list(agent.lease.in_flight))
    bench.run_until(lambda: len(d.lease.ownership.tokens) == 1)
    last = bench.backend.history(HistoryKind.REBALANCE)[0]
    assert isinstance(last, Rebalance)
    assert (last.leader_node, last.trigger_reason, last.nodes_before) == ('a', 'hand-over', 4)
    assert last.duration_ms <= 1000 * (bench.now - led_at)
