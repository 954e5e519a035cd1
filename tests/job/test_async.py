"""``AsyncJob``: the same on an event loop, cancelled at any moment, and with coroutine functions to be called."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
from tests.job.stores import Store, foreign_task, kinds, owned_tasks
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.support.timings import TOKENS

from jobsync import AsyncJob, Job, JobsyncError, NotOwned, UnsupportedOperation, plugins
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.phase import Phase
from jobsync._worker import shared_batch
from jobsync._worker.completions import Completions
from jobsync._worker.shared_batch import SharedBatch
from jobsync._worker.stages import SessionEvent
from jobsync._worker.task_log import TaskLog
from jobsync.aio.callbacks import OnLoop
from jobsync.aio.claim_loop import _READ_AT_ONCE
from jobsync.aio.threads import _MOST
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend, When

pytestmark = pytest.mark.any_store

PATIENT = {'heartbeat_interval_sec': 20, 'heartbeat_timeout_sec': 600, 'shutdown_timeout_sec': 60}


def run(work: Coroutine[Any, Any, None]) -> None:
    """To its end, in debug mode, which notes where each future was made: all callers would take longer than all else."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, 'tracebacklimit', 1, raising=False)
        asyncio.run(asyncio.wait_for(work, 4 * DEADLINE_SEC), debug=True)


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + DEADLINE_SEC
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def in_flight(job: AsyncJob) -> list[str]:
    assert job._job._session.runtime is not None
    return [start.key for start in job._job._session.runtime.lease.in_flight]


async def slowly(tasks: Iterable[int]) -> AsyncIterator[int]:
    for task in tasks:
        await asyncio.sleep(0)
        yield task


@contextmanager
def busy(job: AsyncJob) -> Iterator[threading.Event]:
    """Have every thread for calls wait in the block, until it ends or the event is set."""
    may_go_on = threading.Event()
    try:
        for _ in range(_MOST):
            job._threads.submit(may_go_on.wait)
        yield may_go_on
    finally:
        may_go_on.set()


@asynccontextmanager
async def cancelled_at_its_end(
    job: AsyncJob, work: Callable[[Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]]
) -> AsyncIterator[threading.Event]:
    """Cancel work as it comes to the end of its body, while all threads are busy, and keep its exception in the block."""
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def body() -> None:
        begun.set()
        await may_end.wait()

    task = asyncio.create_task(work(body))
    await begun.wait()
    with busy(job) as may_go_on:
        may_end.set()
        await asyncio.sleep(0.05)
        task.cancel()
        (kept,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(kept, asyncio.CancelledError)
        yield may_go_on


def stalling(store: Store, method: str) -> tuple[FaultyBackend, threading.Event, threading.Event]:
    """A backend one of whose methods waits, when it is called first: with what tells that it does, and what lets it go."""
    reached, go = threading.Event(), threading.Event()

    def stall(_: float) -> None:
        reached.set()
        assert go.wait(DEADLINE_SEC)

    inner = plugins.connect(store.url, BackendOptions())
    return FaultyBackend(inner, Fault(method, When.NEVER, delay_sec=1), sleep=stall), reached, go


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_loop_that_is_not_of_asyncio(store: Store) -> None:
    """Where asyncio runs no loop, as under trio, entering says so at once, and the job may be entered elsewhere."""
    job = store.async_job('a')
    with pytest.raises(UnsupportedOperation, match="job 'a': an AsyncJob runs on an event loop of asyncio"):
        job.__aenter__().send(None)

    async def work() -> None:
        async with job:
            assert job.am_i_healthy()

    run(work())


def test_code_that_is_in_no_task_of_asyncio(store: Store) -> None:
    """A callback of the loop that drives a coroutine itself gets an error that says what is missing."""

    async def work() -> None:
        async with store.async_job('a') as job:
            outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

            def drive() -> None:
                try:
                    job.add_task('x').send(None)
                except JobsyncError as error:
                    outcome.set_result(str(error))

            asyncio.get_running_loop().call_soon(drive)
            assert await outcome == "job 'a': an AsyncJob is used in a task of asyncio, and this code is in none"

    run(work())


def test_tasks(store: Store) -> None:
    """What is added is claimed, what is audited or completed is complete, and the store's answers come back."""

    async def work() -> None:
        async with store.async_job('a') as job:
            assert job.am_i_healthy()
            assert len(job.my_tokens) == TOKENS
            assert await job.add_task(1)
            assert await job.set_claim([2, 3])
            await job.write_audit()
            assert await job.add_task(4)
            await job.complete(4)
            assert in_flight(job) == []
            await job.register_task_lock(5, 'nobody')
            assert [lock['task_id'] for lock in await job.list_locks()] == ['5']
            assert [node['name'] for node in await job.nodes] == ['a']
            assert {task.key for task in await job.get_incomplete_tasks(0)} == {'2', '3'}
            assert await job.owner_of(1) == 'a'
            assert job.fence(1) > 0
        assert not job.can_claim_task(1)
        assert not await job.add_task(1)
        with pytest.raises(JobsyncError, match='outside its with block'):
            await job.get_audit()

    run(work())
    assert sorted(store.claims) == ['1', '2', '3', '4']
    assert store.audits == ['1', '4']


@pytest.mark.parametrize(
    'form', [list, slowly, iter, lambda tasks: dict.fromkeys(tasks)], ids=['list', 'asynchronous', 'iterator', 'dict']
)
@pytest.mark.parametrize('batch', [None, 7])
def test_a_claim_loop(store: Store, form: Callable[[range], Any], batch: int | None) -> None:
    """Two nodes that loop over the same tasks do each of them once, whatever the tasks come in."""
    done: list[int] = []

    async def loop(job: AsyncJob) -> None:
        async for task in job.claim(form(range(50)), batch):
            assert str(task) in in_flight(job)
            done.append(task)
        assert in_flight(job) == []

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as a, store.async_job('b', config=PATIENT) as b:
            await until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'shared')
            await asyncio.gather(loop(a), loop(b))

    run(work())
    assert sorted(done) == list(range(50))
    assert sorted(store.audits) == sorted(store.claims) == sorted(map(str, range(50)))


