"""Task locks."""

from __future__ import annotations

import contextlib
import threading
from typing import Any
from unittest.mock import Mock

import pytest
from tests.job.stores import Store, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import Job, UnsupportedOperation
from jobsync._core.records import LockEdit, LockRequest, TaskLock
from jobsync._worker.session import Session
from jobsync._worker.task_locks import TaskLocks, lock_requests
from jobsync.errors import ConfigError, JobsyncError


def wait_until_only(owner: Job, task: object, *others: Job) -> None:
    """Wait until ``owner`` and nobody else may claim the task."""
    wait_until(
        lambda: owner.can_claim_task(task) and not any(other.can_claim_task(task) for other in others),
        f'{task!r} is for {owner.node_name} alone',
    )


def is_pinned(job: Job, task: object) -> bool:
    """Whether the job goes by a pin for this task."""
    return job.task_to_token(task) >= TOKENS


def test_registered_while_running(store: Store) -> None:
    """A lock moves its task to the node it names, and no other task with it."""
    with store.job('a') as a, store.job('b') as b:
        task = owned_tasks(a)[0]
        before = a.my_tokens, b.my_tokens
        a.register_task_lock(task, 'b', 'memory')
        wait_until_only(b, task, a)
        assert {token for token in a.my_tokens | b.my_tokens if token < TOKENS} == set(range(TOKENS))
        assert abs(len(a.my_tokens) - len(b.my_tokens)) <= 1
        assert a.clear_all_locks() == 1
        wait_until(lambda: not is_pinned(a, task) and not is_pinned(b, task), 'the pin is gone')
        wait_until(lambda: (a.my_tokens, b.my_tokens) == before, 'all is as before')


@pytest.mark.any_store
@pytest.mark.parametrize('pattern', ['prod-%', '%-gpu', '%1%', 'prod-1_gpu', ['x%', 'prod-%'], ('y', 'prod-1-gpu')])
def test_patterns(store: Store, pattern: Any) -> None:
    """Prefix, suffix, contained, single character, and lists in which the first that anyone matches decides."""
    with store.job('prod-1-gpu') as one, store.job('test-2') as two:
        tasks = [owned_tasks(two)[0], 'customer-X']
        one.register_locks_bulk([(task, pattern) for task in tasks])
        for task in tasks:
            wait_until_only(one, task, two)


@pytest.mark.any_store
def test_bulk_tuples_for_one_task_are_alternatives(store: Store) -> None:
    """The guide's 'worker-01,worker-02': the first is preferred, the second has the task while the first is away."""
    with store.job('worker-03') as three, store.job('worker-02') as two:
        locks = [(100, node.strip(), 'resource_requirement') for node in ['worker-01', 'worker-02']]
        three.register_task_locks_bulk(locks)
        (row,) = three.list_locks()
        assert row['patterns'] == ['worker-01', 'worker-02']
        wait_until_only(two, 100, three)
        with store.job('worker-01') as one:
            wait_until_only(one, 100, two, three)
        wait_until_only(two, 100, three)


@pytest.mark.any_store
def test_nobody_matches(store: Store) -> None:
    """A task whose pattern no live node matches is claimable nowhere, until one that matches joins."""
    with store.job('a') as a, store.job('b') as b:
        a.register_task_lock('x', 'gpu-%')
        wait_until(lambda: is_pinned(a, 'x') and is_pinned(b, 'x'), 'the pin is known')
        wait_until(lambda: not a.can_claim_task('x') and not b.can_claim_task('x'), 'nobody has it')
        assert not a.add_task('x')
        with store.job('gpu-1') as gpu:
            wait_until_only(gpu, 'x', a, b)


@pytest.mark.any_store
def test_expiry(store: Store) -> None:
    """A lock goes when its time is over, which may be a fraction of a day, and its task falls back to its hash."""
    with store.job('a') as a, store.job('b') as b:
        task = owned_tasks(a)[0]
        a.register_task_lock(task, 'b', 'for now', expires_in_days=4 / 86400)
        wait_until_only(b, task, a)
        (row,) = a.list_locks()
        assert row['expires_at'] is not None
        assert (row['expires_at'] - row['created_at']).total_seconds() == pytest.approx(4, abs=0.01)
        wait_until_only(a, task, b)
        wait_until(lambda: a.list_locks() == [], 'the lock is removed')


