"""What of the work is on record, and when: batches that turn out slow, stores that fail, blocks that end before their threads."""

from __future__ import annotations

import itertools
import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.job.stores import Store, kinds, owned_tasks
from tests.job.waiting import wait_until

from jobsync import BackendUnavailable, Job, NotOwned, plugins
from jobsync._core.agent.lease import Lease
from jobsync._core.records import Claim, HistoryKind
from jobsync._runtime import clock, threads
from jobsync._worker import claim_loop, claim_recording, completions, task_log
from jobsync._worker.alarm import Alarm
from jobsync._worker.stages import SessionEvent
from jobsync._worker.store_calls import acting_for
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend

pytestmark = pytest.mark.any_store

QUICK = 400
TASKS = 2000
PATIENT = {'heartbeat_interval_sec': 20, 'heartbeat_timeout_sec': 600}


@pytest.fixture
def faulty(store: Store) -> Iterator[FaultyBackend]:
    """The store's backend, which fails on demand."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    yield backend
    backend.inner.close()


def in_flight(job: Job) -> set[str]:
    """The tasks that hold up a hand-over."""
    assert job._session.runtime is not None
    return {start.key for start in job._session.runtime.lease.in_flight}


class Work:
    """A loop in a thread of its own, whose tasks are quick at first and then wait."""

    def __init__(self, job: Job, tasks: Any, quick: int = QUICK) -> None:
        self._job, self._tasks, self._quick = job, tasks, quick
        self.out: list[int] = []
        self.errors: list[BaseException] = []
        self.go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for task in self._job.claim(self._tasks):
                self.out.append(task)
                if len(self.out) > self._quick:
                    self.go.acquire()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.errors.append(error)

    def end(self) -> None:
        """Let it run to its end."""
        self.go.release(2 * TASKS)
        self._thread.join(120)
        assert not self._thread.is_alive()


# --- batches that turn out slow -----------------------------------------------------------------------------------------------


def test_what_is_done_before_a_slow_task_is_recorded_and_little_is_claimed_ahead(store: Store, faulty: FaultyBackend) -> None:
    """Quick tasks, then one that takes for ever: the quick ones are recorded meanwhile, and fewer are claimed than were done."""
    with store.job('a', config={'backend': faulty, **PATIENT}) as job:
        work = Work(job, range(TASKS))
        try:
            wait_until(lambda: len(work.out) > QUICK, 'the slow one is out')
            wait_until(lambda: len(store.audits) == QUICK, 'what is done is recorded')
            never_begun = {task.id for task in job.get_incomplete_tasks(0)} - {str(work.out[-1])}
            assert len(never_begun) < QUICK
        finally:
            work.end()
        assert not work.errors
        assert sorted(work.out) == list(range(TASKS))


def test_a_batch_that_turns_out_slow_ends_and_the_rest_is_claimed_later(
    store: Store, faulty: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has run for a second, tasks are claimed one at a time if they are slow, those of the batch first and in order."""
    skipped = [0.0]
    for module in (claim_loop, completions, claim_recording, task_log):
        monkeypatch.setattr(module, 'clock', SimpleNamespace(now=lambda: clock.now() + skipped[0]))
    with store.job('a', config={'backend': faulty, **PATIENT, 'heartbeat_timeout_sec': 100_000}) as job:
        out: list[int] = []
        for task in job.claim(range(TASKS)):
            out.append(task)
            if task >= QUICK:
                skipped[0] += 60
                if task == QUICK + 1:
                    faulty.calls.clear()
                if task == QUICK + 9:
                    break
        assert out == list(range(QUICK + 10))
        assert faulty.calls.count('append_claims') == 8
        assert job._task_log.renewal._tasks == {}


def claimed_at(store: Store) -> dict[str, Any]:
    rows = store.handle.history(HistoryKind.CLAIM)
    return {row.item: row.created_on for row in reversed(rows) if isinstance(row, Claim)}


