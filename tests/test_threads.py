"""Threads that are started while the handler of a signal raises."""

from __future__ import annotations

import _thread
import contextlib
import errno
import gc
import mmap
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest
from tests.job.waiting import wait_until

from jobsync import _event_log
from jobsync._event_log import EventLogger
from jobsync._runtime import threads
from jobsync._threads import start
from jobsync._worker import beside
from jobsync._worker.alarm import Alarm


class Interrupt(BaseException):
    """What a handler raises."""


def is_reached(moment: int, act: Callable[[], object]) -> bool:
    """Whether ``act`` has so many steps, at the last of which a handler raises; the exception must come out of ``act``."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == 'call'  # where Python runs handlers, besides the ends of loops
        if steps == moment:
            raise Interrupt
        return trace

    before = sys.gettrace()
    gc.disable()  # a collection calls finalizers and the callbacks of others, where Python drops what a handler raises
    try:
        sys.settrace(trace)
        act()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    assert steps < moment, f'what a handler raised at step {moment} is lost'
    return False


def log_a_line() -> None:
    """Start the writer of the event log, in most cases."""
    EventLogger('jobsync.tested').info('line')


def set_an_alarm() -> None:
    """Start a timer."""
    Alarm('a', 0.0, lambda: None).set()


@pytest.mark.parametrize('act', [log_a_line, set_an_alarm])
def test_no_exception_of_a_handler_is_lost(act: Callable[[], object]) -> None:
    """At whatever step it comes, it ends what the main thread does: a program that is to end does not go on."""
    moment, before = 1, _thread._count()
    while is_reached(moment, act):
        wait_until(lambda: _thread._count() == before, 'what was started is over')
        moment += 1
    wait_until(lambda: _thread._count() == before, 'what was started is over')
    assert moment > 3


@pytest.mark.parametrize('error', [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_cannot_be_started(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, whichever of the two threads it is: there are too many, or there is no memory."""

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', refuse)
        assert not start(threading.Thread)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, 'start_new_thread', refuse)
        assert not start(threading.Thread)
    ran = threading.Event()
    assert start(lambda: threading.Thread(target=ran.set))
    assert ran.wait(120)


def test_a_thread_that_ends_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short Python may start a thread that never gets to its code, either of the two: the wait has an end."""
    with monkeypatch.context() as patch:
        patch.setattr(_thread, 'start_new_thread', lambda *_: 1)
        assert not start(threading.Thread, 0.1)
    never = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', lambda _: never.wait(120))
        assert not start(threading.Thread, 0.1)
        patch.setattr(_event_log, '_STARTING_SEC', 0.1)
        EventLogger('jobsync.tested').info('line')
    never.set()


def test_a_thread_that_ended_before_its_first_step_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's thread, or the one that sends heartbeats, would stand still for as long as a slow thread may take to start."""
    outcomes = SimpleQueue[bool]()
    begin = _thread.start_new_thread
    monkeypatch.setattr(_thread, 'start_new_thread', lambda *_: 1)
    begin(lambda: outcomes.put(start(threading.Thread, 3600)), ())
    assert outcomes.get(timeout=120) is False


