"""Incidents of an operator's night: each made with real jobs, and solved by what the page of incidents says and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.job.runbook import INCIDENTS, Runbook
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import Cluster, ConfigMismatch, NodeNameInUse, plugins
from jobsync.backend import Backend, BackendOptions
from jobsync.testing import Fault, FaultyBackend, When

pytestmark = pytest.mark.any_store

TASK = 'invoice-7'


@pytest.fixture
def runbook(store: Store) -> Runbook:
    return Runbook(store.url)


@pytest.fixture
def cluster(store: Store) -> Iterator[Cluster]:
    with Cluster(store.url) as cluster:
        yield cluster


def test_a_node_without_tokens(store: Store, runbook: Runbook, cluster: Cluster) -> None:
    """It is drained: the list of nodes says so, also after a restart, and the history who has done it, and why it went."""
    with store.job('w1') as w1:
        with store.job('w2') as w2:
            Cluster(store.handle).drain('w2', 'new disk')
            wait_until(lambda: len(w1.my_tokens) == TOKENS and not w2.my_tokens, 'w2 is drained')
            assert w2.am_i_healthy()
            runbook.follow(1, 0)
        wait_until(lambda: 'node left: w2' in (row['trigger_reason'] for row in cluster.rebalances()), 'w1 has removed w2')
        runbook.follow(1, 2)
        with store.job('w2') as again:
            runbook.follow(1, 0)
            runbook.follow(1, 1)
            wait_until(lambda: len(again.my_tokens) == TOKENS // 2, 'w2 has its share again')


def test_a_task_that_no_node_does_for_its_lock(store: Store, runbook: Runbook) -> None:
    """The explanation names the pattern and who has locked it; once the lock is cleared, the task can be claimed."""
    with store.job('w1') as w1:
        w1.register_task_lock(TASK, 'gpu-%', 'needs a gpu')
        wait_until(lambda: w1.get_coordination_status()['unplaced_locks'] == 1, 'the lock has no match')
        runbook.follow(2, 0)
        runbook.follow(2, 1)
        wait_until(lambda: w1.can_claim_task(TASK), 'the task is free')


def test_a_task_that_a_hung_program_holds(store: Store, runbook: Runbook, cluster: Cluster) -> None:
    """The owner has begun the task and does not end it; once its process has gone, another node has it to do."""
    with store.job('w1') as w1, store.job('w2', config={'weight': 0}) as w2:
        assert w1.add_task(TASK)
        runbook.follow(2, 2)
        w1.__exit__(None, None, None)
        w2.set_weight(1)
        wait_until(lambda: w2.can_claim_task(TASK) and cluster.why(TASK).is_claimable, 'w2 has it')
        runbook.follow(2, 3)


def test_a_hand_over_that_a_task_holds_up(store: Store, runbook: Runbook, cluster: Cluster) -> None:
    """While the owner is busy with a task whose token it is to give up, the explanation names both nodes."""
    with store.job('w1') as w1:
        assert w1.add_task(TASK)
        with store.job('w2', wait_on_enter=0) as w2:
            w1.set_weight(0)
            wait_until(lambda: any(row['held'] for row in cluster.hand_overs()), 'w1 holds a token')
            runbook.follow(2, 4)
            w1.write_audit()
            wait_until(lambda: w2.can_claim_task(TASK), 'w2 has the task')


def test_a_task_that_was_done_twice(store: Store, runbook: Runbook) -> None:
    """The first node was busy with it for longer than a hand-over waits: both claims and both completions are on record."""
    with store.job('w1', config={'handover_timeout_sec': 0.5}) as w1:
        assert w1.add_task(TASK)
        with store.job('w2', wait_on_enter=0) as w2:
            w1.set_weight(0)
            wait_until(lambda: w2.can_claim_task(TASK), 'w2 has it')
            assert w2.add_task(TASK)
            w2.write_audit()
            w1.write_audit()
            runbook.follow(3, 0)


def test_tokens_that_move_all_the_time(store: Store, runbook: Runbook) -> None:
    """A program is started again and again: the reasons are counted, and draining its node ends the moves."""
    with store.job('w1') as w1:
        for _ in range(11):
            with store.job('w2'):
                pass
            wait_until(lambda: len(w1.my_tokens) == TOKENS, 'w1 has everything back')
        runbook.follow(4, 0)
        runbook.follow(4, 1)
        with store.job('w2') as w2:
            assert w2.am_i_healthy()
            assert len(w1.my_tokens) == TOKENS


def test_a_slow_store(store: Store, runbook: Runbook, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reading takes is compared with the lease."""
    connect = plugins.connect

    def slow(url: str, options: BackendOptions) -> Backend:
        return FaultyBackend(connect(url, options), Fault('snapshot', When.NEVER, skip=1, delay_sec=1.3))

    with store.job('w1'):
        monkeypatch.setattr('jobsync.plugins.connect', slow)
        runbook.follow(5, 0)


