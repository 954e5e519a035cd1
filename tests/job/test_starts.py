"""What ends one start of a task ends no other one: three workers at one task, and starts that overlap."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from tests.job.stores import Store, kinds
from tests.job.test_interrupted import left_behind
from tests.job.test_two_at_one_task import HERE, OTHER, THIRD, Between, add, begin_a_block, holders, two_in_turns
from tests.job.waiting import DEADLINE_SEC
from tests.signals import AlarmError, Interruption
from tests.support.starts import abandon, in_flight

from jobsync import AsyncJob, CoordinationConfig, Job
from jobsync._core.agent.in_flight import TaskStart
from jobsync._worker.singleton import Singleton
from jobsync._worker.store_calls import acting_for
from jobsync._worker.task_starts import TaskStarts, new_start
from jobsync.errors import NotOwned


def test_starts_are_those_of_one_task() -> None:
    """Many tasks share a shelf."""
    starts, made = TaskStarts(), [new_start(f'{number}', 1) for number in range(1000)]
    for start in made:
        starts.add(start)
    assert all(starts.of(start.key) == [start] == list(starts.numbered(start.key)) for start in made)


def test_a_task_is_as_old_as_its_last_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may add a task each time it works on it."""
    times = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr('jobsync._worker.task_starts.clock', SimpleNamespace(now=lambda: next(times)))
    starts = TaskStarts()
    for key in 'xxy':
        starts.add(new_start(key, 1))
    assert sorted(starts.begun_at()) == [2.0, 3.0]


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_block_fails_that_has_begun_while_the_claim_of_another_worker_was_on_its_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one works on the task since then: it would pass on amid the work."""
    with store.job('a', config={'shutdown_timeout_sec': 0}) as job:
        claims, ends = job._task_log.claims, list[Callable[[Exception | None], object]]()
        record = claims.record_alone

        def begin_first(*arguments: Any) -> bool:
            monkeypatch.undo()
            ends.append(begin_a_block(job))
            return record(*arguments)

        monkeypatch.setattr(claims, 'record_alone', begin_first)
        add(job, OTHER)
        with suppress(ZeroDivisionError):
            ends[0](ZeroDivisionError())
        assert holders(job) == ([OTHER], [OTHER])


class Block:
    """A worker's block of the task, which may be refused."""

    def __init__(self, job: Job, worker: int) -> None:
        self._block, self._worker = job.task('x'), worker
        self.is_begun = False

    def begin(self) -> None:
        """Begin it, if the task is to be had."""
        with suppress(NotOwned), acting_for(self._worker):
            self._block.__enter__()
            self.is_begun = True

    def end(self) -> None:
        """End it."""
        with acting_for(self._worker):
            self._block.__exit__(None, None, None)


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_completed_and_begun_anew_by_a_third_worker_while_a_block_ends(store: Store) -> None:
    """The third one has it, at whatever line: it would not be in flight, and a fourth could begin it."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            end, third, fourth = begin_a_block(job), Block(job, THIRD), Block(job, OTHER)

            def pass_on(third: Block = third) -> None:
                with acting_for(OTHER):
                    job.complete('x')
                third.begin()

            with acting_for(HERE), (between := Between(line, pass_on)):
                end(None)
            assert holders(job) == (([THIRD], [THIRD]) if third.is_begun else ([], [])), line
            if third.is_begun:
                fourth.begin()
                assert not fourth.is_begun, line
                third.end()
                assert holders(job) == ([], []), line
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_third_worker_has_a_task_that_two_others_have_ended_at_once(store: Store) -> None:
    """One completes it as the block of the other fails: a fourth could begin it, and the third would record nothing."""
    with store.job('a') as job:
        thirds = list[Block]()

        def begin() -> Callable[[], object]:
            thirds.append(Block(job, THIRD))
            end = begin_a_block(job)

            def fail() -> None:
                with suppress(ZeroDivisionError):
                    end(ZeroDivisionError())

            return fail

        def pass_on() -> None:
            with acting_for(OTHER):
                job.complete('x')
            thirds[-1].begin()

        for _ in two_in_turns(pass_on, ('finish', '_finish', '_end', '_remove_marks'), begin):
            third, fourth = thirds[-1], Block(job, OTHER)
            assert holders(job) == (([THIRD], [THIRD]) if third.is_begun else ([], []))
            if third.is_begun:
                fourth.begin()
                assert not fourth.is_begun
                third.end()
                assert holders(job) == ([], [])


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('is_block', [False, True])
def test_nothing_stays_behind_where_a_start_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch, is_block: bool) -> None:
    """Wherever a signal's handler raises: the token would be kept, and the task from all other workers, until the job leaves."""
    with store.job('a') as job:
        lease, log = job._session.lease, job._task_log
        assert lease is not None
        monkeypatch.setattr(log.claims, 'record_alone', lambda *_: False)

        def begin() -> None:
            if is_block:
                with suppress(NotOwned), job.task('x'):
                    pass
            else:
                assert not job.add_task('x')

        begin()  # which imports
        point, is_interrupted, left = 0, True, list[int]()
        while is_interrupted:
            point, is_interrupted = point + 1, False
            try:
                with Interruption(point) as interruption:
                    begin()
                    interruption.at = None  # the call has returned
            except AlarmError as error:
                error.__traceback__, is_interrupted = None, True
            if list(left_behind(lease, log)):
                left.append(point)
                abandon(log, 'x')
                lease.finish(list(lease.in_flight))
        assert not left
    assert point > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_nothing_stays_behind_where_a_signal_ends_add_task_on_an_event_loop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handler may raise after the thread has started the task: the asyncio task, which goes on, will not work on it."""

    def interrupt(*_: object) -> None:
        raise AlarmError

    async def work() -> None:
        async with store.async_job('a') as job:
            with monkeypatch.context() as patch:
                patch.setattr(job._job._task_log, 'confirm', interrupt)
                with pytest.raises(AlarmError):
                    await job.add_task('x')
            assert holders(job._job) == ([], [])

    asyncio.run(work())


async def cancelled(job: AsyncJob, step: str, goes_on: threading.Event, call: Awaitable[object]) -> None:
    """Make a call for the present asyncio task that is cancelled amid a step of its thread, which goes on later."""
    loop, task, log = asyncio.get_running_loop(), asyncio.current_task(), job._job._task_log
    assert task is not None
    owner: Any = log.claims if hasattr(log.claims, step) else log
    do = getattr(owner, step)

    def do_late(*arguments: Any, **named: Any) -> object:
        setattr(owner, step, do)
        loop.call_soon_threadsafe(task.cancel)
        assert goes_on.wait(DEADLINE_SEC)
        return do(*arguments, **named)

    setattr(owner, step, do_late)
    with pytest.raises(asyncio.CancelledError):
        await call
    task.uncancel()


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('first', ['block', 'loop', 'complete', 'end of a block'])
@pytest.mark.parametrize('second', ['block', 'add_task'])
def test_a_task_is_begun_once_more_after_a_call_was_cancelled(store: Store, first: str, second: str) -> None:
    """As after a timeout: the thread goes on with the call, whose end was the end of what its asyncio task has begun since."""

    async def work() -> None:
        async with store.async_job('a') as job:
            goes_on, claims = threading.Event(), job.claim(['x'])
            if first == 'complete':
                assert await job.add_task('x')
                await cancelled(job, 'check_begun', goes_on, job.complete('x'))
            elif first == 'loop':
                await cancelled(job, 'record_owned', goes_on, anext(claims))
            elif first == 'end of a block':
                block = job.task('x')
                await block.__aenter__()
                await cancelled(job, 'finish_checked_out', goes_on, block.__aexit__(None, None, None))
            else:
                await cancelled(job, 'record_alone', goes_on, job.task('x').__aenter__())

            async def go_on() -> None:
                goes_on.set()
                assert job._threads._calls is not None
                while job._threads._calls._unfinished:  # type: ignore[attr-defined]
                    await asyncio.sleep(0.01)
                assert len(holders(job._job)[1]) == 1

            asyncio.get_running_loop().call_later(1, goes_on.set)
            if second == 'block':
                async with job.task('x'):
                    await go_on()
            else:
                assert await job.add_task('x')
                await go_on()
                await job.complete('x')
            assert holders(job._job) == ([], [])
            assert store.audits[0] == 'x'
            await claims.aclose()

    asyncio.run(work())


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_loop_of_the_first_worker_that_has_added_a_task(store: Store) -> None:
    """Its loop begins the task, though another one has added it since: two workers would wait for each other in their batches."""
    with store.job('a') as job:
        add(job, HERE)
        add(job, OTHER)
        for worker, begun in (OTHER, []), (HERE, ['x']):
            with acting_for(worker):
                assert list(job.claim(['x'])) == begun


def test_a_loop_over_tasks_that_another_worker_has_added_with_coordination_off() -> None:
    """Without coordination each task may be begun."""
    with Job('a', coordination_config=CoordinationConfig(enabled=False)) as job:
        add(job, OTHER)
        with acting_for(HERE):
            assert list(job.claim(['x'])) == ['x']


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_loop_is_left_after_its_task_was_completed_and_added_anew(store: Store) -> None:
    """The loop, which was kept, had ended its work on the task before: the task would not be in flight amid the new work."""
    with store.job('a') as job:
        loop = job.claim(['x'])
        assert next(loop) == 'x'
        job.complete('x')
        assert job.add_task('x')
        loop.close()
        assert len(holders(job)[1]) == 1
        job.complete('x')
        assert holders(job) == ([], [])


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_place_is_taken_while_a_signal_interrupts_its_return(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives it back once more leaves it to the one that has it by now: a third would have a turn beside that."""
    with store.job('a') as job:
        lease = job._session.lease
        assert lease is not None
        note_progress, turns = job._session.note_progress, list[Singleton]()

        def interrupt() -> None:
            if in_flight(lease) or turns:
                note_progress()
                return
            turns.append(job.singleton('x'))
            with acting_for(OTHER):
                turns[0].__enter__()
            raise AlarmError

        place = job.singleton('x')
        place.__enter__()
        monkeypatch.setattr(job._session, 'note_progress', interrupt)
        with pytest.raises(AlarmError):
            place.__exit__(None, None, None)
        assert turns[0]._is_held
        assert in_flight(lease) == ['singleton:x']
        with acting_for(THIRD), job.singleton('x') as third:
            assert not third
        turns[0].__exit__(None, None, None)
        assert in_flight(lease) == []


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_and_finished_while_another_worker_gives_it_up(store: Store) -> None:
    """Its token is held until it is recorded, at whatever line that happens: the next owner would do it again."""
    with store.job('a') as job:
        lease, log, not_held = job._session.lease, job._task_log, list[int]()
        assert lease is not None

        def add_and_finish() -> None:
            with acting_for(OTHER):
                assert job.add_task('x')
                log.finish('x', log.begun('x'))

        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            end = begin_a_block(job)
            with suppress(ZeroDivisionError), (between := Between(line, add_and_finish)):
                end(ZeroDivisionError())
            if between.is_made and log.completions.has('x') and 'x' not in lease.unrecorded:
                not_held.append(line)
            log.completions.flush()
            assert not lease.unrecorded
            abandon(log, 'x')
        assert not not_held
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_block_begins_at_any_line_of_another_workers_start_and_fails(store: Store) -> None:
    """What was not open as the block began is left to the other worker: it would pass on amid the work."""
    with store.job('a') as job:
        line, between, ended = 0, None, list[int]()
        while between is None or between.is_made:
            line += 1
            blocks, were_open = list[Callable[[Exception | None], object]](), list[bool]()

            def begin(blocks: list[Callable[[Exception | None], object]] = blocks, were_open: list[bool] = were_open) -> None:
                were_open.append(job._task_log.is_open('x'))
                blocks.append(begin_a_block(job))

            with (between := Between(line, begin)):
                add(job, OTHER)
            for end in blocks:
                with suppress(ZeroDivisionError):
                    end(ZeroDivisionError())
            if were_open == [False] and holders(job) != ([OTHER], [OTHER]):
                ended.append(line)
            abandon(job._task_log, 'x')
        assert not ended
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_worker_begins_a_block_anew_while_another_one_completes_its_task(store: Store) -> None:
    """It has a start of its own, at whatever line: as a block within the one before, it would pass on amid the work."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            ends, open_then = [begin_a_block(job)], list[TaskStart]()

            def end_and_begin(
                ends: list[Callable[[Exception | None], object]] = ends, open_then: list[TaskStart] = open_then
            ) -> None:
                before = job._task_log._open.of('x')
                with acting_for(HERE):
                    ends.pop()(None)
                ends.append(begin_a_block(job))
                open_then += [start for start in job._task_log._open.of('x') if start not in before]

            with acting_for(OTHER), (between := Between(line, end_and_begin)):
                job.complete('x')
            assert len(open_then) == between.is_made, line
            with acting_for(HERE):
                ends.pop()(None)
            assert holders(job) == ([], []), line
    assert line > 20
