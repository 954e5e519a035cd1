"""``claim``, ``task`` and ``complete``: work whose beginning and end are recorded around it."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Iterator

import pytest
from tests.job.stores import Store, foreign_task, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import BackendUnavailable, ConfigError, CoordinationConfig, Job, NotOwned, Task, plugins
from jobsync._worker.stages import SessionEvent
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend


def test_two_loops_share_the_tasks(store: Store) -> None:
    """Each task comes out of exactly one node's loop, in order, as the object that went in, claimed and then complete."""
    tasks = [Task(f'task-{number}') for number in range(200)]
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        one, two = list(a.claim(tasks)), list(b.claim(tasks))
    assert sorted([*one, *two], key=tasks.index) == tasks
    assert one == [task for task in tasks if task in one]
    assert sorted(store.claims) == sorted(store.audits) == sorted(task.key for task in tasks)


@pytest.mark.any_store
def test_a_task_is_claimed_before_it_is_out(store: Store) -> None:
    """When the body has a task its claim is on record and it is in flight; it is not complete yet."""
    with store.job('a') as job:
        for task in job.claim([1, 2, 3]):
            assert str(task) in store.claims
            assert str(task) not in store.audits
            assert job.get_coordination_status()['open_tasks'] == 1
        assert job.get_coordination_status()['open_tasks'] == 0


@pytest.mark.any_store
def test_a_body_that_raises_leaves_its_task_incomplete(store: Store) -> None:
    """The tasks before are complete, the one it raised in is not, and none is in flight."""
    with store.job('a') as job:
        with pytest.raises(ZeroDivisionError):
            for task in job.claim(range(10)):
                if task == 4:
                    raise ZeroDivisionError
        assert job.get_coordination_status()['open_tasks'] == 0
        job.write_audit()
        assert sorted(store.audits) == ['0', '1', '2', '3']
        assert '4' in {task.key for task in job.get_incomplete_tasks(older_than=0)}


@pytest.mark.any_store
def test_a_break_leaves_its_task_incomplete(store: Store) -> None:
    """Nobody has said that the work is over, unless by ``complete``."""
    with store.job('a') as job:
        for task in job.claim(range(10)):
            if task == 2:
                break
        for task in job.claim(range(10, 20)):
            if task == 12:
                job.complete(task)
                break
        job.write_audit()
    assert sorted(store.audits, key=int) == ['0', '1', '10', '11', '12']


@pytest.mark.any_store
def test_what_is_done_is_recorded_on_leaving(store: Store) -> None:
    """Completions that wait for their batch are recorded at the end of the block, without ``write_audit``."""
    with store.job('a') as job:
        for task in job.claim(range(10)):
            if task == 5:
                break
    assert sorted(store.audits) == ['0', '1', '2', '3', '4']


@pytest.mark.any_store
def test_a_list_is_claimed_in_batches(store: Store) -> None:
    """Thousands of short tasks take a few calls of the store."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        backend.calls.clear()
        started = time.monotonic()
        assert len(list(job.claim(range(5000)))) == 5000
        most = 30 + 8 * (time.monotonic() - started)  # completions are recorded four times a second
        assert backend.calls.count('append_claims') < most
        assert backend.calls.count('append_audits') < most
    assert len(store.audits) == 5000
    backend.inner.close()


@pytest.mark.any_store
@pytest.mark.any_store
@pytest.mark.parametrize('batch', [None, 1, 2])
@pytest.mark.parametrize('how', ['Job', 'AsyncJob'])
def test_a_list_that_grows(store: Store, how: str, batch: int | None) -> None:
    """What the body appends is claimed as well, whenever it does so."""
    tasks, done = list(range(5)), list[int]()

    def work(task: int) -> None:
        done.append(task)
        if task < 20:
            tasks.append(task + 10)

    async def main() -> None:
        async with store.async_job('a') as job:
            async for task in job.claim(tasks, batch=batch):
                work(task)

    if how == 'AsyncJob':
        asyncio.run(main())
    else:
        with store.job('a') as job:
            for task in job.claim(tasks, batch=batch):
                work(task)
    assert done == [*range(5), *range(10, 15), *range(20, 25)]


def test_an_iterator_is_not_read_ahead(store: Store) -> None:
    """A task of a source that blocks is out before the next one is asked for."""
    source: queue.Queue[int | None] = queue.Queue()
    out: list[int] = []

    def work(job: Job) -> None:
        for task in job.claim(iter(source.get, None)):
            out.append(task)

    with store.job('a') as job:
        thread = threading.Thread(target=work, args=(job,))
        thread.start()
        for task in range(20):
            source.put(task)
            wait_until(lambda: out[-1:] == [task], f'task {task} is out')  # noqa: B023 - called in this round only
        source.put(None)
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.any_store
def test_short_tasks_of_an_iterator_are_completed_together(store: Store) -> None:
    """Each is claimed by itself, and several are recorded as complete at once."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        backend.calls.clear()
        assert len(list(job.claim(iter(range(300))))) == 300
        assert backend.calls.count('append_claims') == 300
        assert backend.calls.count('append_audits') < 150
        assert len(store.audits) == 300
    backend.inner.close()


