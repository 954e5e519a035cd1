"""Signals: the guide's handler (``job.__exit__(None, None, None)``, then ``sys.exit(0)``), and our own, at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from tests.job.processes import Worker, workers
from tests.job.stores import SQL, Store, kinds
from tests.job.test_fork import in_fork
from tests.job.waiting import DEADLINE_SEC, wait_until
from tests.signals import AlarmError, a_signal_comes
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import JobsyncError, plugins
from jobsync._core.records import NodeState
from jobsync._event_log import event_log
from jobsync._runtime import threads
from jobsync._worker import signals
from jobsync._worker.scheduler import Scheduler
from jobsync._worker.session import Session
from jobsync._worker.stages import SessionEvent, Stages
from jobsync.aio import job as aio_job
from jobsync.backend import Backend, BackendOptions, Unclaimed
from jobsync.backends.memory import MemoryBackend
from jobsync.testing import FaultyBackend

PATIENT = {'heartbeat_interval_sec': 1, 'heartbeat_timeout_sec': 600}
"""With these no token changes hands because somebody is taken for dead."""


@pytest.mark.parametrize('attempt', [1, *(pytest.param(number, marks=pytest.mark.full) for number in (2, 3))])
@pytest.mark.parametrize(
    'mode', ['add', *(pytest.param(mode, marks=pytest.mark.any_store) for mode in ('audit', 'claim', 'log', 'idle'))]
)
def test_in_the_block(shared_store: Store, mode: str, attempt: int) -> None:
    """Wherever in the loop the signal comes: exit status 0, and the tokens are another's at once."""
    stop_in_the_block(shared_store, mode)


class LockedBackend(FaultyBackend):
    """One whose calls take a lock, and in one place as code does that may be left in between: the lock is then taken for good."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.entered = threading.Event()
        self._taken = threading.Lock()

    def append_claims(self, *arguments: Any) -> Unclaimed:
        """Record claims, slowly."""
        self._taken.acquire()
        self.entered.set()
        for _ in range(50):
            time.sleep(0.01)
        self._taken.release()
        return super().append_claims(*arguments)

    def deregister(self, *arguments: Any) -> None:
        """Leave, which every worker must be able to."""
        with self._taken:
            super().deregister(*arguments)


@pytest.mark.any_store
def test_leaving_that_is_cut_short_gives_the_handlers_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler of the program's own, such as a timeout's, raises while the block is being left, and the program goes on."""
    before = signal.getsignal(signal.SIGTERM)

    def leave(*_: object) -> None:
        raise TimeoutError

    with (
        monkeypatch.context() as patched,
        pytest.raises(TimeoutError),
        store.job('a', handle_signals=True) as job,
    ):
        assert signal.getsignal(signal.SIGTERM) is not before
        patched.setattr(job._session, 'leave', leave)
    assert signal.getsignal(signal.SIGTERM) is before
    job.__exit__(None, None, None)


