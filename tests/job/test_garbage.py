"""What a job leaves for the collector of garbage."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from tests.job.stores import Store, kinds
from tests.job.waiting import DEADLINE_SEC, wait_until

from jobsync import Job, Task, plugins
from jobsync._core.agent.agent import Agent
from jobsync._runtime.callbacks import Callbacks
from jobsync._worker.session import Session
from jobsync._worker.store_calls import PendingCall
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend


def test_no_finalizer(shared_store: Store) -> None:
    """Nothing with a method ``__del__``: the collector would call it, in any thread, in the midst of anything.

    What a signal's handler raises there is lost, a ``sys.exit`` too: the program would go on.
    """
    gc.collect()
    gc.disable()
    try:
        with shared_store.job() as job:
            job.add_task(Task('a'))
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = [repr(one) for one in gc.garbage if hasattr(type(one), '__del__')]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []


@contextmanager
def only_in_a_cycle(job: Job) -> Iterator[Session]:
    """Enter the job in a generator that only a cycle of references has, and have no garbage collected but by the test."""

    def suspended() -> Iterator[None]:
        with job:
            yield

    gc.collect()
    gc.disable()
    try:
        cycle = SimpleNamespace(blocks=suspended())
        cycle.itself = cycle
        next(cycle.blocks)
        del cycle
        yield job._session
    finally:
        gc.enable()


@pytest.mark.any_store
@pytest.mark.parametrize('what', ['heartbeat', 'work'])
def test_a_block_that_ends_in_a_thread_of_its_node(store: Store, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that is suspended in a block is closed by the collector, in any thread: the node leaves in good order."""
    collects, step = threading.Event(), Agent.next

    def collecting(agent: Agent, *arguments: Any) -> Any:
        if collects.is_set() and threading.current_thread().name.startswith(f'jobsync-{what}-'):
            collects.clear()
            gc.collect()
        return step(agent, *arguments)

    monkeypatch.setattr(Agent, 'next', collecting)
    with only_in_a_cycle(store.job()) as session:
        collects.set()
        wait_until(lambda: session.is_over, 'the node leaves')
        wait_until(lambda: not [each for each in threading.enumerate() if each.name.endswith('-a')], 'its threads end')
    check_left(session)


def check_left(session: Session) -> None:
    """Check that the node has left in good order."""
    assert session.runtime is not None
    assert session.runtime.status.phase.value == 'left'


def test_a_block_that_ends_in_the_thread_of_its_callbacks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above: ``on_revoke`` is called before the node leaves, though the thread that is to call it has closed the generator."""
    collects, serve, revoked = threading.Event(), Callbacks._serve, list[frozenset[int]]()

    def collecting(callbacks: Callbacks, turn: object) -> bool:
        if collects.is_set():
            collects.clear()
            gc.collect()
        return serve(callbacks, turn)

    monkeypatch.setattr(Callbacks, '_serve', collecting)
    job = store.job(on_revoke=lambda tokens, _: revoked.append(tokens), config={'shutdown_timeout_sec': DEADLINE_SEC})
    with only_in_a_cycle(job) as session:
        collects.set()
        wait_until(lambda: session.is_over, 'the node leaves')
    check_left(session)
    assert revoked


def test_a_block_that_ends_in_the_call_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above: the main thread's call returns, and the node leaves once the task ends that the main thread has in flight."""
    collects, make = threading.Event(), PendingCall.make

    def collecting(call: PendingCall[Any]) -> None:
        if collects.is_set():
            collects.clear()
            gc.collect()
        make(call)

    monkeypatch.setattr(PendingCall, 'make', collecting)
    job = store.job(config={'shutdown_timeout_sec': DEADLINE_SEC})
    with only_in_a_cycle(job) as session:
        job.add_task(Task('a'))
        collects.set()
        job.list_locks()
        assert session.is_leaving
        assert session.runtime is not None
        assert not session.runtime.is_over
        job.write_audit()
        wait_until(lambda: session.is_over, 'the node leaves')
    check_left(session)


@pytest.mark.parametrize('in_thread', [False, True])
def test_a_block_that_ends_in_a_call(store: Store, in_thread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, amid a call that a thread makes for itself, or for the main one: what the job has open is closed as well."""
    with only_in_a_cycle(store.job(config={'shutdown_timeout_sec': DEADLINE_SEC})) as session:
        lock, backend, is_closed = threading.Lock(), session._backend, list[bool]()
        assert backend is not None
        close = backend.close

        def close_under_lock() -> None:
            is_closed.append(lock.acquire(timeout=60))
            lock.release()
            close()

        def collect() -> None:
            with lock:  # such as a driver's
                gc.collect()

        monkeypatch.setattr(backend, 'close', close_under_lock)
        call = partial(session.caller.call, collect)
        if in_thread:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join(DEADLINE_SEC)
        else:
            call()
        wait_until(lambda: bool(is_closed) and session.is_over, 'the job has left')
    assert is_closed[0]
    check_left(session)


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_block_that_ends_while_the_store_is_away(store: Store) -> None:
    """Neither the job nor what else the function has that left it waits for the collector of garbage."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))

    def work() -> weakref.ref[Job]:
        with store.job(config={'backend': backend, 'op_timeout_sec': 0.1, 'bulk_timeout_sec': 0.1}) as job:
            job.add_task('a')
            backend.faults.append(Fault('append_audits', times=1_000_000))
            job._task_log.finish('a', job._task_log.begun('a'))
        return weakref.ref(job)

    gc.collect()
    gc.disable()
    try:
        left = work()
        wait_until(lambda: left() is None, 'the job is gone')
    finally:
        gc.enable()
        backend.inner.close()