@pytest.mark.any_store
def test_a_completion_does_not_wait_for_the_next_task(store: Store) -> None:
    """What has been done is recorded while the loop waits for its source."""
    source: queue.Queue[int | None] = queue.Queue()
    with store.job('a') as job:
        thread = threading.Thread(target=lambda: list(job.claim(iter(source.get, None))))
        thread.start()
        for task in range(3):
            source.put(task)
        wait_until(lambda: sorted(store.audits) == ['0', '1', '2'], 'all three are recorded')
        source.put(None)
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.any_store
def test_a_batch_of_the_users_choice(store: Store) -> None:
    """``batch=1`` claims one by one, and what is no such number is refused."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        backend.calls.clear()
        assert list(job.claim([1, 2, 3], batch=1)) == [1, 2, 3]
        assert backend.calls.count('append_claims') == 3
        for batch in (0, -1, True, 2.5, 'many'):
            with pytest.raises(ConfigError, match='batch is'):
                job.claim([1], batch=batch)  # type: ignore[arg-type]
    backend.inner.close()


@pytest.mark.any_store
def test_a_task_that_moves_after_its_claim_is_not_out(store: Store) -> None:
    """Of a batch that is claimed, what has become another's meanwhile is skipped, and comes out of the other's loop."""
    tasks = list(range(400))
    with store.job('a') as a:
        mine: list[int] = []
        others: list[int] = []
        with store.job('b') as b:
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')
            for task in a.claim(tasks, batch=400):
                assert a.can_claim_task(task)
                if len(mine) == 8:
                    b.set_weight(0)
                    wait_until(lambda: len(a.my_tokens) == TOKENS, 'all is with a')
                    b.set_weight(5)
                    wait_until(lambda: len(b.my_tokens) >= TOKENS * 5 // 6 - 1, 'most is with b, but for the task at hand')
                mine.append(task)
            wait_until(lambda: len(b.my_tokens) == TOKENS * 5 // 6, 'the task at hand has passed on')
            others += b.claim([task for task in tasks if task not in mine])
            rest = [task for task in tasks if task not in mine and task not in others]
            assert all(a.can_claim_task(task) for task in rest)
        assert not set(mine) & set(others)


@pytest.mark.any_store
def test_the_loop_ends_when_the_node_leaves(store: Store) -> None:
    """An endless loop ends when another thread leaves, with the task at hand complete."""
    out: list[int] = []

    def work(job: Job) -> None:
        out.extend(job.claim(itertools.count()))

    with store.job('a') as job:
        thread = threading.Thread(target=work, args=(job,))
        thread.start()
        wait_until(lambda: len(out) > 3, 'it is at work')
        job.__exit__(None, None, None)
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.any_store
def test_a_batch_ends_when_the_node_is_to_leave(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next task is not begun, though the threads of the node have not taken note of that yet."""
    with store.job('a') as job:
        loop, out = job._claim_loop([], None), list[int]()
        loop.size = 5
        with monkeypatch.context() as patched:
            patched.setattr(job._session.runtime, 'request_leave', lambda *_: None)
            for task in loop.run_batch(range(5)):
                out.append(task)
                job._session.stop(SessionEvent.STOP)
        assert out == [0]


