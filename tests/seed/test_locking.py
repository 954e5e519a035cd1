"""Examples of the chapter "Task Locking and Pinning", and of what the best practices say of locks."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.pages import example
from tests.seed.running import TASKS, namespace

import jobsync.database as db
from jobsync import Job

pytestmark = pytest.mark.any_store  # the examples are about Job


@contextlib.contextmanager
def running(store: Store, *names: str) -> Iterator[dict[str, Job]]:
    """Workers of these names, by name."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(store.job(name)) for name in names}


def wait_for_owners(jobs: dict[str, Job], owners: dict[object, set[str]]) -> None:
    """Wait until each task is one's of the named workers, and no other's; of nobody's if none is named."""

    def right() -> bool:
        for task, names in owners.items():
            found = [name for name, job in jobs.items() if job.can_claim_task(task)]
            if not set(found) <= names or len(found) != min(1, len(names)):
                return False
        return True

    wait_until(right, f'owners are {owners}')


def locks_of(store: Store) -> dict[str, tuple[str, ...]]:
    """Task -> patterns."""
    return {lock.task_id: lock.patterns for lock in store.locks}


@example('Single Lock Registration')
def test_single_lock(store: Store, config: Any, code: str) -> None:
    """Only worker-01 gets task 12345; the lock ends a week later; when worker-01 has left, nobody has the task."""
    names = namespace(config, get_task_list=lambda: [*TASKS, 12345])
    names.run(code)
    with running(store, 'worker-02', 'worker-03') as jobs:
        names.process_with_lock()
        assert 12345 in names.done
        assert len(names.done) < 60
        (lock,) = store.locks
        assert lock.expires_at is not None
        assert (lock.expires_at - lock.created_at, lock.reason) == (dt.timedelta(days=7), 'high_memory_required')
        wait_for_owners(jobs, {12345: set()})


@example('Bulk Lock Registration')
def test_bulk_locks(store: Store, config: Any, code: str) -> None:
    """Each task of today that needs a node goes to the first of its nodes that is there; those of other days are free."""
    names = namespace(config)
    names.run(code)
    assert store.handle
    today = dt.date.today()
    columns = ('task_id', 'required_node', 'date')
    rows = [
        (1, 'worker-01', today),
        (2, 'worker-09, worker-02', today),
        (3, None, today),
        (4, 'worker-01', today - dt.timedelta(1)),
    ]
    with db.connect(store.url) as cn:
        db.execute(cn, 'CREATE TABLE tasks (task_id INTEGER, required_node TEXT, date DATE)')
        db.insert_rows(cn, 'tasks', [dict(zip(columns, row, strict=True)) for row in rows])
    with running(store, 'worker-02') as jobs:
        names.process_with_bulk_locks()
        assert 1 in names.done
        assert 2 not in names.done
        assert locks_of(store) == {'1': ('worker-01',), '2': ('worker-09', 'worker-02')}
        wait_for_owners(jobs, {1: set(), 2: {'worker-02'}, 3: {'worker-02'}, 4: {'worker-02'}})


@example('Pattern-Based Locks')
def test_pattern_locks(store: Store, code: str) -> None:
    """Exact name, prefix, suffix and part decide who may claim what, and whom a task passes to."""
    names = namespace(None)
    names.run(code)
    with running(store, 'test-1', 'prod-node-02', 'eu-gpu', 'a-special-one') as jobs:
        names.register_pattern_locks(jobs['test-1'])
        wait_for_owners(jobs, {100: set(), 200: {'prod-node-02'}, 300: {'eu-gpu'}, 400: {'a-special-one'}})
        with running(store, 'prod-node-01') as more:
            wait_for_owners(jobs | more, {100: {'prod-node-01'}, 200: {'prod-node-02', 'prod-node-01'}})
            jobs['prod-node-02'].__exit__(None, None, None)
            wait_for_owners(jobs | more, {200: {'prod-node-01'}, 300: {'eu-gpu'}, 400: {'a-special-one'}})


