"""A store that goes back in time (rule R8), as one node sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest
from tests.core.bench import AWAY, TASKS, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import OwnershipChanged
from jobsync._core.agent.phase import Phase
from jobsync._core.agent.rollback import RollbackDetector
from jobsync._core.records import LockEdit, LockRequest, Pulse, Revision, Snapshot, Timeline
from jobsync.errors import Evicted
from jobsync.testing.editable_store import Image


def owns_nothing(bench: Bench, agent: Agent) -> bool:
    return agent.lease.ownership.is_empty and agent.lease.deadline < 0.0 and bench.claims(agent, *TASKS) == [False] * 4


def run_with_one_owner(bench: Bench, agents: Sequence[Agent]) -> None:
    """Run on for 40 seconds, in which no two agents may claim one task."""
    for _ in range(400):
        bench.run(0.1)
        for key in TASKS:
            assert sum(bench.claims(agent, key)[0] for agent in agents) <= 1


def lower(pulse: Pulse) -> Pulse:
    return attrs.evolve(pulse, revision=Revision(pulse.revision.number - 1, 1))


def restamped(pulse: Pulse) -> Pulse:
    return attrs.evolve(pulse, revision=attrs.evolve(pulse.revision, stamp=pulse.revision.stamp + 1))


def other_store(pulse: Pulse) -> Pulse:
    return attrs.evolve(pulse, store='replica')


def behind(pulse: Pulse) -> Pulse:
    return attrs.evolve(pulse, heartbeat=pulse.heartbeat - 1)


def ahead(pulse: Pulse) -> Pulse:
    return attrs.evolve(pulse, heartbeat=pulse.heartbeat + 100)


def moved_back(pulse: Pulse) -> Pulse:
    return attrs.evolve(pulse, position=0)


def older_version(pulse: Pulse) -> Pulse:
    """The assignment is at a version before the one that was read, whatever the revision."""
    return attrs.evolve(pulse, version=Revision(pulse.version.number - 1, 1))


SIGNS = [other_store, lower, restamped, moved_back, older_version, behind, ahead]


@pytest.mark.parametrize('sign', SIGNS)
def test_a_sign_in_a_heartbeat_ends_everything(sign: Callable[[Pulse], Pulse]) -> None:
    """Another store, a lower revision or position, another stamp, another counter: it owns nothing, and asks to renew."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    timeline = bench.backend.snapshot().timeline
    caught = bench.catch(agent, commands.Heartbeat)
    pulse = bench.perform(caught.call)
    assert isinstance(pulse, Pulse)
    bench.answer(caught, sign(pulse))
    assert owns_nothing(bench, agent)
    assert agent.phase is Phase.RENEWING
    renew = bench.catch(agent, commands.RenewTimeline)
    assert renew.call == commands.RenewTimeline(timeline, bench.backend.snapshot().revision.number, longest_timeout_sec=15.0)


@pytest.mark.parametrize('sign', [other_store, lower, restamped, moved_back, older_version])
def test_a_sign_in_a_snapshot_ends_everything(sign: Callable[[Pulse], Pulse]) -> None:
    """Snapshots are looked at like heartbeats."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    caught = bench.catch(agent, commands.TakeSnapshot)
    answer = bench.perform(caught.call)
    assert isinstance(answer, Snapshot)
    bench.answer(caught, sign(answer))  # type: ignore[arg-type]
    assert owns_nothing(bench, agent)
    assert agent.phase is Phase.RENEWING


def test_a_reading_of_an_older_version_ends_everything() -> None:
    """A version that was told of and cannot be read any more has gone: asking for it again and again would help nobody."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    image = bench.store.image()
    bench.start('b')
    reading = bench.catch(agent, commands.ReadAssignment)
    bench.store.restore(image)
    bench.answer(reading, bench.perform(reading.call))
    assert agent.phase is Phase.RENEWING