def test_no_thread_is_started_without_room_for_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own start of a thread that ends so waits for ever, as that of this test does."""
    outcomes, never = SimpleQueue[bool](), threading.Event()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, 'Cannot allocate memory')

    monkeypatch.setattr(mmap, 'mmap', refuse)
    monkeypatch.setattr(threading.Thread, 'start', lambda _: never.wait(240))
    _thread.start_new_thread(lambda: outcomes.put(start(threading.Thread, 3600)), ())
    try:
        assert outcomes.get(timeout=120) is False
    finally:
        never.set()


class TestThreadsOfANode:
    """Of which the rest of the process believes what it is told."""

    @pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
    def test_one_that_ends_before_its_first_step_has_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though it never got to its code, which says so for any other."""
        monkeypatch.setattr(threads._Started, 'run', refuse_memory)
        thread = threads.start('a', 'test', lambda: None)
        wait_until(lambda: not thread.is_alive(), 'it is over')

    def test_a_call_that_its_thread_does_not_get_to_is_made_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The end of a block waits for it, for ever if nothing hurries it."""
        begin, calls = threads.start, list[str]()
        monkeypatch.setattr(threads, 'start', lambda name, what, _: begin(name, what, lambda: None))
        assert beside.call_beside('a', lambda: calls.append(threading.current_thread().name), lambda waited: waited < 60) is None
        assert calls == [threading.current_thread().name]

    def test_one_that_goes_on_after_errors_needs_no_memory_for_that(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither for the log, nor for a block that catches the error of that."""
        steps = iter([True, None, None, False])

        def step() -> bool:
            if (found := next(steps)) is None:
                monkeypatch.setattr(contextlib.suppress, '__init__', refuse_memory)
                raise MemoryError
            return found

        monkeypatch.setattr(EventLogger, 'exception', refuse_memory)
        threads.keep_on('a', 'a test', step, 0)
        assert next(steps, 'at its end') == 'at its end'

    def test_a_step_that_fails_now_and_then_is_logged_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only failures in a row are logged more and more rarely."""
        steps, lines = iter([False, True] * 3), list[object]()

        def step() -> bool:
            if (succeeds := next(steps, None)) is False:
                raise ValueError
            return bool(succeeds)

        monkeypatch.setattr(EventLogger, 'exception', lambda *line: lines.append(line[-1]))
        threads.keep_on('a', 'a test', step, 0)
        assert lines == [1, 1, 1]


class TestPool:
    """The threads of an ``AsyncJob``."""

    def test_what_no_thread_can_be_started_for_is_never_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its caller has an error, and would know nothing of a call that is made later."""
        pool, calls = threads.new_pool('a', 'test', 2), list[int]()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', refuse_thread)
            with pytest.raises(RuntimeError, match='thread'):
                pool.submit(calls.append, 1)
        pool.submit(calls.append, 2).result(20)
        pool.shutdown()
        assert calls == [2]

    def test_what_no_further_thread_can_be_started_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is left to the others."""
        pool, go = threads.new_pool('a', 'test', 2), threading.Event()
        first = pool.submit(go.wait, 20)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', refuse_thread)
            second = pool.submit(go.wait, 20)
        go.set()
        assert first.result(20)
        assert second.result(20)
        pool.shutdown()

    def test_one_call_after_the_other_takes_one_thread(self) -> None:
        """A call that is over needs none any more."""
        pool = threads._Pool('a', 'test', 2)
        for number in range(3):
            assert pool.submit(abs, number).result(120) == number
            wait_until(lambda: not pool._unfinished, 'its thread has taken note of the end')
        assert len(pool._threads) == 1
        pool.shutdown()

    @pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
    def test_a_thread_that_has_ended_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If there was no memory for the result of a call, the next call is made."""
        pool = threads.new_pool('a', 'test', 1)
        with monkeypatch.context() as patch:
            patch.setattr(Future, 'set_result', refuse_memory)
            pool.submit(int)
            wait_until(lambda: not any('-test-a' in thread.name for thread in threading.enumerate()), 'its thread has ended')
        assert pool.submit(int, '7').result(20) == 7
        pool.shutdown()

    def test_its_threads_end(self) -> None:
        """Once it is shut down, or is no more."""
        pool, go = threads.new_pool('a', 'test', 3), threading.Event()
        futures = [pool.submit(go.wait, 20) for _ in range(5)]
        pool.shutdown()
        go.set()
        assert all(future.result(20) for future in futures)
        forgotten = threads.new_pool('a', 'test', 1)
        assert forgotten.submit(int).result(20) == 0
        del forgotten
        wait_until(lambda: not any('-test-a' in thread.name for thread in threading.enumerate()), 'all have ended')


def refuse_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def refuse_memory(*_: object) -> None:
    raise MemoryError