def test_what_was_claimed_ahead_and_waits_does_not_look_stuck(
    store: Store, faulty: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claims are renewed while it waits for its turn, also after a call that failed, and not once it is another node's."""
    monkeypatch.setattr('jobsync._worker.claim_renewal._RENEW_SEC', 0.2)
    ours = Lease.ours
    with store.job('a', config={'backend': faulty, **PATIENT}) as job:
        monkeypatch.setattr('jobsync._worker.claim_loop._BATCH_SEC', 0.0)
        batches = job._claim_loop(range(5), None)
        batches.size = 5
        loop = batches.run_batch(range(5))
        assert next(loop) == 0
        assert list(loop) == []  # over after its first task: four wait
        before = claimed_at(store)
        assert set(before) == {'0', '1', '2', '3', '4'}
        monkeypatch.setattr(Lease, 'ours', lambda *args: [key for key in ours(*args) if key != '4'])
        faulty.faults.append(Fault('append_claims'))
        since = claimed_at(store)
        wait_until(lambda: all(claimed_at(store)[key] > since[key] for key in '123'), 'they are claimed again')
        assert faulty.faults[0].times == 0
        assert claimed_at(store)['0'] == before['0']
        assert claimed_at(store)['4'] == since['4']
        batches.leave()
        assert job._task_log.renewal._tasks == {}


def test_what_waits_behind_a_task_that_takes_long_does_not_look_stuck(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims of the others in its batch are renewed: of all in hand, only claims of tasks that take long grow old."""
    monkeypatch.setattr('jobsync._worker.claim_renewal._RENEW_SEC', 0.2)
    monkeypatch.setattr('jobsync._worker.claim_loop._BATCH_SEC', 3600.0)
    with store.job('a', config=PATIENT) as job:
        with job.task('5'):
            batches = job._claim_loop(range(6), None)
            batches.size = 6
            loop = batches.run_batch(range(6))
            assert next(loop) == 0
            before = claimed_at(store)
            assert set(before) == {'0', '1', '2', '3', '4', '5'}
            wait_until(lambda: all(claimed_at(store)[key] > before[key] for key in '1234'), 'those that wait are claimed again')
            assert {key for key, at in claimed_at(store).items() if at == before[key]} == {'0', '5'}
        assert list(loop) == [1, 2, 3, 4, 5]
        assert job._task_log.renewal._tasks == {}


def test_what_was_claimed_a_moment_ago_is_not_claimed_again(store: Store, faulty: FaultyBackend) -> None:
    """A loop over short tasks claims each of them once, whenever the alarm rings."""
    with store.job('a', config={'backend': faulty, **PATIENT}) as job:
        batches = job._claim_loop(range(5), None)
        batches.size = 5
        loop = batches.run_batch(range(5))
        assert next(loop) == 0
        calls = faulty.calls.count('append_claims')
        job._task_log.renewal._renew()
        assert faulty.calls.count('append_claims') == calls
        assert len(job._task_log.renewal._tasks) == 4
        loop.close()
        batches.leave()


# --- stores that fail -------------------------------------------------------------------------------------------------------


def test_an_alarm_that_fails_rings_again(store: Store, faulty: FaultyBackend) -> None:
    """What is done while the store is away is recorded when it is back, though the loop waits for its next task."""
    with store.job('a', config={'backend': faulty, 'op_timeout_sec': 0.2, **PATIENT}) as job:
        assert job.add_task(1)
        faulty.faults.append(Fault('append_audits', times=1_000_000))
        calls = len(faulty.calls)
        job._task_log.finish('1', job._task_log.begun('1'))
        job._task_log.completions.schedule_flush()  # as a loop does that waits for its source
        patience = 2 * 2 * 0.2 / 0.05  # more calls than one ringing of the alarm makes
        wait_until(lambda: faulty.calls[calls:].count('append_audits') > patience, 'it has failed more than once')
        faulty.faults.clear()
        wait_until(lambda: store.audits == ['1'], 'it is recorded')
        wait_until(lambda: not job._task_log.completions._finished, 'it is known to be')
        assert not job._task_log.completions._failures


def test_a_long_outage_is_logged_at_a_falling_rate_and_its_end_as_well(
    store: Store, faulty: FaultyBackend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.job('a', config={'backend': faulty, **PATIENT}) as job:
        caplog.set_level(logging.INFO, 'jobsync.job')
        kept = job._task_log.completions
        monkeypatch.setattr(kept, 'schedule_flush', lambda: None)  # each attempt is one of this thread's
        assert job.add_task(1)
        faulty.faults.append(Fault('append_audits', times=1_000_000))
        kept.add(['1', '2'])
        for _ in range(9):
            kept.flush_now(lambda: False)
        faulty.faults.clear()
        kept.flush()
        wait_until(lambda: "node 'a': 2 finished tasks recorded as complete, after 9 failures" in caplog.text, 'it is logged')
        logged = [record for record in caplog.records if 'not recorded as complete yet' in record.getMessage()]
        assert [record.levelname for record in logged] == ['WARNING'] * 4
        assert [record.getMessage().rpartition('(')[2] for record in logged] == [f'failure {n} in a row)' for n in (1, 2, 4, 8)]
        kept.add(['3'])
        kept.flush()
        assert caplog.text.count('recorded as complete, after') == 1


def test_a_flush_that_is_interrupted_is_made_by_an_alarm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done does not wait for the program, which may not call again for long."""
    with store.job('a', config=PATIENT) as job:
        kept = job._task_log.completions
        record = kept._record

        def interrupted(*_: object) -> None:
            monkeypatch.setattr(kept, '_record', record)
            raise KeyboardInterrupt

        monkeypatch.setattr(kept, '_record', interrupted)
        assert job.add_task(1)
        with pytest.raises(KeyboardInterrupt):
            job.complete(1)
        wait_until(lambda: store.audits == ['1'], 'it is recorded')


def test_what_another_thread_records_meanwhile_does_not_wait(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that fails after that is no outage, and none is reported: nothing is left to be recorded."""
    with store.job('a', config=PATIENT) as job:
        kept = job._task_log.completions
        record = kept._record

        def overtaken(*_: object) -> None:
            monkeypatch.setattr(kept, '_record', record)
            kept.flush()  # as an alarm's thread does
            raise BackendUnavailable('away')

        monkeypatch.setattr(kept, '_record', overtaken)
        assert job.add_task(1)
        kept.add(['1'])
        kept.flush_now()
        assert store.audits == ['1']
        assert 'not recorded as complete yet' not in caplog.text
        assert not kept._failures


def test_an_alarm_makes_one_call_at_a_time() -> None:
    """While a call hangs, none is made beside it, however often one is wanted; one is made after it, and none once cancelled."""
    begun, go_on = queue.SimpleQueue[int](), threading.Semaphore(0)

    def act() -> None:
        begun.put(1)
        assert go_on.acquire(timeout=120)

    alarm = Alarm('a', 0.01, act)
    alarm.set()
    begun.get(timeout=120)
    for _ in range(5):
        alarm.set()
    with pytest.raises(queue.Empty):
        begun.get(timeout=0.3)
    go_on.release()
    begun.get(timeout=120)
    go_on.release()
    wait_until(lambda: alarm._call is None, 'its thread has ended')
    alarm.set()
    begun.get(timeout=120)
    alarm.set()
    alarm.cancel()
    go_on.release()
    with pytest.raises(queue.Empty):
        begun.get(timeout=0.3)


def test_an_alarm_that_is_set_as_its_thread_ends() -> None:
    """Its thread has found that no other call is wanted, and is there still, so no other one is started: it calls again."""
    calls: list[int] = []

    class SetLate(Alarm):
        """Is set right after its thread has found that no call is wanted."""

        @property
        def _is_wanted(self) -> bool:
            is_wanted: bool = self.__dict__.get('wanted', False)
            if calls == [1] and not is_wanted and self._call is not None:
                self.__dict__['wanted'] = True
            return is_wanted

        @_is_wanted.setter
        def _is_wanted(self, is_wanted: bool) -> None:
            self.__dict__['wanted'] = is_wanted

    SetLate('a', 0.01, lambda: calls.append(1)).set()
    wait_until(lambda: calls == [1, 1], 'it has called twice')


def test_an_alarm_that_is_set_anew_while_a_cancelled_call_is_made() -> None:
    """The end of the call that was under way leaves the new one alone: it can be cancelled still."""
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def act() -> None:
        begun.release()
        assert go_on.acquire(timeout=120)

    alarm = Alarm('a', 0.01, act)
    alarm.set()
    assert begun.acquire(timeout=120)
    first = alarm._call
    alarm.cancel()
    alarm._seconds = 120
    alarm.set()
    second = alarm._call
    assert first is not None
    assert second is not None
    go_on.release()
    wait_until(lambda: first.is_lost, 'the first call is over')
    alarm.cancel()
    wait_until(lambda: second.is_lost, 'the second one is dropped')


def test_an_alarm_that_could_not_be_set_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is to be had at one moment: that is no reason never to try again."""
    rung = threading.Event()
    alarm = Alarm('a', 0.01, rung.set)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, 'start', lambda _: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
        alarm.set()
    alarm.set()
    assert rung.wait(120)


def test_an_alarm_whose_thread_is_over_before_it_is_noted_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that sets it may get no turn for as long as that takes. Later calls are made all the same."""
    calls: list[int] = []
    start = threads.start

    def start_and_wait(node_name: str, what: str, target: Callable[[], object]) -> Any:
        thread = start(node_name, what, target)
        wait_until(lambda: not thread.is_alive(), 'the thread is over')
        return thread

    monkeypatch.setattr(threads, 'start', start_and_wait)
    alarm = Alarm('a', 0.01, lambda: calls.append(1))
    alarm.set()
    alarm.set()
    assert calls == [1, 1]


def test_an_alarm_whose_thread_had_no_memory_for_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread was started, and is over without a call. The next time another one is started."""
    rung, start = threading.Event(), threads.start

    def without_memory(node_name: str, what: str, target: Callable[[], object]) -> Any:
        del target
        thread = start(node_name, what, lambda: None)
        wait_until(lambda: not thread.is_alive(), 'the thread is over')
        return thread

    alarm = Alarm('a', 0.01, rung.set)
    with monkeypatch.context() as patched:
        patched.setattr(threads, 'start', without_memory)
        alarm.set()
    alarm.set()
    assert rung.wait(20)


def test_no_alarm_outlives_the_block(store: Store, faulty: FaultyBackend, caplog: pytest.LogCaptureFixture) -> None:
    """After a break what was done is recorded on leaving; then there is nothing to complain of."""
    with store.job('a', config={'backend': faulty, **PATIENT}) as job:
        for task in job.claim(range(10)):
            if task == 5:
                break
    assert len(store.audits) == 5
    wait_until(lambda: not any(thread.name == 'jobsync-alarm-a' for thread in threading.enumerate()), 'the alarms have ended')
    assert 'not recorded' not in caplog.text


@pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize('begin', ['add_task', 'task'])
def test_whatever_ends_a_claim_leaves_no_mark(
    store: Store, faulty: FaultyBackend, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], begin: str
) -> None:
    """Ctrl-C in a notebook, or an error that no backend should raise: the task is not in flight, so its token can pass on."""

    def fail(*_: object) -> None:
        raise error

    def attempt(job: Job) -> None:
        if begin == 'add_task':
            job.add_task(1)
        else:
            with job.task(1):
                pytest.fail('it has begun')

    with store.job('a', config={'backend': faulty, **PATIENT}) as job:
        with monkeypatch.context() as patched:
            patched.setattr(faulty, 'append_claims', fail)
            with pytest.raises(error):
                attempt(job)
        assert in_flight(job) == set()
        assert job.get_coordination_status()['open_tasks'] == 0
        assert list(job.claim([1])) == [1]


# --- blocks that end ----------------------------------------------------------------------------------------------------------


def test_what_is_done_is_recorded_before_leaving_waits(store: Store, faulty: FaultyBackend) -> None:
    """A second Ctrl-C, which ends the wait, then loses nothing."""
    begun, finish = threading.Event(), threading.Event()

    def hold(job: Job) -> None:
        with job.task('held'):
            begun.set()
            finish.wait(120)

    job = store.job('a', config={'backend': faulty, 'op_timeout_sec': 0.2, 'shutdown_timeout_sec': 600, **PATIENT})
    with job:
        other = threading.Thread(target=hold, args=(job,))
        other.start()
        assert begun.wait(120)
        job._task_log.completions._alarm.set = lambda: None  # type: ignore[method-assign]  # what an alarm would do
        assert job.add_task(1)
        faulty.faults.append(Fault('append_audits', times=1_000_000))
        with pytest.raises(BackendUnavailable):
            job.complete(1)
        faulty.faults.clear()
        leaving = threading.Thread(target=job.__exit__, args=(None, None, None))
        leaving.start()
        try:
            wait_until(lambda: store.audits == ['1'], 'it is recorded')
            assert in_flight(job) == {'held'}
        finally:
            finish.set()
            leaving.join(120)
            other.join(120)


@pytest.mark.parametrize('form', ['claim', 'task'])
@pytest.mark.parametrize('own', [True, False], ids=['own backend', 'URL'])
def test_a_body_that_outlives_its_block(store: Store, faulty: FaultyBackend, form: str, own: bool) -> None:
    """It ends without an error when it is done at last, and its task is recorded as complete all the same."""
    begun, finish = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work(job: Job) -> None:
        try:
            if form == 'task':
                with job.task(0):
                    begun.set()
                    finish.wait(120)
            else:
                for _ in job.claim(itertools.count()):
                    begun.set()
                    finish.wait(120)
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    config = {'shutdown_timeout_sec': 0.2, **({'backend': faulty} if own else {})}
    with store.job('a', config=config) as job:
        thread = threading.Thread(target=work, args=(job,))
        thread.start()
        assert begun.wait(120)
    assert store.audits == []
    finish.set()
    thread.join(120)
    assert errors == []
    assert store.audits == ['0']


# --- loops in loops -----------------------------------------------------------------------------------------------------------


def test_a_loop_in_a_loop_over_the_same_task(store: Store) -> None:
    """The inner one passes it over, and it stays in flight until the outer one is done with it."""
    with store.job('a', config=PATIENT) as job:
        for outer in job.claim(['x']):
            assert list(job.claim(['x', 'y'])) == ['y']
            assert in_flight(job) == {outer}
            assert store.audits == ['y']
        assert sorted(store.audits) == ['x', 'y']


def test_a_block_in_a_loop_over_the_same_task(store: Store) -> None:
    """The task stays in flight after the block, until the loop is done with it."""
    with store.job('a', config=PATIENT) as job:
        for task in job.claim(['x']):
            with job.task(task):
                pass
            assert in_flight(job) == {'x'}
            assert store.audits == []
        assert store.audits == ['x']


def test_a_block_over_a_task_that_another_thread_has(store: Store) -> None:
    """The second block is refused, and the task stays in flight until the first one ends."""
    with store.job('a', config=PATIENT) as job, job.task('x'):
        refused: list[type[BaseException]] = []

        def try_it() -> None:
            try:
                with job.task('x'):
                    pass
            except NotOwned as error:
                refused.append(type(error))

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert refused == [NotOwned]
        assert in_flight(job) == {'x'}
        assert store.audits == []


def test_an_audit_leaves_what_another_thread_has(store: Store) -> None:
    """``write_audit`` completes what was added, and neither what is out in a loop of another thread nor what was given up."""
    with store.job('a', config={**PATIENT, 'shutdown_timeout_sec': 0}) as job:
        work = Work(job, [1], quick=0)
        try:
            wait_until(lambda: work.out == [1], 'the task is out')
            assert job.add_task(2)
            job.write_audit()
            assert store.audits == ['2']
            assert in_flight(job) == {'1'}
            assert job.add_task(3)
            given_up = job._start(4)
            assert given_up
            audit = job._audit()  # as an AsyncJob prepares it, whose call waits for a thread
            job._task_log.take_back(given_up)
            assert job.add_task(5)
            with acting_for(-1):
                assert job._task_log.check_out(*job._parse(3))
            audit()
            assert store.audits == ['2']
            assert in_flight(job) == {'1', '3', '5'}
        finally:
            work.end()
        job.write_audit()
        assert sorted(store.audits) == ['1', '2', '5']


def test_a_completion_leaves_what_has_begun_since(store: Store) -> None:
    """A call of an ``AsyncJob`` waits for a thread, and another worker begins the task once more."""
    with store.job('a', config={**PATIENT, 'shutdown_timeout_sec': 0}) as job:
        assert job.add_task(1)
        complete = job._completion(1)
        with acting_for(-1):
            assert job.add_task(1)
        complete()
        assert job._session.runtime is not None
        assert {start.worker for start in job._session.runtime.lease.in_flight} == {-1}


# --- the clock ----------------------------------------------------------------------------------------------------------------


def _begin_by(name: str, job: Job, task: int) -> object:
    match name:
        case 'claim':
            return list(job.claim([task]))
        case _:
            return getattr(job, name)(task)


@pytest.mark.parametrize('name', ['add_task', 'set_claim', 'claim'])
@pytest.mark.parametrize('nth', range(1, 6))
def test_the_clock_is_read_after_the_grant(store: Store, monkeypatch: pytest.MonkeyPatch, name: str, nth: int) -> None:
    """A process that is stopped as it has read for the nth time what is granted, until long after the lease, begins nothing: by
    the time it goes on, another node may own the task.
    """
    skipped, reads, here = [0.0], itertools.count(1), threading.get_ident()
    for module in (claim_recording, task_log):
        monkeypatch.setattr(module, 'clock', SimpleNamespace(now=lambda: clock.now() + skipped[0]))

    def stopped(lease: Lease) -> object:
        grant = vars(lease)['grant']
        if threading.get_ident() == here and next(reads) == nth:
            skipped[0] = 1_000_000.0
        return grant

    with store.job('a', config=PATIENT) as job:
        monkeypatch.setattr(job._session.caller, '_thread_name', None)  # the store is called in this thread
        (task,) = owned_tasks(job)
        grant = property(stopped, lambda lease, grant: vars(lease).update(grant=grant))
        with monkeypatch.context() as patched:
            patched.setattr(Lease, 'grant', grant, raising=False)
            begun = _begin_by(name, job, task)
        assert bool(begun) == (not skipped[0])
        assert skipped[0] or nth > 1
        assert bool(in_flight(job)) == (begun is True and name == 'add_task')


@pytest.mark.parametrize('name', ['add_task', 'set_claim', 'claim'])
def test_a_signal_whose_handler_leaves(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It interrupts this very thread once the grant is read: another node may own the task before the handler returns."""
    with store.job('a', config=PATIENT) as job:
        runtime = job._session.runtime
        assert runtime is not None
        with acting_for(-1):
            assert job.add_task(2)  # so the node stays

        def leaves() -> float:
            job._session.stop(SessionEvent.STOP)
            wait_until(lambda: runtime.lease.ends_at < math.inf, 'the node gives up')
            return clock.now()

        for module in (claim_recording, task_log):
            monkeypatch.setattr(module, 'clock', SimpleNamespace(now=leaves))
        assert not _begin_by(name, job, 1)
        assert store.claims == ['2']
        assert in_flight(job) == {'2'}
        job.complete(2)


@pytest.mark.parametrize('name', ['add_task', 'set_claim', 'claim'])
def test_a_lease_that_ends_while_the_claim_is_under_way(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The answer comes when another node may own the task: it is not begun."""
    skipped = [0.0]
    for module in (claim_recording, task_log):
        monkeypatch.setattr(module, 'clock', SimpleNamespace(now=lambda: clock.now() + skipped[0]))
    with store.job('a', config=PATIENT) as job:
        attempts = job._task_log.attempts

        def answered(*args: Any) -> None:
            skipped[0] = 1_000_000.0

        monkeypatch.setattr(attempts, 'begin', answered)
        monkeypatch.setattr(attempts, 'tolerated', lambda *, alone: 1)
        assert not _begin_by(name, job, 1)
        assert skipped[0]
        assert store.claims == ['1']
        assert not in_flight(job)


@pytest.mark.parametrize('name', ['add_task', 'set_claim', 'claim'])
def test_a_run_that_ends_before_its_claim(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What that run owned is not claimed by the next one, which may not own it."""
    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None

        def replaced(method: str) -> None:
            act = getattr(Lease, method)

            def ends(lease: Lease, *args: Any) -> Any:
                answer, ref = act(lease, *args), runtime.agent.ref
                monkeypatch.setattr(Lease, method, act)
                store.evict('a')
                wait_until(lambda: runtime.agent.ref != ref and job.can_claim_task(1), 'the next run owns it')
                return answer

            monkeypatch.setattr(Lease, method, ends)

        replaced('begin' if name == 'add_task' else 'ours')
        assert not _begin_by(name, job, 1)
        assert store.claims == []
        assert not in_flight(job)


def test_a_run_that_ends_before_its_batch(store: Store) -> None:
    """What it has claimed is not begun by the next run: another node may have done it meanwhile."""
    with store.job('a') as job:
        runtime = job._session.runtime
        assert runtime is not None
        loop, out = job._claim_loop([], None), list[int]()
        loop.size = 3
        for task in loop.run_batch([1, 2, 3]):
            out.append(task)
            ref = runtime.agent.ref
            store.evict('a')
            wait_until(lambda: runtime.agent.ref != ref and job.can_claim_task(2), 'the next run owns it')  # noqa: B023
        assert out == [1]


def test_the_end_of_a_task_that_is_interrupted_leaves_no_mark(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler raises amid it: the token could pass on only after ``handover_timeout_sec``."""
    with store.job('a', config=PATIENT) as job:
        assert job.add_task(1)
        with monkeypatch.context() as patched:

            def interrupted(_: object) -> None:
                patched.undo()
                raise KeyboardInterrupt

            patched.setattr(job._task_log._checked_out, 'remove', interrupted)
            with pytest.raises(KeyboardInterrupt):
                job.complete(1)
        assert not in_flight(job)


def test_a_task_that_another_thread_completes_meanwhile_is_begun_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task for which ``add_task`` returns True is in flight, also if a thread of this node has just completed it."""
    with store.job('a') as job:
        record, completed = job._task_log.claims.record, list[bool]()

        def completed_meanwhile(*args: Any, **options: Any) -> Any:
            unclaimed = record(*args, **options)
            if not completed:
                completed.append(True)
                job._task_log.finish('1', job._task_log.begun('1'))
            return unclaimed

        monkeypatch.setattr(job._task_log.claims, 'record', completed_meanwhile)
        assert job.add_task(1)
        assert completed
        assert in_flight(job) == {'1'}


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_task_that_comes_back_after_its_batch_was_claimed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not begun under a claim that was not recorded: of a node that dies, it would not be found as incomplete."""
    with store.job('a', config=PATIENT) as job:
        assert job._session.runtime is not None
        lease = job._session.runtime.lease
        ours = type(lease).ours

        def moved_meanwhile(self: Any, tasks: Any, clock: Any) -> Any:
            monkeypatch.undo()
            return [key for key in ours(self, tasks, clock) if key != '1']

        batches = job._claim_loop(range(3), None)
        batches.size = 3
        monkeypatch.setattr(type(lease), 'ours', moved_meanwhile)
        for task in batches.run_batch(range(3)):
            assert str(task) in store.claims
        assert store.claims == ['0', '2']
        assert batches.has_waiting
        assert list(batches.run_batch(())) == [1]
        assert store.claims == ['0', '2', '1']