def test_list_locks(store: Store) -> None:
    """``list_locks`` gives one row a lock, with the columns of the guide's table and its alternatives."""
    with store.job('a') as job:
        job.register_task_lock(12345, 'worker-01', 'high_memory_required', 7)
        job.register_lock('customer-X', ['east-%', 'west-%'])
        first, second = job.list_locks()
        assert TOKENS < first['token_id'] < second['token_id']
        assert first | {'created_at': 0, 'expires_at': 0} == {
            'token_id': first['token_id'],
            'task_id': '12345',
            'node_pattern': 'worker-01',
            'patterns': ['worker-01'],
            'reason': 'high_memory_required',
            'created_by': 'a',
            'created_at': 0,
            'expires_at': 0,
        }
        assert first['expires_at'] is not None
        assert (first['expires_at'] - first['created_at']).days == 7
        assert (second['task_id'], second['node_pattern'], second['patterns']) == ('customer-X', 'east-%', ['east-%', 'west-%'])
        assert (second['reason'], second['expires_at']) == (None, None)


def test_a_new_lock_replaces_the_tasks_old_one(store: Store) -> None:
    """A task has one lock: registering again replaces it, and its id stays."""
    with store.job('a') as job:
        job.register_task_lock(1, 'x')
        before = job.list_locks()[0]
        job.register_task_lock('1', 'y', 'other')
        (after,) = job.list_locks()
        assert (after['node_pattern'], after['reason']) == ('y', 'other')
        assert after['token_id'] == before['token_id']


def test_clear(store: Store) -> None:
    """Both ways to clear say how many went, and by creator leaves the others' locks."""
    with store.job('a') as a, store.job('b') as b:
        a.register_task_locks_bulk([(number, '%') for number in range(5)])
        b.register_task_locks_bulk([(number, '%', 'b') for number in range(10, 13)])
        assert a.clear_locks_by_creator('nobody') == 0
        assert a.clear_locks_by_creator('b') == 3
        assert {row['created_by'] for row in a.list_locks()} == {'a'}
        assert b.clear_all_locks() == 5
        assert b.clear_all_locks() == 0
        assert b.list_locks() == []


@pytest.mark.any_store
def test_provider_first_node(store: Store) -> None:
    """The locks of ``lock_provider`` hold when the first node's block is entered."""
    with store.job('a', lock_provider=lambda job: job.register_task_locks_bulk([(1, 'b'), (2, 'a')])) as job:
        assert not job.can_claim_task(1)
        assert job.can_claim_task(2)
        assert is_pinned(job, 1)
        assert is_pinned(job, 2)


@pytest.mark.any_store
def test_a_provider_whose_call_runs_nothing(store: Store) -> None:
    """Without its locks no task is begun: a coroutine function behind a plain one registers none."""

    async def provide(job: Job) -> None:
        raise AssertionError('it is not run')

    refused = pytest.raises(ConfigError, match='lock_provider has returned <coroutine object')
    with refused, store.job('a', lock_provider=lambda job: provide(job)):
        pass


def test_provider_of_a_joiner(store: Store) -> None:
    """They hold for a node that joins a running cluster as well, those that name it and those that name others."""
    with store.job('a') as a:

        def provide(job: Job) -> None:
            for number in range(20):
                job.register_task_lock(number, 'b' if number % 2 else 'a')

        with store.job('b', lock_provider=provide) as b:
            assert [b.can_claim_task(number) for number in range(20)] == [False, True] * 10
            assert not any(a.can_claim_task(number) for number in range(1, 20, 2))
            wait_until(lambda: all(a.can_claim_task(number) for number in range(0, 20, 2)), 'a has the others')