@example('Dynamic Locks (Changes Each Run)')
def test_dynamic_locks(store: Store, config: Any, code: str) -> None:
    """Each run's locks take the place of the last run's, and a locked task is done by a matching node only."""
    heavy = [1, 2]
    names = namespace(config, get_todays_heavy_queries=lambda: heavy)
    names.run(code)
    with running(store, 'high-mem-1') as jobs:
        names.process_with_dynamic_locks()
        assert not {1, 2} & set(names.done)
        assert names.done
        wait_for_owners(jobs, {1: {'high-mem-1'}, 2: {'high-mem-1'}})
        heavy[:] = [2, 3]
        names.process_with_dynamic_locks()
        assert locks_of(store) == {'2': ('high-mem-%',), '3': ('high-mem-%',)}
        heavy.clear()
        names.process_with_dynamic_locks()
        assert locks_of(store) == {}


@example('Static Locks (Persistent Across Runs)')
def test_static_locks(store: Store, config: Any, code: str) -> None:
    """What was registered before stays, another's and one's own; runs change nothing."""
    names = namespace(config, get_all_tasks=lambda: ['customer-X', 'customer-Y', *TASKS])
    names.run(code)
    with store.job('worker-east-01') as before:
        before.register_task_lock('older', 'x')
    with running(store, 'node-west-1', 'node-east-1') as jobs:
        ids = set()
        for _ in range(2):
            names.process_with_static_locks()
            assert [lock.task_id for lock in store.locks] == ['older', 'customer-X', 'customer-Y']
            ids.add(tuple(lock.id for lock in store.locks))
        assert len(ids) == 1
        wait_for_owners(jobs, {'customer-X': {'node-east-1'}, 'customer-Y': {'node-west-1'}})
        assert not {'customer-X', 'customer-Y'} & set(names.done)


