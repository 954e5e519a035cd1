"""The end of the block."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from tests.job.stores import Store, kinds, owned_tasks
from tests.job.waiting import wait_until
from tests.support.starts import abandon
from tests.support.timings import DEADLINE_SEC, FAST, TOKENS

from jobsync import AsyncJob, BackendUnavailable, ClusterTimeout, CoordinationConfig, Job, JobsyncError, NodeNameInUse, plugins
from jobsync._core.agent.phase import Phase
from jobsync._core.records import INITIAL, NodeRef, NodeState, Registration, Snapshot
from jobsync._runtime import node
from jobsync._runtime.startup import node_config
from jobsync._runtime.status import Status
from jobsync._worker.stages import SessionEvent
from jobsync._worker.store_calls import StoreCalls
from jobsync.backend import Backend, BackendOptions, Reach
from jobsync.errors import NameTaken
from jobsync.testing import Fault, FaultyBackend, When

pytestmark = pytest.mark.any_store


def our_threads() -> list[str]:
    """The names of jobsync's threads in this process."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith('jobsync'))


def test_tokens_are_given_back_at_once(store: Store) -> None:
    """When a block has ended, the others own everything long before any timeout could be over."""
    slow = {'heartbeat_interval_sec': 20, 'heartbeat_timeout_sec': 600}
    with store.job('a', config=slow) as a:
        with store.job('b', config=slow) as b:
            task = owned_tasks(b)[0]
        assert not b.can_claim_task(task)
        wait_until(lambda: len(a.my_tokens) == TOKENS and a.can_claim_task(task), 'a owns everything')


def test_the_leader_leaves(store: Store) -> None:
    """The same when it is the leader that leaves."""
    slow = {'heartbeat_interval_sec': 20, 'heartbeat_timeout_sec': 600}
    with store.job('a', config=slow) as a, store.job('b', config=slow) as b:
        a.__exit__(None, None, None)
        wait_until(lambda: len(b.my_tokens) == TOKENS, 'b owns everything')


def test_again_and_again(store: Store) -> None:
    """``__exit__`` may be called any number of times, inside the block and after it, and before it was ever entered."""
    job = store.job('a')
    with job:
        for _ in range(3):
            job.__exit__(None, None, None)
        assert not job.can_claim_task(1)
        assert [node.state for node in store.handle.snapshot().nodes] == [NodeState.LEFT]
    job.__exit__(None, None, None)
    store.job('b').__exit__(None, None, None)


def test_a_loop_is_told_that_the_node_is_leaving(store: Store) -> None:
    """``is_leaving`` is False inside the block and True from the moment that somebody leaves."""
    with store.job('a') as job:
        assert not job.is_leaving
        loop = threading.Thread(target=lambda: wait_until(lambda: job.is_leaving, 'the loop is told'))
        loop.start()
        job.__exit__(None, None, None)
        loop.join()
        assert job.is_leaving


def usurp(store: Store, job: Job | AsyncJob) -> None:
    """Have another process take the name of a node."""
    usurper = NodeRef(job.node_name, 'another process')
    timeline = store.handle.snapshot().timeline

    def usurped() -> bool:
        mine = next(node for node in store.handle.snapshot().nodes if node.name == job.node_name)
        with contextlib.suppress(NameTaken):
            store.handle.register(Registration(usurper, timeout_sec=60), timeline, 0, mine.beat)
            return True
        return False

    wait_until(usurped, 'another process has the name')

    def is_over() -> bool:
        store.handle.heartbeat(usurper, INITIAL, frozenset())
        return job.is_leaving

    wait_until(is_over, 'the node has seen that the name is in use')


def test_a_node_that_cannot_go_on(store: Store) -> None:
    """One whose name another process has taken is over for good: its loops end, and the end of its block says why, once.

    So a program that goes on after a loop does not take the tasks that are left for done, and does not end with status 0.
    """
    finished = []
    with pytest.raises(NodeNameInUse, match="name 'a' is in use by a live process"), store.job('a') as job, store.job('b'):
        assert not job.is_leaving
        usurp(store, job)
        assert job.get_coordination_status()['state'] == 'failed'
        assert list(job.claim(itertools.count())) == []
        assert list(job.batch(range(9))) == []
        finished.append(job)
    (job,) = finished
    job.__exit__(None, None, None)