@pytest.mark.any_store
@pytest.mark.parametrize('how', ['signal', 'thread'])
def test_an_exception_as_the_block_begins_leaves_no_member_behind(
    store: Store, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node has entered; then a signal's handler raises, or the schedule finds no thread: Python calls no ``__exit__``."""

    def start(scheduler: Scheduler) -> None:
        if how == 'signal':
            raise KeyboardInterrupt
        with monkeypatch.context() as patched:
            patched.setattr(threads, 'start', lambda *_: (_ for _ in ()).throw(RuntimeError('none')))
            start_schedule(scheduler)

    start_schedule = Scheduler.start
    job = store.job('a')
    job.every(60, name='work')(lambda: None)
    monkeypatch.setattr(Scheduler, 'start', start)
    with pytest.raises((KeyboardInterrupt, JobsyncError)), job:
        raise AssertionError('the block is entered')
    assert job._session.is_over
    assert [node.name for node in store.handle.snapshot().nodes if node.state is NodeState.JOINED] == []


def test_a_signal_while_the_former_handlers_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler finds no job any more, and puts them back itself: then there is nothing left to do."""
    process = signals._Process()
    came: list[int] = []
    monkeypatch.setattr(signal, 'raise_signal', came.append)

    restored: list[str] = []

    class Former:
        def restore(self) -> None:
            restored.append('before the signal' if not restored else 'after it')
            if len(restored) == 1:
                process.handle(signal.SIGTERM)

    process._former = {signal.SIGTERM: Former(), signal.SIGINT: Former()}  # type: ignore[dict-item]
    process.restore()
    assert (came, process._former) == ([signal.SIGTERM], {})


def test_in_the_midst_of_a_call(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A lock that a call holds when the exception of a handler comes is given back, and the node can leave."""
    backend = LockedBackend(plugins.connect(store.url, BackendOptions()))

    def handler(*_: object) -> None:
        job.__exit__(None, None, None)
        sys.exit(0)

    with store.job('other', config=PATIENT) as other, caplog.at_level(logging.WARNING, 'jobsync'):
        with (
            pytest.raises(SystemExit),
            store.job('leaves', config={'backend': backend, **PATIENT}) as job,
            a_signal_comes(backend.entered.wait, handler),
        ):
            for task in itertools.count():
                job.add_task(task)
        backend.close()
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')
    assert 'could not leave in good order' not in caplog.text


@pytest.mark.parametrize('store', kinds(SQL), indirect=True)
def test_in_a_statement(store: Store) -> None:
    """The same in a loop that runs SQL of its own."""
    stop_in_the_block(store, 'sql')


def stop_in_the_block(shared_store: Store, mode: str) -> None:
    with shared_store.job('a', config=PATIENT) as other:
        worker = Worker(shared_store.url, 'worker', mode, **PATIENT)
        with workers(worker):
            worker.wait_until_said('entered')
            threading.Event().wait(random.uniform(0, 0.2))
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, ''.join(worker.errors)
        said = ''.join(worker.errors)
        assert 'could not leave in good order' not in said
        assert 'Error' not in said
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


@pytest.mark.parametrize('times', [1, pytest.param(3, marks=pytest.mark.full)])
@pytest.mark.parametrize('store', kinds(SQL), indirect=True)
def test_in_a_transaction(store: Store, times: int) -> None:
    """A transaction of the user's that a signal falls into is done or not, and nothing is logged about it."""
    # On SQLite the worker's own transaction keeps it from writing that it leaves, until the time for the call is over.
    patient = PATIENT | ({} if store.url.startswith('sqlite') else {'op_timeout_sec': 60})
    with store.job('a', config=patient) as other:
        db.execute(other._cn, 'CREATE TABLE pairs (one INTEGER, two INTEGER)')
        for number in range(times):
            worker = Worker(store.url, f'worker-{number}', 'transaction', **patient)
            with workers(worker):
                worker.wait_until_said('entered')
                before = db.select_scalar(other._cn, 'SELECT count(*) FROM pairs')
                count = 'SELECT count(*) FROM pairs'
                wait_until(lambda: db.select_scalar(other._cn, count) > before, 'it is at work')  # noqa: B023 - called in this round only
                worker.process.send_signal(signal.SIGTERM)
                assert worker.wait() == 0, ''.join(worker.errors)
            assert 'Error' not in ''.join(worker.errors)
        assert db.select_scalar(other._cn, 'SELECT count(*) FROM pairs WHERE one <> two') == 0
        assert db.execute(other._cn, 'UPDATE pairs SET two = 0') > 0


@pytest.mark.parametrize('after_sec', [0.03, *(pytest.param(sec, marks=pytest.mark.any_store) for sec in (0.0, 0.01, 0.06, 0.1))])
def test_while_entering(shared_store: Store, after_sec: float) -> None:
    """The same while the block is being entered, at the very start and when it waits."""
    with shared_store.job('a', config=PATIENT) as other:
        worker = Worker(shared_store.url, 'worker', 'idle', **PATIENT, rebalance_delay_sec=1)
        with workers(worker):
            worker.wait_until_said('entering')
            threading.Event().wait(after_sec)
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, ''.join(worker.errors)
        wait_until(lambda: shared_store.node_names == ['a'] and len(other.my_tokens) == TOKENS, 'the worker is forgotten')


@pytest.mark.any_store
def test_while_it_waits_for_others(shared_store: Store) -> None:
    """The same while the cluster is short of ``minimum_nodes``."""
    worker = Worker(shared_store.url, 'worker', 'idle', minimum_nodes=5, **PATIENT)
    with workers(worker):
        wait_until(lambda: shared_store.node_names == ['worker'], 'it waits')
        worker.process.send_signal(signal.SIGINT)
        assert worker.wait() == 0, ''.join(worker.errors)
    assert [node.last_heartbeat for node in shared_store.handle.snapshot().nodes] == [None]


@pytest.mark.any_store
def test_again_while_leaving(shared_store: Store) -> None:
    """More signals while the first is being handled change nothing."""
    with shared_store.job('a', config=PATIENT) as other:
        worker = Worker(shared_store.url, 'worker', 'add', **PATIENT)
        with workers(worker):
            worker.wait_until_said('entered')
            while worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
                threading.Event().wait(0.002)
            assert worker.wait() in (0, -signal.SIGTERM), ''.join(worker.errors)
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


# --- handle_signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.any_store
def test_handled_signals_end_the_loop(shared_store: Store) -> None:
    """The task at hand is finished and recorded, the block ends by itself, and the tokens are another's at once."""
    with shared_store.job('a', config=PATIENT) as other:
        for number in (signal.SIGTERM, signal.SIGINT):
            worker = Worker(shared_store.url, 'worker', 'loop', handle_signals=True, **PATIENT)
            with workers(worker):
                wait_until(lambda: sum('task' in line for line in worker.said) > 3, 'it is at work')  # noqa: B023 - called in this round only
                worker.process.send_signal(number)
                assert worker.wait() == 0, ''.join(worker.errors)
            assert worker.said[-1] == {'state': 'left'}
            assert 'Error' not in ''.join(worker.errors)
            out = {str(line['task']) for line in worker.said if 'task' in line}
            assert out <= set(shared_store.audits)
            wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


@pytest.mark.any_store
@pytest.mark.parametrize(
    ('mode', 'callbacks'),
    [
        ('add', True),
        ('audit', False),
        ('loop', True),
        *(pytest.param(*pair, marks=pytest.mark.full) for pair in (('add', False), ('audit', True), ('loop', False))),
    ],
)
def test_handled_signals_in_the_block(shared_store: Store, mode: str, callbacks: bool) -> None:
    """Wherever in the loop and however late the block would end: exit status 0, and no token stays behind."""
    with shared_store.job('a', config=PATIENT) as other:
        settings = {'handle_signals': True, 'callbacks': callbacks, 'shutdown_timeout_sec': 1, **PATIENT}
        worker = Worker(shared_store.url, 'worker', mode, **settings)
        with workers(worker):
            worker.wait_until_said('entered')
            threading.Event().wait(random.uniform(0, 0.2))
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, ''.join(worker.errors)
        assert 'could not leave in good order' not in ''.join(worker.errors)
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


@pytest.mark.any_store
def test_a_second_signal_leaves_at_once(shared_store: Store) -> None:
    """A task that never ends holds nothing up when somebody insists; it stays incomplete."""
    with shared_store.job('a', config=PATIENT) as other:
        worker = Worker(shared_store.url, 'worker', 'stuck', handle_signals=True, shutdown_timeout_sec=600, **PATIENT)
        with workers(worker):
            task = worker.wait_until_said('stuck')['task']
            worker.process.send_signal(signal.SIGTERM)
            wait_until(lambda: len(other.my_tokens) == TOKENS - 1, 'all but the token of its task is back')
            assert worker.process.poll() is None
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() == 128 + signal.SIGTERM, ''.join(worker.errors)
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the last one is back')
        assert str(task) not in shared_store.audits


@pytest.mark.any_store
def test_a_second_signal_waits_for_no_callback(shared_store: Store) -> None:
    """An ``on_revoke`` that hangs while the block is being left holds nothing up when somebody insists: exit status 0."""
    with shared_store.job('a', config=PATIENT) as other:
        settings = {'handle_signals': True, 'hanging': True, 'shutdown_timeout_sec': 600, **PATIENT}
        worker = Worker(shared_store.url, 'worker', 'loop', **settings)
        with workers(worker):
            worker.wait_until_said('entered')
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_until_said('hanging')
            assert len(other.my_tokens) < TOKENS
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() in (0, 128 + signal.SIGTERM), ''.join(worker.errors)
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


@pytest.mark.any_store
def test_the_shutdown_timeout_ends_the_block(shared_store: Store) -> None:
    """A task that never ends is interrupted when ``shutdown_timeout_sec`` is over: exit status 0."""
    worker = Worker(shared_store.url, 'worker', 'stuck', handle_signals=True, shutdown_timeout_sec=0.5, **PATIENT)
    with workers(worker):
        worker.wait_until_said('stuck')
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, ''.join(worker.errors)


@pytest.mark.any_store
def test_handled_signals_while_entering(shared_store: Store) -> None:
    """A node that waits for others ends with status 0, and nothing of it stays behind."""
    worker = Worker(shared_store.url, 'worker', 'idle', minimum_nodes=5, handle_signals=True, **PATIENT)
    with workers(worker):
        wait_until(lambda: shared_store.node_names == ['worker'], 'it waits')
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait() == 0, ''.join(worker.errors)
    assert [node.state for node in shared_store.handle.snapshot().nodes] == [NodeState.LEFT]


@pytest.mark.any_store
def test_signals_are_handled_in_the_main_thread_only(store: Store) -> None:
    """Elsewhere Python cannot, which an error says; the handlers of before are back after the block."""
    before = signal.getsignal(signal.SIGTERM)
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            store.job('a', handle_signals=True).__enter__()
        except JobsyncError as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(120)
    assert 'main thread only' in str(errors[0])
    with store.job('a', handle_signals=True):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_what_a_signal_leaves_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Each signal is logged with what is waited for and the tasks that are open; leaving says what becomes of them."""
    caplog.set_level(logging.INFO, 'jobsync.job')
    with pytest.raises(SystemExit), store.job('a', handle_signals=True, config={**PATIENT, 'shutdown_timeout_sec': 300}) as job:
        job.add_task('x')
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert event_log.flush(120)
    told = [record.getMessage() for record in caplog.records if 'open' in record.getMessage() or 'audited' in record.getMessage()]
    assert told[:2] == [
        "node 'a': SIGTERM has come: no further task is started, and the block has 300 s to end; 1 task is open: 'x'",
        "node 'a': SIGINT has come again: the block is left at once, and no task in flight is waited for; 1 task is open: 'x'",
    ]
    assert "has left with 1 task not audited: 'x'. Incomplete tasks are done again" in told[2]


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_what_has_a_turn_at_a_signal_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A scheduled function and a singleton are no open tasks, and the node waits for them: the line names them."""
    caplog.set_level(logging.INFO, 'jobsync.job')
    begun, end = threading.Event(), threading.Event()
    with store.job('a', handle_signals=True, config={**PATIENT, 'shutdown_timeout_sec': 300}) as job:

        @job.every(1)
        def report() -> None:
            begun.set()
            end.wait(120)

        assert begun.wait(120)
        with job.singleton('feed') as turn:
            assert turn
            signal.raise_signal(signal.SIGTERM)
        end.set()
    assert event_log.flush(120)
    assert "no task is open, 2 turns go on: 'every:report', 'singleton:feed'\n" in caplog.text


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_the_end_of_the_time_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A block that does not end in time is left with a line that says so, and nothing is said to be open that is not."""
    config = {**PATIENT, 'shutdown_timeout_sec': 0.2}
    with pytest.raises(SystemExit), store.job('a', handle_signals=True, config=config):
        signal.raise_signal(signal.SIGTERM)
        threading.Event().wait(120)
    assert event_log.flush(120)
    assert "node 'a': 0.2 s after the signal the block goes on: the block is left at once" in caplog.text
    assert caplog.text.count('no task is open') == 1


# --- several jobs in one process --------------------------------------------------------------------------------------------

one_store = pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
"""The store is not the subject."""


@pytest.fixture
def former() -> Iterator[list[int]]:
    """A program's own handlers, and which signals they were given."""
    given: list[int] = []

    def handler(number: int, _: object) -> None:
        given.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield given
    now_there = {signal.getsignal(number) for number in before}
    for number, each in before.items():
        signal.signal(number, each)
    assert now_there == {handler}


@pytest.mark.any_store
@one_store
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_overlapping_jobs_all_hear_of_a_signal(store: Store, former: list[int], number: int) -> None:
    """The job entered first leaves first: the other one still hears of signals, and the handlers of before come back with it."""
    one, two = store.job('one', handle_signals=True), store.job('two', handle_signals=True)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    signal.raise_signal(number)
    assert two.is_leaving
    two.__exit__(None, None, None)
    assert former == []
    signal.raise_signal(number)
    assert former == [number]


@pytest.mark.any_store
@one_store
def test_an_ignored_interrupt_stays_ignored(store: Store) -> None:
    """Ctrl-C at the terminal of a script ends no worker that the script has started in the background; SIGTERM does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with store.job('a', handle_signals=True) as job:
            signal.raise_signal(signal.SIGINT)
            assert not job.is_leaving
            signal.raise_signal(signal.SIGTERM)
            assert job.is_leaving
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.any_store
@one_store
def test_nested_jobs_all_hear_of_a_signal(store: Store, former: list[int]) -> None:
    """The first signal asks both to leave, the second ends both blocks."""
    with (
        pytest.raises(SystemExit) as ended,
        store.job('outer', handle_signals=True) as outer,
        store.job('inner', handle_signals=True) as inner,
    ):
        signal.raise_signal(signal.SIGTERM)
        assert (outer.is_leaving, inner.is_leaving) == (True, True)
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert former == []


@pytest.mark.any_store
@one_store
def test_a_second_signal_while_the_inner_job_leaves(store: Store, former: list[int]) -> None:
    """The inner job leaves in good order; then the block around it is ended too."""

    def insist(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: outer._session.stages.has_seen(SessionEvent.SIGNAL), 'the first signal has come')
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended, store.job('outer', handle_signals=True) as outer:
        with store.job('inner', handle_signals=True, on_revoke=insist) as inner:
            pass
        raise AssertionError('the block goes on')
    assert ended.value.code == 128 + signal.SIGTERM
    assert inner._session.is_over
    assert former == []


@pytest.mark.any_store
@one_store
def test_a_second_signal_while_the_first_is_handled(store: Store, former: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second signal comes when one of two jobs has heard of the first: it hurries both, and a third one is not needed."""
    stop = Session.stop

    def interrupted(session: Session, event: SessionEvent, worker: int | None = None) -> None:
        stop(session, event, worker)
        if event is SessionEvent.SIGNAL and not raised:
            raised.append(event)
            signal.raise_signal(signal.SIGTERM)

    raised: list[SessionEvent] = []
    monkeypatch.setattr(Session, 'stop', interrupted)
    with (
        pytest.raises(SystemExit),
        store.job('outer', handle_signals=True) as outer,
        store.job('inner', handle_signals=True) as inner,
    ):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError('the block goes on')
    assert all(job._session.stages.has_seen(SessionEvent.HURRY) for job in (outer, inner))
    assert former == []


@one_store
@pytest.mark.parametrize('where', ['call', 'callback'])
def test_signals_after_an_exit_that_leaves_nothing_yet(store: Store, former: list[int], where: str) -> None:
    """A handler of another signal, in the midst of a call, or a callback calls ``__exit__``: signals end the block as ever."""

    def leave(*_: object) -> None:
        entered.wait()
        job.__exit__(None, None, None)

    entered = threading.Event()
    backend = LockedBackend(plugins.connect(store.url, BackendOptions()))
    functions = {'on_assign': leave} if where == 'callback' else {}
    job = store.job('a', config={'backend': backend}, handle_signals=True, **functions)
    with pytest.raises(SystemExit), job:
        entered.set()
        if where == 'call':
            with a_signal_comes(backend.entered.wait, leave):
                job.add_task('x')
        wait_until(lambda: job.is_leaving, 'it is to leave')
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError('the block goes on')
    assert job._session.is_over
    assert former == []
    backend.close()


@pytest.mark.any_store
def raise_just_before_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a second signal's handler raise when a block has ended, and nothing has recorded that yet."""
    record = Stages.record

    def interrupted(stages: Stages, event: SessionEvent) -> None:
        if event is SessionEvent.LEAVE and not raised:
            raised.append(event)
            sys.exit(143)
        record(stages, event)

    raised: list[SessionEvent] = []
    monkeypatch.setattr(Stages, 'record', interrupted)


@one_store
def test_a_second_signal_just_before_leaving(store: Store, former: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds a block to end, and the node leaves all the same."""
    with pytest.raises(SystemExit), store.job('a', handle_signals=True) as job:
        raise_just_before_leaving(monkeypatch)
    assert job.is_leaving
    assert [node.state for node in store.handle.snapshot().nodes] == [NodeState.LEFT]


@one_store
def test_a_second_signal_just_before_leaving_asynchronously(
    store: Store, former: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on an event loop."""

    async def main() -> None:
        async with store.async_job('a', handle_signals=True):
            raise_just_before_leaving(monkeypatch)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert [node.state for node in store.handle.snapshot().nodes] == [NodeState.LEFT]


@one_store
def test_an_exception_while_it_waits_for_other_nodes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler of the program's own ends the wait, and the program goes on: what the job has opened is closed all the same."""

    def interrupt(*_: object) -> None:
        raise AlarmError

    closed: list[Backend] = []
    monkeypatch.setattr(MemoryBackend, 'close', lambda backend: closed.append(backend))
    job = store.job('a', wait_on_exit=600, on_assign=lambda _: None)
    with a_signal_comes(lambda: wait_until(lambda: job._session.is_over, 'it waits'), interrupt), pytest.raises(AlarmError), job:
        backend = job._session.backend
    assert closed == [backend]
    wait_until(lambda: all(not each.name.endswith('-a') for each in threading.enumerate()), 'all threads have ended')


@one_store
def test_a_job_entered_after_a_signal(store: Store, former: list[int]) -> None:
    """A job that is entered while another has been told to leave is told as well: entering ends with exit status 0."""
    with pytest.raises(SystemExit) as ended, store.job('one', handle_signals=True):
        signal.raise_signal(signal.SIGTERM)
        with store.job('two', handle_signals=True):
            raise AssertionError('it has entered')
    assert ended.value.code == 0
    assert former == []


@pytest.mark.any_store
@one_store
def test_a_job_left_in_another_thread(store: Store, former: list[int]) -> None:
    """Only the main thread can put handlers back, so the next signal does, and is handed on."""
    job = store.job('one', handle_signals=True)
    job.__enter__()
    thread = threading.Thread(target=job.__exit__, args=(None, None, None))
    thread.start()
    thread.join(120)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert former == [signal.SIGTERM, signal.SIGINT]


@pytest.mark.any_store
@one_store
def test_overlapping_async_jobs_all_hear_of_a_signal(store: Store, former: list[int]) -> None:
    """Two asyncio tasks with a job each, of which the one entered first leaves first."""

    async def work() -> None:
        one, two = store.async_job('one', handle_signals=True), store.async_job('two', handle_signals=True)
        await one.__aenter__()
        async with two:
            await one.__aexit__(None, None, None)
            signal.raise_signal(signal.SIGTERM)
            assert two.is_leaving
            assert [task async for task in two.claim(itertools.count())] == []

    asyncio.run(work())
    assert former == []


@pytest.mark.any_store
@one_store
def test_leaving_is_cancelled_again_while_a_coroutine_ends(
    store: Store, former: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handlers of before come back, though leaving still waited for a coroutine of the user's that does not end."""
    monkeypatch.setattr(aio_job, '_LAST_CALLS_SEC', 0.0)

    async def work() -> None:
        lingers, is_cancelled, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def linger(_: frozenset[int]) -> None:
            lingers.set()
            while not may_end.is_set():
                try:
                    await may_end.wait()
                except asyncio.CancelledError:
                    is_cancelled.set()

        async def stay() -> None:
            async with store.async_job('a', handle_signals=True, on_assign=linger):
                await lingers.wait()
                has_entered.set()
                await asyncio.sleep(3600)

        has_entered, staying = asyncio.Event(), asyncio.create_task(stay())
        await has_entered.wait()
        staying.cancel()
        await is_cancelled.wait()
        staying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staying
        signal.raise_signal(signal.SIGTERM)
        may_end.set()

    asyncio.run(work())
    assert former == [signal.SIGTERM]


@pytest.mark.any_store
@one_store
@pytest.mark.parametrize('as_none', [False, True])
def test_a_handler_of_c_code_comes_back(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_none: bool) -> None:
    """A handler that was not installed by Python, for which Python may name None, is in force again after the block."""
    traces = tmp_path / 'traces'
    with traces.open('w') as file, contextlib.ExitStack() as undoing:
        undoing.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.SIG_DFL))
        faulthandler.register(signal.SIGTERM, file=file, all_threads=False)
        undoing.callback(faulthandler.unregister, signal.SIGTERM)
        job = store.job('one', handle_signals=True)
        with monkeypatch.context() as patch:
            if as_none:  # which only a program that embeds Python brings about
                patch.setattr(signal, 'getsignal', lambda _: None)
            job.__enter__()
        job.__exit__(None, None, None)
        signal.raise_signal(signal.SIGTERM)
    assert 'test_a_handler_of_c_code_comes_back' in traces.read_text()


@pytest.mark.any_store
@one_store
def test_a_handler_installed_in_the_block_stays(store: Store, former: list[int]) -> None:
    """What the program has installed since is not taken away."""
    own: list[int] = []
    with store.job('one', handle_signals=True):
        before = signal.signal(signal.SIGTERM, lambda number, _: own.append(number))
    signal.raise_signal(signal.SIGTERM)
    assert own == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, former_handler := signal.getsignal(signal.SIGINT))
    assert before is not former_handler


