"""When the nodes of a large cluster poll: not all of them at once, and none later than it matters."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from tests.core.bench import Bench
from tests.core.builders import token_of

from jobsync._core.agent import commands, monitor
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import LEAST_PAUSE
from jobsync._core.agent.monitor import STANDBYS
from jobsync._core.agent.phase import Phase
from jobsync._core.agent.schedule import STEP
from jobsync._core.records import Hint, Leadership, LockEdit, LockRequest, NodeRef, Pulse

SMALL = STANDBYS + 1
NAMES = [f'w{number:02}' for number in range(3 * SMALL + 2)]
INTERVAL_SEC, TIMEOUT_SEC = 5.0, 15.0


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, 'SMALL', SMALL)


def polls(bench: Bench, agents: Sequence[Agent], since: int) -> list[float]:
    """Return when some agents have polled since."""
    return [each.at for each in bench.made[since:] if isinstance(each.call, commands.TakeSnapshot) and each.agent in agents]


def test_newcomers_of_a_large_cluster_poll_one_after_another() -> None:
    """They own their share before, and each polls once."""
    bench = Bench(tokens=60)
    bench.cluster(*NAMES)
    since, came = len(bench.made), bench.now
    newcomers = [bench.start(f'n{number}') for number in range(5)]
    bench.run_until(lambda: all(agent.is_settled for agent in newcomers), within=3.0)
    bench.run(60.0)
    times = polls(bench, newcomers, since)
    assert len(times) == len(newcomers)
    assert max(times) - min(times) > INTERVAL_SEC / 2
    assert max(times) < came + (len(NAMES) + 5) / SMALL * INTERVAL_SEC + 3.0


def test_hundreds_that_join_together_do_not_poll_as_if_each_came_alone() -> None:
    """They poll in turn by the size that the cluster has with all of them, which they read once they are members."""
    bench = Bench(tokens=600)
    bench.cluster(*NAMES)
    since, came = len(bench.made), bench.now
    newcomers = [bench.start(f'n{number:03}') for number in range(10 * SMALL)]
    bench.run_until(lambda: all(agent.is_settled for agent in newcomers), within=3.0)
    intervals = (len(NAMES) + len(newcomers)) / SMALL + 1
    bench.run(intervals * INTERVAL_SEC)
    times = polls(bench, newcomers, since)
    assert len(times) == len(newcomers)
    assert sum(at < came + INTERVAL_SEC for at in times) < 2 * SMALL
    assert max(times) < came + intervals * INTERVAL_SEC


def test_while_nodes_register_the_leader_of_a_large_cluster_polls_now_and_then() -> None:
    """Each poll reads all nodes, and newcomers are gathered anyway. After a change that concerns a node it polls at once."""
    bench = Bench(tokens=60, push=False)
    leader, *_ = bench.cluster(*NAMES)
    bench.run(40.0)
    number, registered, commit = bench.backend.snapshot().revision.number, frozenset[str](), frozenset([NAMES[-1]])
    for nodes, least, most in ((registered, 3, 7), (commit, 15, 30)):
        since = len(bench.made)
        for _ in range(20):
            number += 1
            leader.hint(Hint(number, nodes), bench.now)
            bench.run(0.04)
        assert least <= len(polls(bench, [leader], since)) <= most
        bench.run(20.0)


def times_while_the_leader_is_silent() -> list[float]:
    """Let no node lead after one that dies; return after how many intervals each node that is not old polls."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    since, came = len(bench.made), bench.now
    bench.kill(leader)
    for agent in others[:2]:
        bench.catch(agent, commands.AcquireLeadership)
    bench.run(6 * INTERVAL_SEC)
    return [(polls(bench, [agent], since)[0] - came) / INTERVAL_SEC for agent in others[SMALL:]]