def test_a_node_that_cannot_go_on_and_a_body_that_raises(store: Store) -> None:
    """What the body raises comes out of the block."""
    with pytest.raises(LookupError, match='no such file'), store.job('a') as job, store.job('b'):
        usurp(store, job)
        raise LookupError('no such file')


def test_a_node_of_an_event_loop_that_cannot_go_on(store: Store) -> None:
    """The end of its block says why."""

    async def main() -> None:
        async with store.async_job('a') as job:
            await asyncio.to_thread(usurp, store, job)

    with pytest.raises(NodeNameInUse, match="name 'a' is in use by a live process"), store.job('b'):
        asyncio.run(main())


def test_from_other_threads(store: Store) -> None:
    """Several threads may leave at once, while the block's own thread is busy claiming."""
    with store.job('a') as job:
        threads = [threading.Thread(target=job.__exit__, args=(None, None, None)) for _ in range(4)]
        for thread in threads:
            thread.start()
        task = 0
        while job.add_task(task):
            task += 1
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        assert not job.am_i_healthy()
    assert [node.state for node in store.handle.snapshot().nodes] == [NodeState.LEFT]


def test_two_threads_with_tasks_in_flight_leave(store: Store) -> None:
    """Neither can finish its task while it waits for the end of the node, so the node waits for neither of them."""
    job, tasks = store.job('a', config={'shutdown_timeout_sec': 10 * DEADLINE_SEC}), iter('ab')
    job.__enter__()

    def work_and_leave() -> None:
        assert job.add_task(next(tasks))
        has_begun.wait(DEADLINE_SEC)
        job.__exit__(None, None, None)

    has_begun = threading.Barrier(2)
    threads = [threading.Thread(target=work_and_leave, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()
    assert job._session.is_over


def test_no_thread_is_left(store: Store) -> None:
    """Two for a node, one for calls, one for deaths, one to listen where the backend pushes, one to call back; then none."""
    always = [
        'jobsync-calls-a',
        *(['jobsync-deaths-a'] if store.handle.info.reach is not Reach.PROCESS else []),
        'jobsync-heartbeat-a',
        'jobsync-work-a',
        *(['jobsync-listen-a'] if store.handle.info.push else []),
    ]
    wait_until(lambda: our_threads() == [], 'no other test runs one')
    with store.job('a'):
        assert our_threads() == sorted(always)
    wait_until(lambda: our_threads() == [], 'all have ended')
    with store.job('a', on_rebalance=lambda: None):
        assert our_threads() == sorted([*always, 'jobsync-callbacks-a'])
    wait_until(lambda: our_threads() == [], 'all have ended')


def test_the_threads_end_before_the_block(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may end right after the block, and libraries such as gevent crash it if a thread is in them at that moment."""
    listen, ended = node.NodeRuntime._listen, list[str]()

    def listen_and_be_slow_to_end(runtime: node.NodeRuntime) -> bool:
        goes_on = listen(runtime)
        if not goes_on:
            time.sleep(0.05)
            ended.append(runtime.config.name)
        return goes_on

    monkeypatch.setattr(node, '_ENDING_SEC', DEADLINE_SEC)
    monkeypatch.setattr(node.NodeRuntime, '_listen', listen_and_be_slow_to_end)
    with store.job('a'):
        pass
    assert ended == (['a'] if store.handle.info.push else [])


def test_no_thread_is_left_by_a_job_that_could_not_enter(store: Store) -> None:
    """A ``with`` statement that raises leaves none either, and no record but one that left."""
    with pytest.raises(ValueError, match='total_tokens'), store.job('a', config={'total_tokens': 2**30}):
        pass
    with (
        pytest.raises(ClusterTimeout, match='only 1 joined'),
        store.job('a', config={'minimum_nodes': 2}, wait_on_enter=0.3, on_rebalance=lambda: None),
    ):
        pass
    wait_until(lambda: our_threads() == [], 'all have ended')


def test_wait_on_exit(store: Store) -> None:
    """With ``wait_on_exit`` the block ends once others own the tokens, or nobody does after that many seconds."""
    with store.job('a') as a:
        with store.job('b', wait_on_exit=60):
            pass
        assert store.node_names == ['a']
        wait_until(lambda: len(a.my_tokens) == TOKENS, 'a owns everything')
    with store.job('c', wait_on_exit=0.2):
        pass


def test_leaving_while_the_store_is_away(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A node that cannot tell the store that it leaves stops claiming, says so, and ends its threads."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2}) as job:
        backend.faults.append(Fault(times=1_000_000))
    assert not job.can_claim_task(1)
    assert 'could not leave in good order' in caplog.text
    wait_until(lambda: our_threads() == [], 'all have ended')
    runtime = job._session.runtime
    assert runtime is not None
    if (watch := runtime.death_watch) is not None:  # not in a store in memory
        assert [lock.is_in_place for lock in watch._held] == [True], 'its tasks may go on: nothing shows that it is over'
    with store.job('b') as other:
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the lease of a is over')
    backend.inner.close()


def test_claiming_ends_at_once(store: Store) -> None:
    """From the moment that somebody wants to leave nothing is claimable, though every call to the store hangs."""
    hang = threading.Event()

    def sleep(_: float) -> None:
        hang.wait(120)

    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()), sleep=sleep)
    with store.job('a', config={'backend': backend, 'heartbeat_timeout_sec': 60}) as job:
        backend.calls.clear()
        backend.faults.append(Fault(when=When.NEVER, times=1_000_000, delay_sec=1))
        wait_until(lambda: {'heartbeat', 'snapshot'} <= set(backend.calls), 'both threads hang')
        assert job.can_claim_task(1)
        leaving = threading.Thread(target=job.__exit__, args=(None, None, None))
        leaving.start()
        wait_until(lambda: not job.can_claim_task(1), 'nothing is claimable', 5)
        assert job.my_tokens == frozenset()
        assert not job.am_i_healthy()
        hang.set()
        leaving.join(120)
    backend.inner.close()


def test_leaving_waits_for_no_log(store: Store) -> None:
    """A node can leave while its own threads cannot log: a signal handler may have interrupted whoever holds that lock."""
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.getLogger('jobsync')
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with store.job('a') as job:
            handler.acquire()
            job.register_task_lock(1, 'nobody')
            wait_until(lambda: store.handle.read_assignment().pins, 'there is something to log')
            job.__exit__(None, None, None)
            assert [node.state for node in store.handle.snapshot().nodes] == [NodeState.LEFT]
    finally:
        handler.release()
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_open_tasks_are_mentioned(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A node that leaves with tasks not audited says which and what becomes of them, once. The list has 20 tasks at most."""
    with store.job('a') as job:
        for task in range(25):
            job.add_task(task)
        for task in range(2, 5):
            job.complete(task)
    job.__exit__(None, None, None)
    assert caplog.text.count('has left with 22 tasks not audited') == 1
    assert "'0', '1', '10', '11'" in caplog.text
    assert "'9'" not in caplog.text
    assert 'and 2 more. Incomplete tasks are done again by the next owner' in caplog.text


def test_what_leaving_waits_for_is_mentioned(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving names the tasks of other threads, which it waits for, and none of the thread that leaves."""
    caplog.set_level(logging.INFO, 'jobsync.job')
    job = store.job('a', config={'shutdown_timeout_sec': DEADLINE_SEC})

    def work() -> None:
        job.add_task('theirs')
        begun.set()
        wait_until(lambda: 'leaving waits' in caplog.text or left.is_set(), 'the log names the task, or the block is over')
        if not left.is_set():
            job.complete('theirs')

    begun, left = threading.Event(), threading.Event()
    other = threading.Thread(target=work)
    with job:
        assert job.add_task('own')
        other.start()
        assert begun.wait(DEADLINE_SEC)
    left.set()
    other.join()
    assert (
        f"leaving waits, {DEADLINE_SEC:g} s at most, for what other threads or asyncio tasks have in hand: 'theirs'\n"
        in caplog.text
    )
    assert "has left with 1 task not audited: 'own'" in caplog.text


def test_a_long_id_among_open_tasks(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The line of the log is no longer for a task id of a thousand characters."""
    with store.job('a') as job:
        job.add_task('x' * 1000)
    [line] = [record.getMessage() for record in caplog.records if 'not audited' in record.getMessage()]
    assert len(line) < 400


def test_log_lines(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each structural change, none for a heartbeat or a task."""
    caplog.set_level(logging.DEBUG, logger='jobsync')
    with store.job('a') as a:
        for task in range(20):
            a.add_task(task)
            a.can_claim_task(task)
        a.write_audit()
        beats = a._last_heartbeat_sent
        wait_until(lambda: a._last_heartbeat_sent != beats, 'a heartbeat')
    # Leaving does not wait for a log, which another thread may be about to write.
    wait_until(lambda: "'a' left" in caplog.text, 'the last line')
    ours = [record.getMessage() for record in caplog.records if record.name.startswith('jobsync')]
    assert 4 <= len(ours) <= 8, ours
    assert sum("'a' registered" in line for line in ours) == 1
    assert sum("'a' left" in line for line in ours) == 1


@pytest.mark.any_store
def test_a_store_that_hangs_does_not_keep_a_hurried_job(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """After ``shutdown_timeout_sec``, say, what is done and cannot be recorded is named in the log, and the block ends."""
    go_on, begun = threading.Event(), threading.Event()

    class Hanging(FaultyBackend):
        def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
            begun.set()
            assert go_on.wait(240)
            super().append_audits(node, items, date)

    backend = Hanging(plugins.connect(store.url, BackendOptions()))
    job = store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2})
    with job:
        assert job.add_task(1)
        job._task_log.finish('1', job._task_log.begun('1'))
        leaving = threading.Thread(target=job.__exit__, args=(None, None, None))
        leaving.start()
        assert begun.wait(120)
        job._session.stop(SessionEvent.HURRY)
        leaving.join(120)
        assert not leaving.is_alive()
        assert "done, and not recorded as complete, so it will be done again: task '1'" in caplog.text
        go_on.set()
    backend.inner.close()


def test_a_store_that_hangs_does_not_keep_a_hurried_job_with_attempts(store: Store) -> None:
    """The same where attempts are counted (``max_attempts``), and one is to be given up."""
    go_on, begun = threading.Event(), threading.Event()

    class Hanging(FaultyBackend):
        def forget_attempts(self, *arguments: Any) -> None:
            begun.set()
            assert go_on.wait(240)
            super().forget_attempts(*arguments)

    backend = Hanging(plugins.connect(store.url, BackendOptions()))
    job = store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2, 'max_attempts': 3})
    with job:
        assert job.add_task(1)
        abandon(job._task_log, '1')
        leaving = threading.Thread(target=job.__exit__, args=(None, None, None))
        leaving.start()
        assert begun.wait(120)
        job._session.stop(SessionEvent.HURRY)
        leaving.join(120)
        assert not leaving.is_alive()
        go_on.set()
    backend.inner.close()


@pytest.mark.parametrize('wait_sec', [0.5, 600], ids=['its time is over', 'it is hurried'])
def test_a_store_that_hangs_keeps_no_job_that_waits_for_other_nodes(store: Store, wait_sec: float) -> None:
    """A reading of the nodes is under way as ``wait_on_exit`` ends, or as a second signal comes."""
    go_on, begun = threading.Event(), threading.Event()

    class Hanging(FaultyBackend):
        def snapshot(self) -> Snapshot:
            if job._session.is_over:
                begun.set()
                assert go_on.wait(240)
            return super().snapshot()

    backend = Hanging(plugins.connect(store.url, BackendOptions()))
    job = store.job('a', config={'backend': backend}, wait_on_exit=wait_sec)
    with job:
        leaving = threading.Thread(target=job.__exit__, args=(None, None, None))
        leaving.start()
        assert begun.wait(120)
        if wait_sec == 600:
            job._session.stop(SessionEvent.HURRY)
        leaving.join(20)
        is_kept = leaving.is_alive()
        go_on.set()
        leaving.join(120)
        assert not is_kept
    backend.inner.close()


def test_threads_that_hang_keep_no_job_with_tasks_in_flight(store: Store) -> None:
    """That the node waits for tasks is what its threads said last; it counts for ``shutdown_timeout_sec``."""
    config = store.config(shutdown_timeout_sec=0.1)
    own = node_config('a', config, store.handle.info, create=True, wait_on_enter=0, announces=False)
    runtime = node.NodeRuntime(store.handle, own)
    runtime.status = Status(Phase.MEMBER, stays=True)
    runtime._threads['work'] = threading.current_thread(), lambda: True
    waiting = threading.Thread(target=runtime.wait_until_over, args=(0.05,), daemon=True)
    waiting.start()
    waiting.join(DEADLINE_SEC)
    is_kept = waiting.is_alive()
    runtime.status = Status(Phase.LEFT)
    assert not is_kept


def test_two_bodies_that_end_after_the_block(store: Store) -> None:
    """What one of them has finished while the other records is recorded too."""
    job = store.job('a')
    with job:
        assert job.add_task(1)
    completions = job._task_log.completions

    class Finished(dict[str, None]):
        """Another thread adds a task as soon as the keys are listed."""

        def __iter__(self) -> Iterator[str]:
            keys = [*super().__iter__()]
            self.setdefault('2')
            return iter(keys)

    completions._finished = Finished({'1': None})
    completions._flush_after_the_end()
    completions._flush_after_the_end()
    assert sorted(store.audits) == ['1', '2']


def test_an_end_that_is_interrupted_closes_the_backend(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections would stay for as long as the process runs."""
    job, closed = store.job('a'), list[bool]()
    with pytest.raises(KeyboardInterrupt), job:
        backend, runtime = job._session._backend, job._session.runtime
        assert backend is not None
        assert runtime is not None
        close, end = backend.close, runtime.close

        def interrupted() -> None:
            monkeypatch.setattr(runtime, 'close', end)
            raise KeyboardInterrupt

        def close_once_more() -> None:
            close()
            closed.append(True)

        monkeypatch.setattr(backend, 'close', close_once_more)
        monkeypatch.setattr(runtime, 'close', interrupted)
    assert closed


def test_a_job_that_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it records after its end has a backend of its own, which is closed; and it waits for no transaction."""
    job = Job('a', coordination_config=CoordinationConfig(backend='memory://left', **FAST))
    with job:
        pass
    backend = Mock()
    monkeypatch.setattr('jobsync._worker.session.backend_for', lambda _: backend)
    with pytest.raises(ZeroDivisionError):
        job._session.after_the_end(lambda _: 1 // 0)
    backend.close.assert_called_once()
    job._session._connections[None] = connection = Mock()
    job._session.check_may_write()
    job._session._close()
    connection.close.assert_called_once()


def test_closed_under_a_call(store: Store) -> None:
    """A call that another thread's ``__exit__`` overtakes ends with an error or its answer, not never."""
    outcomes: list[object] = []

    def audit(job: Job) -> None:
        try:
            job.write_audit()
            outcomes.append('written')
        except BackendUnavailable as error:
            outcomes.append(error)

    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 1}) as job:
        job.add_task(1)
        backend.faults.append(Fault('append_audits', times=1_000_000))
        thread = threading.Thread(target=audit, args=(job,))
        thread.start()
        wait_until(lambda: 'append_audits' in backend.calls, 'the call is under way')
        job.__exit__(None, None, None)
        thread.join(120)
    assert [type(outcome) for outcome in outcomes] == [BackendUnavailable]
    backend.inner.close()


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_signal_in_the_midst_of_a_request_to_leave(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal that interrupts the code which stores the request to leave is not lost: the node leaves at once."""
    make, left_at_once = node._LeaveRequest, []

    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None

        def interrupted(at_once: bool, worker: int | None) -> object:
            request = make(at_once, worker)
            if worker is not None:
                monkeypatch.setattr(node, '_LeaveRequest', make)
                job._session.stop(SessionEvent.HURRY)
            return request

        def leave(now: float, at_once: bool, workers: frozenset[int]) -> None:
            left_at_once.append(at_once)
            agent_leaves(now, at_once, workers)

        agent_leaves = runtime.agent.leave
        monkeypatch.setattr(runtime.agent, 'leave', leave)
        monkeypatch.setattr(node, '_LeaveRequest', interrupted)
        with runtime._lock:  # the node's threads read no request before both are stored
            job._session.stop(SessionEvent.LEAVE, 1)
        wait_until(lambda: left_at_once, 'the node reads them')
        assert left_at_once[0]


def test_left_before_the_backend_is_connected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread leaves when the block is just being entered: the backend that is opened after that is closed again."""
    call, connect = StoreCalls.call, plugins.connect
    backends: list[Backend] = []

    def called(calls: StoreCalls, action: Callable[[], object], while_: Callable[[], bool] | None = None) -> object:
        if not backends:
            thread = threading.Thread(target=job.__exit__, args=(None, None, None))
            thread.start()
            thread.join()
        return call(calls, action, while_)

    def connected(url: str, options: BackendOptions) -> Backend:
        backend = connect(url, options)
        backends.append(backend)
        monkeypatch.setattr(backend, 'close', lambda: closed.append(backend))
        return backend

    closed: list[Backend] = []
    monkeypatch.setattr(StoreCalls, 'call', called)
    monkeypatch.setattr(plugins, 'connect', connected)
    job = store.job('a')
    with pytest.raises(JobsyncError, match='was requested to leave while it was entering'):
        job.__enter__()
    assert closed == backends