@pytest.mark.any_store
@one_store
@pytest.mark.parametrize('blocks', [1, 2])
@pytest.mark.parametrize('ignored', [False, True])
def test_a_handler_installed_in_the_block_calls_the_one_before(
    store: Store, former: list[int], ignored: bool, blocks: int
) -> None:
    """In the block that stops the job. After it what there was before the block has its turn, also after a second block."""
    own: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        own.append(number)
        before(number, frame)

    first = signal.getsignal(signal.SIGTERM)
    if ignored:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with store.job('one', handle_signals=True) as job:
        before = cast('Callable[[int, FrameType | None], object]', signal.signal(signal.SIGTERM, handler))
        signal.raise_signal(signal.SIGTERM)
        assert job.is_leaving
    for _ in range(blocks - 1):
        with store.job('two', handle_signals=True):
            pass
    assert (own, former) == ([signal.SIGTERM], [])
    try:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, first)
    assert (own, former) == ([signal.SIGTERM] * 3, [] if ignored else [signal.SIGTERM] * 2)


@pytest.mark.any_store
@one_store
def test_a_fork_has_the_former_handlers(store: Store, former: list[int]) -> None:
    """A forked child, which is no part of the job, does at a signal what the program did before it entered the job."""
    with store.job('one', handle_signals=True) as job:

        def child() -> list[int]:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
            return former

        assert in_fork(child) == [signal.SIGTERM, signal.SIGINT]
        signal.raise_signal(signal.SIGTERM)
        assert job.is_leaving
    assert former == []


