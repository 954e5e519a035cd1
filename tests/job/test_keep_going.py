"""``progress_timeout_sec`` of a job: what counts as progress, and what a hung worker looks like."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from tests.job.stores import Store, foreign_task, owned_tasks
from tests.job.waiting import wait_for_progress, wait_until
from tests.support.timings import TOKENS

from jobsync import Job
from jobsync._core.agent.in_flight import TaskStart

WATCHED = {'progress_timeout_sec': 0.5}


@pytest.mark.any_store
def test_a_hung_worker_gives_its_share_up(store: Store) -> None:
    """It is unhealthy, its record and its status say so, another node has its tokens; it has them back when it goes on."""
    with store.job('a', config=WATCHED) as a, store.job('b') as b:
        wait_until(lambda: len(b.my_tokens) == TOKENS, 'b has all')
        assert not a.am_i_healthy()
        assert a.get_coordination_status()['is_stalled']
        assert {node['name']: node['stalled'] for node in b.nodes} == {'a': True, 'b': False}
        assert b.am_i_healthy()

        def is_back() -> bool:
            a.keep_going()
            return len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2

        wait_until(is_back, 'a has its share back')

        def is_healthy() -> bool:
            a.keep_going()
            return a.am_i_healthy()

        wait_until(is_healthy, 'a is healthy')


@pytest.mark.any_store
def test_a_loop_over_items_that_has_stalled_goes_on(store: Store) -> None:
    """A node that has stalled has no items, so a loop over them asks for no task. That it asks for items is progress."""
    with store.job('a', config=WATCHED) as a, store.job('b') as b:
        a.declare_items('feeds', ['1', '2'])
        wait_until(lambda: len(b.items('feeds')) == 2, 'a has stalled, and b has all')
        assert a.get_coordination_status()['is_stalled']
        wait_until(lambda: any(map(a.can_claim_task, a.items('feeds'))), 'a has an item again')
        wait_until(lambda: len(a.items('feeds')) == 1 and a.am_i_healthy(), 'a is healthy')


@contextlib.contextmanager
def marked(job: Job) -> Iterator[None]:
    """Check that what the block does counts as progress."""
    lease = job._session.lease
    assert lease is not None
    lease.has_progressed = False
    yield
    assert lease.has_progressed


WAYS: dict[str, Callable[[Job], object]] = {
    'can_claim_task': lambda job: job.can_claim_task('x'),
    'add_task': lambda job: job.add_task('x'),
    'claim': lambda job: list(job.claim(['x'])),
    'batch': lambda job: list(job.batch(['x'])),
    'keep_going': lambda job: job.keep_going(),
    'singleton': lambda job: job.singleton('x').__enter__() and None,
    'complete': lambda job: job._task_log.finish('x', job._task_log.begun('x')),
    'take_back': lambda job: job._task_log.take_back(TaskStart('x')),
    'claim of nothing': lambda job: list(job.claim([])),
    'batch of nothing': lambda job: list(job.batch([])),
    'set_claim': lambda job: job.set_claim('x'),
    'items': lambda job: job.items('feeds'),
    'owns': lambda job: job.owns(0),
    'where': lambda job: job.where('id'),
}


@pytest.mark.parametrize('way', WAYS)
def test_what_counts_as_progress(way: str) -> None:
    """Each call by which the user's code asks for work, or ends some."""
    with Store('memory://').job(f'of-{way}') as job, marked(job):
        WAYS[way](job)


def test_an_asynchronous_loop_over_nothing_counts_as_progress() -> None:
    """A worker that finds nothing to do, and checks again a moment later, does not hang."""

    async def work() -> None:
        async with Store('memory://').async_job('of-async') as job:
            nothing: list[str] = []
            for loop in (job.claim(nothing), job.batch(nothing)):
                with marked(job._job):
                    assert [task async for task in loop] == []

    asyncio.run(work())


def test_a_turn_that_is_tested_counts_as_progress() -> None:
    """The body of a turn may go on for months, and asks for no other task: ``while turn``."""
    with Store('memory://').job('of-turn') as job, job.singleton('x') as turn:
        for _ in range(2):
            with marked(job):
                assert turn
        with marked(job):
            assert turn.wait(0)


@pytest.mark.any_store
def test_what_does_not_count(store: Store) -> None:
    """Reading the state of the node or of the cluster."""
    with store.job('a') as job:
        lease = job._session.lease
        assert lease is not None
        lease.has_progressed = False
        assert job.my_tokens
        assert job.am_i_healthy()
        assert job.nodes
        assert job.get_coordination_status()
        assert not lease.has_progressed


@pytest.mark.any_store
def test_a_batch_that_waits_makes_progress(store: Store) -> None:
    """A loop that waits for what another node has in hand is not hung."""
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        task = foreign_task(a)
        assert b.add_task(task)
        thread = threading.Thread(target=lambda: list(a.batch([task])))
        thread.start()
        wait_for_progress(a, 3)
        b.complete(task)
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.any_store
def test_a_loop_that_waits_for_its_source_makes_progress(store: Store) -> None:
    """The user's generator waits for the next message: nothing hangs. The work on the message may."""
    with store.job('a') as job:
        lease = job._session.lease
        assert lease is not None

        def messages() -> Iterator[int]:
            for task in owned_tasks(job)[:3]:
                assert lease.waiting
                yield task

        for _ in job.claim(messages()):
            assert not lease.waiting
        with pytest.raises(ZeroDivisionError):
            list(job.claim(1 // task for task in range(3)))
        assert not lease.waiting


@pytest.mark.any_store
def test_an_asynchronous_loop_that_waits_for_its_source_makes_progress(store: Store) -> None:
    """The event loop waits for the next message: nothing hangs."""

    async def work() -> None:
        source: asyncio.Queue[int] = asyncio.Queue()

        async def messages() -> AsyncIterator[int]:
            while True:
                yield await source.get()

        async with store.async_job('a') as job:
            loop = asyncio.ensure_future(anext(job.claim(messages())))
            lease = job._job._session.lease
            assert lease is not None
            for _ in range(2):
                lease.has_progressed = False
                while not lease.has_progressed:
                    await asyncio.sleep(0.01)
            source.put_nowait(owned_tasks(job)[0])
            await loop

    asyncio.run(work())


def place_of_another(job: Job) -> str:
    """The name of a place that another node holds."""
    return next(name for name in map(str, range(1000)) if not job.can_claim_task(f'singleton:{name}'))


@pytest.mark.any_store
def test_a_loop_that_waits_for_its_turn_makes_progress(store: Store) -> None:
    """Another node has the place, for however long; what this one owns beside it stays with it."""
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        name = place_of_another(a)
        thread = threading.Thread(target=lambda: list(a.singleton(name)))
        thread.start()
        wait_for_progress(a, 2)
        a.__exit__(None, None, None)
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.any_store
def test_an_asynchronous_loop_that_waits_for_its_turn_makes_progress(store: Store) -> None:
    """So too on an event loop."""

    async def work() -> None:
        with store.job('b') as b:
            async with store.async_job('a') as job:
                a = job._job
                while not len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2:
                    await asyncio.sleep(0.01)
                turns = aiter(job.singleton(place_of_another(a)))
                loop = asyncio.ensure_future(anext(turns, None))
                lease = a._session.lease
                assert lease is not None
                for _ in range(2):
                    lease.has_progressed = False
                    while not lease.has_progressed:
                        await asyncio.sleep(0.01)
            assert await loop is None

    asyncio.run(work())
