"""The lease (rule R1), and what an eviction or a late answer does to it (rule R6)."""

from __future__ import annotations

import math

import attrs
import pytest
from tests.core.bench import AWAY, TASKS, Bench
from tests.core.builders import token_of
from tests.support.starts import finish

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import LogMessage, OwnershipChanged
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.ownership import Grant
from jobsync._core.agent.phase import Phase
from jobsync._core.records import INITIAL, Node, Pulse
from jobsync.errors import Evicted

# --- the lease (R1) -------------------------------------------------------------------------------------------------------


def test_the_lease_counts_from_before_the_heartbeat_was_sent() -> None:
    """However long the answer takes, the lease ends 0.9 timeouts after the node made the call."""
    bench = Bench()
    agent = bench.start('a')
    caught = bench.catch(agent, commands.Heartbeat)
    sent = bench.now
    bench.now += 4.0
    bench.deliver(caught)
    assert agent.lease.deadline == sent + 13.5


def test_a_slow_heartbeat_is_logged() -> None:
    """A heartbeat that takes more than a quarter of the lease is reported with both durations; a faster one is not."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    for seconds, lines in ((3.3, []), (3.5, ['a heartbeat took 3.5 s, and the lease is 13.5 s'])):
        caught = bench.catch(agent, commands.Heartbeat)
        agent.events.clear()
        bench.now += seconds
        bench.deliver(caught)
        assert [event.text for event in agent.events if isinstance(event, LogMessage) and event.level == 'slow'] == lines


def test_a_token_that_shows_as_owned_may_be_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever another thread comes between two steps of the agent's: a worker that waits for a token begins its task then."""
    seen = 0

    def get(lease: Lease) -> Grant:
        grant: Grant = vars(lease)['grant']
        return grant

    def set_(lease: Lease, grant: Grant) -> None:
        nonlocal seen
        if before := vars(lease).get('grant'):
            seen += len(lease.ownership.tokens)
            assert all(before[2][token] for token in lease.ownership.tokens)
        vars(lease)['grant'] = grant

    monkeypatch.setattr(Lease, 'grant', property(get, set_), raising=False)
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.set_weight(0.0)
    bench.run(20.0)
    assert not agent.lease.ownership.tokens
    agent.set_weight(1.0)
    bench.run(20.0)
    assert agent.lease.ownership.tokens
    assert seen


def test_the_lease_is_over_at_its_deadline() -> None:
    """A node claims until the deadline, and from that very moment on it does not."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    assert agent.lease.may_claim('t0', 0, lambda: math.nextafter(agent.lease.deadline, 0.0))
    assert not agent.lease.may_claim('t0', 0, lambda: agent.lease.deadline)
    assert not agent.lease.begin(TaskStart('t0'), 0, lambda: agent.lease.deadline)


def test_there_is_no_lease_before_the_first_heartbeat() -> None:
    """To be registered is not enough."""
    bench = Bench()
    agent = bench.start('a')
    bench.catch(agent, commands.Heartbeat)
    assert agent.phase is Phase.MEMBER
    assert agent.lease.deadline < 0.0


def test_a_failed_heartbeat_extends_nothing_and_is_repeated() -> None:
    """A heartbeat that came to nothing leaves the lease as it was; the next one comes a second later."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    caught, deadline = bench.catch(agent, commands.Heartbeat), agent.lease.deadline
    bench.answer(caught, AWAY)
    assert agent.lease.deadline == deadline
    assert agent.next(Lane.HEARTBEAT, bench.now) == bench.now + 1.0
    assert isinstance(agent.next(Lane.HEARTBEAT, bench.now + 1.0), commands.Heartbeat)


def test_an_answer_that_comes_after_its_lease_tells_of_nothing() -> None:
    """A heartbeat answered when what it was good for is over gains no token, in ownership and in what is told alike."""
    bench = Bench()
    agent = bench.start('a')
    while (caught := bench.catch(agent, commands.Heartbeat)).call.seen == INITIAL:
        bench.deliver(caught)
    answer = bench.perform(caught.call)
    bench.now += agent.config.lease_sec
    agent.events.clear()
    bench.answer(caught, answer)
    assert agent.lease.ownership.is_empty
    assert not agent.lease.may_claim('t0', 0, bench.clock)
    assert not [event for event in agent.events if isinstance(event, OwnershipChanged)]
    bench.run(6.0)
    assert not agent.lease.ownership.is_empty
    assert [event.gained for event in agent.events if isinstance(event, OwnershipChanged)] == [agent.lease.ownership.tokens]


