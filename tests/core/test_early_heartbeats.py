"""Which nodes answer a version at once, and which with their next heartbeat in turn."""

from __future__ import annotations

import copy

from tests.core.bench import AWAY, Bench, Made
from tests.core.builders import token_of

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.leader.admission import MANY
from jobsync._core.leader.affected import affected_by
from jobsync._core.leader.decide import decide
from jobsync.backend import Assignment, Changes, Hint, LockEdit, LockFilter, LockRequest, Member, Pin, Revision, TokenGroup

NAMES = 'abcdefghi'
"""The leader, five nodes next in line, and three more."""


def after_a_heartbeat_of(bench: Bench, agent: Agent) -> int:
    """Let time pass until all agents have sent a heartbeat, this one last; return the number of calls so far."""
    bench.run(20.0)
    bench.run_until(lambda: bench.made[-1].agent is agent and isinstance(bench.made[-1].call, commands.Heartbeat))
    return len(bench.made)


def a_task_of(bench: Bench, agent: Agent) -> str:
    """Return a task that this agent may claim."""
    return next(key for key in (f't{token}' for token in range(27)) if bench.claims(agent, key) == [True])


def made_by(bench: Bench, agent: Agent, since: int) -> list[str]:
    """Return the names of the calls that an agent has made since."""
    return [type(made.call).__name__ for made in bench.made[since:] if made.agent is agent]


def is_answered(made: Made, agent: Agent, kind: type[object]) -> bool:
    """Return whether a call is an agent's, of this kind, and did not fail."""
    return made.agent is agent and isinstance(made.call, kind) and made.answer is not AWAY


def lock(bench: Bench, task: str, pattern: str) -> None:
    """Lock a task to a node."""
    bench.edit_locks(LockEdit(put=(LockRequest(task, (pattern,), 'test'),)))


def test_a_version_that_changes_nothing_for_a_node_costs_it_no_call() -> None:
    """A hand-over between two nodes is over before a third one, which is neither leader nor next in line, has made a call."""
    bench = Bench(tokens=27)
    *_, giver, taker, other = bench.cluster(*NAMES)
    task = a_task_of(bench, giver)
    since = after_a_heartbeat_of(bench, other)
    lock(bench, task, taker.config.name)
    bench.run_until(lambda: bench.claims(taker, task) == [True], within=1.0)
    assert made_by(bench, other, since) == []
    assert made_by(bench, giver, since)[:2] == ['ReadAssignment', 'Heartbeat']
    assert made_by(bench, taker, since)[-2:] == ['ReadAssignment', 'Heartbeat']
    bench.run(12.0)
    assert bench.record(other.config.name).seen == bench.backend.snapshot().version


def test_the_owner_of_the_hash_token_reads_at_once_that_a_lock_has_gone() -> None:
    """It gains the task, though no row of its own is written: not before its acknowledgement has succeeded (rule R3)."""
    bench = Bench(tokens=27)
    *_, giver, taker, other = bench.cluster(*NAMES)
    task = a_task_of(bench, giver)
    lock(bench, task, taker.config.name)
    after_a_heartbeat_of(bench, other)
    assert bench.claims(giver, task) == [False]
    bench.edit_locks(LockEdit(LockFilter(task_ids=frozenset([task]))))
    bench.run_until(lambda: not giver.lease.assignment.pins, within=1.0)
    acknowledgement = bench.catch(giver, commands.Heartbeat, within=0.1)
    assert bench.claims(giver, task) == [False]
    bench.deliver(acknowledgement)
    assert bench.claims(giver, task) == [True]