@pytest.mark.any_store
def test_a_job_that_leaves_in_another_thread_while_the_next_one_enters(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both know of no signal, and the second block is entered."""
    have_come = vars(signals.Signals)['have_come'].fget
    first = store.job('a', handle_signals=True)

    def leave_meanwhile(self: signals.Signals) -> object:
        if self.session is first._session and not first.is_leaving:
            thread = threading.Thread(target=first.__exit__, args=(None, None, None))
            thread.start()
            thread.join(60)
        return have_come(self)

    first.__enter__()
    monkeypatch.setattr(signals.Signals, 'have_come', property(leave_meanwhile))
    with store.job('b', handle_signals=True) as job:
        assert not job.is_leaving
    assert first.is_leaving


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_signal_that_ends_no_wait_of_the_event_loop(store: Store) -> None:
    """As one that comes when the loop is about to wait, or to another thread: the loop, which has nothing to do, sees it soon."""

    async def enter() -> None:
        async with store.async_job('a', wait_on_enter=DEADLINE_SEC, handle_signals=True, config={'minimum_nodes': 2}):
            raise AssertionError('there is one node')

    def send() -> None:
        wait_until(lambda: store.node_names == ['a'], 'it waits')
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    sender, began = threading.Thread(target=send), time.monotonic()
    sender.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # in this thread, not in the other one
    try:
        with pytest.raises(SystemExit):
            asyncio.run(enter())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.join()
    assert time.monotonic() < began + DEADLINE_SEC / 2
