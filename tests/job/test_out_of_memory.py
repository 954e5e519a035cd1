"""A thread of a node that meets an unexpected error goes on, and so do the calls of its lane."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import LogMessage
from jobsync._event_log import EventLogger, event_log
from jobsync._runtime import NodeRuntime, threads
from jobsync._runtime.agent_log import AgentLog
from jobsync._runtime.callbacks import Callbacks, _Here
from jobsync._worker import scheduler
from jobsync._worker.scheduler import Scheduler
from jobsync._worker.singleton import Place


@pytest.mark.any_store
@pytest.mark.parametrize('call', ['', 'heartbeat'], ids=['before the call', 'after it'])
def test_heartbeats_go_on_after_there_was_no_memory(store: Store, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once issued, a heartbeat that could not be sent, or whose answer could not be taken, is followed by others."""
    raised: list[NodeRuntime] = []
    take_step = NodeRuntime._step_taken

    def without_memory(node: NodeRuntime, name: str) -> None:
        if name == call and not raised and node.status.settled and (call or Lane.HEARTBEAT in node.agent._under_way):
            raised.append(node)
            raise MemoryError
        take_step(node, name)

    monkeypatch.setattr(NodeRuntime, '_step_taken', without_memory)
    with store.job('a') as job:
        wait_until(lambda: bool(raised), 'no memory')
        node, at = raised[0], raised[0].heartbeat_at
        wait_until(lambda: node.heartbeat_at is not None and at is not None and node.heartbeat_at > at, 'the next heartbeat')
        wait_until(lambda: bool(job.my_tokens), 'the lease')


@pytest.mark.any_store
def test_callbacks_go_on_after_there_was_no_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very change for which there was no memory is reported, though no other comes."""
    raised, assigned = list[bool](), list[frozenset[int]]()
    plan = Callbacks._plan

    def without_memory(self: Callbacks, *change: Any) -> None:
        if not raised:
            raised.append(True)
            raise MemoryError
        plan(self, *change)

    monkeypatch.setattr(Callbacks, '_plan', without_memory)
    with store.job('a', on_assign=assigned.append) as a:
        wait_until(lambda: bool(assigned), 'a call')
        assert raised
        assert assigned == [a.my_tokens]


@pytest.mark.any_store
def test_a_change_is_reported_though_there_was_no_memory_for_a_line_in_the_log(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line in the log may be left out, and what comes behind it is handed on."""
    raised, assigned, write = list[str](), list[frozenset[int]](), AgentLog.write

    def without_memory(self: AgentLog, event: LogMessage, call: str) -> None:
        if 'has a lease' in event.text and not raised:
            raised.append(event.text)
            raise MemoryError
        write(self, event, call)

    monkeypatch.setattr(AgentLog, 'write', without_memory)
    with store.job('a', on_assign=assigned.append) as a:
        wait_until(lambda: bool(assigned), 'a call')
        assert raised
        assert assigned == [a.my_tokens]


