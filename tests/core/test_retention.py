"""The leader deletes old records of the history, and nothing waits for it."""

from __future__ import annotations

import datetime as dt
import itertools
import math

from tests.core.bench import AWAY, TASKS, Bench, Made

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import LogMessage
from jobsync._core.records import Audit, HistoryKind, Purged
from jobsync.errors import BackendUnavailable

DAY = dt.date(2026, 3, 2)
WINDOW_SEC = 100.0
KEEP = {'retention_days': WINDOW_SEC / 86_400}


def purges(bench: Bench, agent: Agent) -> list[Made]:
    """The portions that an agent has made."""
    return [one for one in bench.made if one.agent is agent and isinstance(one.call, commands.Purge)]


def test_only_the_leader_deletes_and_only_if_it_is_told_to() -> None:
    """No other node deletes anything, and without ``retention_days`` no node does."""
    bench = Bench()
    leader, follower = bench.cluster('a', 'b', **KEEP)
    bench.run(60.0)
    assert purges(bench, leader)
    assert not purges(bench, follower)
    bench = Bench()
    (leader,) = bench.cluster('a')
    bench.run(60.0)
    assert not purges(bench, leader)


def test_the_history_has_at_most_a_fifth_more_than_it_keeps() -> None:
    """However long it goes on, nothing is kept for more than 1.2 times the window.

    What is younger than the window is kept, and so is incomplete work, and ages go by the store's clock.
    """
    bench = Bench()
    (leader,) = bench.cluster('a', **KEEP)
    for second in range(300):
        items = [f'{second} {number}' for number in range(100)]
        bench.backend.append_claims(leader.ref, items, DAY)
        bench.backend.append_audits('a', items[1:], DAY)
        bench.run(1.0)
        audits = bench.backend.history(HistoryKind.AUDIT)
        assert len(audits) <= 1.2 * WINDOW_SEC * 99
    assert len(audits) >= WINDOW_SEC * 99
    assert all(isinstance(audit, Audit) and bench.store.now() - audit.created_on <= 1.2 * WINDOW_SEC * SECOND for audit in audits)
    assert len(bench.backend.incomplete(None, dt.timedelta(0))) == 300
    assert len(bench.backend.history(HistoryKind.CLAIM)) <= len(audits) + 300 + 1.2 * WINDOW_SEC


SECOND = dt.timedelta(seconds=1)


def test_each_sweep_tells_how_much_it_has_deleted() -> None:
    """In all its portions, and no other sweep's."""
    bench = Bench()
    (leader,) = bench.cluster('a', **KEEP)
    for items in (['1', '2', '3'], ['4', '5']):
        bench.backend.append_claims(leader.ref, items, DAY)
        bench.backend.append_audits('a', items, DAY)
        bench.run(1.3 * WINDOW_SEC)
    texts = [event.text for event in leader.events if isinstance(event, LogMessage) and event.text.startswith('deleted')]
    told = [int(text.split()[1]) for text in texts]
    assert len(told) >= 2
    assert sum(told) == sum(one.answer.deleted for one in purges(bench, leader) if isinstance(one.answer, Purged)) >= 10


def test_sweeps_are_rare_when_there_is_nothing_to_delete() -> None:
    """A leader that keeps the history for a month makes one portion of each kind, and none more on the same day."""
    bench = Bench()
    (leader,) = bench.cluster('a', retention_days=30)
    bench.run(3600.0)
    assert len(purges(bench, leader)) == len(HistoryKind)


def test_ages_are_counted_on_from_the_last_snapshot() -> None:
    """A sweep deletes what is old as it begins, however long ago the leader has read the store's time."""
    bench = Bench()
    (leader,) = bench.cluster('a', heartbeat_interval_sec=60, heartbeat_timeout_sec=240, **KEEP)
    bench.run(300.0)
    clock = bench.store.now() - bench.now * SECOND
    portions = [(one.at, one.call) for one in purges(bench, leader) if isinstance(one.call, commands.Purge)]
    late = [clock + at * SECOND - call.before - WINDOW_SEC * SECOND for at, call in portions if call.kind is HistoryKind.CLAIM]
    assert len(late) > 50
    assert max(late) < 0.1 * SECOND
    assert min(late) >= 0 * SECOND


def test_portions_follow_what_the_store_can_do() -> None:
    """Portions shrink while they take long and grow while they are quick, and their pauses follow them."""
    bench = Bench()
    (leader,) = bench.cluster('a', **KEEP)
    for number in range(300):
        bench.backend.append_claims(leader.ref, [f'{number} {item}' for item in range(200)], DAY)
    bench.call_sec = 0.06
    bench.run(20.0)
    claims = [one for one in purges(bench, leader) if isinstance(one.call, commands.Purge) and one.call.kind is HistoryKind.CLAIM]
    slow = [one for one in claims if one.at > bench.now - 19.0]
    assert len(slow) > 20
    assert min(one.call.limit for one in slow if isinstance(one.call, commands.Purge)) == 500
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(claims)]
    assert gaps[1] >= 0.119
    assert 0.071 <= min(gaps) <= 0.08
    bench.call_sec = 0.0005
    bench.run(30.0)
    last = purges(bench, leader)[-1].call
    assert isinstance(last, commands.Purge)
    assert last.limit == 2000


def test_a_purge_that_hangs_holds_up_nothing() -> None:
    """While a portion is under way for minutes, the leader reads, plans and commits, and leads on."""
    bench = Bench()
    (leader,) = bench.cluster('a', **KEEP)
    caught = bench.catch(leader, commands.Purge)
    newcomer = bench.start('b')
    bench.run(60.0)
    assert sum(bench.claims(newcomer, *TASKS)) == sum(bench.claims(leader, *TASKS)) == 2
    assert bench.backend.snapshot().leadership.epoch == 1
    bench.deliver(caught)
    bench.run(10.0)
    assert [one for one in purges(bench, leader) if one.at > bench.now - 10.0]


def test_a_purge_that_fails_blinds_no_observer() -> None:
    """A dead node is found as soon as ever while every portion fails, and portions are repeated at their leisure."""
    bench = Bench()
    leader, other = bench.cluster('a', 'b', **KEEP)
    bench.fault = lambda _, call: BackendUnavailable('too slow') if isinstance(call, commands.Purge) else None
    bench.run(60.0)
    bench.kill(other)
    bench.run(other.config.heartbeat_timeout_sec + 2.0)
    assert all(bench.claims(leader, *TASKS))
    failed = [one for one in purges(bench, leader) if one.answer is not None and isinstance(one.answer, BackendUnavailable)]
    assert 2 <= len(failed) <= 4


def test_a_node_that_leads_no_more_deletes_nothing() -> None:
    """A leader without a lease, and one that leaves, make no portion."""
    bench = Bench()
    leader, _ = bench.cluster('a', 'b', **KEEP)
    bench.cut.add((leader, Lane.HEARTBEAT))
    bench.run(leader.config.heartbeat_timeout_sec)
    before = len(purges(bench, leader))
    bench.run(20.0)
    assert len(purges(bench, leader)) == before
    bench = Bench()
    (leader,) = bench.cluster('a', **KEEP)
    caught = bench.catch(leader, commands.Purge)
    leader.leave(bench.now)
    bench.answer(caught, AWAY)
    assert leader.next(Lane.UPKEEP, bench.now) == math.inf
