"""Two workers at one task: at each line of what one of them does to end it, the other one begins it or ends it as well.

A thread may be stopped between any two lines, while another one makes a whole call. So the whole call of the other worker is made
here between two lines, each pair of them in turn, in the same thread. Where the other one may be stopped as well, ``Turns`` has
two threads.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from tests.job.stores import Store, kinds
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.signals import AlarmError, Interruption
from tests.support.starts import abandon, in_flight

from jobsync import Job
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.lease import Lease
from jobsync._runtime import threads
from jobsync._worker import task_log, task_starts
from jobsync._worker.store_calls import acting_for, worker_id
from jobsync.errors import NotOwned

FILES = task_log.__file__, task_starts.__file__, sys.modules[Lease.__module__].__file__
ENDING = 'take_back', '_abandon', '_end', '_remove_marks'
"""The functions that end a start."""
HERE, OTHER, THIRD = -1, -2, -3
"""The numbers of workers."""


class Between:
    """Makes a call before one of the lines that are run in the block, counted from its beginning."""

    def __init__(self, line: int, call: Callable[[], object]) -> None:
        self._left, self._call = line, call

    @property
    def is_made(self) -> bool:
        """Whether the block had so many lines."""
        return self._left <= 0

    def __enter__(self) -> Between:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == 'line':
            self._left -= 1
            if self._left == 0:
                self._call()
        return self._trace


class Turns:
    """Two threads, of which one runs at a time: the first up to a line of some functions, the second, then each to its end."""

    def __init__(self, *calls: tuple[Callable[[], object], int, tuple[str, ...]]) -> None:
        """``calls``: for each thread what it calls, and before which of the lines of these functions it stops."""
        self.have_stopped = [False, False]
        """Whether each thread had so many lines."""
        self._turns, self._is_over = (threading.Semaphore(0), threading.Semaphore(0)), [False, False]
        self._left, self._functions = [line for _, line, _ in calls], [functions for _, _, functions in calls]
        with ThreadPoolExecutor(2) as threads:
            done = [threads.submit(self._run, number, call) for number, (call, _, _) in enumerate(calls)]
            self._turns[0].release()
            for each in done:
                each.result(DEADLINE_SEC)

    def _run(self, number: int, call: Callable[[], object]) -> None:
        def trace(frame: FrameType, event: str, _: object) -> Any:
            if frame.f_code.co_filename not in FILES:
                return None
            if event == 'line' and frame.f_code.co_name in self._functions[number]:
                self._left[number] -= 1
                if self._left[number] == 0 and not self._is_over[not number]:
                    self.have_stopped[number] = True
                    self._turns[not number].release()
                    assert self._turns[number].acquire(timeout=DEADLINE_SEC)
            return trace

        assert self._turns[number].acquire(timeout=DEADLINE_SEC)
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(None)
            self._is_over[number] = True
            self._turns[not number].release()


def two_in_turns(
    call: Callable[[], object], functions: tuple[str, ...], begin: Callable[[], Callable[[], object]]
) -> Generator[None]:
    """Make a call beside what ``begin`` returns, which gives a task up, stopped at each line of these functions and of that."""
    for first in itertools.count(1):
        for second in itertools.count(1):
            turns = Turns((call, first, functions), (begin(), second, ENDING))
            yield
            if not all(turns.have_stopped):
                break
        if not turns.have_stopped[0]:
            assert first > 5
            return


def add(job: Job, worker: int) -> None:
    with acting_for(worker):
        assert job.add_task('x')


def take_back(job: Job, worker: int) -> bool:
    """Take back the last start of a worker, if there is one."""
    starts = [start for start in job._task_log._open.of('x') if start.worker == worker]
    return bool(starts) and job._task_log.take_back(starts[-1])


def add_and_cancel(job: Job) -> Callable[[], object]:
    add(job, HERE)
    return lambda: take_back(job, HERE)


def begin_a_block(job: Job) -> Callable[[Exception | None], object]:
    with acting_for(HERE):
        block = job.task('x')
        block.__enter__()
    return lambda error: block.__exit__(None if error is None else type(error), error, None)


def begin_a_block_that_fails(job: Job) -> Callable[[], object]:
    end = begin_a_block(job)
    return lambda: end(ZeroDivisionError())


def begin_a_block_that_ends(job: Job) -> Callable[[], object]:
    end = begin_a_block(job)
    return lambda: end(None)


def holders(job: Job) -> tuple[list[int], list[int]]:
    """Return the workers that have the task open, and those that have it in flight."""
    runtime = job._session.runtime
    assert runtime is not None
    return _workers(job._task_log._open.of('x')), _workers(list(runtime.lease.in_flight))


def _workers(starts: list[TaskStart]) -> list[int]:
    return list(dict.fromkeys(start.worker for start in starts))


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('begin', [add_and_cancel, begin_a_block_that_fails])
def test_a_task_is_begun_while_another_worker_gives_it_up(store: Store, begin: Callable[[Job], Callable[[], object]]) -> None:
    """What a worker has begun in the midst of that is open and in flight: its token would pass on in the midst of the work."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            end = begin(job)
            with suppress(ZeroDivisionError), (between := Between(line, lambda: add(job, OTHER))):
                end()
            assert holders(job) == (([OTHER], [OTHER]) if between.is_made else ([], [])), line
            abandon(job._task_log, 'x')
    assert line > 30


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_once_more_while_the_block_of_another_worker_fails(store: Store) -> None:
    """It is open and in flight, though its worker had begun it before that block, too: it would pass on amid the work."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            add(job, OTHER)
            end = begin_a_block_that_fails(job)
            with suppress(ZeroDivisionError), (between := Between(line, lambda: add(job, OTHER))):
                end()
            assert holders(job) == (([OTHER], [OTHER]) if between.is_made else ([], [])), line
            abandon(job._task_log, 'x')
    assert line > 30


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_while_another_worker_completes_it(store: Store) -> None:
    """It is begun before that, and over, or after that, and both open and in flight."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            end = begin_a_block_that_ends(job)
            with (between := Between(line, lambda: add(job, OTHER))):
                end()
            assert holders(job) in (([OTHER], [OTHER]), ([], [])), line
            abandon(job._task_log, 'x')
    assert line > 30


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_two_starts_of_one_task_are_taken_back_at_once(store: Store) -> None:
    """As when two calls of ``add_task`` of an ``AsyncJob`` are cancelled: the task stays in flight, as the third worker's."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            add(job, THIRD)
            add(job, OTHER)
            end = add_and_cancel(job)
            with (between := Between(line, lambda: take_back(job, OTHER))):
                end()
            assert between.is_made or not take_back(job, OTHER)
            assert holders(job) == ([THIRD], [THIRD]), line
            assert take_back(job, THIRD)
            assert holders(job) == ([], []), line
    assert line > 10


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_an_interrupted_add_task_leaves_a_task_to_its_worker(store: Store) -> None:
    """Wherever a signal's handler raises: as that of its own, leaving would not wait for what another worker works on."""
    with store.job('a') as job:
        job.add_task('first')  # which starts threads, and imports
        point, is_interrupted = 0, True
        while is_interrupted:
            point, is_interrupted = point + 1, False
            add(job, OTHER)
            abandon(job._task_log, 'first')
            try:
                with Interruption(point) as interruption:
                    job.add_task('x')
                    interruption.at = None  # the call has returned
            except AlarmError as error:
                error.__traceback__, is_interrupted = None, True
            if is_interrupted:
                assert holders(job) == ([OTHER], [OTHER]), point
            abandon(job._task_log, 'x')
    assert point > 50


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_that_is_added_again_and_again_takes_no_memory(store: Store) -> None:
    """A program may add its tasks each time it works on them, and complete none: two starts of each worker are remembered."""
    with store.job('a') as job:
        assert job._session.lease is not None
        for _ in range(100):
            assert job.add_task('x')
        assert in_flight(job._session.lease) == ['x', 'x']
        assert holders(job) == ([worker_id()], [worker_id()])
        with job.task('x'):
            for _ in range(100):
                assert job.add_task('x')
            assert job._task_log.has_checked_out('x')
            assert in_flight(job._session.lease) == ['x', 'x', 'x']
        assert holders(job) == ([], [])


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_that_is_added_again_and_again_by_asyncio_takes_no_memory(store: Store) -> None:
    """It is an asyncio task that works on it then: two of its starts are remembered."""

    async def work() -> None:
        async with store.async_job('a') as job:
            assert job._job._session.lease is not None
            for _ in range(10):
                assert await job.add_task('x')
            assert in_flight(job._job._session.lease) == ['x', 'x']
            await job.write_audit()
            assert in_flight(job._job._session.lease) == []

    asyncio.run(work())


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_leaving_waits_for_another_worker_at_a_task_of_its_own(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """What the leaving worker has added after another one, which works on it, is waited for: it would pass on amid the work."""
    caplog.set_level('INFO', 'jobsync.job')
    had_left: list[bool] = []
    is_added = threading.Event()

    def work(job: Job) -> None:
        runtime = job._session.runtime
        assert runtime is not None
        with job.task('x'):
            is_added.set()
            wait_until(lambda: 'leaving waits' in caplog.text or runtime.is_over, 'the node leaves, or waits')
            had_left.append(runtime.is_over)

    with ThreadPoolExecutor(1) as thread:
        with store.job('a', config={'shutdown_timeout_sec': DEADLINE_SEC}) as job:
            done = thread.submit(work, job)
            assert is_added.wait(DEADLINE_SEC)
            assert job.add_task('x')
        done.result(DEADLINE_SEC)
    assert had_left == [False]
    assert store.audits == ['x']


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_completed_while_another_worker_adds_it(store: Store) -> None:
    """It is completed after that, and over, or before that, and both open and in flight, as that of the worker alone."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            add(job, OTHER)
            with (between := Between(line, lambda: job.complete('x'))):
                add(job, HERE)
            assert holders(job) in ((([HERE], [HERE]), ([], [])) if between.is_made else (([OTHER, HERE], [OTHER, HERE]),)), line
            abandon(job._task_log, 'x')
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_completed_while_another_worker_checks_it_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the other one's block is the end of the task: it would stay in flight, and leaving would wait for it."""
    with store.job('a') as job:
        add(job, OTHER)
        claims = job._task_log.claims
        record = claims.record_alone

        def complete_first(*arguments: Any) -> bool:
            with acting_for(OTHER):
                job.complete('x')
            return record(*arguments)

        monkeypatch.setattr(claims, 'record_alone', complete_first)
        with job.task('x'):
            assert job._task_log.has_checked_out('x')
        assert holders(job) == ([], [])


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_completed_while_its_own_worker_checks_it_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has added it before. Its block keeps others from the task, and the end of the block is that of the task."""
    with store.job('a') as job:
        add(job, HERE)
        claims = job._task_log.claims
        record = claims.record_alone

        def complete_first(*arguments: Any) -> bool:
            monkeypatch.undo()
            with acting_for(OTHER):
                job.complete('x')
            return record(*arguments)

        monkeypatch.setattr(claims, 'record_alone', complete_first)
        end = begin_a_block_that_ends(job)
        with acting_for(OTHER), pytest.raises(NotOwned), job.task('x'):
            pass
        end()
        assert holders(job) == ([], [])


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_completed_at_any_line_of_a_block_of_its_task(store: Store) -> None:
    """Nothing is left of the task once the block is over: it would stay in flight until the job leaves."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            add(job, OTHER)
            with (between := Between(line, lambda: job.complete('x'))), acting_for(HERE), job.task('x'):
                pass
            assert holders(job) == ([], []), line
    assert line > 50


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('third', [False, True])
def test_the_last_start_of_a_task_is_taken_back_while_a_block_fails(store: Store, third: bool) -> None:
    """It is over then, or left to the third worker at it alone: in flight as no worker's, its token would stay for good."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            if third:
                add(job, THIRD)
            end = begin_a_block_that_fails(job)
            add(job, OTHER)
            with suppress(ZeroDivisionError), (between := Between(line, lambda: take_back(job, OTHER))):
                end()
            if not between.is_made:
                take_back(job, OTHER)
            assert holders(job) in (([], []), ([THIRD], [THIRD]) if third else ([], [])), line
            abandon(job._task_log, 'x')
    assert line > 10


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_block_of_another_worker_comes_and_goes_while_a_task_is_added(store: Store) -> None:
    """What has ended with that block is open no more: as that of its worker, the task would stay in flight for good."""
    with store.job('a') as job:
        line, between = 0, None

        def whole_block() -> None:
            with acting_for(OTHER), job.task('x'):
                pass

        while between is None or between.is_made:
            line += 1
            with (between := Between(line, whole_block)):
                add(job, HERE)
            assert holders(job) in (([HERE], [HERE]), ([], [])), line
            abandon(job._task_log, 'x')
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_and_given_up_while_another_worker_is_in_the_midst_of_giving_it_up(store: Store) -> None:
    """Nothing is left of it: the other one would put it back, and it would stay in flight for good."""
    with store.job('a') as job:

        def add_and_give_up() -> None:
            add(job, HERE)
            take_back(job, HERE)

        def begin() -> Callable[[], object]:
            add(job, OTHER)
            return lambda: take_back(job, OTHER)

        for _ in two_in_turns(add_and_give_up, ('start', '_begin_claimed'), begin):
            assert holders(job) == ([], [])


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_while_another_worker_begins_it_and_is_in_the_midst_of_giving_it_up(store: Store) -> None:
    """It is open and in flight as that of the worker: leaving would wait for the other one, or not wait for the worker."""
    with store.job('a') as job:

        def add_and_give_up() -> None:
            add(job, OTHER)
            take_back(job, OTHER)

        for _ in two_in_turns(lambda: add(job, HERE), ('start', '_begin_claimed'), lambda: add_and_give_up):
            assert holders(job) == ([HERE], [HERE])
            abandon(job._task_log, 'x')


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_while_the_claim_of_a_block_that_fails_is_on_its_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left to the worker that has begun it, as if the block had begun before: it would pass on amid the work."""
    with store.job('a') as job:
        claims = job._task_log.claims
        record = claims.record_alone

        def add_first(*arguments: Any) -> bool:
            monkeypatch.undo()
            add(job, OTHER)
            return record(*arguments)

        monkeypatch.setattr(claims, 'record_alone', add_first)
        end = begin_a_block_that_fails(job)
        with suppress(ZeroDivisionError):
            end()
        assert holders(job) == ([OTHER], [OTHER])
        abandon(job._task_log, 'x')


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_while_a_loop_takes_it_that_is_left(store: Store) -> None:
    """The worker has it, whether the loop has taken it or not: it would pass on amid the work."""
    with store.job('a') as job:
        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            loop = job.claim(['x'])
            with (between := Between(line, lambda: add(job, OTHER))), acting_for(HERE):
                next(loop, None)
            with acting_for(HERE):
                loop.close()
            assert holders(job) == (([OTHER], [OTHER]) if between.is_made else ([], [])), line
            abandon(job._task_log, 'x')
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_is_begun_while_tasks_are_recorded_as_complete(store: Store) -> None:
    """It is in flight from then on, at each line: the recording of many takes long, and its token would pass on meanwhile."""
    with store.job('a') as job:
        assert job._session.lease is not None
        lease, missing = job._session.lease, list[int]()

        class Watching(Between):
            def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
                found = super()._trace(frame, event, argument)
                marked = {*in_flight(lease), *lease.unrecorded}
                if self.is_made and job._task_log.is_open('x') and 'x' not in marked:
                    missing.append(line)
                return found

        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            add(job, HERE)
            with acting_for(HERE):
                job.add_task('y')
                with (between := Watching(line, lambda: add(job, OTHER))):
                    job.write_audit()
            abandon(job._task_log, 'x')
        assert not missing
    assert line > 10


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_leaving_amid_add_task_waits_for_another_worker_at_the_task(store: Store) -> None:
    """A signal's handler may leave at any line of it: the work of the other one would pass on amid it."""
    with store.job('a') as job:
        assert job._session.lease is not None
        lease, not_waited_for = job._session.lease, list[int]()

        def leave() -> None:
            if not lease.is_busy({HERE}):
                not_waited_for.append(line)

        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            add(job, OTHER)
            with (between := Between(line, leave)):
                add(job, HERE)
            abandon(job._task_log, 'x')
        assert not not_waited_for
    assert line > 20


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_leaving_waits_for_a_worker_that_has_added_the_task_as_well(store: Store) -> None:
    """The worker that leaves is at the task, too, and was there first: the work of the other one would pass on."""
    with store.job('a') as job:
        assert job._session.lease is not None
        add(job, HERE)
        assert not job._session.lease.is_busy({HERE})
        add(job, OTHER)
        assert job._session.lease.is_busy({HERE})
        take_back(job, OTHER)
        assert not job._session.lease.is_busy({HERE})


def begin_and_abandon(job: Job) -> Callable[[], object]:
    add(job, HERE)
    return lambda: abandon(job._task_log, 'x')


def begin_and_record(job: Job) -> Callable[[], object]:
    add(job, HERE)
    return job.write_audit


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize(
    'begin', [add_and_cancel, begin_a_block_that_fails, begin_a_block_that_ends, begin_and_abandon, begin_and_record]
)
def test_leaving_amid_the_end_of_a_task_does_not_wait_for_it(store: Store, begin: Callable[[Job], Callable[[], object]]) -> None:
    """A signal's handler may leave at any line of it: the task ends once the handler has returned, and not before."""
    with store.job('a') as job:
        assert job._session.lease is not None
        lease, waited_for = job._session.lease, list[int]()

        def leave() -> None:
            if lease.is_busy({HERE}):
                waited_for.append(line)

        line, between = 0, None
        while between is None or between.is_made:
            line += 1
            end = begin(job)
            with acting_for(HERE), suppress(ZeroDivisionError), (between := Between(line, leave)):
                end()
        assert not waited_for
    assert line > 10


class InTurn(Between):
    """Makes a second call as well, before a later line."""

    def __init__(self, line: int, call: Callable[[], object], then: int, call_then: Callable[[], object]) -> None:
        super().__init__(line, call)
        self._then, self._call_then = then, call_then
        self.are_made = False
        """Whether the block had so many lines after the first call."""

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        found, left = super()._trace(frame, event, argument), self._left + self._then
        if found and event == 'line' and left == 0:
            self.are_made = True
            self._call_then()
        return found


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('begin', [add_and_cancel, begin_a_block_that_fails])
def test_leaving_amid_the_end_of_a_task_waits_for_another_worker_that_begins_it_meanwhile(
    store: Store, begin: Callable[[Job], Callable[[], object]]
) -> None:
    """A signal's handler may leave at any line of it after that: the work of the other one would pass on amid it."""
    with store.job('a') as job:
        assert job._session.lease is not None
        lease, not_waited_for = job._session.lease, list[tuple[int, int]]()

        def leave() -> None:
            if not lease.is_busy({HERE}):
                not_waited_for.append((line, then))

        for line in itertools.count(1):
            for then in itertools.count():
                end = begin(job)
                in_turn = InTurn(line, lambda: add(job, OTHER), then, leave)
                with acting_for(HERE), suppress(ZeroDivisionError), in_turn:
                    end()
                abandon(job._task_log, 'x')
                if not in_turn.are_made:
                    break
            if not in_turn.is_made:
                break
        assert not not_waited_for
    assert line > 30


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
@pytest.mark.parametrize('begin', [add_and_cancel, begin_a_block_that_fails])
@pytest.mark.parametrize('end_of_the_other', ['take_back', 'complete'])
def test_a_task_is_begun_and_ended_while_another_worker_gives_it_up(
    store: Store, begin: Callable[[Job], Callable[[], object]], end_of_the_other: str
) -> None:
    """What the other one has ended is over, at whatever lines it does so: put back, it would stay in flight for good."""
    with store.job('a') as job:
        left = list[tuple[int, int]]()

        def end_other() -> None:
            with acting_for(OTHER):
                take_back(job, OTHER) if end_of_the_other == 'take_back' else job.complete('x')

        for line in itertools.count(1):
            for then in itertools.count(1):
                end = begin(job)
                in_turn = InTurn(line, lambda: add(job, OTHER), then, end_other)
                with acting_for(HERE), suppress(ZeroDivisionError), in_turn:
                    end()
                if in_turn.are_made and holders(job) != ([], []):
                    left.append((line, then))
                abandon(job._task_log, 'x')
                if not in_turn.are_made:
                    break
            if not in_turn.is_made:
                break
        assert not left
    assert line > 20


class Watched(Between):
    """Makes a second call before each later line."""

    def __init__(self, line: int, call: Callable[[], object], check: Callable[[], object]) -> None:
        super().__init__(line, call)
        self._check = check

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        was_made, found = self.is_made, super()._trace(frame, event, argument)
        if found and event == 'line' and was_made:
            self._check()
        return found


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_leaving_beside_the_end_of_a_task_waits_for_another_worker_that_begins_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asyncio task leaves while its call that ends the task, which was cancelled, goes on in a thread of the job."""
    monkeypatch.setattr(threads, 'is_interruptible', lambda: False)
    with store.job('a') as job:
        assert job._session.lease is not None
        lease, not_waited_for = job._session.lease, list[int]()

        def check() -> None:
            if not lease.is_busy({HERE}):
                not_waited_for.append(line)

        line, watched = 0, None
        while watched is None or watched.is_made:
            line += 1
            end = begin_a_block_that_fails(job)
            with suppress(ZeroDivisionError), (watched := Watched(line, lambda: add(job, OTHER), check)), acting_for(HERE):
                end()
            abandon(job._task_log, 'x')
        assert not not_waited_for
    assert line > 30
