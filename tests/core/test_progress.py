"""``progress_timeout_sec``: a node whose user's code hangs gives its share up, and has it back when the code goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.core.bench import TASKS, Bench

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import LogMessage

TIMEOUT = 10.0
STEP = 0.25


def shares(*agents: Agent) -> list[int]:
    """How many tokens each owns."""
    return [len(agent.lease.ownership.tokens) for agent in agents]


def run(bench: Bench, seconds: float, *stirring: Agent, until: Callable[[], bool] = lambda: False) -> float:
    """Let time pass while some agents make progress, at most until something is so; return how long that took."""
    start = bench.now
    while bench.now < start + seconds and not until():
        for agent in stirring:
            agent.lease.has_progressed = True
        bench.run(STEP)
    return bench.now - start


def pair(bench: Bench, **changes: object) -> tuple[Agent, Agent]:
    """Two agents that have just made progress."""
    a = bench.start('a', progress_timeout_sec=TIMEOUT, **changes)
    run(bench, 3.0, a)
    b = bench.start('b', progress_timeout_sec=TIMEOUT, **changes)
    run(bench, 20.0, a, b, until=lambda: shares(a, b) == [2, 2])
    return a, b


@pytest.mark.parametrize('push', [True, False])
@pytest.mark.parametrize('which', [0, 1])
def test_a_hung_node_gives_its_share_up(which: int, push: bool) -> None:
    """Within two seconds, with push, after the timeout the other node has all, also if the leader hangs; its record says so."""
    bench = Bench(push=push)
    agents = pair(bench)
    hung, other = agents[which], agents[1 - which]
    took = run(bench, 60.0, other, until=lambda: shares(hung, other) == [0, 4])
    assert TIMEOUT - 1 <= took <= TIMEOUT + (2.0 if push else 13.0)
    assert hung.is_stalled
    assert bench.record(hung.config.name).stalled
    assert not bench.record(other.config.name).stalled
    run(bench, 60.0, other)
    assert shares(hung, other) == [0, 4]
    hung.lease.has_progressed = True
    took = run(bench, 60.0, other, hung, until=lambda: shares(hung, other) == [2, 2])
    assert took <= (2.0 if push else 13.0)
    assert not bench.record(hung.config.name).stalled


def test_a_node_that_waits_for_tasks_does_not_hang() -> None:
    """A loop that waits for its source is no hung loop, however long; the time counts from the end of the wait."""
    bench = Bench()
    waiting, other = pair(bench)
    waiting.lease.waiting['loop'] = None
    run(bench, 60.0, other)
    assert shares(waiting, other) == [2, 2]
    waiting.lease.waiting.clear()
    took = run(bench, 60.0, other, until=lambda: shares(waiting, other) == [0, 4])
    assert TIMEOUT - 1 <= took <= TIMEOUT + 2


def test_a_node_with_nothing_else_to_do_finds_out_in_time() -> None:
    """The mark is looked for in steps of its own, however rarely the node has something else to do."""
    bench = Bench()
    a = bench.start('a', progress_timeout_sec=TIMEOUT, heartbeat_interval_sec=100, heartbeat_timeout_sec=300)
    bench.run(3.0)
    for after in (7.0, 3.3):
        a.lease.has_progressed = True
        marked_at = bench.now
        bench.run_until(lambda: bench.record('a').stalled is False, within=5.0)
        bench.run(after)
        assert not bench.record('a').stalled
        bench.run_until(lambda: bench.record('a').stalled, within=60.0)
        assert TIMEOUT <= bench.now - marked_at <= TIMEOUT + 1


def test_the_hung_task_is_held_for_the_hand_over_at_most() -> None:
    """The token of a task in flight passes on after ``handover_timeout_sec``, the others at once."""
    bench = Bench()
    a, b = pair(bench, handover_timeout_sec=20)
    task = next(task for task in TASKS if bench.claims(a, task) == [True])
    assert bench.begin(a, task) == [True]
    assert run(bench, 60.0, b, until=lambda: shares(a, b) == [0, 3]) <= TIMEOUT + 2
    assert run(bench, 60.0, b, until=lambda: shares(a, b) == [0, 4]) <= 22


def test_a_node_alone_keeps_its_share() -> None:
    """No other node could be given it; it says so all the same."""
    bench = Bench()
    a = bench.start('a', progress_timeout_sec=TIMEOUT)
    run(bench, 60.0)
    assert (shares(a), a.is_stalled, bench.record('a').stalled) == ([4], True, True)
    b = bench.start('b', progress_timeout_sec=TIMEOUT)
    run(bench, 20.0, b)
    assert shares(a, b) == [0, 4]


def test_where_all_hang_nothing_moves() -> None:
    """The first one that goes on has everything."""
    bench = Bench()
    a, b = pair(bench)
    run(bench, 120.0)
    assert (a.is_stalled, b.is_stalled) == (True, True)
    assert sum(shares(a, b)) == 4
    before = bench.backend.snapshot().version
    run(bench, 120.0)
    assert bench.backend.snapshot().version == before
    run(bench, 20.0, b)
    assert shares(a, b) == [0, 4]


def test_long_tasks_that_report_are_no_false_alarm() -> None:
    """An hour of tasks ten times as long as the timeout moves nothing, if they report in time."""
    bench = Bench()
    a, b = pair(bench)
    before = bench.backend.snapshot().version
    while bench.now < 3600.0:
        for agent in (a, b):
            agent.lease.has_progressed = True
        bench.run(TIMEOUT - 1)
    assert bench.backend.snapshot().version == before
    assert not [event for agent in (a, b) for event in agent.events if isinstance(event, LogMessage) and 'progress' in event.text]


def test_the_time_of_a_suspended_machine_does_not_count() -> None:
    """Programs that are suspended with their machines go on with what they own; one that hangs after that stalls in time."""
    bench = Bench()
    a, b = pair(bench)
    before = bench.backend.snapshot().version
    bench.now += 3600.0
    run(bench, TIMEOUT / 2)
    assert (shares(a, b), a.is_stalled, b.is_stalled) == ([2, 2], False, False)
    assert bench.backend.snapshot().version == before
    assert 1 <= run(bench, 60.0, b, until=lambda: shares(a, b) == [0, 4]) <= TIMEOUT / 2 + 2


def test_a_node_that_owns_nothing_does_not_stall() -> None:
    """A node of weight 0 has nothing to make progress with; the time counts from what it gains."""
    bench = Bench()
    a = bench.start('a', progress_timeout_sec=TIMEOUT)
    b = bench.start('b', progress_timeout_sec=TIMEOUT, weight=0)
    run(bench, 60.0, a)
    assert not b.is_stalled
    b.set_weight(1.0)
    run(bench, TIMEOUT - 2, a, until=lambda: shares(a, b) == [2, 2])
    run(bench, TIMEOUT - 2, a)
    assert (shares(a, b), b.is_stalled) == ([2, 2], False)
    run(bench, 4.0, a)
    assert (shares(a, b), b.is_stalled) == ([4, 0], True)


def test_a_new_incarnation_says_so_too() -> None:
    """A node that has to register again is as stalled as before."""
    bench = Bench()
    a, b = pair(bench)
    run(bench, TIMEOUT + 5, b)
    run_before = a.ref
    bench.backend.renew_timeline(bench.backend.snapshot().timeline, 0)
    run(bench, 60.0, b)
    assert a.ref != run_before
    assert bench.record('a').stalled
    assert shares(a, b) == [0, 4]


def test_by_default_nothing_stalls() -> None:
    """Without the setting a node may hang for ever."""
    bench = Bench()
    agents = bench.cluster('a', 'b')
    bench.run(7200.0)
    assert shares(*agents) == [2, 2]
    assert not any(agent.is_stalled for agent in agents)