@pytest.mark.parametrize('change', [-1, 100])
def test_its_own_counter_in_a_snapshot(change: int) -> None:
    """The node's own record must have the counter that its writes have left."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    caught = bench.catch(agent, commands.TakeSnapshot)
    answer = bench.perform(caught.call)
    assert isinstance(answer, Snapshot)
    (record,) = answer.nodes
    bench.answer(caught, attrs.evolve(answer, nodes=(attrs.evolve(record, heartbeat=record.heartbeat + change),)))
    assert owns_nothing(bench, agent)
    assert agent.phase is Phase.RENEWING


def test_the_loss_is_told_as_one() -> None:
    """The tokens are not given up but lost."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    agent.events.clear()
    bench.store.identity = 'replica'
    bench.run_until(lambda: agent.lease.ownership.is_empty)
    assert [event.lost for event in agent.events if isinstance(event, OwnershipChanged)] == [{0, 1, 2, 3}]


def test_a_call_of_unknown_outcome_is_counted_in() -> None:
    """A heartbeat that arrived though its answer was lost is no sign: nor is one that did not arrive."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    timeline = bench.backend.snapshot().timeline
    arrived = bench.catch(agent, commands.Heartbeat)
    bench.perform(arrived.call)
    bench.answer(arrived, AWAY)
    bench.run(7.0)
    bench.answer(bench.catch(agent, commands.Heartbeat), AWAY)
    bench.run(20.0)
    assert bench.backend.snapshot().timeline == timeline
    assert agent.is_settled


def test_answers_that_overtake_each_other_are_no_sign() -> None:
    """A revision is held against what was known when the call was made, so a slow answer is not taken for an older store."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    beat = bench.catch(agent, commands.Heartbeat)
    early = bench.perform(beat.call)
    bench.backend.edit_locks(LockEdit(put=(LockRequest('t0', ('a',), 'somebody'),)))
    bench.run(10.0)
    bench.answer(beat, early)
    assert agent.phase is Phase.MEMBER


def test_a_store_that_lost_what_the_node_has_read() -> None:
    """A store restored from an earlier image is noticed though its identity is the same."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    image = bench.store.image()
    bench.backend.edit_locks(LockEdit(put=(LockRequest('t0', ('a',), 'somebody'),)))
    bench.run(10.0)
    bench.store.restore(image)
    bench.run(6.0)
    assert bench.backend.snapshot().timeline.generation == 1
    assert agent.phase is Phase.MEMBER


def test_the_new_timeline_is_above_everything_seen() -> None:
    """Renewing and registering lift the revision over the highest that the node has read."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    image = bench.store.image()
    for key in TASKS:
        bench.backend.edit_locks(LockEdit(put=(LockRequest(key, ('a',), 'somebody'),)))
    bench.run(10.0)
    highest = bench.backend.snapshot().revision.number
    bench.store.restore(image)
    bench.run(6.0)
    assert agent.phase is Phase.MEMBER
    assert bench.backend.snapshot().revision.number > highest


def test_the_first_distribution_of_a_new_timeline_waits() -> None:
    """Every lease of the old timeline must have ended before anything is owned in the new one."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    bench.store.identity = 'replica'
    bench.run_until(lambda: agent.phase is not Phase.MEMBER)
    renewed = bench.now
    bench.run_until(lambda: not agent.lease.ownership.is_empty)
    assert renewed + 15.0 <= bench.now < renewed + 16.0


def test_the_first_timeline_of_a_store_that_is_not_durable_waits() -> None:
    """Without a promise of the store, even generation 0 may have a past."""
    bench = Bench(durable=False)
    agent = bench.start('a')
    bench.run_until(lambda: not agent.lease.ownership.is_empty)
    assert bench.now >= 15.0


def test_another_timeline_makes_a_node_start_over() -> None:
    """A node that reads of another timeline than its own owns nothing, and registers anew without renewing anything."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    former = agent.ref
    caught = bench.catch(agent, commands.Heartbeat)
    pulse = bench.perform(caught.call)
    assert isinstance(pulse, Pulse)
    bench.answer(caught, attrs.evolve(pulse, timeline=Timeline(1, 'another', 'store')))
    assert owns_nothing(bench, agent)
    assert agent.phase is Phase.OPENING
    assert agent.ref != former


