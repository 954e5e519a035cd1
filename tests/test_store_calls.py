"""Calls of the backend on behalf of the user."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from tests.job.waiting import wait_until
from tests.signals import a_signal_comes

from jobsync import BackendUnavailable, ConfigError, JobsyncError, NotOwned, WrongProcess
from jobsync._event_log import event_log
from jobsync._threads import start
from jobsync._worker import store_calls
from jobsync._worker.store_calls import StoreCalls, _CallThread


def failing(times: int, then: object = 'answer') -> tuple[Callable[[], object], list[int]]:
    """An action that fails so often and then answers; and the numbers of its errors so far."""
    raised: list[int] = []

    def action() -> object:
        if len(raised) < times:
            raised.append(len(raised) + 1)
            raise BackendUnavailable(f'error {len(raised)}')
        return then

    return action, raised


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread for its calls, as in a subinterpreter, the main thread gets an error of jobsync that says why."""
    monkeypatch.setattr(store_calls, 'start', lambda _: False)
    with pytest.raises(JobsyncError, match=r'no thread can be started .* subinterpreter'):
        _CallThread('calls')


def test_a_store_that_answers_is_asked_once() -> None:
    """The answer comes back, and the call is over."""
    caller = StoreCalls(10)
    assert not caller.is_calling
    assert caller.call(lambda: caller.is_calling) is True
    assert not caller.is_calling


def test_only_calls_of_jobsync_are_waits_from_the_start() -> None:
    """A statement of the program's that hangs is no progress; a wait for a store that has not answered it is."""
    waits = list[None]()

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        waits.append(None)
        yield
        waits.pop()

    caller, seen = StoreCalls(10, waiting=waiting), list[bool]()
    action, _ = failing(1)

    def noted() -> object:
        seen.append(bool(waits))
        return action()

    caller.call_here(noted)
    caller.call(noted)
    assert (seen, waits) == ([False, True, True], [])


def test_a_store_that_fails_is_asked_again() -> None:
    """Until it answers; all of that is one call."""
    caller = StoreCalls(10)
    action, raised = failing(3)
    assert caller.call(lambda: (action(), caller.is_calling)) == ('answer', True)
    assert raised == [1, 2, 3]
    assert not caller.is_calling


def test_patience_ends() -> None:
    """The last error is raised, with nothing chained to it."""
    action, raised = failing(1_000_000)
    with pytest.raises(BackendUnavailable) as caught:
        StoreCalls(0.3).call(action)
    assert len(raised) > 1
    assert str(caught.value) == f'error {len(raised)}'
    assert caught.value.__context__ is None


def test_without_patience_there_is_one_attempt() -> None:
    """And its error is the one that is raised."""
    action, raised = failing(1_000_000)
    with pytest.raises(BackendUnavailable, match='error 1'):
        StoreCalls(0).call(action)
    assert raised == [1]


def test_a_condition_takes_the_place_of_patience() -> None:
    """It is asked after each failure, and not before the first attempt."""
    action, raised = failing(1_000_000)
    answers = itertools.chain([True, True], itertools.repeat(False))
    with pytest.raises(BackendUnavailable, match='error 3'):
        StoreCalls(0).call(action, while_=lambda: next(answers))
    assert raised == [1, 2, 3]
    assert StoreCalls(0).call(lambda: 'answer', while_=lambda: False) == 'answer'


def test_a_store_that_is_away_for_long_is_called_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it goes on soon after it is back, however long it was away."""
    pauses = list[float]()
    monkeypatch.setattr(store_calls, 'time', SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    StoreCalls(600).call(failing(30)[0])
    assert len(pauses) == 30
    assert max(pauses) < 1.1


@pytest.mark.parametrize('error', [ConfigError, NotOwned])
@pytest.mark.parametrize('first', [0, 1])
def test_another_error_is_not_repeated(first: int, error: type[JobsyncError]) -> None:
    """Neither at the first attempt nor at a later one."""
    action, raised = failing(first)
    refusals = list[JobsyncError]()

    def refused() -> None:
        action()
        refusals.append(error('refused'))
        raise refusals[-1]

    caller = StoreCalls(10)
    with pytest.raises(error, match='refused'):
        caller.call(refused)
    assert (len(raised), len(refusals)) == (first, 1)
    assert not caller.is_calling


def test_a_long_wait_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason; a short one is not."""
    short, _ = failing(1)
    with caplog.at_level(logging.WARNING, 'jobsync'):
        StoreCalls(10).call(short)
        assert event_log.flush(120)
        assert not caplog.records
        long, _ = failing(1_000_000)
        with pytest.raises(BackendUnavailable):
            StoreCalls(2.5).call(long)
        assert event_log.flush(120)
    assert [record.getMessage() for record in caplog.records] == [caplog.records[0].getMessage()]
    assert caplog.records[0].getMessage().startswith('calling the store again: error ')