@pytest.mark.any_store
def test_a_call_is_made_after_there_was_no_memory_for_its_mark(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the thread is in a call is noted in a dictionary of its own, which Python makes at the first use."""
    raised, assigned = list[str](), list[frozenset[int]]()

    def without_memory(here: _Here, name: str, value: object) -> None:
        if not raised:
            raised.append(name)
            raise MemoryError
        threading.local.__setattr__(here, name, value)

    monkeypatch.setattr(_Here, '__setattr__', without_memory, raising=False)
    with store.job('a', on_assign=assigned.append) as a:
        wait_until(lambda: bool(assigned), 'a call')
        assert raised
        assert assigned == [a.my_tokens]


@pytest.mark.any_store
@pytest.mark.parametrize('how', ['no memory', 'a thread that begins late'])
def test_one_thread_makes_the_calls_after_one_that_hangs(store: Store, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of a call that hangs is replaced, though the first try fails, or seems to; and each call is made once."""
    go_on, begun, started, late, start = threading.Event(), list[object](), list[str](), list[threading.Thread](), threads.start
    at_once, most = list[object](), list[int]()

    def start_without_memory(node_name: str, what: str, target: Any) -> Any:
        if what != 'callbacks':
            return start(node_name, what, target)
        started.append(what)
        if len(started) == 2 and how == 'no memory':
            raise MemoryError
        if len(started) == 2:
            late.append(threading.Thread(target=target, daemon=True))
            raise RuntimeError('the process can start no thread now')
        if len(started) == 3 and late:
            late[0].start()  # as soon as it would have a turn again
        return start(node_name, what, target)

    def assign(tokens: frozenset[int]) -> None:
        begun.append(tokens)
        if len(begun) == 1:
            assert go_on.wait(240)
            return
        at_once.append(tokens)
        most.append(len(at_once))
        time.sleep(0.3)
        at_once.pop()

    monkeypatch.setattr(threads, 'start', start_without_memory)
    with store.job('a', on_assign=assign, config={'handover_timeout_sec': 1}) as a:
        wait_until(lambda: len(started) == 3, 'another thread makes the calls')
        for times in (2, 3, 4):
            with store.job('b'):
                pass
            wait_until(lambda: len(begun) >= times, 'a call')  # noqa: B023 - called in this round only
        wait_until(
            lambda: sum(each.name == 'jobsync-callbacks-a' for each in threading.enumerate()) == 2, 'two threads: one hangs'
        )
        go_on.set()
        assert len(a.my_tokens) == TOKENS
        for each in late:
            each.join(20)
            assert not each.is_alive()
    assert set(most) == {1}


@pytest.mark.any_store
def test_ticks_go_on_after_there_was_no_memory_even_for_a_line_in_the_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that checks what is due outlives the error, and the error of logging that."""
    raised, ticks = list[str](), list[object]()
    step, log = Scheduler.step, EventLogger.exception

    def without_memory(self: Scheduler, *each: Any) -> float:
        if not raised:
            raised.append('step')
            raise MemoryError
        return step(self, *each)

    def log_without_memory(self: EventLogger, *line: Any) -> None:
        if raised == ['step']:
            raised.append('log')
            raise MemoryError
        log(self, *line)

    monkeypatch.setattr(Scheduler, 'step', without_memory)
    monkeypatch.setattr(EventLogger, 'exception', log_without_memory)
    with store.job('a') as job:
        job.every(0.5, name='tick')(ticks.append)
        wait_until(lambda: bool(ticks), 'a tick')
    assert raised == ['step', 'log']


@pytest.mark.any_store
@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
@pytest.mark.parametrize('part', ['start', '_decide', 'give_back'])
def test_the_ticks_of_a_function_go_on_after_there_was_no_memory_for_one(
    store: Store, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick whose thread could not begin, or whose thread met two errors, keeps none of the next from beginning."""
    raised, ticks = list[str](), list[object]()
    owner: Any = {'start': threads, '_decide': Scheduler, 'give_back': Place}[part]
    act, log = getattr(owner, part), EventLogger.exception

    def without_memory(*arguments: Any, **options: Any) -> Any:
        if not raised and (part != 'start' or 'tick' in arguments):
            raised.append(part)
            raise MemoryError
        return act(*arguments, **options)

    def log_without_memory(self: EventLogger, *line: Any) -> None:
        if raised == [part]:
            raised.append('log')
            raise MemoryError
        log(self, *line)

    monkeypatch.setattr(owner, part, without_memory)
    monkeypatch.setattr(EventLogger, 'exception', log_without_memory)
    with store.job('a') as job:
        job.every(0.5, name='tick')(ticks.append)
        wait_until(lambda: len(ticks) > 1, 'two ticks')
    assert raised == [part, 'log']


@pytest.mark.any_store
@pytest.mark.parametrize('is_started', [False, True])
def test_what_is_done_is_recorded_without_a_thread_for_that(
    store: Store, is_started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As leaving begins none can be started, or it has no memory for its first step."""
    start = threads.start

    def start_without_memory(node_name: str, what: str, target: Any) -> Any:
        if what == 'records' and not is_started:
            raise RuntimeError('the process can start no thread now')
        return start(node_name, what, (lambda: None) if what == 'records' else target)

    with store.job('a') as job:
        completions = job._task_log.completions
        completions._alarm.set = lambda: None  # type: ignore[method-assign]
        assert job.add_task(1)
        job._task_log.finish('1', job._task_log.begun('1'))
        with monkeypatch.context() as patched:
            patched.setattr(threads, 'start', start_without_memory)
            completions.flush_before_leaving()
        assert store.audits == ['1']


@pytest.mark.any_store
def test_a_tick_whose_thread_seemed_not_to_start_keeps_its_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule, which has no memory to take note of the thread, begins no other tick beside it."""
    begun, beside, ended = list[object](), list[object](), threading.Event()
    start = threads.start

    def start_without_memory(node_name: str, what: str, target: Any) -> Any:
        started = start(node_name, what, target)
        if what == 'tick' and not begun:
            wait_until(lambda: bool(begun), 'the first tick')
            raise RuntimeError('no memory')
        return started

    def work(tick: object) -> None:
        begun.append(tick)
        if len(begun) == 1:
            deadline = time.monotonic() + 0.5
            while len(begun) == 1 and time.monotonic() < deadline:
                time.sleep(0.01)
            beside.extend(begun[1:])
            ended.set()

    monkeypatch.setattr(threads, 'start', start_without_memory)
    monkeypatch.setattr(scheduler, '_AGAIN_SEC', 0.01)
    with store.job('a') as job:
        job.every(0.1, name='tick')(work)
        wait_until(lambda: ended.is_set() and len(begun) > 1, 'the next tick')
    assert beside == []


@pytest.mark.any_store
@pytest.mark.parametrize('what', ['heartbeat', 'work', 'listen', 'callbacks', 'every', 'deaths'])
def test_a_thread_of_the_node_that_has_ended_is_started_anew(
    store: Store, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There was no memory for its first step, where nothing catches that: the node goes on, and so do its calls."""
    started, assigned, ticks, start = list[str](), list[object](), list[object](), threads.start

    def start_without_memory(node_name: str, name: str, target: Any) -> Any:
        started.append(name)
        return start(node_name, name, (lambda: None) if name == what and started.count(name) == 1 else target)

    monkeypatch.setattr(threads, 'start', start_without_memory)
    with store.job('a', on_assign=assigned.append) as job:
        job.every(0.1, name='tick')(ticks.append)
        wait_until(lambda: started.count(what) == 2 or what not in started, 'it is started anew')
        wait_until(lambda: bool(assigned and ticks), 'a call of on_assign, and a tick')
        assert job.am_i_healthy()
    assert started.count(what) == 2 or what not in started
    assert event_log.flush(20)
    if what in started and what != 'callbacks':
        assert f"node 'a': the {what} thread had ended by an error, and was started anew" in caplog.messages


@pytest.mark.any_store
@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_heartbeats_go_on_while_no_other_thread_can_be_started(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread for the work has ended, and the process has as many threads as it may: the lease does not end with it."""
    start, keep_on = threads.start, threads.keep_on
    end, may_start, refused = threading.Event(), threading.Event(), list[str]()

    def keep_on_until_asked(node_name: str, what: str, step: Callable[[], bool], again_sec: float) -> None:
        if what != 'the work thread' or end.is_set():
            keep_on(node_name, what, step, again_sec)
            return
        while not end.is_set():
            step()
        raise SystemExit

    def start_if_possible(node_name: str, what: str, target: Callable[[], object]) -> threads.Running:
        if end.is_set() and not may_start.is_set():
            refused.append(what)
            raise RuntimeError("can't start new thread")
        return start(node_name, what, target)

    monkeypatch.setattr(threads, 'keep_on', keep_on_until_asked)
    monkeypatch.setattr(threads, 'start', start_if_possible)
    with store.job('a') as job:
        node = job._session.runtime
        assert node is not None
        end.set()
        node.wake()
        wait_until(lambda: 'work' in refused, 'it cannot be started anew')
        beats = {node.heartbeat_at}

        def goes_on() -> bool:
            beats.add(node.heartbeat_at)
            return len(beats) > 2

        wait_until(goes_on, 'the next heartbeats')
        may_start.set()
        wait_until(lambda: node._threads['work'][0].is_alive(), 'it is started anew')
