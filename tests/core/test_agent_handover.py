"""Gaining and losing tokens, with and without work on them (rule R3)."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import attrs
import pytest
from tests.core.bench import AWAY, TASKS, Bench
from tests.core.builders import token_of
from tests.support.starts import finish, in_flight

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import LogMessage, OwnershipChanged
from jobsync._core.agent.in_flight import InFlight, TaskStart
from jobsync._core.agent.lease import Clock, Lease
from jobsync._core.agent.ownership import Ownership


def test_a_gain_waits_for_the_acknowledging_heartbeat() -> None:
    """Tokens read of are claimable only when a heartbeat that acknowledges their version has succeeded."""
    bench = Bench()
    agent = bench.start('a')
    bench.deliver(bench.catch(agent, commands.ReadAssignment))
    assert agent.lease.ownership.is_empty
    caught = bench.catch(agent, commands.Heartbeat)
    assert caught.call.seen == bench.backend.snapshot().version
    answer = bench.perform(caught.call)
    assert agent.lease.ownership.is_empty
    bench.answer(caught, answer)
    assert len(agent.lease.ownership.tokens) == 4


def test_a_failed_acknowledgement_gains_nothing() -> None:
    """If it is not known whether the heartbeat arrived, nothing is gained."""
    bench = Bench()
    agent = bench.start('a')
    bench.deliver(bench.catch(agent, commands.ReadAssignment))
    bench.answer(bench.catch(agent, commands.Heartbeat), AWAY)
    assert agent.lease.ownership.is_empty
    assert not agent.is_settled
    bench.run(2.0)
    assert agent.is_settled


def test_a_heartbeat_sent_before_the_version_was_read_does_not_acknowledge_it() -> None:
    """A heartbeat that was under way when the version was read says nothing of it."""
    bench = Bench()
    agent = bench.start('a')
    read = bench.catch(agent, commands.ReadAssignment)
    agent.beat_soon()
    beat = bench.catch(agent, commands.Heartbeat)
    bench.deliver(read)
    bench.deliver(beat)
    assert agent.lease.ownership.is_empty


def taken_from(bench: Bench, agent: Agent) -> frozenset[int]:
    """Let ``b`` join and the agent read, but not acknowledge, which tokens it is asked for; return them."""
    before = agent.lease.ownership.tokens
    bench.start('b')
    bench.deliver(bench.catch(agent, commands.ReadAssignment))
    return before - agent.lease.ownership.tokens


def test_a_loss_takes_effect_when_it_is_read() -> None:
    """A token that the node is asked for is not claimable from the reading on, before any heartbeat."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    lost = taken_from(bench, agent)
    assert len(lost) == 2
    assert bench.claims(agent, *TASKS) == [token not in lost for token in range(4)]