def test_a_wait_of_days_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """Ever more rarely, with the reason of then: no other line may say that the store takes heartbeats, and no claims."""
    warn = store_calls._warn_rarely()
    with caplog.at_level(logging.WARNING, 'jobsync'):
        for waited in (0.5, 1, 2, 9, 10, 60, 100, 999, 100_000):
            warn(Mock(seconds_since_start=waited, outcome=Mock(exception=lambda waited=waited: waited)))
        assert event_log.flush(120)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f'calling the store again: {waited}' for waited in (1, 10, 100, 100_000)]


# --- in the main thread, where signals fall ---------------------------------------------------------------------------------


@pytest.fixture
def caller() -> Iterator[StoreCalls]:
    """One that has another thread make its calls."""
    caller = StoreCalls(10, 'jobsync-calls-test')
    yield caller
    caller.close(10)


class Interrupted(BaseException):
    """What the handler of a signal raises."""


@contextlib.contextmanager
def a_signal_raises(after: Callable[[], object]) -> Iterator[None]:
    """Once ``after`` has returned, in another thread, the handler of a signal raises in this block."""

    def handler(*_: object) -> None:
        raise Interrupted

    with a_signal_comes(after, handler), pytest.raises(Interrupted):
        yield


def test_another_thread_makes_the_calls(caller: StoreCalls) -> None:
    """Always the same, and only those of the main thread; with the caller's context, its answers and its errors."""
    variable: ContextVar[int] = ContextVar('variable', default=0)
    variable.set(1)
    first, second = caller.call(threading.get_ident), caller.call(threading.get_ident)
    assert first == second != threading.get_ident()
    assert caller.call(variable.get) == 1
    with pytest.raises(ZeroDivisionError):
        caller.call(lambda: 1 / 0)
    assert caller.call_here(threading.get_ident) == threading.get_ident()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(caller.call, threading.get_ident).result() == pool.submit(threading.get_ident).result()
    assert caller.call(lambda: caller.call(threading.get_ident)) == first


def test_a_signal_ends_the_wait_and_not_the_call(caller: StoreCalls) -> None:
    """What has begun is carried through, and what comes after it comes after it; ``close`` waits for it."""
    entered, go_on, steps = threading.Event(), threading.Event(), []

    def action() -> None:
        entered.set()
        go_on.wait(120)
        steps.append('first')

    with a_signal_raises(entered.wait):
        caller.call(action)
    assert not caller.is_calling
    assert steps == []
    threading.Timer(0.1, go_on.set).start()
    caller.call(lambda: steps.append('second'))
    assert steps == ['first', 'second']

    entered.clear()
    go_on.clear()
    with a_signal_raises(entered.wait):
        caller.call(action)
    threading.Timer(0.1, go_on.set).start()
    caller.close(30)
    assert steps == ['first', 'second', 'first']


def test_what_a_signal_has_left_is_not_repeated(caller: StoreCalls) -> None:
    """Nobody waits for it any more."""
    action, raised = failing(1_000_000)
    twice = threading.Event()

    def attempt() -> None:
        if len(raised) == 2:
            twice.set()
        action()

    with a_signal_raises(twice.wait):
        caller.call(attempt, while_=lambda: True)
    caller.close(30)
    count = len(raised)
    assert 3 <= count <= 5
    time.sleep(0.3)
    assert len(raised) == count


def test_a_handler_can_call_while_it_interrupts_a_call(caller: StoreCalls) -> None:
    """Its call comes next, and the one that was interrupted has its answer all the same."""
    entered, answers = threading.Event(), []

    def action() -> str:
        entered.set()
        time.sleep(0.2)
        return 'interrupted'

    def handler(*_: object) -> None:
        assert caller.is_calling
        answers.append(caller.call(lambda: 'handler'))

    with a_signal_comes(entered.wait, handler):
        assert caller.call(action) == 'interrupted'
    assert answers == ['handler']


def test_once_it_is_closed_everyone_calls_for_himself(caller: StoreCalls) -> None:
    """Also one who asked before it was closed, and was not heard any more."""
    assert caller.call(lambda: 1) == 1
    call_thread = caller._call_thread
    assert call_thread is not None
    caller.close(30)
    assert caller.call(threading.get_ident) == threading.get_ident()
    wait_until(lambda: 'jobsync-calls-test' not in [thread.name for thread in threading.enumerate()], 'its thread ends')
    assert call_thread.run(lambda _: threading.get_ident()) == threading.get_ident()


