"""An exception that a signal's handler raises while the main thread is inside jobsync, in a program that catches it and goes on.

That is what a timeout by ``SIGALRM`` does, and Ctrl-C at a prompt. What such an exception ends half-way may leave nothing behind
that keeps other workers from a task: CPython runs a handler after a call of C code, at the beginning of a function and at a jump
back, so the exception is raised at each of these points in turn.
"""

from __future__ import annotations

import dis
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from tests.job.stores import Store, kinds

import jobsync
import jobsync.database as db
from jobsync import Job, NotOwned
from jobsync._core.agent.lease import Lease
from jobsync._worker.task_log import TaskLog

_FOLDER = jobsync.__path__[0]
_NOT_HERE = ('_event_log.py', '_threads.py')
"""What these modules do is done by another thread in the end."""
_POINTS = 60
"""So many points of a call are tried in a usual run, evenly spaced; with ``--full`` all."""
_BEGINNINGS = (None, 'RESUME', 'JUMP_BACKWARD')
_CALLS = ('CALL', 'CALL_FUNCTION_EX', 'CALL_KW')


class AlarmError(BaseException):
    """What the handler raises."""


class Interruption:
    """Raises at a point of the code of jobsync, counted from the beginning of the block."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0
        self._last: dict[FrameType, str | None] = {}
        """For each frame the instruction that was carried out last; None at the beginning."""
        self._is_python: set[FrameType] = set()
        """The frames that have called a function of Python: after its return no handler is run."""

    def __enter__(self) -> Interruption:
        self._before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 counts no opcode unless a frame wants them as settrace is called
        sys.settrace(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._last.clear()
        self._is_python.clear()

    def _begin(self, frame: FrameType, event: str, argument: object) -> Any:
        caller, code = frame.f_back, frame.f_code
        if caller in self._last and not code.co_flags & inspect.CO_GENERATOR:
            self._is_python.add(caller)
        name = code.co_filename
        if not (name.startswith(_FOLDER) or name.endswith('contextlib.py')) or name.endswith(_NOT_HERE):
            return None
        frame.f_trace = self._step  # Python 3.13 counts the opcodes of a frame that has a function already
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._last[frame] = None
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == 'return':
            self._last.pop(frame, None)
        elif event == 'opcode':
            last, self._last[frame] = self._last.get(frame), dis.opname[frame.f_code.co_code[frame.f_lasti]]
            is_python = frame in self._is_python
            self._is_python.discard(frame)
            if last in _BEGINNINGS or (last in _CALLS and not is_python):
                self.count += 1
                if self.count == self.at:
                    raise AlarmError
        return self._step


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
        'attempts': lease.attempts,
        'in flight': lease.in_flight,
        'checked out': log._checked_out,
        'open': log._open,
        'waiting': lease.waiting,
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
        log.abandon('first')
        with Interruption() as counted:
            call(job, 'counted')
        log.abandon('counted')
        assert counted.count > 50
        for point in points(counted.count):
            task = f't{point}'
            try:
                with Interruption(point):
                    call(job, task)
                log.abandon(task)  # the call has taken another way, and has ended before this point
            except AlarmError as error:
                error.__traceback__ = None
            assert list(left_behind(lease, log)) == [], point
            assert can_begin(job, task, is_place=is_place), point


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
