"""An exception that a signal's handler raises while the main thread is inside jobsync, in a program that catches it and goes on.

That is what a timeout by ``SIGALRM`` does, and Ctrl-C at a prompt. What such an exception ends half-way may leave nothing behind
that keeps other workers from a task: CPython runs a handler after a call of C code, at the beginning of a function and at a jump
back, so the exception is raised at each of these points in turn.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from tests.job.stores import Store, kinds
from tests.job.waiting import wait_until
from tests.signals import AlarmError, Interruption
from tests.support.starts import abandon
from tests.support.timings import DEADLINE_SEC

import jobsync.database as db
from jobsync import AsyncJob, ConfigError, CoordinationConfig, Job, NotOwned
from jobsync._core.agent.lease import Lease
from jobsync._event_log import event_log
from jobsync._worker.task_log import TaskLog

_POINTS = 60
"""So many points of a call are tried in a usual run, evenly spaced; with ``--full`` all."""


def adds(job: Job, task: str) -> None:
    job.add_task(task)


def blocks(job: Job, task: str) -> None:
    with job.task(task):
        pass


def claims(job: Job, task: str) -> None:
    for _ in job.claim([task, f'{task} more']):
        pass


def claims_once(job: Job, task: str) -> None:
    for _ in job.claim(iter([task, f'{task} more']), once=True):
        pass


def batches(job: Job, task: str) -> None:
    for _ in job.batch([task, f'{task} more']):
        pass


def takes_a_place(job: Job, task: str) -> None:
    with job.singleton(task) as turn:
        bool(turn)


def takes_turns(job: Job, task: str) -> None:
    for _ in job.singleton(task):
        break


def can_begin(job: Job, task: str, *, is_place: bool) -> bool:
    """Return whether another thread can begin the task, or take the place."""
    begun: list[bool] = []

    def begin() -> None:
        try:
            if is_place:
                with job.singleton(task) as turn:
                    begun.append(bool(turn))
            else:
                with job.task(task):
                    begun.append(True)
        except NotOwned:
            begun.append(False)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    return begun == [True]


def left_behind(lease: Lease, log: TaskLog) -> Iterator[str]:
    """Yield the names of what a call has left that is over."""
    marks = {
        'in flight': lease.in_flight,
        'checked out': log._checked_out.keys(),
        'open': log._open.keys(),
        'waiting': lease.waiting,
        'followers': log.completions._followers,
        'renewed': log.renewal._tasks,
        'unrecorded': lease.unrecorded.keys() - log.completions._finished.keys(),
    }
    yield from (name for name, mark in marks.items() if mark)


@pytest.fixture
def points(request: pytest.FixtureRequest) -> Callable[[int], range]:
    """Return a function from the number of points to those that are tried."""
    is_full = request.config.getoption('full')
    return lambda count: range(1, count + 1, 1 if is_full else max(1, count // _POINTS))


@pytest.mark.any_store
@pytest.mark.parametrize('call', [adds, blocks, claims, claims_once, batches, takes_a_place, takes_turns])
def test_nothing_stays_behind(
    store: Store, call: Callable[[Job, str], None], points: Callable[[int], range], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the exception comes, no mark of the call is left, and another thread can begin the task or take the place."""
    monkeypatch.setattr(sys, 'unraisablehook', lambda _: None)  # Python drops what is raised while a generator is closed
    is_place = call in (takes_a_place, takes_turns)
    with store.job('a') as job:
        lease, log = job._session.lease, job._task_log
        assert lease is not None
        call(job, 'first')  # which starts threads, and imports
        abandon(log, 'first')
        with Interruption() as counted:
            call(job, 'counted')
        abandon(log, 'counted')
        assert counted.count > 50
        for point in points(counted.count):
            task = f't{point}'
            try:
                with Interruption(point):
                    call(job, task)
                abandon(log, task)  # the call has taken another way, and has ended before this point
            except AlarmError as error:
                error.__traceback__ = None
            wait_until(lambda: not lease.waiting, 'another thread has ended its call of the store')
            assert list(left_behind(lease, log)) == [], point
            assert can_begin(job, task, is_place=is_place), point