def test_of_many_newcomers_those_that_have_to_wait_are_named_when_they_gain() -> None:
    """Until others have released something, they find nothing in the plan. One that gets nothing at all has to learn of that."""
    old = Assignment.empty(4).apply(Changes(Revision(1, 1), None, {'a': Member('1', 1.0, 1)}, (TokenGroup(range(4), 'a'),), ()))
    few = {f'n{number}': Member('2', 1.0, 2) for number in range(MANY)}
    many = {**few, 'm': Member('3', 0.0, 2)}
    groups = [TokenGroup([3], 'a', target=name) for name in few]
    assert affected_by(old, few, groups, (), asks_again=True) == {'a', *few}
    assert affected_by(old, many, groups, (), asks_again=True) == {'a', 'm'}
    assert affected_by(old, many, [], [Pin(7, 't', 'a', 'n0')], asks_again=True) == {'a', *many} - {'n0'}
    assert affected_by(old, {}, [TokenGroup([3], 'n0')], (), asks_again=True) == {'n0'}
    again = {**many, 'a': Member('4', 1.0, 2)}
    assert affected_by(old, again, [TokenGroup([3], None, target='a'), *groups[1:]], (), asks_again=True) >= {'a', 'n0', 'm'}


def test_a_plan_affects_those_that_lose_or_gain_or_are_still_to_release_something() -> None:
    """An owner that was asked for a token by another leader has to acknowledge the new version."""
    rows = [
        TokenGroup([0], 'a'),
        TokenGroup([1], 'b', target='c'),
        TokenGroup([2], 'd', target='c'),
        TokenGroup([3], None),
    ]
    pins = (Pin(5, 't0', 'e', 'a'), Pin(6, 't1', 'f'))
    old = Assignment.empty(4).apply(Changes(Revision(7, 1), None, {}, tuple(rows), pins))
    changed = [TokenGroup([2], 'c'), TokenGroup([3], 'g')]
    plan = {'h': None}, changed, [Pin(7, 't2', 'i', 'a')]
    assert affected_by(old, *plan, asks_again=True) == frozenset('bceghi')
    assert affected_by(old, *plan, asks_again=False) == frozenset('cghi')


def test_a_hint_during_a_reading_is_not_lost() -> None:
    """A reading of the assignment that was under way when a hint came may have missed its reason: it is read again."""
    bench = Bench(tokens=27, push=False)
    other = bench.cluster(*NAMES)[-1]
    after_a_heartbeat_of(bench, other)
    number = bench.backend.snapshot().revision.number
    other.hint(Hint(number + 1, frozenset([other.config.name])), bench.now)
    reading = bench.catch(other, commands.ReadAssignment, within=0.1)
    answer = bench.perform(reading.call)
    other.hint(Hint(number + 2, frozenset([other.config.name])), bench.now)
    bench.answer(reading, answer)
    bench.catch(other, commands.ReadAssignment, within=0.1)


def test_a_hint_that_names_other_nodes_does_nothing() -> None:
    """Nodes next in line answer it all the same: they count the silence of those that did."""
    bench = Bench(tokens=27, push=False)
    agents = bench.cluster(*NAMES)
    standby, other = agents[1], agents[-1]
    since = after_a_heartbeat_of(bench, other)
    for agent in (standby, other):
        agent.hint(Hint(bench.backend.snapshot().revision.number + 1, frozenset(['h'])), bench.now)
    bench.run(0.1)
    assert (made_by(bench, standby, since)[:1], made_by(bench, other, since)) == (['Heartbeat'], [])


def test_a_hint_that_names_no_node_is_for_the_leader_alone() -> None:
    """A registration is nothing to acknowledge. While hundreds register, each would cost a heartbeat of all next in line."""
    bench = Bench(tokens=27, push=False)
    leader, standby, *_ = bench.cluster(*NAMES)
    since = after_a_heartbeat_of(bench, leader)
    hint = Hint(bench.backend.snapshot().revision.number + 1, frozenset())
    assert (leader.hint(hint, bench.now), standby.hint(hint, bench.now)) == (True, False)
    bench.run(0.1)
    assert (made_by(bench, leader, since)[:1], made_by(bench, standby, since)) == (['TakeSnapshot'], [])