@example('Manual Lock Management')
@pytest.mark.parametrize('reset', [False, True])
def test_manual_management(store: Store, config: Any, code: str, reset: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """All locks are listed; those of a node go, or all of them, and then their tasks are free."""
    names = namespace(config, need_complete_reset=reset)
    names.run(code)
    with store.job('old-worker-01') as old:
        old.register_task_lock(1, 'nobody')
    with store.job('other') as other:
        other.register_task_lock(2, 'nobody')
        first, second = (row['token_id'] for row in other.list_locks())
        names.manage_locks_manually()
    assert capsys.readouterr().out.splitlines() == [
        f'Token {first}: nobody (created by old-worker-01)',
        f'Token {second}: nobody (created by other)',
    ]
    assert list(locks_of(store)) == ([] if reset else ['2'])
    assert names.done


@example('Lock Management Best Practices')
def test_production_pattern(store: Store, config: Any, code: str) -> None:
    """Requirements in the user's table become patterns; those of the last run are gone in the next."""
    counts: list[int] = []
    names = namespace(config, process_tasks=lambda job: counts.append(len(job.list_locks())))
    names.run(code)
    assert store.handle
    today = dt.date.today()
    with db.connect(store.url) as cn, running(store, 'eu-gpu', 'high-mem-1') as jobs:
        db.execute(cn, 'CREATE TABLE task_metadata (task_id INTEGER, required_resource TEXT, date DATE)')
        needs = {1: 'gpu', 2: 'high_memory', 3: 'coffee', 4: None}
        rows = [{'task_id': task, 'required_resource': need, 'date': today} for task, need in needs.items()]
        db.insert_rows(cn, 'task_metadata', rows)
        names.production_lock_pattern()
        assert locks_of(store) == {'1': ('%-gpu',), '2': ('high-mem-%',)}
        wait_for_owners(jobs, {1: {'eu-gpu'}, 2: {'high-mem-1'}, 3: {'eu-gpu', 'high-mem-1'}})
        db.execute(cn, 'DELETE FROM task_metadata WHERE task_id = %s', 1)
        names.production_lock_pattern()
        assert locks_of(store) == {'2': ('high-mem-%',)}
        assert counts == [2, 1]


@example('Resource-Based Lock Example')
def test_resource_locks(store: Store, config: Any, code: str) -> None:
    """The tasks that need a GPU are done by the worker that has one, and by no other."""
    names = namespace(config)
    names.run(code)
    assert store.handle
    today = dt.date.today()
    with db.connect(store.url) as cn, running(store, 'worker-02') as jobs:
        db.execute(cn, 'CREATE TABLE tasks (task_id INTEGER, requires_gpu BOOLEAN, date DATE)')
        db.insert_rows(cn, 'tasks', [{'task_id': task, 'requires_gpu': task < 5, 'date': today} for task in range(10)])
        names.process_gpu_tasks()
        assert set(range(5)) <= set(names.done)
        assert len(names.done) < 90
        wait_for_owners(jobs, {task: set() for task in range(5)})


@example('Use Bulk Lock Registration')
def test_bulk_is_the_same(store: Store, code: str) -> None:
    """The good way registers in one step what the bad way registers one by one."""
    good, bad = code.split('# BAD: Individual registration in loop\n')
    with store.job('a') as a:
        found = []
        for part in (good, bad):
            names = namespace(None, get_special_tasks=lambda: range(30), node='gpu-%', reason='gpu')
            names.run(part)
            revision = store.handle.snapshot().locks_revision
            names.register_locks(a)
            found.append({lock.task_id: (lock.patterns, lock.reason) for lock in store.locks})
            assert store.handle.snapshot().locks_revision > revision
            assert a.clear_all_locks() == 30
        assert found[0] == found[1]
        assert set(found[0].values()) == {(('gpu-%',), 'gpu')}


@example('Document Lock Reasons')
def test_reasons(store: Store, code: str) -> None:
    """The reasons are there to be read with the locks."""
    names = namespace(None)
    names.run(code)
    with store.job('a') as a:
        names.register_locks(a)
        assert {lock['task_id']: (lock['node_pattern'], lock['reason']) for lock in a.list_locks()} == {
            '100': ('%-gpu', 'requires_nvidia_v100'),
            '200': ('high-mem-%', 'requires_64gb_ram'),
            '300': ('us-east-%', 'data_in_us_east_s3'),
        }


@example('Manage Lock Lifecycle')
def test_lifecycle(store: Store, config: Any, code: str) -> None:
    """Dynamic locks follow each run's state; the admin's clean-up removes those of the old workers only."""
    heavy = [1, 2]
    names = namespace(config, get_current_heavy_tasks=lambda: heavy)
    names.run(code)
    names.manage_lock_lifecycle()
    assert list(locks_of(store)) == ['1', '2']
    heavy[:] = [3]
    names.manage_lock_lifecycle()
    for name in ('old-1', 'old-2'):
        with store.job(name) as old:
            old.register_task_lock(name, '%')
    assert list(locks_of(store)) == ['3', 'old-1', 'old-2']
    names.cleanup_orphaned_locks()
    assert list(locks_of(store)) == ['3']


@example('Use clear_existing_locks for Dynamic Locks')
def test_clear_existing_locks(store: Store, config: Any, code: str) -> None:
    """No stale lock stays, whatever the state of each run was; the query is asked for the job's date."""
    needing, asked = [1, 2], list[object]()

    def query(date: object) -> list[int]:
        asked.append(date)
        return list(needing)

    names = namespace(config, query_gpu_requirements=query)
    names.run(code)
    for needing[:] in ([1, 2], [2, 5], []):
        names.process_with_dynamic_locks()
        assert locks_of(store) == {str(task): ('%-gpu',) for task in needing}
    assert asked == [dt.date.today()] * 3