@pytest.mark.parametrize(('part', 'name'), [(Ownership, 'allows_same'), (Ownership, 'both'), (Lease, '_set')])
def test_a_loss_for_which_there_is_no_memory_is_not_acknowledged(
    part: type[object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version whose reading ended half-way does not count as read. It is read again."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    before = agent.lease.assignment.version
    bench.start('b')
    read = bench.catch(agent, commands.ReadAssignment)
    with monkeypatch.context() as patch:
        patch.setattr(part, name, Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            bench.deliver(read)
    agent.give_up(read.lane, read.call, bench.now)
    agent.beat_soon()
    beat = bench.catch(agent, commands.Heartbeat)
    assert beat.call.seen == before
    bench.deliver(beat)
    bench.run(5.0)
    assert agent.is_settled
    assert len(agent.lease.ownership.tokens) == 2


def test_a_loss_is_told() -> None:
    """The change of what may be claimed is among the events, as given up and not as lost."""
    bench = Bench()
    (agent,) = bench.cluster('a', announces=True)
    agent.events.clear()
    asked = taken_from(bench, agent)
    (change,) = [event for event in agent.events if isinstance(event, OwnershipChanged)]
    assert (change.asked, change.lost, change.gained) == (asked, frozenset(), frozenset())


def test_begin_is_refused_on_a_token_being_given_up() -> None:
    """No task is begun on a token that the node is asked for, and none is left marked."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    lost = taken_from(bench, agent)
    assert bench.begin(agent, *TASKS) == [token not in lost for token in range(4)]
    assert set(in_flight(agent.lease)) == {key for key in TASKS if token_of(key) not in lost}


def test_a_task_in_flight_is_not_begun_again_on_a_token_being_given_up() -> None:
    """To be at work on a task gives no right to begin it once more; it stays marked until it is finished."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.begin(agent, *TASKS)
    (first, *_) = sorted(taken_from(bench, agent))
    assert bench.begin(agent, f't{first}') == [False]
    assert f't{first}' in in_flight(agent.lease)


def test_an_eviction_in_the_midst_of_a_hand_over() -> None:
    """A token stays with the node's next run while the task of the run before goes on, though no plan has that run yet."""
    bench = Bench()
    leader, agent = bench.cluster('a', 'b')
    bench.begin(agent, *TASKS)
    bench.start('c')
    bench.start('d')
    bench.run_until(lambda: bool(bench.record('b').holding))
    (held,) = bench.record('b').holding
    bench.backend.remove_node(agent.ref)
    read = bench.catch(leader, commands.TakeSnapshot)
    bench.run(3.0)
    assert bench.record('b').seen == bench.backend.snapshot().version
    assert bench.record('b').holding == {held}
    bench.deliver(read)
    bench.run(5.0)
    assert bench.record('b').holding == {held}
    finish(agent.lease, TASKS)
    bench.run(5.0)
    assert bench.record('b').holding == frozenset()


def while_it_looks(agent: Agent, monkeypatch: pytest.MonkeyPatch, before: bool, act: Callable[[], object]) -> None:
    """The next time that a thread looks at whether it may begin a task, let ``act`` happen just before or just after that."""
    look = agent.lease.may_claim

    def looks(key: str, token: int, clock: Clock) -> bool:
        monkeypatch.undo()
        if before:
            act()
        may = look(key, token, clock)
        if not before:
            act()
        return may

    monkeypatch.setattr(agent.lease, 'may_claim', looks)


def one_to_lose() -> int:
    """A token that ``taken_from`` takes from a lone node."""
    bench = Bench()
    return min(taken_from(bench, *bench.cluster('a')))


def test_a_refusal_takes_no_mark_of_another_thread_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads begin one task, which is asked for when the one has begun it and the other has yet to look."""
    bench, token = Bench(), one_to_lose()
    (agent,) = bench.cluster('a')

    def other_begins() -> None:
        assert bench.begin(agent, f't{token}') == [True]
        assert token in taken_from(bench, agent)

    while_it_looks(agent, monkeypatch, True, other_begins)
    assert not agent.lease.begin(TaskStart(f't{token}', 2), token, bench.clock)
    assert set(in_flight(agent.lease)) == {f't{token}'}
    bench.run(5.0)
    assert bench.record('a').holding == {token}


def test_a_task_counts_as_in_flight_from_before_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is asked for just after a thread has looked, and before the task is marked, is reported as held."""
    bench, token = Bench(), one_to_lose()
    (agent,) = bench.cluster('a')

    def asked_and_acknowledged() -> None:
        assert token in taken_from(bench, agent)
        bench.run(5.0)
        assert bench.record('a').holding == {token}
        assert agent.lease.is_busy(frozenset())

    while_it_looks(agent, monkeypatch, False, asked_and_acknowledged)
    assert agent.lease.begin(TaskStart(f't{token}', 2), token, bench.clock)
    bench.run(5.0)
    assert bench.record('a').holding == {token}
    finish(agent.lease, [f't{token}'])
    bench.run(5.0)
    assert token in bench.agents[1].lease.ownership.tokens


def test_a_task_in_flight_keeps_its_token_until_it_is_finished() -> None:
    """R3: the tokens asked for and still worked on are reported as held, and go when the work is done."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.begin(agent, *TASKS)
    lost = taken_from(bench, agent)
    other = bench.agents[1]
    bench.run(10.0)
    assert bench.record('a').holding == lost
    assert other.lease.ownership.is_empty
    finish(agent.lease, TASKS)
    bench.run(1.0)
    assert bench.record('a').holding == frozenset()
    assert other.lease.ownership.tokens == lost


def test_only_the_busy_tokens_wait() -> None:
    """A token without work goes to its new owner at once."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.begin(agent, 't0', 't1', 't2')
    lost = taken_from(bench, agent)
    finish(agent.lease, [f't{token}' for token in range(4) if token != min(lost)])
    bench.run(2.0)
    assert bench.record('a').holding == {min(lost)}
    assert bench.agents[1].lease.ownership.tokens == lost - {min(lost)}


def test_the_end_of_one_task_does_not_go_through_all_others() -> None:
    """Of thousands in flight during a hand-over, all that end within a moment are noticed together, and the last in time."""
    count, gone_through, now = 2000, list[str](), 10.0
    bench = Bench()
    (agent,) = bench.cluster('a')
    lost, assignment = taken_from(bench, agent), agent.lease.assignment

    def token(key: str) -> int:
        gone_through.append(key)
        return int(key) % len(TASKS)

    tasks = InFlight(token, 60.0)
    tasks.starts.update({TaskStart(f'{number}'): None for number in range(count)})
    tasks.reported = tasks.holding(assignment, agent.ref, now)
    assert tasks.reported == lost
    for number in range(100):
        del tasks.starts[TaskStart(f'{number}')]
        now += 0.0001
        tasks.due(assignment, agent.ref, now)
    assert len(gone_through) < 3 * count
    tasks.starts.clear()
    assert tasks.due(assignment, agent.ref, now + 0.1) == now + 0.1


def test_a_hand_over_waits_no_longer_than_its_timeout() -> None:
    """After ``handover_timeout_sec`` the token goes though the task is still in flight."""
    bench = Bench()
    (agent,) = bench.cluster('a', handover_timeout_sec=7.0)
    bench.begin(agent, *TASKS)
    lost = taken_from(bench, agent)
    asked = bench.now
    bench.run_until(lambda: bench.record('a').holding == lost)
    bench.run_until(lambda: not bench.record('a').holding)
    assert asked + 7.0 <= bench.now < asked + 7.1
    bench.run(1.0)
    assert bench.agents[1].lease.ownership.tokens == lost
    assert set(in_flight(agent.lease)) == set(TASKS)


def given_up(agent: Agent) -> list[str]:
    """The lines about tokens that the node gave up in the midst of work."""
    return [event.text for event in agent.events if isinstance(event, LogMessage) and 'gives up' in event.text]


def test_a_token_given_up_in_the_midst_of_a_task_is_logged() -> None:
    """One line names the tasks that the next owner may begin while they run here; tasks that end in time have none."""
    bench = Bench()
    (agent,) = bench.cluster('a', handover_timeout_sec=7.0)
    bench.begin(agent, *TASKS)
    lost = taken_from(bench, agent)
    bench.run_until(lambda: bench.record('a').holding == lost)
    done, late = sorted((key for key in TASKS if token_of(key) in lost), key=token_of)
    finish(agent.lease, [done])
    bench.run(5.0)
    assert given_up(agent) == []
    bench.run(20.0)
    work = f'1 token in the midst of {late!r}, since handover_timeout_sec (7) is over'
    assert given_up(agent) == [f"node 'a' gives up {work}: the next owner may begin the same work"]


def test_a_hand_over_that_is_called_off_is_not_logged() -> None:
    """A node that keeps its token after all, since the one that was to have it has gone, has given up none."""
    bench = Bench()
    (agent,) = bench.cluster('a', handover_timeout_sec=100.0)
    bench.begin(agent, *TASKS)
    lost = taken_from(bench, agent)
    bench.run_until(lambda: bench.record('a').holding == lost)
    bench.agents[1].leave(bench.now)
    bench.run_until(lambda: not bench.record('a').holding)
    assert len(agent.lease.ownership.tokens) == 4
    assert given_up(agent) == []


def test_a_task_in_flight_holds_a_token_whose_row_is_deleted() -> None:
    """The row is gone by an operator's hand and the token is not claimable; but nobody gets it until the task is finished."""
    bench = Bench()
    agents = bench.cluster('a', 'b', handover_timeout_sec=1000.0)
    busy = agents[1]
    key = next(key for key in TASKS if bench.claims(busy, key) == [True])
    assert bench.begin(busy, key) == [True]
    bench.store.delete_token_rows('sync_', [token_of(key)])
    bench.run(60.0)
    assert bench.record('b').holding == {token_of(key)}
    assert [bench.claims(agent, key) for agent in agents] == [[False], [False]]
    finish(busy.lease, [key])
    bench.run(10.0)
    assert [bench.claims(agent, key) for agent in agents].count([True]) == 1


# --- told before they go ----------------------------------------------------------------------------------------------------


def announced(bench: Bench, agent: Agent) -> OwnershipChanged:
    """Let another join, and return the change by which the node is told what it is asked for."""
    agent.events.clear()
    bench.start('b')
    bench.run_until(lambda: any(isinstance(event, OwnershipChanged) for event in agent.events))
    (change,) = [event for event in agent.events if isinstance(event, OwnershipChanged)]
    return change


def test_announced_tokens_stay_until_they_are_released() -> None:
    """The next owner has them only after whoever was told is ready; nobody claims them meanwhile."""
    bench = Bench()
    (agent,) = bench.cluster('a', announces=True)
    change = announced(bench, agent)
    bench.run(8.0)
    other = bench.agents[-1]
    assert len(change.asked) == 2
    assert other.lease.ownership.is_empty
    assert not any(bench.claims(agent, *(f't{token}' for token in change.asked)))
    agent.lease.release(change.asked)
    bench.run(1.0)
    assert other.lease.ownership.tokens == change.asked


def test_announced_tokens_go_at_the_deadline() -> None:
    """Whoever is told and never ready delays them by ``handover_timeout_sec`` and no longer."""
    bench = Bench()
    (agent,) = bench.cluster('a', announces=True, handover_timeout_sec=10.0)
    change = announced(bench, agent)
    other = bench.agents[-1]
    bench.run_until(lambda: bench.now >= change.deadline - 0.5)
    assert other.lease.ownership.is_empty
    bench.run(3.0)
    assert other.lease.ownership.tokens == change.asked
    assert ['2 tokens before on_revoke has returned' in line for line in given_up(agent)] == [True]


def test_a_token_announced_twice_is_released_twice() -> None:
    """If it is asked for again before the first call is over, the end of the first does not let it go."""
    bench = Bench()
    (agent,) = bench.cluster('a', announces=True)
    change = announced(bench, agent)
    first = bench.agents[-1]
    first.leave(bench.now)
    bench.run(8.0)
    assert len(agent.lease.ownership.tokens) == 4
    agent.events.clear()
    bench.start('c')
    bench.run_until(lambda: any(isinstance(event, OwnershipChanged) and event.asked for event in agent.events))
    again = next(event for event in agent.events if isinstance(event, OwnershipChanged) and event.asked)
    agent.lease.release(change.asked)
    bench.run(8.0)
    both = change.asked & again.asked
    assert both
    assert not both & bench.agents[-1].lease.ownership.tokens
    agent.lease.release(again.asked)
    bench.run(1.0)
    assert bench.agents[-1].lease.ownership.tokens == again.asked


def test_announced_tokens_stay_through_an_eviction() -> None:
    """They stay with the node's next run until they are released, as tasks in flight do."""
    bench = Bench()
    (agent,) = bench.cluster('a', announces=True)
    change = announced(bench, agent)
    other = bench.agents[-1]
    bench.backend.remove_node(agent.ref)
    bench.run(8.0)
    assert bench.record('a').holding == change.asked
    assert not change.asked & other.lease.ownership.tokens
    agent.lease.release(change.asked)
    bench.run(1.0)
    assert other.lease.ownership.tokens == change.asked


def test_a_token_announced_again_after_an_eviction_is_released_twice() -> None:
    """The end of a call that the run before has announced does not let go of what the next run has announced since."""
    bench = Bench()
    (agent,) = bench.cluster('a', announces=True)
    change = announced(bench, agent)
    bench.backend.remove_node(agent.ref)
    bench.agents[-1].leave(bench.now)
    bench.run(8.0)
    assert len(agent.lease.ownership.tokens) == 4
    again = announced(bench, agent)
    agent.lease.release(change.asked)
    bench.run(8.0)
    assert change.asked & again.asked
    assert not change.asked & bench.agents[-1].lease.ownership.tokens


# --- weight at run time -----------------------------------------------------------------------------------------------------


def test_a_new_weight_moves_the_share() -> None:
    """A node that weighs three times as much as the other has three of four tokens."""
    bench = Bench()
    one, two = bench.cluster('a', 'b')
    two.set_weight(3.0)
    bench.run(10.0)
    assert (len(one.lease.ownership.tokens), len(two.lease.ownership.tokens)) == (1, 3)


def test_weight_nothing_drains_a_node() -> None:
    """It stays registered, owns nothing, and gets its share back with its weight."""
    bench = Bench()
    one, two = bench.cluster('a', 'b')
    two.set_weight(0.0)
    bench.run(10.0)
    assert (len(one.lease.ownership.tokens), two.lease.ownership.is_empty) == (4, True)
    assert two.is_settled
    two.set_weight(1.0)
    bench.run(10.0)
    assert len(two.lease.ownership.tokens) == 2


def test_a_weight_that_the_store_forgot_is_written_again() -> None:
    """The store goes back to before it was written, and nothing has read the position that shows it."""
    bench = Bench()
    one, two = bench.cluster('a', 'b')
    two.set_weight(0.0)
    caught = bench.catch(two, commands.SetWeight)
    image = bench.store.image()
    answer = bench.perform(caught.call)
    bench.store.restore(image)
    bench.answer(caught, answer)
    bench.run(30.0)
    assert bench.record('b').weight == 0.0
    assert (len(one.lease.ownership.tokens), two.lease.ownership.is_empty) == (4, True)


def test_a_weight_is_not_written_again_for_good() -> None:
    """A call that was given up may arrive late, and is made good; not for as long as the node runs."""
    bench = Bench()
    _, two = bench.cluster('a', 'b')
    two.set_weight(0.0)
    caught = bench.catch(two, commands.SetWeight)
    bench.answer(caught, AWAY)
    bench.run(60.0)
    late = attrs.evolve(caught.call, weight=1.0)
    bench.perform(late)
    bench.run(60.0)
    assert bench.record('b').weight == 0.0
    bench.run(1800.0)
    made = len(bench.made)
    bench.run(600.0)
    assert not [one for one in bench.made[made:] if isinstance(one.call, commands.SetWeight)]


def test_a_new_run_keeps_its_weight() -> None:
    """An evicted node registers again with the weight it has been given."""
    bench = Bench()
    agent, _ = bench.cluster('a', 'b')
    agent.set_weight(0.0)
    bench.run(10.0)
    bench.cut_off(agent)
    bench.run(40.0)
    bench.cut.clear()
    bench.run(30.0)
    assert bench.record('a').weight == 0.0
    assert agent.lease.ownership.is_empty


def test_a_weight_given_while_the_answer_to_the_registration_was_lost() -> None:
    """The record that the node then finds has the weight from before, and gets the new one."""
    bench = Bench()
    bench.cluster('a')
    agent = bench.start('b')
    caught = bench.catch(agent, commands.Register)
    bench.perform(caught.call)
    bench.answer(caught, AWAY)
    agent.set_weight(3.0)
    bench.run(10.0)
    assert bench.record('b').weight == 3.0
    assert len(agent.lease.ownership.tokens) == 3