def test_a_loop_that_is_left(store: Store) -> None:
    """By ``break``, an error or cancellation: the task that was out is incomplete, and at once no longer in flight."""

    async def hang(job: AsyncJob, started: asyncio.Event) -> None:
        async for _ in job.claim(slowly([5])):
            started.set()
            await asyncio.sleep(3600)

    async def work() -> None:
        async with store.async_job('a') as job:
            async for task in job.claim([1, 2]):
                if task == 2:
                    break
            assert in_flight(job) == []
            with pytest.raises(ZeroDivisionError):
                async for task in job.claim([3]):
                    task // 0
            assert in_flight(job) == []
            for loop in (job.claim([4]), job.batch([4])):
                await anext(loop)
                await loop.aclose()
                assert in_flight(job) == []
                assert [task async for task in loop] == []
            started = asyncio.Event()
            other = asyncio.create_task(hang(job, started))
            await started.wait()
            other.cancel()
            with pytest.raises(asyncio.CancelledError):
                await other
            assert in_flight(job) == []

    run(work())
    assert store.audits == ['1']
    assert sorted(store.claims) == ['1', '2', '3', '4', '5']


def test_a_loop_that_is_freed(store: Store) -> None:
    """The claims of its tasks that wait are renewed no longer."""

    async def work() -> None:
        async with store.async_job('a') as job:
            loop = job.claim(['x', 'y'])
            loop._loop.size = 2
            assert await anext(loop) == 'x'
            assert set(job._job._task_log.renewal._tasks) == {'y'}
            del loop
            assert job._job._task_log.renewal._tasks == {}
            assert in_flight(job) == []

    run(work())