def test_a_loop_ends_amid_what_other_nodes_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the node is to leave, it takes no more tasks of a source of which none may ever be its own."""
    with store.job('a') as job:
        taken = list[int]()

        def source() -> Iterator[int]:
            for number in range(1000):
                taken.append(number)
                if number == 10:
                    job._session.stop(SessionEvent.STOP)
                yield number

        monkeypatch.setattr(job, 'can_claim_task', lambda _: False)
        assert list(job.claim(source())) == []
        assert len(taken) == 11


def test_a_loop_in_a_loop(store: Store) -> None:
    """What the inner loop does is complete when it ends, and what the outer one has out is still in flight."""
    with store.job('a') as job:
        for outer in job.claim(['x', 'y']):
            inner = [f'{outer}-{number}' for number in range(3)]
            assert list(job.claim(inner)) == inner
            assert set(inner) <= set(store.audits)
            assert outer not in store.audits
            assert job.get_coordination_status()['open_tasks'] == 1
    assert len(set(store.audits)) == 8


@pytest.mark.any_store
def test_threads_share_the_tasks(store: Store) -> None:
    """What is out in one thread's loop is passed over in another's, and comes out again if the first one failed."""
    with store.job('a') as job:
        first = job.claim([1, 2])
        assert next(first) == 1
        others: list[int] = []
        thread = threading.Thread(target=lambda: others.extend(job.claim([1, 2, 3])))
        thread.start()
        thread.join(120)
        assert others == [2, 3]
        assert job.get_coordination_status()['open_tasks'] == 1
        first.close()
        assert list(job.claim([1])) == [1]
        assert sorted(store.audits) == ['1', '2', '3']


@pytest.mark.any_store
def test_threads_never_have_one_task_at_once(store: Store) -> None:
    """However many loop over one list."""
    lock, at_work, clashes = threading.Lock(), set[int](), list[int]()

    def work(job: Job) -> None:
        for task in job.claim(range(300)):
            with lock:
                if task in at_work:
                    clashes.append(task)
                at_work.add(task)
            threading.Event().wait(0.0005)
            with lock:
                at_work.discard(task)

    with store.job('a') as job:
        threads = [threading.Thread(target=work, args=(job,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert not clashes
    assert len(set(store.audits)) == 300


@pytest.mark.any_store
def test_an_outage_loses_no_completion(store: Store) -> None:
    """If what is done cannot be recorded the loop goes on, and ``write_audit`` says so; the next one records it."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2}) as job:
        backend.faults.append(Fault('append_audits', times=1_000_000))
        assert list(job.claim([1, 2, 3])) == [1, 2, 3]
        with pytest.raises(BackendUnavailable):
            job.write_audit()
        backend.faults.clear()
        job.write_audit()
        assert set(store.audits) == {'1', '2', '3'}
        assert job.get_coordination_status()['open_tasks'] == 0
    backend.inner.close()


@pytest.mark.any_store
def test_without_coordination(store: Store) -> None:
    """With coordination off every task comes out, and is recorded as complete."""
    config = CoordinationConfig(backend=store.url, enabled=False)
    _ = store.handle
    with Job('a', coordination_config=config) as job:
        assert list(job.claim([1, 2, 3])) == [1, 2, 3]
    assert sorted(store.audits) == ['1', '2', '3']


# --- one task ---------------------------------------------------------------------------------------------------------------


@pytest.mark.any_store
def test_a_task_block(store: Store) -> None:
    """The task is claimed in the block, and complete after it."""
    with store.job('a') as job:
        with job.task(Task('x')) as task:
            assert task == Task('x')
            assert store.claims == ['x']
            assert store.audits == []
        assert store.audits == ['x']


@pytest.mark.any_store
def test_a_task_block_that_raises(store: Store) -> None:
    """The exception comes through, and the task stays incomplete and is not in flight."""
    with store.job('a') as job:
        with pytest.raises(ZeroDivisionError), job.task(1):
            raise ZeroDivisionError
        job.write_audit()
        assert (store.claims, store.audits) == (['1'], [])
        assert job.get_coordination_status()['open_tasks'] == 0