def test_an_acknowledgement_that_a_commit_has_overtaken_is_repeated_at_once() -> None:
    """The acknowledgement of a version that is not the newest any more does not count, though the newest changes nothing here.

    A node that is still to hand something over acknowledges each version at once.
    """
    bench = Bench(tokens=27)
    *_, quick, slow, taker = bench.cluster(*NAMES)
    tasks = [a_task_of(bench, quick), a_task_of(bench, slow)]
    after_a_heartbeat_of(bench, taker)
    bench.edit_locks(LockEdit(put=tuple(LockRequest(task, (taker.config.name,), 'test') for task in tasks)))
    late = bench.catch(slow, commands.Heartbeat, within=0.1)
    bench.run_until(lambda: bench.claims(taker, *tasks) == [True, False], within=1.0)
    bench.deliver(late)
    bench.run_until(lambda: bench.claims(taker, *tasks) == [True, True], within=1.0)


def test_an_owner_that_finishes_while_the_answer_to_a_commit_is_lost_is_asked_again() -> None:
    """The leader does not know then of what earlier versions requested: few owners are named by each plan."""
    bench = Bench(tokens=27)
    leader, *_, quick, busy, taker = bench.cluster(*NAMES)
    tasks = [a_task_of(bench, quick), a_task_of(bench, busy)]
    after_a_heartbeat_of(bench, taker)
    assert bench.begin(busy, tasks[1])
    bench.edit_locks(LockEdit(put=tuple(LockRequest(task, (taker.config.name,), 'test') for task in tasks)))
    bench.run_until(
        lambda: (
            isinstance(bench.made[-1].call, commands.PlanAndCommit)
            and getattr(bench.made[-1].answer, 'revision', None) is not None
        ),
        within=1.0,
    )
    while True:
        commit = bench.catch(leader, commands.PlanAndCommit, within=2.0)
        plan = decide(commit.call.view, copy.deepcopy(commit.call.state), commit.call.config, token_of).plan
        if plan is not None and plan.moved:
            break
        bench.deliver(commit)
    busy.lease.finish(list(busy.lease.in_flight))
    bench.run(0.05)
    bench.perform(commit.call)
    bench.answer(commit, AWAY)
    bench.run_until(lambda: bench.claims(taker, *tasks) == [True, True], within=2.0)


def test_a_reading_that_a_hint_asked_for_and_that_failed_is_repeated() -> None:
    """A node that was named reads as soon as the store answers again, and not with its next heartbeat."""
    bench = Bench(tokens=27, push=False)
    other = bench.cluster(*NAMES)[-1]
    after_a_heartbeat_of(bench, other)
    other.hint(Hint(bench.backend.snapshot().revision.number + 1, frozenset([other.config.name])), bench.now)
    bench.answer(bench.catch(other, commands.ReadAssignment, within=0.1), AWAY)
    bench.catch(other, commands.ReadAssignment, within=other.config.retry_sec + 0.1)


def test_a_lease_begins_again_as_soon_as_a_version_that_changes_nothing_is_read() -> None:
    """A node whose lease is over has to read the newest version before a heartbeat gives it a lease, and sends that at once."""
    bench = Bench(tokens=27)
    *_, giver, taker, other = bench.cluster(*NAMES)
    task, kept = a_task_of(bench, giver), a_task_of(bench, other)
    after_a_heartbeat_of(bench, other)
    bench.cut_off(other)
    lock(bench, task, taker.config.name)
    bench.run_until(lambda: bench.claims(other, kept) == [False], within=14.0)
    for lane, kind in ((Lane.HEARTBEAT, commands.Heartbeat), (Lane.WORK, commands.ReadAssignment)):
        assert bench.claims(other, kept) == [False]
        bench.cut.discard((other, lane))
        bench.run_until(lambda kind=kind: is_answered(bench.made[-1], other, kind))  # type: ignore[misc]
    bench.run_until(lambda: bench.claims(other, kept) == [True], within=0.1)
