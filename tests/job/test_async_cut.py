"""``AsyncJob``: what goes on in a thread after its call was cancelled or its loop left, and what is begun meanwhile."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.job.stores import Store, kinds
from tests.job.test_async import PATIENT, in_flight, run, stalling, until
from tests.job.waiting import DEADLINE_SEC

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