def test_a_registration_into_a_timeline_that_is_over_opens_again() -> None:
    """If the timeline changes between opening and registering, the node begins again in the new one."""
    bench = Bench()
    agent = bench.start('a')
    caught = bench.catch(agent, commands.Register)
    bench.backend.renew_timeline(bench.backend.snapshot().timeline, 0)
    bench.deliver(caught)
    bench.run(1.0)
    assert agent.phase is Phase.MEMBER


def test_one_renewal_serves_all() -> None:
    """Nodes that see the sign at the same time agree on one new timeline, and share the tokens in it."""
    bench = Bench()
    agents = bench.cluster('a', 'b', 'c')
    bench.store.identity = 'replica'
    bench.run(60.0)
    assert bench.backend.snapshot().timeline.generation == 1
    assert all(agent.is_settled for agent in agents)
    assert sorted(token for agent in agents for token in agent.lease.ownership.tokens) == [0, 1, 2, 3]


def test_nobody_owns_a_token_twice_through_a_rollback() -> None:
    """P1 holds while a cluster passes from one timeline to the next."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    image = bench.store.image()
    bench.run(30.0)
    bench.store.restore(image, 'replica')
    run_with_one_owner(bench, agents)
    assert all(agent.is_settled for agent in agents)


def test_an_emptied_durable_store_is_not_new_to_whoever_knew_it() -> None:
    """Generation 0 of a durable store is trusted by those alone that have seen no other timeline: here an older lease may run."""
    bench = Bench()
    a, b = bench.cluster('a', 'b')
    bench.cut_off(b)
    wiped = bench.now
    bench.store.wipe(keep_schema=False)
    bench.run_until(lambda: not a.lease.ownership.is_empty and a.phase is Phase.MEMBER and bench.now > wiped + 5.0)
    assert bench.now >= wiped + b.config.heartbeat_timeout_sec
    assert bench.claims(b, *TASKS) == [False] * 4


def test_a_registration_lifts_the_revision_to_what_was_read_before() -> None:
    """A node that comes to another timeline brings the highest revision it has read: fences go on rising."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    top = bench.backend.snapshot().revision.number
    bench.store.wipe(keep_schema=False)
    registering = bench.catch(agent, commands.Register)
    assert top > 1
    assert registering.call.at_least == top
    bench.deliver(registering)
    assert bench.backend.snapshot().revision.number > top


# --- the store's position ---------------------------------------------------------------------------------------------------