def test_in_a_crowd_polls_are_as_much_rarer_as_each_reads_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """With twice as many members each poll reads twice as much, and there are twice as many: they take four times as long."""
    times = times_while_the_leader_is_silent()
    monkeypatch.setattr(monitor, 'LARGE', len(NAMES) // 2)
    in_a_crowd = times_while_the_leader_is_silent()
    assert max(times) < 4.5
    assert 2 * max(times) < max(in_a_crowd) < 12
    assert min(in_a_crowd) < 2.5


def test_after_a_change_of_leader_only_those_that_may_lead_soon_poll() -> None:
    """The others have read what they need to know: an older node than they are leads, and sends heartbeats."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    since = len(bench.made)
    leader.leave(bench.now)
    bench.run_until(lambda: bench.leader == others[0].config.name, within=3.0)
    bench.run(15 * INTERVAL_SEC)
    assert polls(bench, others[STANDBYS:SMALL], since)
    assert not polls(bench, others[SMALL:], since)


def test_a_leader_that_has_stepped_back_makes_few_nodes_poll() -> None:
    """Those that are not next in line wait, and by then another one leads."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    since = len(bench.made)
    bench.catch(leader, commands.TakeSnapshot)
    call = bench.catch(others[0], commands.AcquireLeadership)
    bench.run(INTERVAL_SEC)
    bench.deliver(call)
    assert bench.leader == others[0].config.name
    bench.run(4 * INTERVAL_SEC)
    assert polls(bench, others[STANDBYS:SMALL], since)
    assert not polls(bench, others[SMALL:], since)


def test_a_leader_that_stays_back_makes_the_others_poll_late() -> None:
    """A poll reads all nodes. Where all are busy, those of hundreds of nodes would keep each of the few from getting to lead."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    bench.catch(leader, commands.TakeSnapshot)
    bench.run_until(lambda: not leader._membership._candidacy.is_wanted, within=TIMEOUT_SEC + INTERVAL_SEC)
    since, end = len(bench.made), bench.now + LEAST_PAUSE * TIMEOUT_SEC
    for agent in others[:LEAST_PAUSE]:  # each is to lead, and steps back after a timeout
        bench.catch(agent, commands.AcquireLeadership)
    bench.run(end - bench.now - 0.5)
    assert all(polls(bench, [agent], since) for agent in others[LEAST_PAUSE:SMALL])
    assert not polls(bench, others[SMALL:], since)
    assert not any(agent._membership.monitor.is_first_in_line(bench.now) for agent in others[SMALL:])
    for agent in others[LEAST_PAUSE : LEAST_PAUSE + 2]:
        bench.catch(agent, commands.AcquireLeadership)
    bench.run(INTERVAL_SEC)
    assert all(polls(bench, [agent], since) for agent in others[SMALL:])


def test_few_newcomers_of_a_large_cluster_poll_at_once_while_its_leader_has_stepped_back() -> None:
    """The first pulse says so before they have read how many members there are."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    bench.catch(leader, commands.TakeSnapshot)
    bench.run_until(lambda: not leader._membership._candidacy.is_wanted, within=TIMEOUT_SEC + INTERVAL_SEC)
    bench.catch(others[0], commands.AcquireLeadership)
    since, came = len(bench.made), bench.now
    newcomers = [bench.start(f'n{number}') for number in range(SMALL)]
    bench.run(2 * TIMEOUT_SEC)
    times = polls(bench, newcomers, since)
    assert len(times) == len(newcomers)
    assert sum(at < came + INTERVAL_SEC for at in times) < SMALL / 2
    assert max(times) < came + ((len(NAMES) + len(newcomers)) / SMALL + 2) * INTERVAL_SEC


def test_a_leader_that_was_back_for_long_is_left_to_the_oldest_the_next_time() -> None:
    """How long it was back counts from anew."""
    bench = Bench(tokens=60)
    *_, youngest = bench.cluster(*NAMES)
    bench.run(40.0)
    far = youngest._membership.monitor
    known = far.snapshot
    assert known is not None
    for is_candidate, after_sec in ((False, 0.0), (True, 20.0), (False, 5.0), (False, 25.0)):
        bench.now += after_sec
        pulse = Pulse(
            9, known.timeline, known.store, known.revision, known.version, known.leadership, int(bench.now), is_candidate
        )
        far.take_pulse(pulse, False, bench.now, bench.now)
        assert far.due > bench.now + 2 * INTERVAL_SEC
        assert far.is_first_in_line(bench.now) is False


@pytest.mark.parametrize('they_leave', [False, True], ids=['die', 'leave'])
def test_a_node_that_has_polled_under_an_earlier_leader_leads_once_all_older_ones_are_gone(they_leave: bool) -> None:
    """It does not before it has polled, however long ago it has read the others. It is as late as under its first leader."""
    bench = Bench(tokens=60)
    leader, *gone, one, other = bench.cluster(*NAMES)
    bench.run(40.0)
    leader.leave(bench.now)
    bench.run(15 * INTERVAL_SEC)
    since, latest = len(bench.made), bench.now + 2 * TIMEOUT_SEC + 4 * INTERVAL_SEC
    for agent in gone:
        agent.leave(bench.now) if they_leave else bench.kill(agent)
    if they_leave:
        latest = bench.now + (2 + 4 * len(gone) / SMALL) * STEP * INTERVAL_SEC + 0.5
    while bench.leader != one.config.name:
        assert bench.now < latest
        bench.run(0.1)
        for agent in (one, other):
            assert polls(bench, [agent], since) or not agent._membership.monitor.is_first_in_line(bench.now)
    bench.run_until(lambda: len(one.lease.ownership.tokens | other.lease.ownership.tokens) == 60, within=TIMEOUT_SEC + 2.0)


@pytest.mark.parametrize(('leader', 'polls_soon'), [(NAMES[1], False), (NAMES[-1], True), ('another', True)])
def test_a_node_that_is_older_than_the_leader_polls(leader: str, polls_soon: bool) -> None:
    """A leader waits for each older node that seems to live, so these have to find out whether one of them is to lead."""
    bench = Bench(tokens=60)
    agents = bench.cluster(*NAMES)
    bench.run(40.0)
    behind = agents[-2]._membership.monitor
    known = behind.snapshot
    assert known is not None
    nodes = tuple(attrs.evolve(node, candidate=node.name != leader) for node in known.nodes[1:])  # it had stepped back
    behind.snapshot = attrs.evolve(known, nodes=nodes)
    ref = next((node.ref for node in known.nodes if node.name == leader), NodeRef(leader, 'x'))
    leadership = Leadership(known.leadership.epoch + 1, ref)
    pulse = Pulse(9, known.timeline, known.store, known.revision, known.version, leadership, leader_heartbeat=9)
    behind.take_pulse(pulse, False, bench.now, bench.now)
    assert not behind.is_first_in_line(bench.now)
    assert (behind.due < bench.now + 4 * INTERVAL_SEC) == polls_soon
    assert polls_soon or behind.due < bench.now + TIMEOUT_SEC + 4 * INTERVAL_SEC


def test_newcomers_of_a_crowd_poll_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all of them read in an interval is no more than with fewer."""
    monkeypatch.setattr(monitor, 'LARGE', len(NAMES) // 4)
    bench = Bench(tokens=60)
    bench.cluster(*NAMES)
    since, came = len(bench.made), bench.now
    newcomers = [bench.start(f'n{number}') for number in range(5)]
    bench.run(100.0)
    times = polls(bench, newcomers, since)
    assert len(times) == len(newcomers)
    assert max(times) > came + 2 * (len(NAMES) / SMALL) * INTERVAL_SEC


def test_newcomers_of_a_small_cluster_poll_at_once() -> None:
    """They are among the next in line, and have to count the silence of others."""
    bench = Bench(tokens=60)
    bench.cluster(*NAMES[:3])
    since, came = len(bench.made), bench.now
    newcomer = bench.start('n')
    bench.run(3.0)
    assert polls(bench, [newcomer], since)[0] < came + 1.0


def test_a_leader_that_is_late_for_a_moment_makes_few_nodes_poll() -> None:
    """Those that are not next in line wait, and by then it has sent its heartbeat."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    heartbeat = bench.catch(leader, commands.Heartbeat)
    since = len(bench.made)
    bench.run(0.8 * INTERVAL_SEC)
    bench.deliver(heartbeat)
    bench.run(3 * INTERVAL_SEC)
    assert polls(bench, others[STANDBYS:SMALL], since)
    assert not polls(bench, others[SMALL:], since)


def test_a_node_that_is_late_itself_does_not_take_the_leader_for_late() -> None:
    """Where a store is slow and hundreds of heartbeats wait for it, a snapshot for each of them would make it slower."""
    bench = Bench(tokens=60)
    _, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    late = others[STANDBYS]
    heartbeat = bench.catch(late, commands.Heartbeat)
    since = len(bench.made)
    bench.run(0.8 * INTERVAL_SEC)
    bench.deliver(heartbeat)
    bench.run(3 * INTERVAL_SEC)
    assert not polls(bench, [late], since)


def test_where_all_next_in_line_have_stepped_back_another_node_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is later by what nodes leave to older ones: the shortest time that a leader steps back for, and their turns after it."""
    monkeypatch.setattr(monitor, 'SMALL', 1)
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    for agent in (leader, *others[:STANDBYS]):
        bench.catch(agent, commands.TakeSnapshot)
    since = len(bench.made)
    latest = (1 + LEAST_PAUSE) * TIMEOUT_SEC + 4 * INTERVAL_SEC
    bench.run_until(lambda: bench.leader == others[STANDBYS].config.name, within=latest)
    assert len(polls(bench, others[STANDBYS:], since)) < len(others)


def test_where_all_next_in_line_die_with_the_leader_another_node_leads() -> None:
    """It is later than promise P3 has it for one node, by what nodes leave to older ones."""
    bench = Bench(tokens=60)
    *dead, one, other = bench.cluster(*NAMES)
    bench.run(40.0)
    for agent in dead:
        bench.kill(agent)
    bench.run_until(lambda: bench.leader == one.config.name, within=2 * TIMEOUT_SEC + 4 * INTERVAL_SEC)
    bench.run_until(lambda: len(one.lease.ownership.tokens | other.lease.ownership.tokens) == 60, within=TIMEOUT_SEC + 2.0)


def test_where_all_older_nodes_leave_the_next_one_leads_soon() -> None:
    """A node that is not next in line pauses before its heartbeat, and before it polls, the longer the more are older than it."""
    bench = Bench(tokens=60)
    *old, one, other = bench.cluster(*NAMES)
    bench.run(40.0)
    for agent in old:
        agent.leave(bench.now)
    bench.run_until(lambda: bench.leader == one.config.name, within=(2 + 4 * len(old) / SMALL) * STEP * INTERVAL_SEC + 0.5)
    bench.run_until(lambda: len(one.lease.ownership.tokens | other.lease.ownership.tokens) == 60, within=2.0)


def test_a_node_that_one_of_the_changes_names_reads_at_once() -> None:
    """The leader gives tokens to it, and leaves, which concerns all: both are one hint, and it does not pause with the others."""
    bench = Bench(tokens=200, push=False)  # the hint is given when both have happened
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    before = bench.backend.snapshot().revision.number
    leader.leave(bench.now)
    while leader.phase is not Phase.LEFT:
        bench.run(0.001)
    hint = bench.store.concerned['sync_'].hint(bench.backend.snapshot().revision.number, before)
    gaining = [agent for agent in others[STANDBYS:] if agent.config.name in hint.named]
    assert hint.nodes is None
    assert gaining
    for agent in others:
        agent.hint(hint, bench.now)
    bench.run(0.2)
    assert len(frozenset().union(*(agent.lease.ownership.tokens for agent in others))) == 200


def readings(bench: Bench, agents: Sequence[Agent], since: int) -> dict[Agent, float]:
    """Return when each of some agents has read the assignment for the first time since."""
    found: dict[Agent, float] = {}
    for each in bench.made[since:]:
        if isinstance(each.call, commands.ReadAssignment) and each.agent in agents:
            found.setdefault(each.agent, each.at)
    return found


def move_task(bench: Bench) -> tuple[set[Agent], list[Agent]]:
    """Let a task move to another node; return the nodes that this has concerned, and those that may take their time."""
    before = bench.backend.snapshot().version
    owner = next(agent for agent in bench.agents if token_of('t7') in agent.lease.ownership.tokens)
    other = next(agent for agent in bench.agents[1 + STANDBYS :] if agent is not owner)
    bench.edit_locks(LockEdit(put=(LockRequest('t7', (other.config.name,), 'test'),)))
    bench.run_until(lambda: bench.claims(other, 't7') == [True], within=INTERVAL_SEC + 1.0)
    hint = bench.store.concerned['sync_'].hint(bench.backend.snapshot().revision.number, before.number)
    assert hint.nodes is not None
    named = {agent for agent in bench.agents if agent.config.name in hint.nodes}
    return named, [agent for agent in bench.agents[1 + STANDBYS :] if agent not in named]


def test_what_does_not_concern_a_node_is_read_at_leisure() -> None:
    """All send their heartbeats at about the same time, and would all read at once, and the few in their midst that must read."""
    bench = Bench(tokens=60)
    bench.cluster(*NAMES)
    bench.run(40.0)
    since = len(bench.made)
    named, others = move_task(bench)
    at = bench.now
    assert named <= readings(bench, bench.agents, since).keys()
    assert not readings(bench, others, since)
    bench.run(2 * INTERVAL_SEC)
    times = readings(bench, others, since)
    assert len(times) == len(others)
    assert max(times.values()) < at + 1.9 * INTERVAL_SEC
    assert max(times.values()) - min(times.values()) > 0.3 * INTERVAL_SEC
    beats = {
        agent: [each.at for each in bench.made if each.agent is agent and isinstance(each.call, commands.Heartbeat)]
        for agent in others
    }
    waits = [read - max(beat for beat in beats[agent] if beat < read) for agent, read in times.items()]
    assert min(waits) > STEP * INTERVAL_SEC


def test_what_may_concern_a_node_is_read_at_once() -> None:
    """A hint that names no node may have missed a change; and one that follows it says nothing of that change."""
    bench = Bench(tokens=60, push=False)
    bench.cluster(*NAMES)
    bench.run(40.0)
    since = len(bench.made)
    _, others = move_task(bench)
    agent, number = others[0], bench.backend.snapshot().version.number
    agent.hint(Hint(number), bench.now)
    agent.hint(Hint(number + 1, frozenset()), bench.now)
    agent.beat_soon()
    bench.run(0.1)
    assert readings(bench, [agent], since)


def test_a_node_that_polls_reads_at_once() -> None:
    """It may be the next to lead, and what it has left unread must not hold its plan up."""
    bench = Bench(tokens=60)
    bench.cluster(*NAMES)
    bench.run(40.0)
    since = len(bench.made)
    _, others = move_task(bench)
    agent = others[0]
    agent.beat_soon()
    bench.run(0.01)
    assert not readings(bench, [agent], since)
    agent._membership.monitor.poll(bench.now)
    bench.run(0.01)
    assert readings(bench, [agent], since)


def test_few_calls_keep_the_next_leader_waiting() -> None:
    """A leader that is gone is announced to all nodes; most leave the store to those that are next in line for a moment."""
    bench = Bench(tokens=60)
    leader, *others = bench.cluster(*NAMES)
    bench.run(40.0)
    waiting = set(others[STANDBYS:])

    def calling(since: int) -> set[Agent]:
        return {each.agent for each in bench.made[since:] if isinstance(each.call, (commands.Heartbeat, commands.TakeSnapshot))}

    since = len(bench.made)
    bench.run_until(lambda: calling(since) >= waiting)
    bench.run(INTERVAL_SEC / 2)
    since = len(bench.made)
    leader.leave(bench.now)
    bench.run_until(lambda: bench.leader == others[0].config.name, within=0.5)
    assert not calling(since) & waiting
    bench.run(2 * STEP * INTERVAL_SEC)
    assert len(calling(since) & waiting) <= SMALL
    bench.run(INTERVAL_SEC)
    assert calling(since) >= waiting
    assert not polls(bench, others[SMALL:], since)


def test_the_youngest_of_many_pauses_for_an_interval_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many older nodes leave at one moment: where they were thousands, the next one would be late by a minute."""
    monkeypatch.setattr(monitor, 'SMALL', 1)
    bench = Bench(tokens=60)
    agents = bench.cluster(*NAMES)
    bench.run(40.0)
    pauses = [agent._membership.monitor.pause for agent in agents[1:]]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.0
    assert pauses[-1] == INTERVAL_SEC


def test_no_node_takes_itself_for_the_oldest_by_a_snapshot_that_is_outdated() -> None:
    """A node that waits for its turn to poll has read nothing of the others for long: that does not mean that they are silent."""
    bench = Bench(tokens=60)
    *dead, one, other = bench.cluster(*NAMES)
    youngest, since = bench.start('youngest'), len(bench.made)
    bench.run_until(lambda: bool(polls(bench, [youngest], since)))
    since = len(bench.made)
    for agent in dead:
        bench.kill(agent)
    for _ in range(600):
        bench.run(0.1)
        assert not any(agent._membership.monitor.is_first_in_line(bench.now) for agent in (other, youngest))
    assert {each.agent for each in bench.made[since:] if isinstance(each.call, commands.AcquireLeadership)} == {one}


def test_a_poll_that_may_have_missed_the_end_of_the_leader_is_repeated() -> None:
    """The leader goes while a snapshot is under way: a pulse says so, and then the snapshot arrives, in which it leads."""
    bench = Bench(push=False)
    leader, follower = bench.cluster('a', 'b')
    poll = bench.catch(follower, commands.TakeSnapshot)
    before = bench.perform(poll.call)
    leader.leave(bench.now)
    bench.run(0.5)
    follower.beat_soon()
    bench.run(0.1)
    bench.answer(poll, before)
    since = len(bench.made)
    bench.run(0.1)
    assert any(each.agent is follower and isinstance(each.call, commands.TakeSnapshot) for each in bench.made[since:])