def test_a_task_lock_without_a_match(store: Store, runbook: Runbook) -> None:
    """The glance counts it, the list shows it, and a second pattern lets any node have the task."""
    with store.job('w1') as w1:
        w1.register_task_lock(TASK, 'gpu-%', 'needs a gpu')
        wait_until(lambda: w1.get_coordination_status()['unplaced_locks'] == 1, 'the lock has no match')
        runbook.follow(6, 0)
        runbook.follow(6, 1)
        wait_until(lambda: w1.can_claim_task(TASK), 'the task has a node')


def test_leaders_that_end(store: Store, runbook: Runbook, cluster: Cluster) -> None:
    """Each leader in turn goes: the changes are counted, with the names, though no token moves when the first one goes."""
    with ExitStack() as last:
        jobs = [last.enter_context(store.job(f'w{number}')) for number in range(1, 6)]
        jobs[0].set_weight(0)
        wait_until(lambda: sum(len(job.my_tokens) for job in jobs[1:]) == TOKENS, 'w1 has nothing')
        for leader in jobs[:-1]:
            wait_until(leader.am_i_leader, f'{leader.node_name} leads')
            leader.__exit__(None, None, None)
            reason = f'node left: {leader.node_name}'
            wait_until(lambda reason=reason: reason in (row['trigger_reason'] for row in cluster.rebalances()), reason)  # type: ignore[misc]
            wait_until(lambda: sum(len(job.my_tokens) for job in jobs) == TOKENS, 'the standby has shared them out')
        runbook.follow(7, 0)
        runbook.follow(7, 1)


def test_settings_that_differ(store: Store, runbook: Runbook) -> None:
    """The setting, its values, and which node has which."""
    with store.job('w1'), store.job('w2', config={'locks_enabled': False}):
        runbook.follow(8, 0)


def test_locks_of_a_node_that_is_gone(store: Store, runbook: Runbook, cluster: Cluster) -> None:
    """The list names them; cleared by their creator, their tasks are free."""
    with store.job('w1') as w1:
        with store.job('w9') as w9:
            w9.register_task_lock(TASK, 'w9', 'mine')
            wait_until(lambda: w9.can_claim_task(TASK), 'w9 has it')
        wait_until(lambda: [node['name'] for node in cluster.nodes()] == ['w1'], 'w9 has no record any more')
        wait_until(lambda: w1.get_coordination_status()['unplaced_locks'] == 1, 'the lock has no match')
        runbook.follow(9, 0)
        runbook.follow(9, 1)
        wait_until(lambda: w1.can_claim_task(TASK), 'the task is free')


def test_a_worker_that_cannot_join(store: Store, runbook: Runbook) -> None:
    """No tables, a name in use, other settings: the commands show what is there instead."""
    runbook.follow(10, 2)
    with store.job('w1'):
        with pytest.raises(NodeNameInUse):
            store.job('w1').__enter__()
        runbook.follow(10, 0)
        with pytest.raises(ConfigMismatch):
            store.job('w2', config={'total_tokens': 2 * TOKENS}).__enter__()
        runbook.follow(10, 1)


def test_every_incident_has_its_test() -> None:
    """The page has the ten, and each shows what to run."""
    assert [title.partition('.')[0] for title in INCIDENTS] == [str(number) for number in range(1, 11)]
    assert all(INCIDENTS.values())
