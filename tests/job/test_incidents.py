"""Incidents of an operator's night: each made with real jobs, and solved from what ``Cluster`` and the commands say alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import Cluster, NodeNameInUse
from jobsync.cli.commands import cli

pytestmark = pytest.mark.any_store


@pytest.fixture
def cluster(store: Store) -> Iterator[Cluster]:
    with Cluster(store.url) as cluster:
        yield cluster


@pytest.fixture
def run(store: Store) -> Callable[..., str]:
    """Run a command on the store, and return what it prints."""

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner(env={'JOBSYNC_BACKEND': store.url}).invoke(cli, arguments)
        assert result.exit_code == code, result.output
        return ' '.join(result.output.split())

    return run


def test_a_node_without_tokens(store: Store, cluster: Cluster, run: Callable[..., str]) -> None:
    """Somebody has drained the node: the list of nodes says so, and undraining it gives it its share, also after a restart."""
    with store.job('a') as a:
        with store.job('b') as b:
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')
            run('drain', 'b', '--reason', 'new disk')
            wait_until(lambda: len(a.my_tokens) == TOKENS and not b.my_tokens, 'b is drained')
            assert b.am_i_healthy()
            assert 'draining: b' in run('rebalances')
        with store.job('b') as again:
            (row,) = (row for row in json.loads(run('nodes', '--json')) if row['name'] == 'b')
            assert (row['is_drained'], row['tokens'], row['state']) == (True, 0, 'joined')
            assert not again.my_tokens
            run('undrain', 'b')
            wait_until(lambda: len(again.my_tokens) == TOKENS // 2, 'b has its share again')


def test_a_task_that_no_node_does_for_its_lock(store: Store, run: Callable[..., str]) -> None:
    """The explanation names the pattern and the live nodes; once the lock is cleared, the task can be claimed."""
    with store.job('a') as a:
        a.register_task_lock('x', 'gpu-%', 'needs a gpu')
        wait_until(lambda: a.get_coordination_status()['unplaced_locks'] == 1, 'the lock has no match')
        assert "bound to 'gpu-%', and no live node matches" in run('why', 'x', code=3)
        assert '1 locked tasks match no live node: x' in run('status', code=3)
        assert 'x gpu-%' in run('locks', 'list', '--unmatched')
        run('locks', 'clear', 'x')
        wait_until(lambda: a.can_claim_task('x'), 'the task is free')
        assert "'a' may do it" in run('why', 'x')


def test_a_task_that_a_hung_program_holds(store: Store, run: Callable[..., str]) -> None:
    """The owner has begun the task and does not end it: the explanation says who and since when, and so does the list."""
    with store.job('a') as a:
        a.add_task('slow')
        assert "'a' began it" in run('why', 'slow')
        assert 'slow a' in run('incomplete', '--older-than', '0')


def test_a_hand_over_that_a_task_holds_up(store: Store, run: Callable[..., str]) -> None:
    """While the owner is busy with a task whose token it is to give up, the explanation names both nodes."""
    with store.job('a') as a:
        tasks = [str(number) for number in range(200)]
        for task in tasks:
            a.add_task(task)
        with store.job('b', config={'minimum_nodes': 1}, wait_on_enter=1) as b:
            wait_until(lambda: 'is still busy with' in ' '.join(Cluster(store.handle).status()['problems']), 'a holds tokens')
            held = next(task for task in tasks if Cluster(store.handle).why(task).target == 'b')
            assert "'a' is still busy with it" in run('why', held, code=3)
            a.write_audit()
            wait_until(lambda: b.can_claim_task(held), 'b has the task')


def test_a_worker_that_cannot_join(store: Store, run: Callable[..., str]) -> None:
    """Another process has the name: the list of nodes says which, by host and pid."""
    with store.job('a'):
        with pytest.raises(NodeNameInUse):
            store.job('a').__enter__()
        (row,) = json.loads(run('nodes', '--json'))
        assert row['name'] == 'a'
        assert row['pid'] > 0
        assert row['host']


def test_a_task_that_was_done_twice(store: Store, run: Callable[..., str]) -> None:
    """Both completions are on record, with their nodes: the second node did it again after the first had lost it."""
    with store.job('a') as a:
        a.add_task('x')
        a.write_audit()
    with store.job('b') as b:
        b.add_task('x')
        b.write_audit()
        shown = json.loads(run('audit', '--task', 'x', '--json'))
    assert sorted(row['node'] for row in shown) == ['a', 'b']