def test_the_lease_of_a_heartbeat_answered_after_the_next_failed_is_its_own() -> None:
    """Each heartbeat extends the lease from its own sending."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.answer(bench.catch(agent, commands.Heartbeat), AWAY)
    caught = bench.catch(agent, commands.Heartbeat)
    sent = bench.now
    bench.now += 2.0
    bench.deliver(caught)
    assert agent.lease.deadline == sent + 13.5


def test_an_outage_moves_nothing() -> None:
    """P4: without the store the nodes claim until their leases end, and afterwards go on with the same tokens."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    before = [agent.lease.ownership.tokens for agent in agents]
    incarnations = [agent.ref for agent in agents]
    for agent in agents:
        bench.cut_off(agent)
    bench.run(60.0)
    assert [agent.lease.may_claim(key, token_of(key), bench.clock) for agent in agents for key in TASKS] == [False] * 8
    bench.cut.clear()
    bench.run(60.0)
    assert [agent.lease.ownership.tokens for agent in agents] == before
    assert [agent.ref for agent in agents] == incarnations
    assert all(bench.now < agent.lease.deadline for agent in agents)


def test_the_end_of_a_lease_is_noted_once() -> None:
    """The log has one line for a lease that has ended, and one for the next."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.cut_off(agent)
    agent.events.clear()
    bench.run(60.0)
    bench.cut.clear()
    bench.run(10.0)
    texts = [event.text for event in agent.events if isinstance(event, LogMessage) and event.level != 'retry']
    assert [('over' in text, 'has a lease' in text) for text in texts] == [(True, False), (False, True)]


# --- a lease that had ended -------------------------------------------------------------------------------------------------


def test_a_lease_that_had_ended_needs_the_version_at_hand() -> None:
    """A row that was deleted and is put back lets heartbeats succeed; the tokens were given away meanwhile."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.cut_off(b)
    record = bench.record('b')
    bench.store.delete_node_row('sync_', 'b')
    bench.run_until(lambda: bench.claims(a, *TASKS) == [True] * 4)
    put_back(bench, record)
    bench.cut.discard((b, Lane.HEARTBEAT))
    sent = len(bench.made)
    bench.run(20.0)
    beats = [one for one in bench.made[sent:] if one.agent is b and isinstance(one.answer, Pulse)]
    assert beats
    assert bench.claims(b, *TASKS) == [False] * 4
    bench.cut.clear()
    bench.run(20.0)
    assert (a.is_settled, b.is_settled) == (True, True)
    assert sorted(sum(bench.claims(agent, key)[0] for agent in (a, b)) for key in TASKS) == [1] * 4


def test_heartbeats_that_extend_no_lease_are_sent_with_pauses() -> None:
    """A node whose readings fail, and that has finished a task meanwhile, does not report that as fast as the store answers."""
    bench = Bench()
    a, b = bench.cluster('a', 'b', handover_timeout_sec=1000.0)
    keys = [f't{token}' for token in b.lease.ownership.tokens]
    bench.begin(b, *keys)
    c = bench.start('c')
    bench.run_until(lambda: bool(b.lease.holding(bench.now)))
    bench.run(5.0)
    for agent in (a, b, c):
        bench.cut_off(agent)
    bench.run(30.0)
    bench.cut.difference_update((a, lane) for lane in Lane)
    bench.start('d')
    version = a.lease.assignment.version
    bench.run_until(lambda: a.lease.assignment.version != version)
    bench.cut.discard((b, Lane.HEARTBEAT))
    finish(b.lease, keys)
    sent = len(bench.made)
    bench.run(10.0)
    answers = [one.answer for one in bench.made[sent:] if one.agent is b and isinstance(one.answer, Pulse)]
    assert b.lease.assignment.version == version
    assert 1 <= len(answers) <= 10 / b.config.retry_sec + len({answer.version for answer in answers})


def put_back(bench: Bench, record: Node) -> None:
    """Insert a node's row by hand."""
    space = bench.store.spaces['sync_']
    head = attrs.evolve(space.state, nodes={**space.state.nodes, record.name: record})
    with bench.store.changed:
        bench.store.put('sync_', attrs.evolve(space, state=head.changed(bench.store.context())))