@pytest.mark.any_store
def test_provider_sees_the_store(store: Store) -> None:
    """Within ``lock_provider`` the job knows its date and the locks there are, and may clear some."""
    seen: list[Any] = []

    def provide(job: Job) -> None:
        seen.extend([job.date, job.list_locks(), job.clear_all_locks()])
        job.register_task_lock(2, '%')

    with store.job('old', lock_provider=lambda job: job.register_task_lock(1, '%')):
        pass
    with store.job('new', lock_provider=provide) as job:
        assert [row['task_id'] for row in job.list_locks()] == ['2']
    assert seen[0] == job.date
    assert [row['task_id'] for row in seen[1]] == ['1']
    assert seen[2] == 1


def test_a_lock_provider_waits_for_no_schedule(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is not to leave before it has entered: ``run_scheduled`` would wait without end, and entering with it."""
    caught: list[str] = []

    def provide(job: Job) -> None:
        with pytest.raises(JobsyncError) as found, monkeypatch.context() as patched:
            patched.setattr(Session, 'note_progress', lambda self: pytest.fail('it waits'))
            job.run_scheduled()
        caught.append(str(found.value))

    with store.job('a', lock_provider=provide):
        pass
    assert 'still entering' in caught[0]


@pytest.mark.any_store
@pytest.mark.parametrize('loop', ['claim', 'batch'])
def test_a_lock_provider_loops_over_no_tasks(store: Store, loop: str) -> None:
    """The node owns nothing yet: ``claim`` would pass over all in silence, and ``batch`` wait without end."""
    caught: list[str] = []

    def provide(job: Job) -> None:
        with pytest.raises(JobsyncError) as found:
            list(getattr(job, loop)(['t']))
        caught.append(str(found.value))

    with store.job('a', lock_provider=provide) as job:
        assert list(getattr(job, loop)(['t'])) == ['t']
    assert 'still entering' in caught[0]


def test_provider_that_raises(store: Store) -> None:
    """An exception of ``lock_provider`` comes out of the ``with`` statement; no node has registered, and no lock."""

    def provide(job: Job) -> None:
        job.register_task_lock(1, '%')
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), store.job('a', lock_provider=provide):
        pass
    assert store.node_names == []
    assert store.locks == []


@pytest.mark.any_store
def test_clear_existing_locks(store: Store) -> None:
    """``clear_existing_locks`` leaves exactly what the provider registers, of this creator; without it all stay."""
    with store.job('b', lock_provider=lambda job: job.register_task_lock('of b', '%')):
        pass
    with store.job('a', lock_provider=lambda job: job.register_task_locks_bulk([(1, '%'), (2, '%')])):
        pass
    with store.job('a', lock_provider=lambda job: job.register_task_lock(3, '%')) as job:
        assert {row['task_id'] for row in job.list_locks()} == {'of b', '1', '2', '3'}
    with store.job('a', lock_provider=lambda job: job.register_task_lock(2, '%'), clear_existing_locks=True) as job:
        assert {row['task_id'] for row in job.list_locks()} == {'of b', '2'}
    with store.job('a', clear_existing_locks=True) as job:
        assert {row['task_id'] for row in job.list_locks()} == {'of b'}


def test_clear_existing_locks_is_one_step(store: Store) -> None:
    """A lock that is registered again never lapses: no reader ever finds it missing, and its id stays."""
    readings: list[list[TaskLock]] = []
    done = threading.Event()

    def provide(job: Job) -> None:
        job.register_task_locks_bulk([(number, '%') for number in range(50)])

    def read() -> None:
        while not done.is_set():
            readings.append(store.locks)

    with store.job('a', lock_provider=provide):
        pass
    ids = [lock.id for lock in store.locks]
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            with store.job('a', lock_provider=provide, clear_existing_locks=True):
                pass
    finally:
        done.set()
        reader.join()
    assert readings
    assert all([lock.id for lock in reading] == ids for reading in readings)


def test_another_thread_registers_a_lock_as_those_of_the_provider_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """``clear_existing_locks`` leaves it."""
    edit, others = TaskLocks._edit, iter(['of another thread'])

    def and_register(locks: TaskLocks, change: LockEdit) -> int:
        for each in others:
            job.register_task_lock(each, '%')
        return edit(locks, change)

    monkeypatch.setattr(TaskLocks, '_edit', and_register)
    job = store.job('a', lock_provider=lambda job: job.register_task_lock('given', '%'), clear_existing_locks=True)
    with job:
        assert {row['task_id'] for row in job.list_locks()} == {'given', 'of another thread'}


def test_another_thread_registers_a_lock_as_the_provider_ends() -> None:
    """Its lock is registered, though the function ends between two steps of the call."""

    class EndsAtOnce(TaskLocks):
        @property
        def _gathered(self) -> list[LockRequest] | None:
            return found.pop() if found else None

        @_gathered.setter
        def _gathered(self, _: object) -> None:
            pass

    found, session = [list[LockRequest]()], Mock()
    EndsAtOnce(session).put(put := lock_requests('a', [('x', '%')]))
    (call,) = session.caller.call.call_args.args
    call()
    session.needed_backend.edit_locks.assert_called_once_with(LockEdit(put=tuple(put)))


@pytest.mark.any_store
def test_pin_follows_the_fallback(store: Store) -> None:
    """When the node of the first choice leaves, the task goes to the next pattern's node, and comes back with the first."""
    with store.job('a') as a, store.job('b') as b:
        a.register_task_lock('x', ['c', 'b'])
        wait_until_only(b, 'x', a)
        with store.job('c') as c:
            wait_until_only(c, 'x', a, b)
        wait_until_only(b, 'x', a)


@pytest.mark.any_store
def test_locks_disabled(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """With ``locks_enabled=False`` no lock is registered, and a warning says so."""
    called: list[Job] = []
    with store.job('a', config={'locks_enabled': False}, lock_provider=called.append) as job:
        job.register_task_lock(1, 'b')
        assert job.list_locks() == []
        assert job.can_claim_task(1)
    assert not called
    assert 'locks_enabled is off' in caplog.text


def test_aliases() -> None:
    """``register_lock`` and ``register_locks_bulk`` are the other names of the same."""
    assert Job.register_lock is Job.register_task_lock
    assert Job.register_locks_bulk is Job.register_task_locks_bulk


@pytest.mark.any_store
def test_locks_of_one_who_left_stay(store: Store) -> None:
    """A lock outlives the node that registered it."""
    with store.job('a') as a:
        with store.job('b', lock_provider=lambda job: job.register_task_lock(1, 'a')) as b:
            wait_until_only(a, 1, b)
        wait_until(lambda: store.node_names == ['a'], 'b is forgotten')
        assert [row['created_by'] for row in a.list_locks()] == ['b']
        assert is_pinned(a, 1)


def test_the_pattern_in_force(store: Store) -> None:
    """``node_pattern`` is the alternative by which the place was last chosen, here and in the table of a SQL store alike."""

    def in_force(job: Job) -> set[str]:
        found = {lock['node_pattern'] for lock in job.list_locks()}
        with contextlib.suppress(UnsupportedOperation):
            found.update(row['node_pattern'] for row in db.select(job._cn, 'SELECT node_pattern FROM sync_lock'))
        return found

    with store.job('a') as a:
        a.register_task_lock('x', ['east-%', 'west-%'])
        wait_until(lambda: is_pinned(a, 'x'), 'the pin is known')
        assert in_force(a) == {'east-%'}  # nobody matches: the first
        with store.job('west-1') as west:
            wait_until(lambda: west.can_claim_task('x') and in_force(a) == {'west-%'}, 'the second is in force')
            a.register_task_lock('x', ['east-%', 'south-%', 'west-%'], 'another list')
            assert in_force(a) == {'west-%'}
            with store.job('east-1') as east:
                wait_until(lambda: east.can_claim_task('x') and in_force(a) == {'east-%'}, 'the first is in force')
            wait_until(lambda: west.can_claim_task('x') and in_force(a) == {'west-%'}, 'the last is in force')
        wait_until(lambda: a.owner_of('x') is None, 'nobody matches any more')
        assert in_force(a) == {'west-%'}
        a.register_task_lock('x', ['north-%', 'south-%'])
        assert in_force(a) == {'north-%'}
