"""Threads that are started while the handler of a signal raises."""

from __future__ import annotations

import _thread
import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from tests.job.waiting import wait_until

from jobsync import _event_log
from jobsync._event_log import EventLogger
from jobsync._threads import start
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


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, whichever of the two threads it is."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

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


def test_no_memory_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported like a thread too many."""

    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    assert not start(threading.Thread)