def test_a_lease_that_ended_in_an_outage_is_back_with_the_first_heartbeat() -> None:
    """Nothing has moved, so nothing has to be read."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.cut_off(agent)
    bench.run(40.0)
    bench.cut.discard((agent, Lane.HEARTBEAT))
    bench.run(1.1)
    assert bench.claims(agent, *TASKS) == [True] * 4


# --- late answers, eviction (R6) ------------------------------------------------------------------------------------------


def evict(bench: Bench, agent: Agent) -> None:
    """Let the agent be told, by its next heartbeat, that it is no longer registered."""
    caught = bench.catch(agent, commands.Heartbeat)
    bench.answer(caught, Evicted('no longer registered'))


def test_an_evicted_node_owns_nothing_at_once() -> None:
    """The answer that says so ends the lease and all claims, and the change is told as a loss."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.events.clear()
    evict(bench, agent)
    assert bench.claims(agent, *TASKS) == [False] * 4
    assert agent.lease.ownership.is_empty
    assert agent.lease.deadline < bench.now
    assert [event.lost for event in agent.events if isinstance(event, OwnershipChanged)] == [{0, 1, 2, 3}]


def test_an_evicted_node_registers_as_a_new_incarnation() -> None:
    """It comes back under its name, in a new run, and declares the former one over."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    before = agent.ref
    evict(bench, agent)
    assert agent.ref.name == before.name
    assert agent.ref.incarnation != before.incarnation
    register = bench.catch(agent, commands.Register)
    assert register.call.node.ref == agent.ref
    assert register.call.node.replaces == {before.incarnation}


def test_a_deleted_record_is_noticed() -> None:
    """A node whose row was deleted by hand comes back by itself and gets its tokens again."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    before = agents[1].lease.ownership.tokens
    bench.store.delete_node_row('sync_', 'b')
    bench.run(6.0)
    assert bench.record('b').incarnation == agents[1].ref.incarnation
    assert bench.record('b').replaces
    bench.run(20.0)
    assert agents[1].lease.ownership.tokens == before


def test_an_answer_to_an_older_incarnation_is_dropped() -> None:
    """A heartbeat that succeeded before the node was evicted gives the new incarnation no lease, however late it is heard of."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    caught = bench.catch(agent, commands.Heartbeat)
    answer = bench.perform(caught.call)
    bench.store.delete_node_row('sync_', 'a')
    agent.hint(bench.backend.snapshot().revision.number, bench.now)
    bench.run_until(lambda: agent.ref != caught.call.ref)
    bench.answer(caught, answer)
    assert agent.lease.deadline < 0.0
    assert agent.lease.ownership.is_empty


def test_an_error_of_an_older_incarnation_is_dropped() -> None:
    """That the former incarnation is evicted is no news to its successor."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    caught = bench.catch(agent, commands.Heartbeat)
    bench.store.delete_node_row('sync_', 'a')
    agent.hint(bench.backend.snapshot().revision.number, bench.now)
    bench.run_until(lambda: agent.ref != caught.call.ref)
    successor = agent.ref
    bench.answer(caught, Evicted('no longer registered'))
    assert agent.ref == successor


def test_the_end_of_a_lease_is_declared_once_and_so_is_its_return() -> None:
    """All that is owned is lost when the lease ends, and gained with the next one."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    mine = agent.lease.ownership.tokens
    bench.cut_off(agent)
    agent.events.clear()
    bench.run(20.0)
    assert [(event.gained, event.lost) for event in agent.events if isinstance(event, OwnershipChanged)] == [(frozenset(), mine)]
    agent.events.clear()
    bench.cut.clear()
    bench.run(20.0)
    assert [(event.gained, event.lost) for event in agent.events if isinstance(event, OwnershipChanged)] == [(mine, frozenset())]


def test_an_end_that_nobody_saw_is_none() -> None:
    """A heartbeat whose answer comes just after the lease before it, before anybody has looked, tells of nothing."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    caught = bench.catch(agent, commands.Heartbeat)
    agent.events.clear()
    answer = bench.perform(caught.call)
    bench.now = agent.lease.deadline + 0.5
    bench.answer(caught, answer)
    agent.lease.declare_end(bench.now)
    assert bench.claims(agent, 't0') == [True]
    assert [event for event in agent.events if isinstance(event, OwnershipChanged)] == []
