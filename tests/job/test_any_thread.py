"""Every public method from any thread at any time: before the block, in it, while another thread leaves, and after it."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.support.starts import in_flight

from jobsync import CoordinationConfig, Job, JobsyncError, NotOwned
from jobsync._core.agent.lease import Lease
from jobsync._worker.claim_loop import ClaimLoop
from jobsync._worker.session import Session
from jobsync._worker.store_calls import acting_for, worker_id

pytestmark = pytest.mark.any_store

THREADS = 4


def in_a_block(job: Job) -> None:
    with job.task(3):
        pass


def until_it_leaves(job: Job) -> None:
    if job.is_leaving:
        job.run_scheduled()


def in_a_turn(job: Job) -> None:
    with job.singleton('x'):
        pass


CALLS: dict[str, Callable[[Job], object]] = {
    'add_task': lambda job: job.add_task(1),
    'am_i_healthy': lambda job: job.am_i_healthy(),
    'am_i_leader': lambda job: job.am_i_leader(),
    'batch': lambda job: list(job.batch(range(5))),
    'can_claim_task': lambda job: job.can_claim_task(1),
    'claim': lambda job: list(job.claim(range(5))),
    'clear_all_locks': lambda job: job.clear_all_locks(),
    'clear_locks_by_creator': lambda job: job.clear_locks_by_creator('a'),
    'complete': lambda job: job.complete(1),
    'date': lambda job: job.date,
    'declare_items': lambda job: job.declare_items('group', ['i1', 'i2']),
    'every': lambda job: job.every(1)(in_a_turn),
    'fence': lambda job: job.fence(1),
    'get_active_nodes': lambda job: job.get_active_nodes(),
    'get_audit': lambda job: job.get_audit(),
    'get_coordination_status': lambda job: job.get_coordination_status(),
    'get_dead_nodes': lambda job: job.get_dead_nodes(),
    'get_incomplete_tasks': lambda job: job.get_incomplete_tasks(),
    'is_leaving': lambda job: job.is_leaving,
    'items': lambda job: job.items('group'),
    'keep_going': lambda job: job.keep_going(),
    'list_items': lambda job: job.list_items(),
    'list_locks': lambda job: job.list_locks(),
    'list_quarantined': lambda job: job.list_quarantined(),
    'my_tokens': lambda job: job.my_tokens,
    'node_name': lambda job: job.node_name,
    'nodes': lambda job: job.nodes,
    'owner_of': lambda job: job.owner_of(1),
    'owns': lambda job: job.owns(1),
    'purge': lambda job: job.purge(older_than=3600),
    'register_lock': lambda job: job.register_lock(7, '%'),
    'register_locks_bulk': lambda job: job.register_locks_bulk([(8, '%', 'why')]),
    'register_task_lock': lambda job: job.register_task_lock(7, '%'),
    'register_task_locks_bulk': lambda job: job.register_task_locks_bulk([(8, '%', 'why')]),
    'release_quarantined': lambda job: job.release_quarantined(1),
    'run_scheduled': until_it_leaves,
    'serve': lambda job: job.serve,  # starts a thread each time: test_web calls it
    'set_claim': lambda job: job.set_claim([1, 2]),
    'set_weight': lambda job: job.set_weight(1),
    'singleton': in_a_turn,
    'site': lambda job: job.site,
    'task': in_a_block,
    'task_to_token': lambda job: job.task_to_token(1),
    'token_version': lambda job: job.token_version,
    'where': lambda job: job.where('id'),
    'write_audit': lambda job: job.write_audit(),
}
"""One call of each."""


class Callers:
    """Threads that make all calls in turn, each from another place in the table, until they are told to stop."""

    def __init__(self, job: Job) -> None:
        self._job, self._stop = job, threading.Event()
        self.rounds = [0] * THREADS
        self.unexpected: list[tuple[str, BaseException]] = []
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(THREADS)]

    def _run(self, number: int) -> None:
        names = list(CALLS)
        while not self._stop.is_set():
            for place in range(len(names)):
                name = names[(place + number * len(names) // THREADS) % len(names)]
                try:
                    CALLS[name](self._job)
                except JobsyncError:
                    pass  # outside of the block, or the task is not this node's: that is an answer
                except BaseException as error:  # noqa: BLE001 - whatever it is, the test compares it
                    self.unexpected.append((name, error))
            self.rounds[number] += 1

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_SEC)

    def go_around(self) -> None:
        """Wait until every thread has made every call from now on, from the first to the last."""
        goal = [done + 2 for done in self.rounds]
        wait_until(lambda: all(done >= least for done, least in zip(self.rounds, goal, strict=True)), 'all calls return', 120)

    @property
    def are_alive(self) -> bool:
        """Whether any call has not returned."""
        return any(thread.is_alive() for thread in self._threads)


def test_the_table_is_complete() -> None:
    """It has every public method, property and attribute."""
    job = Job('a', coordination_config=CoordinationConfig(enabled=False))
    assert list(CALLS) == sorted(name for name in dir(job) if not name.startswith('_'))


@pytest.mark.parametrize('config', [{}, {'enabled': False}], ids=['', 'without coordination'])
def test_from_any_thread_at_any_time(store: Store, config: dict[str, Any]) -> None:
    """A call answers or raises a ``JobsyncError`` and always returns; the end of the block leaves nothing in flight."""
    assert store.node_names == []
    job = store.job('a', config=config)
    with Callers(job) as callers:
        callers.go_around()
        with job:
            callers.go_around()
        callers.go_around()
    assert not callers.are_alive
    assert callers.unexpected == []
    assert not job.my_tokens
    assert store.node_names in ([], ['a'])


def test_while_several_leave(store: Store) -> None:
    """The same while other threads leave, at once and again."""
    job = store.job('a')
    with job, Callers(job) as callers:
        callers.go_around()
        leavers = [threading.Thread(target=job.__exit__, args=(None, None, None)) for _ in range(3)]
        for thread in leavers:
            thread.start()
        for thread in leavers:
            thread.join(DEADLINE_SEC)
        assert not any(thread.is_alive() for thread in leavers)
        callers.go_around()
    assert not callers.are_alive
    assert callers.unexpected == []


def test_two_threads_that_enter_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One enters; the other is refused, and ends nothing of what the first one has begun."""
    job, check, entering = store.job(), Session.check_enterable, list[threading.Thread]()

    def let_another_enter(session: Session) -> None:
        check(session)
        if not entering:
            entering.append(threading.Thread(target=job.__enter__))
            entering[0].start()
            entering[0].join(DEADLINE_SEC)

    monkeypatch.setattr(Session, 'check_enterable', let_another_enter)
    with pytest.raises(JobsyncError, match='entered before'):
        job.__enter__()
    assert job.am_i_healthy()
    job.__exit__(None, None, None)


