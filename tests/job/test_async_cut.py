"""``AsyncJob``: what goes on in a thread after its call was cancelled or its loop left, and what is begun meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future

import pytest
from tests.job.stores import Store, kinds
from tests.job.test_async import PATIENT, in_flight, run, stalling, until
from tests.job.waiting import DEADLINE_SEC

from jobsync import AsyncJob
from jobsync._worker.session import Session
from jobsync._worker.stages import SessionEvent
from jobsync.aio.claim_loop import Claims
from jobsync.aio.threads import Threads

pytestmark = pytest.mark.any_store


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_loop_is_left_while_a_thread_claims_its_batch(store: Store) -> None:
    """The claims of its tasks are renewed no longer: no worker will come to them, and they are to be found as incomplete."""

    async def work() -> None:
        backend, reached, go = stalling(store, 'append_claims')
        async with store.async_job('a', config={**PATIENT, 'backend': backend}) as job:
            loop = job.claim(range(8))
            loop._loop.size = 8
            waiting = asyncio.create_task(anext(loop, None))
            await until(reached.is_set, 'a thread claims the batch')
            await loop.aclose()
            go.set()
            assert await waiting is None
            assert in_flight(job) == []
            assert job._job._task_log.renewal._tasks == {}

    run(work())


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_leaving_a_loop_waits_for_a_cancelled_call_of_it(store: Store) -> None:
    """A thread still claims its batch, and leaves nothing in flight."""

    async def work() -> None:
        backend, reached, go = stalling(store, 'append_claims')
        async with store.async_job('a', config={**PATIENT, 'backend': backend}) as job:
            loop = job.claim([1])
            waiting = asyncio.create_task(anext(loop, None))
            await until(reached.is_set, 'a thread claims the batch')
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            leaving = asyncio.create_task(loop.aclose())
            await asyncio.sleep(0.05)
            assert not leaving.done()
            go.set()
            await leaving
            assert in_flight(job) == []

    run(work())


def test_the_end_of_each_cancelled_call_is_waited_for() -> None:
    """Also after one of several has ended, and after a wait that was cancelled itself."""

    async def work() -> None:
        threads, first, second = Threads('a'), Future[None](), Future[None]()
        threads.cut(first)
        threads.cut(second)
        second.set_result(None)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await threads.until_undone()
        first.set_result(None)
        async with asyncio.timeout(DEADLINE_SEC):
            await threads.until_undone()

    run(work())


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_loop_is_left_while_a_thread_records_what_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that waits for the next task meets the end of the loop, and no error."""
    monkeypatch.setattr('jobsync._worker.claim_loop._BATCH_SEC', 3600.0)

    async def work() -> None:
        backend, reached, go = stalling(store, 'append_audits')
        async with store.async_job('a', config={**PATIENT, 'backend': backend}) as job:
            loop = job.claim(range(8))
            loop._loop.size = 8
            assert await anext(loop) == 0
            waiting = asyncio.create_task(anext(loop, None))
            await until(reached.is_set, 'a thread records that the first task is complete')
            await loop.aclose()
            go.set()
            assert await waiting is None
            assert in_flight(job) == []
            assert job._job._task_log.renewal._tasks == {}

    run(work())


class _Stubborn:
    """A source of three tasks, whose first step goes on when it is cancelled, until ``go``, and then returns its task."""

    def __init__(self) -> None:
        self.go, self.is_begun, self.cancellations, self._returned = asyncio.Event(), False, 0, 0

    def __aiter__(self) -> _Stubborn:
        return self

    async def __anext__(self) -> int:
        self.is_begun = True
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancellations += 1
        if self._returned == 3:
            raise StopAsyncIteration
        self._returned += 1
        return self._returned


async def _cancelled_twice(job: AsyncJob, source: _Stubborn) -> Claims[int]:
    """Return a loop, of which a call was cancelled twice; its step of the source goes on."""
    loop = job.claim(source)
    waiting = asyncio.create_task(anext(loop))
    await until(lambda: source.is_begun, 'the source is called')
    waiting.cancel()
    await until(lambda: source.cancellations == 1, 'the source is cancelled')
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    return loop


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_call_is_cancelled_twice_while_its_source_goes_on(store: Store) -> None:
    """The task that the source then returns is not lost, and no other step of the source begins before."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            source = _Stubborn()
            rest = asyncio.create_task(_list(await _cancelled_twice(job, source)))
            await asyncio.sleep(0)
            source.go.set()
            assert await rest == [1, 2, 3]

    run(work())


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_call_waits_for_the_step_of_one_that_was_cancelled_twice(store: Store) -> None:
    """That wait counts as progress, as for any step of the source, and ends with the job, or with the loop."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            session = job._job._session
            for is_left in (True, False):
                source = _Stubborn()
                loop = await _cancelled_twice(job, source)
                rest = asyncio.create_task(_list(loop))
                try:
                    await _until_progress(session)
                    if is_left:
                        await loop.aclose()
                    else:
                        session.stop(SessionEvent.STOP)
                    await until(rest.done, 'the loop ends')
                finally:
                    source.go.set()
                assert await rest == []

    run(work())


async def _until_progress(session: Session) -> None:
    lease = session.lease
    assert lease is not None
    lease.has_progressed = False
    await until(lambda: lease.has_progressed, 'there is progress')


async def _list(loop: AsyncIterator[int]) -> list[int]:
    return [task async for task in loop]


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_loop_is_cancelled_that_waits_for_the_end_of_a_cancelled_call(store: Store) -> None:
    """The task that it has done is recorded as complete, and not in flight, though no other call comes."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            goes_on, kept = threading.Event(), list[object]()

            async def loop() -> None:
                async for _ in job.claim([1, 2]):
                    job._threads.cut(job._threads.submit(lambda: goes_on.wait(DEADLINE_SEC)))

            task = asyncio.create_task(loop())
            await until(lambda: in_flight(job) == ['1'], 'the first task is in hand')
            await asyncio.sleep(0.2)
            task.cancel()
            kept += await asyncio.gather(task, return_exceptions=True)
            assert isinstance(kept[0], asyncio.CancelledError)
            goes_on.set()
            await until(lambda: in_flight(job) == [], 'nothing is in flight')

    run(work())
    assert store.audits == ['1']


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize(('end', 'step', 'begun'), [('complete', 'check_begun', 'x'), ('write_audit', 'complete_all', 'y')])
def test_a_call_that_has_timed_out_ends_nothing_that_is_begun_after_it(store: Store, end: str, step: str, begun: str) -> None:
    """Whichever asyncio task has made it: before Python 3.12 ``wait_for`` makes a call in an asyncio task of its own."""

    async def work() -> None:
        async with store.async_job('a', config=PATIENT) as job:
            reached, goes_on, log = threading.Event(), threading.Event(), job._job._task_log
            do = getattr(log, step)

            def do_late(*arguments: object) -> None:
                reached.set()
                assert goes_on.wait(DEADLINE_SEC)
                do(*arguments)

            setattr(log, step, do_late)
            assert await job.add_task('x')
            call = asyncio.create_task(job.complete('x') if end == 'complete' else job.write_audit())
            await until(reached.is_set, 'a thread makes the call')
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert await job.add_task(begun)
            goes_on.set()
            await until(lambda: store.audits == ['x'], 'the call has gone on')
            await until(lambda: len(in_flight(job)) == 1, 'it has ended what it has found')
            assert in_flight(job) == [begun]
            assert log.open_names() == repr(begun)

    run(work())
    assert store.audits == ['x']