@pytest.mark.parametrize('kind', ['claim', 'batch'])
def test_a_loop_that_another_asyncio_task_leaves(store: Store, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that waits meanwhile returns no task: it would be worked on without being in flight."""
    begin, is_begun, may_return = Lease.begin, threading.Event(), threading.Event()

    def stop_after(self: Lease, *arguments: Any) -> bool:
        begun: bool = begin(self, *arguments)
        is_begun.set()
        assert may_return.wait(DEADLINE_SEC)
        return begun

    async def work() -> None:
        async with store.async_job('a') as job:
            loop = job.claim([1, 2]) if kind == 'claim' else job.batch([1, 2])

            async def rest() -> list[int]:
                return [task async for task in loop]

            monkeypatch.setattr(Lease, 'begin', stop_after)
            call = asyncio.create_task(rest())
            assert await asyncio.to_thread(is_begun.wait, DEADLINE_SEC)
            await loop.aclose()
            may_return.set()
            assert await call == []
            assert in_flight(job) == []

    run(work())


def test_a_loop_of_two_asyncio_tasks(store: Store) -> None:
    """A second asyncio task in one loop is refused: it would get the same task as the first."""

    async def work() -> None:
        async with store.async_job('a') as job:
            loop = job.claim(range(3))
            found = await asyncio.gather(anext(loop), anext(loop), return_exceptions=True)
            assert found[0] == 0
            assert isinstance(found[1], JobsyncError)
            assert 'of its own' in str(found[1])
            assert [task async for task in loop] == [1, 2]

    run(work())
    assert sorted(store.audits) == ['0', '1', '2']


def test_a_loop_that_is_asked_with_a_timeout_loses_no_task(store: Store) -> None:
    """``wait_for(anext(…))`` that runs out of time drops no task: not the one that came too late, nor the rest of its batch."""
    backend, _, _ = stalling(store, 'append_claims')
    backend.faults[0].times, backend.faults[0].skip = 2, 3
    backend._sleep = lambda _: time.sleep(1)
    out: list[int] = []
    late = 0

    async def work() -> None:
        nonlocal late
        async with store.async_job('a', config=PATIENT | {'backend': backend}) as job:
            loop = job.claim(range(300))
            while True:
                try:
                    out.append(await asyncio.wait_for(anext(loop), 0.5))
                except TimeoutError:
                    late += 1
                    await until(lambda: in_flight(job) == [], 'nothing is in flight')
                except StopAsyncIteration:
                    break

    run(work())
    backend.inner.close()
    assert late
    assert out == list(range(300))
    assert sorted(map(int, set(store.audits))) == out


def test_batches_that_wait_keep_no_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many asyncio tasks wait for the rest of a batch, the calls of others are made meanwhile."""
    monkeypatch.setattr(shared_batch, '_PAUSE_SEC', (3600.0, 3600.0))

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job, job.task(1):
            batches = [job.batch([1]) for _ in range(_MOST)]
            waiting = [asyncio.create_task(anext(batch, None)) for batch in batches]
            loops = [batch._loop for batch in batches if isinstance(batch._loop, SharedBatch)]
            await until(lambda: all(loop._has_waited for loop in loops), 'all wait')
            assert await asyncio.wait_for(job.owner_of(1), DEADLINE_SEC) == 'a'
        assert await asyncio.gather(*waiting) == [None] * _MOST

    run(work())
    assert store.audits == ['1']


def test_a_batch_that_cannot_be_left(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no memory for that, after a call was cancelled, the error is logged, and the next call goes on."""
    backend, reached, go = stalling(store, 'append_claims')
    abandon, raised = TaskLog.abandon_checked_out, list[str]()

    def without_memory(task_log: TaskLog, start: TaskStart) -> None:
        if not raised:
            raised.append(start.key)
            raise MemoryError
        abandon(task_log, start)

    async def work() -> None:
        async with store.async_job('a', config=PATIENT | {'backend': backend, 'shutdown_timeout_sec': 1}) as job:
            loop = job.claim(range(3))
            call = asyncio.create_task(anext(loop))
            await asyncio.to_thread(reached.wait, DEADLINE_SEC)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            monkeypatch.setattr(TaskLog, 'abandon_checked_out', without_memory)
            go.set()
            await asyncio.wait_for(anext(loop), 20)

    run(work())
    backend.inner.close()
    assert raised
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [MemoryError]


def test_a_source_that_a_timeout_has_ended(store: Store) -> None:
    """An asynchronous generator ends when a call of it is cancelled: the loop says so, and does not look as if it were done."""

    async def work() -> None:
        is_waiting = asyncio.Event()

        async def stalls() -> AsyncIterator[int]:
            yield 0
            is_waiting.set()
            await asyncio.sleep(3600)
            yield 1

        async with store.async_job('a', config=PATIENT) as job:
            loop = job.claim(stalls())
            assert await anext(loop) == 0
            call = asyncio.create_task(anext(loop))
            await is_waiting.wait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.1)
            with pytest.raises(JobsyncError, match='ended the source'):
                await anext(loop)

    run(work())


def test_a_source_that_two_timeouts_have_ended(store: Store) -> None:
    """The call is cancelled a second time while it waits for the source to end: what is missing is not passed over in silence."""

    async def source() -> AsyncIterator[str]:
        yield 'x'
        try:
            await asyncio.Event().wait()
            yield 'y'
        finally:
            await is_over.wait()

    async def main() -> None:
        async with store.async_job() as job:
            loop = job.claim(source())
            assert await anext(loop) == 'x'
            call = asyncio.ensure_future(anext(loop))
            await asyncio.sleep(0.1)
            for _ in range(2):
                call.cancel()
                await asyncio.sleep(0.1)
            with pytest.raises(asyncio.CancelledError):
                await call
            is_over.set()
            await asyncio.sleep(0.1)
            with pytest.raises(JobsyncError, match='the tasks after it are missing'):
                await anext(loop)

    is_over = asyncio.Event()
    asyncio.run(main())


def test_a_call_that_is_cancelled_before_a_thread_has_begun_it(store: Store) -> None:
    """Nothing has happened yet: the next call returns the next task, not once more the one that the caller has done."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            loop = job.claim([1, 2])
            for task in 1, 2:
                with busy(job), pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(loop), 0.05)
                assert await anext(loop) == task

    run(work())


def test_a_batch_that_is_cancelled_before_a_thread_has_begun_it(store: Store) -> None:
    """All threads have become busy since its tasks were taken: the next call returns the first of them."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            loop = job.claim([1])
            with ExitStack() as stack:

                async def become_busy() -> None:
                    stack.enter_context(busy(job))

                loop._pause = become_busy  # type: ignore[method-assign]
                call = asyncio.create_task(anext(loop))
                await until(lambda: isinstance(loop._batch, Generator), 'a thread is to begin the batch')
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            del loop._pause
            assert await anext(loop) == 1

    run(work())


def test_a_loop_that_is_cancelled_before_a_thread_has_begun_its_call(store: Store) -> None:
    """The task before is complete, and not in flight, though the exception is kept and no other call comes."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:

            async def loop(body: Callable[[], Awaitable[None]]) -> None:
                async for _ in job.claim([1, 2]):
                    await body()

            async with cancelled_at_its_end(job, loop) as may_go_on:
                may_go_on.set()
                await asyncio.to_thread(wait_until, lambda: in_flight(job) == [], 'nothing is in flight', 20)

    run(work())
    assert store.audits == ['1']


def test_a_loop_that_has_come_to_its_end(store: Store) -> None:
    """It is left, though the program keeps it: its bar is closed, and it follows no more what the node completes."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            kept = job.batch([1, 2], progress=True)
            assert [task async for task in kept] == [1, 2]
            assert isinstance(kept._loop, SharedBatch)
            assert kept._loop._bar is not None
            assert not kept._loop._bar._bar.live.is_started
            assert job._job._task_log.completions._followers == {}

    run(work())


def test_a_loop_that_outlasts_the_block(store: Store) -> None:
    """What it has done is recorded all the same, and not by the event loop, which a store that hangs would stop."""
    made_by: list[threading.Thread] = []

    async def work() -> None:
        async with store.async_job('a', config={**PATIENT, 'shutdown_timeout_sec': 0}) as job:
            may_end, begun = asyncio.Event(), asyncio.Event()

            async def loop() -> None:
                async for _ in job.claim([1, 2]):
                    begun.set()
                    await may_end.wait()

            task = asyncio.create_task(loop())
            await begun.wait()
        after_the_end = Completions._flush_after_the_end

        def noted(completions: Completions) -> None:
            made_by.append(threading.current_thread())
            after_the_end(completions)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Completions, '_flush_after_the_end', noted)
            may_end.set()
            await task

    run(work())
    assert store.audits == ['1']
    assert [each is threading.main_thread() for each in made_by] == [False]


def test_a_source_that_outlasts_a_timeout(store: Store) -> None:
    """A source that can be asked again after it was cancelled goes on: nothing of it is lost."""
    tasks: asyncio.Queue[int] = asyncio.Queue()

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            return await tasks.get()

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            loop = job.claim(Source())
            for task in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(loop), 0.05)
                tasks.put_nowait(task)
                assert await anext(loop) == task
            await loop.aclose()

    run(work())
    assert sorted(store.audits) == ['0', '1', '2', '3']


def test_a_source_that_returns_a_task_as_it_is_cancelled(store: Store) -> None:
    """The next call returns that task, and the end of the source is the end of the loop."""
    tasks, waits = [1], list[bool]()

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            if not tasks:
                raise StopAsyncIteration
            with suppress(asyncio.CancelledError):
                waits.append(True)
                await asyncio.sleep(3600)
            return tasks.pop()

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            loop = job.claim(Source())
            call = asyncio.create_task(anext(loop))
            await until(lambda: waits, 'the source waits')
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert call.cancelled()
            assert [task async for task in loop] == [1]

    run(work())


def test_a_source_that_waits_as_the_node_is_to_leave(store: Store) -> None:
    """The loop ends, and so does the wait of its source, which would outlive the block."""

    async def work() -> None:
        ended = list[bool]()

        async def source() -> AsyncIterator[int]:
            try:
                asyncio.get_running_loop().call_later(0.05, job._job._session.stop, SessionEvent.STOP)
                await asyncio.sleep(3600)
                yield 1
            finally:
                ended.append(True)

        async with store.async_job('a', config=PATIENT) as job:
            loop = job.claim(source())
            assert [task async for task in loop] == []
            assert ended

    run(work())


def test_a_source_that_cannot_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its ``__aiter__`` raises is all that is raised: nothing follows as the loop that was never made is freed."""

    class Source:
        def __aiter__(self) -> AsyncIterator[int]:
            raise ZeroDivisionError

    async def work() -> None:
        async with store.async_job('a') as job:
            with pytest.raises(ZeroDivisionError):
                job.claim(Source())
            gc.collect()

    ignored: list[Any] = []
    monkeypatch.setattr('sys.unraisablehook', ignored.append)
    run(work())
    assert ignored == []


def test_a_source_keeps_its_context(store: Store) -> None:
    """What an asynchronous generator sets of a context variable is there after its next ``yield``, and can be reset."""
    variable, found = ContextVar('variable', default=0), list[int]()

    async def tasks() -> AsyncIterator[int]:
        token = variable.set(7)
        for task in range(3):
            found.append(variable.get())
            yield task
        variable.reset(token)

    async def work() -> None:
        async with store.async_job('a') as job:
            assert [task async for task in job.claim(tasks())] == [0, 1, 2]

    run(work())
    assert found == [7, 7, 7]


def test_the_source_is_read_on_the_event_loop(store: Store) -> None:
    """An iterator is asked for the next task where the loop is, and no earlier than the task before is done."""
    threads: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(5):
            threads.append(threading.get_ident())
            yield task

    async def work() -> None:
        async with store.async_job('a') as job:
            async for task in job.claim(tasks()):
                assert len(threads) == task + 1

    run(work())
    assert set(threads) == {threading.get_ident()}


def test_a_long_source_of_which_nothing_is_owned(store: Store) -> None:
    """Other asyncio tasks have their turn while it is read: the event loop does not stop for as long."""
    turns = [0]

    async def take_turns() -> None:
        while True:
            turns.append(turns[-1] + 1)
            await asyncio.sleep(0)

    def tasks() -> Iterator[int]:
        yield 0
        before = turns[-1]
        yield from range(1, 2 * _READ_AT_ONCE)
        assert turns[-1] > before

    async def work() -> None:
        async with store.async_job('a') as job:
            loop = job.claim(tasks())
            loop._loop.is_owned = lambda task: False
            other = asyncio.create_task(take_turns())
            assert await anext(loop, None) is None
            other.cancel()

    run(work())


def test_a_task_block(store: Store) -> None:
    """The task is complete at the end, incomplete after an error, and refused if it is another's."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job, store.async_job('b', config=PATIENT) as other:
            await until(lambda: len(other.my_tokens) == TOKENS // 2, 'shared')
            first, second = owned_tasks(job, 2)
            async with job.task(first) as task:
                assert task == first
                assert in_flight(job) == [str(first)]
            with pytest.raises(ZeroDivisionError):
                async with job.task(second):
                    first // 0
            with pytest.raises(NotOwned):
                async with job.task(foreign_task(job)):
                    pytest.fail('it has begun')
            assert in_flight(job) == []
            assert store.audits == [str(first)]
            assert store.claims == [str(first), str(second)]

    run(work())


def test_a_task_block_that_is_cancelled_before_a_thread_has_ended_it(store: Store) -> None:
    """All threads are busy: the task is no longer in flight, though the exception is kept, and another block may have it."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:

            async def block(body: Callable[[], Awaitable[None]]) -> None:
                async with job.task(1):
                    await body()

            async with cancelled_at_its_end(job, block):
                assert in_flight(job) == []
            async with job.task(1):
                pass

    run(work())
    assert store.audits == ['1']


@pytest.mark.parametrize('end', ['complete', 'write_audit'])
def test_a_completion_that_is_cancelled_before_a_thread_has_begun_it(store: Store, end: str) -> None:
    """All threads are busy: it is made once one is free, so that what has been done stays neither in flight nor incomplete."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:

            async def attempt(body: Callable[[], Awaitable[None]]) -> None:
                await job.add_task(1)
                await body()
                await (job.complete(1) if end == 'complete' else job.write_audit())

            async with cancelled_at_its_end(job, attempt) as may_go_on:
                may_go_on.set()
                async with asyncio.timeout(600):
                    while in_flight(job) or store.audits != ['1']:
                        await asyncio.sleep(0.01)

    run(work())


@pytest.mark.parametrize('begin', ['add_task', 'claim', 'task'])
def test_cancelled_while_it_begins(store: Store, begin: str) -> None:
    """Cancelled while the store takes its time, it ends at once; the task is claimed, but in flight only until then."""
    backend, reached, go = stalling(store, 'append_claims')

    async def attempt(job: AsyncJob) -> None:
        match begin:
            case 'add_task':
                await job.add_task(1)
            case 'claim':
                async for _ in job.claim([1]):
                    pytest.fail('it has begun')
            case _:
                async with job.task(1):
                    pytest.fail('it has begun')

    async def work() -> None:
        async with store.async_job('a', config={'backend': backend}) as job:
            attempted = asyncio.create_task(attempt(job))
            await until(reached.is_set, 'the store is asked')
            attempted.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempted
            go.set()
            await until(lambda: store.claims == ['1'], 'it is claimed')
            await until(lambda: in_flight(job) == [], 'it is not in flight')
            assert await job.add_task(2)
            await job.write_audit()

    run(work())
    backend.close()
    assert store.audits == ['2']


def test_a_timeout_while_it_begins(store: Store) -> None:
    """``asyncio.timeout`` around a call of a store that does not answer is a cancellation like any other."""
    backend, reached, go = stalling(store, 'append_claims')

    async def work() -> None:
        async with store.async_job('a', config={'backend': backend}) as job:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await job.add_task(1)
            assert reached.is_set()
            go.set()
            await until(lambda: in_flight(job) == [], 'it is not in flight')
            assert job.am_i_healthy()

    run(work())
    backend.close()
    assert store.audits == []


def test_a_group_of_loops_that_fails(store: Store) -> None:
    """An exception in one loop of a task group ends the others: all their tasks are incomplete, and none is in flight."""
    out: set[int] = set()

    async def work() -> None:
        async with store.async_job('a') as job:

            async def loop(tasks: range, fails_at: int | None) -> None:
                async for task in job.claim(tasks):
                    out.add(task)
                    if task == fails_at:
                        await until(lambda: len(out) >= 3, 'the others have begun')
                        raise ZeroDivisionError
                    await asyncio.sleep(3600)

            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(loop(range(10), 0))
                    group.create_task(loop(range(10, 20), None))
                    group.create_task(loop(range(20, 30), None))
            assert caught.group_contains(ZeroDivisionError)
            await until(lambda: in_flight(job) == [], 'nothing is in flight')
            assert {task.key for task in await job.get_incomplete_tasks(0)} >= {'0', '10', '20'}

    run(work())
    assert store.audits == []


def test_cancelled_what_was_in_flight_before(store: Store) -> None:
    """A second ``add_task`` of the same task that is cancelled does not end the first."""
    backend, reached, go = stalling(store, 'append_claims')
    backend.faults[0].skip = 1

    async def work() -> None:
        async with store.async_job('a', config={'backend': backend}) as job:
            assert await job.add_task(1)
            again = asyncio.create_task(job.add_task(1))
            await until(reached.is_set, 'the store is asked')
            again.cancel()
            go.set()
            await until(again.done, 'it is cancelled')
            await job.add_task(2)
            await until(lambda: in_flight(job) == ['1', '2'], 'the cancelled call is over')
            await job.write_audit()

    run(work())
    backend.close()


@pytest.mark.parametrize('stops_at', ['its claim', 'its answer'])
def test_cancelled_what_another_asyncio_task_has_begun(store: Store, stops_at: str) -> None:
    """Of two that add one task, and are both to work on it, the one whose call is cancelled does not end it for the other."""
    backend, reached, go = stalling(store, 'append_claims' if stops_at == 'its claim' else 'history')

    async def work() -> None:
        async with store.async_job('a', config={'backend': backend}) as job:
            start = job._job._start

            def start_slowly(task: object) -> TaskStart | None:
                started = start(task)
                if stops_at == 'its answer' and not reached.is_set():
                    reached.set()
                    assert go.wait(DEADLINE_SEC)
                return started

            job._job._start = start_slowly  # type: ignore[method-assign,assignment]
            cancelled = asyncio.create_task(job.add_task(1))
            await until(reached.is_set, 'its thread is at that step')
            assert await job.add_task(1)
            cancelled.cancel()
            go.set()
            await until(cancelled.done, 'it is cancelled')
            await job.add_task(2)
            await until(lambda: sorted(in_flight(job)) == ['1', '2'], 'the cancelled call is over')
            await job.write_audit()

    run(work())
    assert sorted(store.audits) == ['1', '2']
    backend.close()


def test_cancelled_what_a_loop_has_in_hand(store: Store) -> None:
    """An ``add_task`` of the loop's task that is cancelled has no part in it: the end of the loop ends the task."""
    backend, reached, go = stalling(store, 'append_claims')
    backend.faults[0].skip = 1

    async def work() -> None:
        async with store.async_job('a', config={'backend': backend}) as job:
            loop = job.claim([1])
            assert await anext(loop) == 1
            cancelled = asyncio.create_task(job.add_task(1))
            await until(reached.is_set, 'the store is called')
            cancelled.cancel()
            go.set()
            await until(cancelled.done, 'it is cancelled')
            await job.add_task(2)
            await loop.aclose()
            await until(lambda: in_flight(job) == ['2'], 'the call that was cancelled is undone, and the loop has ended the task')

    run(work())
    backend.close()


def test_leaving_waits_for_other_asyncio_tasks(store: Store) -> None:
    """Not for what the asyncio task that leaves has in flight; for the others, while the event loop goes on."""
    finished: list[int] = []

    async def work_on(job: AsyncJob, task: int, begun: asyncio.Event, go: asyncio.Event) -> None:
        async with job.task(task):
            begun.set()
            await go.wait()
            finished.append(task)

    async def work() -> None:
        begun, go = asyncio.Event(), asyncio.Event()
        async with store.async_job('a', config=PATIENT) as job:
            other = asyncio.create_task(work_on(job, 1, begun, go))
            await begun.wait()
            assert await job.add_task(2)
            asyncio.get_running_loop().call_later(0, go.set)
        assert finished == [1]
        await other

    run(work())
    assert store.audits == ['1']


def test_leaving_is_cancelled(store: Store) -> None:
    """Then it waits for nobody, gives the tokens back, and only after that it is cancelled."""

    async def work_on(job: AsyncJob, begun: asyncio.Event) -> None:
        async with job.task(1):
            begun.set()
            await asyncio.sleep(3600)

    async def stay(begun: asyncio.Event, leaving: asyncio.Event) -> None:
        async with store.async_job('a', config=PATIENT) as job:
            workers.append(asyncio.create_task(work_on(job, begun)))
            await begun.wait()
            leaving.set()

    workers: list[asyncio.Task[None]] = []

    async def work() -> None:
        begun, leaving = asyncio.Event(), asyncio.Event()
        staying = asyncio.create_task(stay(begun, leaving))
        await leaving.wait()
        await asyncio.sleep(0)
        staying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staying
        assert [node.last_heartbeat for node in store.handle.snapshot().nodes] == [None]
        workers[0].cancel()

    run(work())
    assert store.audits == []


def test_leaving_is_cancelled_amid_a_callback(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine of the user's that is cancelled with it is logged as such, and not as an error of the user's."""

    async def work() -> None:
        begun = asyncio.Event()

        async def on_revoke(tokens: frozenset[int], deadline: float) -> None:
            begun.set()
            await asyncio.sleep(3600)

        job = store.async_job('a', config=PATIENT, on_revoke=on_revoke)
        await job.__aenter__()
        leaving = asyncio.create_task(job.__aexit__(None, None, None))
        await begun.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving

    run(work())
    wait_until(lambda: 'on_revoke was cancelled before its end' in caplog.text, 'it is logged')
    assert 'raised' not in caplog.text


@pytest.mark.parametrize('is_freed_on', ['no loop', 'another loop'])
def test_an_event_loop_that_is_closed_amid_the_block(store: Store, is_freed_on: str) -> None:
    """As after Ctrl-C in ``run_until_complete``: the node leaves when Python frees the coroutine, and its name is free again."""
    jobs: list[AsyncJob] = []

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            jobs.append(job)
            assert await job.add_task('x')
            asyncio.get_running_loop().call_soon(interrupt)
            await asyncio.sleep(DEADLINE_SEC)

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def free() -> None:
        begun.clear()
        gc.collect()
        await until(lambda: not jobs[0]._threads.are_open, 'the node has not left')

    loop = asyncio.new_event_loop()
    begun = [loop.create_task(work())]
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(begun[0])
    finally:
        loop.close()
    session = jobs[0]._job._session
    try:
        if is_freed_on == 'no loop':
            begun.clear()
            gc.collect()
        else:
            asyncio.run(free())
        assert session.is_over
        assert session.runtime is not None
        assert session.runtime.status.phase is Phase.LEFT
        assert not jobs[0]._threads.are_open
    finally:
        session.stop(SessionEvent.HURRY)
        jobs[0]._job.__exit__(None, None, None)
        jobs[0]._threads.close()


def test_entering_is_cancelled_before_the_node_starts(store: Store) -> None:
    """Leaving waits for no call of the program's functions: no thread that makes such calls was ever started."""

    async def work() -> None:
        reached, may_go_on = threading.Event(), threading.Event()

        def provide(_: Job) -> None:
            reached.set()
            assert may_go_on.wait(DEADLINE_SEC)

        job = store.async_job('a', config=PATIENT, lock_provider=provide, on_assign=lambda tokens: None)
        entering = asyncio.create_task(job.__aenter__())
        await until(reached.is_set, 'the store is open')
        entering.cancel()
        await until(lambda: job.is_leaving, 'entering is to end')
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        runtime = job._job._session.runtime
        assert runtime is not None
        assert runtime.callbacks.wait_until_finished(0)

    run(work())
    assert store.node_names == []


def test_a_coroutine_of_a_lock_provider_waits_for_no_schedule(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is not to leave before it has entered: ``run_scheduled`` would wait without end, and entering with it."""
    caught: list[str] = []

    async def provide(job: AsyncJob) -> None:
        with pytest.raises(JobsyncError) as found, monkeypatch.context() as patched:
            patched.setattr(Job, 'keep_going', lambda self: pytest.fail('it waits'))
            await job.run_scheduled()
        caught.append(str(found.value))

    async def work() -> None:
        async with store.async_job('a', lock_provider=provide):
            pass

    run(work())
    assert 'still entering' in caught[0]


def test_entering_is_cancelled(store: Store) -> None:
    """Then the node leaves again before it is cancelled."""

    async def work() -> None:
        entering = asyncio.create_task(store.async_job('a', config=PATIENT | {'minimum_nodes': 5}).__aenter__())
        await until(lambda: store.node_names == ['a'], 'registered')
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert [node.last_heartbeat for node in store.handle.snapshot().nodes] == [None]

    run(work())


def test_stop_iteration_in_a_thread(store: Store) -> None:
    """As ``next`` in a ``lock_provider`` may raise it: it comes as ``RuntimeError``, as from a generator, and does come."""

    async def work() -> None:
        async with store.async_job('a') as job:
            with pytest.raises(RuntimeError, match='StopIteration'):
                await asyncio.wait_for(job._threads.call(lambda: next(iter(()))), 5)

    run(work())


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_an_error_of_leaving_that_is_cancelled(store: Store) -> None:
    """The caller has the cancellation, and asyncio logs no error that nobody has taken."""
    logged: list[dict[str, Any]] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        go = threading.Event()
        async with store.async_job('a') as job:
            leaving = asyncio.create_task(job._threads.complete(lambda: go.wait() and [][0], go.set))
            await asyncio.sleep(0)
            leaving.cancel()
            (error,) = await asyncio.gather(leaving, return_exceptions=True)
            assert isinstance(error, asyncio.CancelledError)
            del leaving, error
        gc.collect()
        assert logged == []

    run(work())


def test_entered_twice(store: Store) -> None:
    """The second time is refused, and the first goes on."""

    async def work() -> None:
        async with store.async_job('a') as job:
            with pytest.raises(JobsyncError, match='entered before'):
                await job.__aenter__()
            assert await job.add_task(1)
            await job.write_audit()
        with pytest.raises(JobsyncError, match='entered before'):
            await job.__aenter__()

    run(work())


def test_entered_twice_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another asyncio task, or event loop, is refused, also before a thread has begun to enter for the first, which enters."""
    enter, may_enter, loops = Job.__enter__, threading.Event(), list[asyncio.AbstractEventLoop]()

    def late(job: Job) -> Job:
        may_enter.wait(DEADLINE_SEC)
        return enter(job)

    async def note_loop(_: object) -> None:
        loops.append(asyncio.get_running_loop())

    async def enter_too(job: AsyncJob) -> None:
        with pytest.raises(JobsyncError, match='entered before'):
            await job.__aenter__()

    async def work() -> None:
        job = store.async_job('a', on_assign=note_loop)
        entering = asyncio.create_task(job.__aenter__())
        await asyncio.sleep(0)
        await enter_too(job)
        await asyncio.to_thread(lambda: asyncio.run(enter_too(job)))
        may_enter.set()
        await entering
        try:
            await until(lambda: loops == [asyncio.get_running_loop()], 'called on the loop of the first one')
        finally:
            await job.__aexit__(None, None, None)

    monkeypatch.setattr(Job, '__enter__', late)
    run(work())


def test_coroutine_functions_are_called_on_the_event_loop(store: Store) -> None:
    """Each of them, in order, the last before the block is over; a provider of locks is given the job itself."""
    called: list[tuple[str, int]] = []
    threads: set[int] = set()

    def noted(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        async def note(tokens: frozenset[int], *_: object) -> None:
            await asyncio.sleep(0)
            threads.add(threading.get_ident())
            called.append((name, len(tokens)))

        return note

    async def rebalanced() -> None:
        called.append(('on_rebalance', 0))

    async def provide(job: AsyncJob) -> None:
        await job.register_task_lock('x', 'nobody')

    functions: dict[str, Any] = {name: noted(name) for name in ('on_assign', 'on_revoke', 'on_lost')}

    async def work() -> None:
        async with store.async_job('a', lock_provider=provide, on_rebalance=rebalanced, **functions) as job:
            assert len(await job.list_locks()) == 1
            await until(lambda: len(called) == 2, 'called')

    run(work())
    assert threads == {threading.get_ident()}
    assert called == [('on_assign', TOKENS), ('on_rebalance', 0), ('on_revoke', TOKENS), ('on_rebalance', 0)]


def test_a_coroutine_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on though it is cancelled does not hold up the end of the block."""
    monkeypatch.setattr('jobsync.aio.callbacks._GRACE_SEC', 0.01)

    async def work() -> None:
        on_loop, begun, go = OnLoop(), asyncio.Event(), asyncio.Event()
        on_loop.open(asyncio.get_running_loop())

        async def coroutine() -> None:
            begun.set()
            while not go.is_set():
                with suppress(asyncio.CancelledError):
                    await go.wait()

        threading.Thread(target=on_loop.wait_for, args=[coroutine()], daemon=True).start()
        await begun.wait()
        try:
            await asyncio.wait_for(on_loop.close(), DEADLINE_SEC)
        finally:
            go.set()

    run(work())


@pytest.mark.parametrize('has_begun', [True, False])
def test_no_coroutine_outlives_an_end_that_is_cancelled(has_begun: bool) -> None:
    """Closing is cancelled at its first step: a coroutine that runs is cancelled, and so is one that is scheduled."""

    async def work() -> None:
        on_loop, begun, ended = OnLoop(), asyncio.Event(), asyncio.Event()
        on_loop.open(asyncio.get_running_loop())

        async def coroutine() -> None:
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()

        def call() -> None:
            with pytest.raises(CancelledError):
                on_loop.wait_for(coroutine())

        threading.Thread(target=call, daemon=True).start()
        if has_begun:
            await begun.wait()
        else:
            time.sleep(0.1)  # the thread schedules it, and the event loop does not go on meanwhile
        closing = asyncio.create_task(on_loop.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.wait_for(ended.wait(), DEADLINE_SEC)

    run(work())


@pytest.mark.parametrize('form', ['sleeps', 'blocks'])
def test_a_revocation_that_takes_too_long(store: Store, form: str) -> None:
    """At its deadline the tokens pass on, whether the coroutine sleeps or blocks the event loop."""
    passed_on = threading.Event()

    async def on_revoke(tokens: frozenset[int], deadline: float) -> None:
        if form == 'blocks':
            passed_on.wait(DEADLINE_SEC)
        else:
            await asyncio.to_thread(passed_on.wait, DEADLINE_SEC)

    def other() -> None:
        with store.job('b') as job:
            if len(job.my_tokens) == TOKENS // 2:
                passed_on.set()

    async def work() -> None:
        async with store.async_job('a', on_revoke=on_revoke, config={'handover_timeout_sec': 1}):
            thread = threading.Thread(target=other)
            thread.start()
            await until(passed_on.is_set, 'the other has its share')
            await asyncio.to_thread(thread.join)

    run(work())


def test_a_call_for_which_there_is_no_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller has an error; the task is not in flight later, when a thread can be started for another call."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def work() -> None:
        async with store.async_job() as job:
            first, second = owned_tasks(job, 2)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, 'start', refuse)
                with pytest.raises(RuntimeError, match='thread'):
                    await job.add_task(first)
            assert await job.add_task(second)
            assert in_flight(job) == [str(second)]
            await job.complete(second)

    run(work())


def test_leaving_for_which_there_is_no_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller has an error, and the node leaves when it is called again."""

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    async def work() -> None:
        async with store.async_job('a') as job:
            with monkeypatch.context() as patch:
                patch.setattr(job, '_leave_in_thread', refuse)
                with pytest.raises(RuntimeError, match='thread'):
                    await job.__aexit__(None, None, None)
            await job.__aexit__(None, None, None)
            assert [node.last_heartbeat for node in store.handle.snapshot().nodes] == [None]

    run(work())


@pytest.mark.parametrize('name', ['on_assign', 'on_revoke'])
def test_a_coroutine_that_leaves_does_not_wait_for_itself(store: Store, name: str) -> None:
    """It may call ``__aexit__``, which returns before the node has left: leaving waits for ``on_revoke``."""
    calls: list[str] = []

    async def work() -> None:
        entered = asyncio.Event()

        async def leave(*_: object) -> None:
            await entered.wait()
            await job.__aexit__(None, None, None)
            calls.append(name)

        config = {'shutdown_timeout_sec': 3600, 'handover_timeout_sec': 3600}
        functions: dict[str, Any] = {'on_revoke': lambda tokens, deadline: None, name: leave}
        async with store.async_job('b') as other, (job := store.async_job('a', config=config, **functions)):
            entered.set()
            if name == 'on_revoke':
                job.set_weight(0)
            await until(lambda: len(other.my_tokens) == TOKENS, 'the other has all')

    run(work())
    assert calls == [name] * len(calls) != []


def test_an_argument_that_is_wrong(store: Store) -> None:
    """It is refused as ``Job`` does."""
    with pytest.raises(JobsyncError, match='on_assign'):
        store.async_job('a', on_assign=7)
    with pytest.raises(JobsyncError, match='lock_provider'):
        store.async_job('a', lock_provider=7)