@pytest.mark.any_store
def test_no_place_stays_behind_on_an_event_loop(
    store: Store, points: Callable[[int], range], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the exception comes, no mark of the place is left, and another asyncio task can take it."""
    monkeypatch.setattr(sys, 'unraisablehook', lambda _: None)  # Python drops what is raised while an object is freed

    async def take(job: AsyncJob) -> bool:
        async with job.singleton('x') as turn:
            return bool(turn)

    async def interrupted(job: AsyncJob, point: int | None = None) -> int:
        with suppress(AlarmError), Interruption(point) as interruption:
            await take(job)
        return interruption.count

    async def work() -> None:
        async with store.async_job('a') as job:
            lease = job._job._session.lease
            assert lease is not None
            await take(job)
            count = await interrupted(job)
            assert count > 20
            for point in points(count):
                await interrupted(job, point)
                assert list(left_behind(lease, job._job._task_log)) == [], point
                assert await asyncio.create_task(take(job)), point

    asyncio.run(work())


def test_a_schedule_begins_wherever_it_was_interrupted(points: Callable[[int], range], caplog: pytest.LogCaptureFixture) -> None:
    """The function can be scheduled again, and one thread runs it, also if the exception came as a thread had begun already."""
    config = CoordinationConfig(enabled=False)

    def is_alone(name: str) -> bool:
        return [thread.name for thread in threading.enumerate()].count(name) == 1

    def interrupted(job: Job, point: int | None = None) -> int:
        with suppress(AlarmError), Interruption(point) as interruption:
            job.every(3600, name='work')(id)
        return interruption.count

    for _ in range(2):  # the first time there is more to do
        with Job('counted', coordination_config=config) as job:
            count = interrupted(job)
    for point in points(count):
        with Job(f'p{point}', coordination_config=config) as job:
            interrupted(job, point)
            with suppress(ConfigError):  # the function was scheduled before the exception came
                job.every(3600, name='work')(id)
            wait_until(partial(is_alone, f'jobsync-every-p{point}'), f'one thread: {point}')
    event_log.flush()
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.filterwarnings('ignore:unclosed database:ResourceWarning')  # Python 3.13: the exception came before it had an owner
@pytest.mark.parametrize('store', kinds(['sqlite']), indirect=True)
def test_no_transaction_swallows_it(store: Store, points: Callable[[int], range]) -> None:
    """It leaves a transaction of the user's as what it is. The transaction is then done or not, and the next one can run."""
    with store.job('a') as job:
        db.execute(job._cn, 'CREATE TABLE pairs (one INTEGER, two INTEGER)')

        def work() -> None:
            with job._cn.transaction():
                db.execute(job._cn, 'INSERT INTO pairs (one, two) VALUES (%s, %s)', 1, 0)
                db.execute(job._cn, 'UPDATE pairs SET two = one')

        work()
        with Interruption() as counted:
            work()
        assert counted.count > 50
        for point in points(counted.count):
            try:
                with Interruption(point):
                    work()
            except AlarmError as error:
                error.__traceback__ = None
            assert db.select_scalar(job._cn, 'SELECT count(*) FROM pairs WHERE one <> two') == 0, point
    gc.collect()  # sqlite3's connections are cycles: the warning would come in a later test


@pytest.mark.any_store
def test_a_node_leaves_wherever_the_end_of_its_block_is_interrupted(store: Store, points: Callable[[int], range]) -> None:
    """A node that stayed would keep its tokens, and its name, for as long as the program goes on."""

    def interrupted(point: int | None = None) -> tuple[Job, int]:
        job = store.job('a')
        job.__enter__()
        with suppress(AlarmError), Interruption(point) as interruption:
            job.__exit__(None, None, None)
        return job, interruption.count

    for point in points(interrupted()[1]):
        if point == 1:  # the beginning of ``__exit__``, before any step of it
            continue
        job, _ = interrupted(point)
        runtime = job._session.runtime
        assert runtime is not None
        has_left = runtime.wait_until_over(20)
        job.__exit__(None, None, None)
        assert (has_left, job._session.is_over) == (True, True), point


@pytest.mark.any_store
@pytest.mark.filterwarnings('ignore:coroutine .* was never awaited:RuntimeWarning')
def test_a_node_of_an_event_loop_leaves_wherever_the_end_of_its_block_is_interrupted(
    store: Store, points: Callable[[int], range], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves without another call, which closes what is left to be closed, and comes to its end."""
    monkeypatch.setattr(sys, 'unraisablehook', lambda _: None)  # a coroutine of asyncio's that was made, and not begun

    async def interrupted(point: int | None = None) -> int:
        job = store.async_job('a')
        await job.__aenter__()
        with suppress(AlarmError), Interruption(point) as interruption:
            await job.__aexit__(None, None, None)
        runtime = job._job._session.runtime
        assert runtime is not None
        assert await asyncio.to_thread(runtime.wait_until_over, 20), point
        await asyncio.wait_for(job.__aexit__(None, None, None), DEADLINE_SEC)
        assert job._job._session.is_over, point
        assert not job._threads.are_open, point
        return interruption.count

    for point in points(asyncio.run(interrupted())):
        if point > 1:  # the first is the beginning of ``__aexit__``, before any step of it
            asyncio.run(interrupted(point))