def test_a_position_known_in_an_earlier_incarnation_counts() -> None:
    """A node that was evicted knows nothing of its new record, but the store must not be behind what it has read of it."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    image = bench.store.image()
    bench.run(60.0)
    beat = bench.catch(agent, commands.Heartbeat)
    bench.store.restore(image)
    bench.answer(beat, Evicted('no longer registered'))
    bench.run_until(lambda: bench.backend.snapshot().timeline.generation == 1)


def test_a_version_known_in_an_earlier_incarnation_counts() -> None:
    """A backup in which the owner has left is put back, and no node of now is registered in it: its version shows that."""
    bench = Bench()
    bench.store.has_position = False
    (former,) = bench.cluster('former')
    former.leave(bench.now)
    bench.run_until(lambda: former.phase is Phase.LEFT)
    image = bench.store.image()
    a, b = bench.cluster('a', 'b')
    bench.run(1.0)
    bench.cut_off(b)
    bench.store.restore(image)
    run_with_one_owner(bench, [a, b])
    assert bench.backend.snapshot().timeline.generation == 1
    assert bench.claims(a, *TASKS) == [True] * 4


def older(bench: Bench, backup: Image) -> None:
    """Put an older backup back."""
    bench.store.restore(backup)


def away(bench: Bench, _: Image) -> None:
    """Move the store away."""
    bench.store.wipe(keep_schema=False)


@pytest.mark.parametrize('lose', [older, away])
def test_a_timeline_that_was_over_is_renewed(lose: Callable[[Bench, Image], None]) -> None:
    """It comes back once the nodes work in another one: it has all that a node has read of it, and knows none who came later."""
    bench = Bench()
    bench.store.has_position = False
    (a,) = bench.cluster('a')
    backup = bench.store.image()
    bench.run(30.0)
    newest = bench.store.image()
    lose(bench, backup)
    bench.run(40.0)
    (b,) = bench.cluster('b')
    bench.cut_off(b)
    bench.store.restore(newest)
    run_with_one_owner(bench, [a, b])
    assert bench.backend.snapshot().timeline.generation == 1
    assert bench.claims(a, *TASKS) == [True] * 4


def test_a_store_without_a_position_shows_no_sign() -> None:
    """None is no position, before and after one was known."""
    bench = Bench()
    (agent,) = bench.cluster('a')
    for tells in (False, True, False):
        bench.store.has_position = tells
        bench.run(20.0)
    assert bench.backend.snapshot().timeline.generation == 0
    assert agent.is_settled


def test_answers_that_overtake_each_other_show_no_sign_by_their_position() -> None:
    """A position is held against what was known when the call was made."""
    bench = Bench()
    agent, _ = bench.cluster('a', 'b')
    beat = bench.catch(agent, commands.Heartbeat)
    early = bench.perform(beat.call)
    bench.run(8.0)
    bench.answer(beat, early)
    bench.run(20.0)
    assert bench.backend.snapshot().timeline.generation == 0
    assert agent.is_settled


# --- how long older leases may run ------------------------------------------------------------------------------------------


def test_the_first_commit_after_a_rollback_waits_for_who_was_forgotten() -> None:
    """A node with a long timeout is cut off, and the store goes back to before it registered: its lease is waited for."""
    bench = Bench()
    (a,) = bench.cluster('a')
    image = bench.store.image()
    b = bench.start('b', heartbeat_timeout_sec=60.0)
    bench.run(20.0)
    assert b.is_settled
    bench.cut_off(b)
    bench.store.restore(image, 'replica')
    for _ in range(700):
        bench.run(0.1)
        for key in TASKS:
            assert sum(bench.claims(agent, key)[0] for agent in (a, b)) <= 1
    assert a.is_settled
    assert bench.claims(a, *TASKS) == [True] * 4


def test_a_registration_brings_the_longest_timeout_along() -> None:
    """Into whatever timeline it goes, so that a leader which has never read of it waits as long."""
    bench = Bench()
    (a,) = bench.cluster('a')
    bench.start('b', heartbeat_timeout_sec=60.0)
    bench.run(20.0)
    bench.store.wipe(keep_schema=False)
    assert bench.catch(a, commands.Register).call.node.longest_timeout_sec == 60.0


def test_the_longest_timeout_of_a_member_is_remembered() -> None:
    """An assignment tells of members whose records are gone."""
    bench = Bench()
    (a,) = bench.cluster('a')
    b = bench.start('b', heartbeat_timeout_sec=60.0)
    bench.run(20.0)
    bench.cut_off(b)
    bench.store.delete_node_row('sync_', 'b')
    space = bench.store.spaces['sync_']
    forgetful = attrs.evolve(space, state=attrs.evolve(space.state, longest_timeout_sec=0.0))
    bench.store.spaces['sync_'] = forgetful
    c = bench.start('c')
    bench.run(12.0)
    bench.kill(a)
    bench.store.identity = 'replica'
    assert bench.catch(c, commands.RenewTimeline).call.longest_timeout_sec == 60.0


def test_what_a_node_has_committed_is_known_as_if_it_had_read_it() -> None:
    """Its revision is the version of the assignment, and it has raised the own counter: less than that is a sign."""
    detector = RollbackDetector(15.0, timeline=Timeline(0, 'first', 'store'))
    detector.note_commit(Revision(7, 70), 3)
    assert (detector.known.top, detector.known.version, detector.known.heartbeat) == (Revision(7, 70), Revision(7, 70), 3)