@pytest.mark.any_store
def test_a_task_block_for_anothers_task(store: Store) -> None:
    """It is refused before the block begins, with an error that names the task."""
    with store.job('a') as a, store.job('b'):
        wait_until(lambda: len(a.my_tokens) == TOKENS // 2, 'b has its share')
        task = foreign_task(a)
        with pytest.raises(NotOwned, match=f"task '{task}'"), a.task(task):
            raise AssertionError('never')


@pytest.mark.any_store
def test_complete_lets_go(store: Store) -> None:
    """A task that is complete holds up no hand-over, while the one beside it does."""
    with store.job('a', config={'handover_timeout_sec': 60}) as a:
        tasks = list(range(TOKENS))
        for task in tasks:
            assert a.add_task(task)
        with store.job('b', config={'handover_timeout_sec': 60}, wait_on_enter=0.5) as b:
            wait_until(lambda: len(a.my_tokens) == TOKENS // 2, 'half is asked for')
            moving = [task for task in tasks if not a.can_claim_task(task)]
            first, *rest = moving
            a.complete(first)
            wait_until(lambda: b.can_claim_task(first), 'its token has passed on')
            assert not any(b.can_claim_task(task) for task in rest if b.task_to_token(task) != b.task_to_token(first))
            a.write_audit()
            wait_until(lambda: all(b.can_claim_task(task) for task in moving), 'all have')


# --- who owns what ----------------------------------------------------------------------------------------------------------


@pytest.mark.any_store
def test_owns_and_owner_of(store: Store) -> None:
    """``owns`` is about this node's tokens, ``owner_of`` names whoever has the task, pinned or not."""
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        for token in range(TOKENS):
            assert a.owns(token) != b.owns(token)
        for task in range(20):
            assert a.owner_of(task) == b.owner_of(task) == ('a' if a.can_claim_task(task) else 'b')
        task = owned_tasks(a)[0]
        a.register_task_lock(task, 'b')
        wait_until(lambda: b.can_claim_task(task), 'the lock holds')
        assert a.owner_of(task) == 'b'
        a.register_task_lock(task, 'nobody-%')
        wait_until(lambda: a.owner_of(task) is None, 'nobody has it')


def test_a_fence_rises_with_every_owner(store: Store) -> None:
    """Through a lock, its end, a leave and a return the fence of a task only rises, and others have none."""
    seen: list[int] = []

    def note(owner: Job, *others: Job) -> None:
        wait_until(lambda: owner.can_claim_task('x'), 'it has the task')
        seen.append(owner.fence('x'))
        for other in others:
            with pytest.raises(NotOwned, match='no fence for task'):
                other.fence('x')

    with store.job('a') as a:
        note(a)
        a.register_task_lock('x', 'b')
        with store.job('b') as b:
            note(b, a)
            b.clear_all_locks()
            wait_until(lambda: not b.my_tokens > frozenset(range(TOKENS)) and a.owner_of('x') is not None, 'the lock is gone')
        note(a)
    with store.job('a') as again:
        note(again)
    assert seen == sorted(set(seen))


@pytest.mark.any_store
def test_weights_at_run_time(store: Store) -> None:
    """A node that weighs nothing owns nothing and stays a member; with a weight it has its share again."""
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')
        b.set_weight(0)
        wait_until(lambda: len(a.my_tokens) == TOKENS and not b.my_tokens, 'b is drained')
        assert b.am_i_healthy()
        b.set_weight(2)
        wait_until(lambda: len(b.my_tokens) == TOKENS * 2 // 3, 'b has twice as much as a')
        for weight in (-1, True, 'heavy', float('nan')):
            with pytest.raises(ConfigError, match='weight is'):
                b.set_weight(weight)  # type: ignore[arg-type]


@pytest.mark.any_store
def test_a_grace_for_those_who_come_back(store: Store) -> None:
    """A node that leaves and returns within ``rejoin_grace_sec`` has its tokens again, and nobody else's have moved."""
    config = {'rejoin_grace_sec': 60}

    with store.job('a', config=config) as a:
        with store.job('b', config=config) as b:
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')
            before, mine = b.my_tokens, a.my_tokens
        wait_until(lambda: a._session.runtime is not None and a.get_dead_nodes(), 'b has left')
        assert a.my_tokens == mine
        with store.job('b', config=config) as again:
            wait_until(lambda: again.my_tokens == before, 'it has its own again')
            assert a.my_tokens == mine