def test_a_loop_and_a_block_that_begin_one_task_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the loop gets no turn between two of its steps: one of the two has the task, not both."""
    is_between, may_go_on = threading.Event(), threading.Event()
    at_it: list[str] = []
    begin = Lease.begin

    def stop_between(self: Lease, *arguments: Any) -> bool:
        is_begun: bool = begin(self, *arguments)
        if threading.current_thread() is thread:
            is_between.set()
            assert may_go_on.wait(120)
        return is_begun

    def loop() -> None:
        for task in job.claim(['x']):
            at_it.append(task)

    monkeypatch.setattr(Lease, 'begin', stop_between)
    with store.job('a') as job:
        thread = threading.Thread(target=loop)
        thread.start()
        assert is_between.wait(120)
        try:
            with job.task('x'):
                at_it.append('x')
                may_go_on.set()
                thread.join(120)
                assert at_it == ['x']
        except NotOwned:
            may_go_on.set()
            thread.join(120)
    assert at_it == ['x']


@pytest.mark.parametrize('end', ['the body ends', 'break', 'an error', 'the block ends'])
@pytest.mark.parametrize('complete', ['complete', 'write_audit'])
@pytest.mark.parametrize('again', ['claim', 'add_task'])
def test_a_task_that_another_thread_has_begun_since_it_was_completed(store: Store, again: str, complete: str, end: str) -> None:
    """The end of a body that has completed its task does not end the work of a thread that was given the task again."""
    completed, begun, go = threading.Event(), threading.Event(), threading.Event()
    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None

        def body(task: str) -> None:
            if complete == 'complete':
                job.complete(task)
            else:
                job.write_audit()
            completed.set()
            assert begun.wait(DEADLINE_SEC)
            if end == 'an error':
                raise ZeroDivisionError

        def first() -> None:
            with contextlib.suppress(ZeroDivisionError):
                if end == 'the block ends':
                    with job.task('x') as task:
                        body(task)
                else:
                    for task in job.claim(['x']):
                        body(task)
                        if end == 'break':
                            break

        def second() -> None:
            assert completed.wait(DEADLINE_SEC)
            if again == 'add_task':
                assert job.add_task('x')
                begun.set()
                assert go.wait(DEADLINE_SEC)
                job.complete('x')
            else:
                for _ in job.claim(['x']):
                    begun.set()
                    assert go.wait(DEADLINE_SEC)

        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        for thread in threads:
            thread.start()
        threads[0].join(DEADLINE_SEC)
        assert in_flight(runtime.lease) == ['x']
        assert list(job.claim(['x'])) == []
        go.set()
        threads[1].join(DEADLINE_SEC)
        assert not runtime.lease.in_flight
        assert not runtime.lease.unrecorded
    assert store.audits == ['x']


@pytest.mark.parametrize('way', ['break', 'an error', 'the block fails'])
def test_a_body_fails_while_another_thread_has_added_its_task(store: Store, way: str) -> None:
    """The task stays open and in flight for the other thread: its token would pass on in the midst of the work."""
    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None

        def add() -> None:
            with ThreadPoolExecutor(1) as thread:
                assert thread.submit(job.add_task, 'x').result(DEADLINE_SEC)

        def loop() -> None:
            for _ in job.claim(['x']):
                add()
                if way == 'break':
                    break
                raise ZeroDivisionError

        def block() -> None:
            assert job.add_task('x')
            with job.task('x'):
                add()
                raise ZeroDivisionError

        with contextlib.suppress(ZeroDivisionError):
            (block if way == 'the block fails' else loop)()
        (start,) = runtime.lease.in_flight
        assert start.worker != worker_id()
        job.write_audit()
        assert not runtime.lease.in_flight
    assert store.audits == ['x']


def test_a_loop_claims_a_task_again_that_another_thread_has_added(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop has begun under a fence of before it gives up alone: the task stays in flight for the other thread."""
    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None

        answers = iter([False, True])

        def add(*_: object) -> bool:
            with ThreadPoolExecutor(1) as thread:
                assert thread.submit(job.add_task, 'x').result(DEADLINE_SEC)
            return next(answers)

        monkeypatch.setattr(ClaimLoop, '_is_unchanged', add)
        assert list(job.claim(['x'], once=True)) == []
        assert in_flight(runtime.lease) == ['x']
        job.complete('x')


@pytest.mark.parametrize('order', list(itertools.permutations([-1, -2, -3])))
def test_starts_of_one_task_are_taken_back(store: Store, order: tuple[int, ...]) -> None:
    """As when an ``add_task`` of an ``AsyncJob`` is cancelled: the task stays in flight for those that are left, as theirs."""
    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None
        starts = {}
        for worker in (-1, -2, -3):
            with acting_for(worker):
                starts[worker] = job._start('x')
        for number, worker in enumerate(order, 1):
            start = starts[worker]
            assert start is not None
            assert job._task_log.take_back(start) is (number == 3)
            assert {start.worker for start in runtime.lease.in_flight} == set(order[number:])
            assert in_flight(runtime.lease) == ['x'] * (3 - number)
        assert job._task_log.open_tasks == 0


def test_a_loop_takes_back_its_own_second_start(store: Store) -> None:
    """What a loop's worker has added once more, and another worker too, is complete with the loop's body all the same."""
    with store.job('a') as job:
        for _ in job.claim(['x']):
            start = job._start('x')
            assert start is not None
            with acting_for(-1):
                assert job.add_task('x')
            assert not job._task_log.take_back(start)
    assert store.audits == ['x']