def test_a_call_that_hangs_does_not_hold_up_closing() -> None:
    """For longer than it is given."""
    caller, entered, go_on = StoreCalls(10, 'jobsync-calls-test'), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        go_on.wait(120)

    with a_signal_raises(entered.wait):
        caller.call(hang)
    started = time.monotonic()
    caller.close(0.2)
    assert 0.2 <= time.monotonic() - started < 20
    go_on.set()


def test_a_second_end_does_not_wait_for_a_thread_that_is_over() -> None:
    """Two threads leave at once: the one whose end comes second waits for no call that nobody makes any more."""
    entered, go_on = threading.Event(), threading.Event()
    call_thread = _CallThread('jobsync-calls-test')

    def hang(_: object) -> None:
        entered.set()
        go_on.wait(120)

    pending = threading.Thread(target=call_thread.run, args=(hang,))
    pending.start()
    assert entered.wait(120)
    ends = [threading.Thread(target=call_thread.end, args=(600,)) for _ in range(2)]
    for end in ends:
        end.start()
    wait_until(lambda: call_thread._calls.qsize() == 4, 'both wait')
    go_on.set()
    for thread in (pending, *ends):
        thread.join(60)
        assert not thread.is_alive()


def test_its_thread_ends_with_it() -> None:
    """One that nobody has closed, and nobody has any more."""
    caller = StoreCalls(10, 'jobsync-calls-test')
    caller.call(lambda: None)
    assert 'jobsync-calls-test' in [thread.name for thread in threading.enumerate()]
    del caller
    wait_until(lambda: 'jobsync-calls-test' not in [thread.name for thread in threading.enumerate()], 'its thread ends')


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_there_is_another_thread_after_one_has_ended(caller: StoreCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there was no memory for a call, that one is made in the main thread, and the next ones are as before."""
    make, raised = store_calls.PendingCall.make, list[str]()

    def make_without_memory(call: store_calls.PendingCall[object]) -> None:
        if not raised:
            raised.append(threading.current_thread().name)
            raise MemoryError
        make(call)

    monkeypatch.setattr(store_calls.PendingCall, 'make', make_without_memory)
    names = [caller.call(lambda: threading.current_thread().name) for _ in range(3)]
    assert [*raised, *names] == ['jobsync-calls-test', threading.current_thread().name, *['jobsync-calls-test'] * 2]


def test_a_call_that_its_thread_makes_as_it_ends_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of a wait and the look at the thread, whose end is no sign that it has not made the call."""
    looked, calls = threading.Event(), list[str]()
    call_thread = _CallThread('jobsync-calls-test')

    def has_ended(thread: _CallThread) -> bool:
        looked.set()
        thread._calls.put(None)
        thread._thread.join(120)
        return not thread._thread.is_alive()

    def act(_: object) -> None:
        assert looked.wait(120)
        calls.append(threading.current_thread().name)

    monkeypatch.setattr(store_calls, '_CHECK_SEC', 0.01)
    monkeypatch.setattr(_CallThread, 'has_ended', property(has_ended))
    call_thread.run(act)
    assert calls == ['jobsync-calls-test']


def test_its_thread_ends_if_a_signal_raises_just_after_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything refers to it."""

    def interrupted(make: Callable[[], threading.Thread]) -> bool:
        start(make)
        raise KeyboardInterrupt

    monkeypatch.setattr(store_calls, 'start', interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        StoreCalls(10, 'jobsync-calls-test').call(lambda: None)
    wait_until(lambda: 'jobsync-calls-test' not in [thread.name for thread in threading.enumerate()], 'its thread ends')


def test_a_fork_made_while_calling_is_told(caller: StoreCalls) -> None:
    """The handler of a signal forks in the midst of a call: the child does not wait for a thread that only the parent has."""
    entered, go_on, pids = threading.Event(), threading.Event(), []

    def handler(*_: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            pids.append(os.fork())
        if pids == [0]:
            faulthandler.dump_traceback_later(300, exit=True)  # a child that hangs says where
        else:  # in the child, the lock of the event may be held by the call thread for ever
            go_on.set()

    def action() -> str:
        entered.set()
        go_on.wait(120)
        return 'of the parent'

    with a_signal_comes(entered.wait, handler):
        try:
            assert caller.call(action) == 'of the parent'
        except WrongProcess:
            os._exit(7 if pids == [0] else 1)
        finally:
            if pids == [0]:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 7
