"""``batch``: a finite set that nodes work through together, each task once."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tests.job.processes import Worker as Process
from tests.job.processes import workers
from tests.job.stores import Store, foreign_task, kinds, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import FAST, TOKENS

from jobsync import BackendUnavailable, ConfigError, CoordinationConfig, Job, JobsyncError, SchemaMismatch, Task, plugins
from jobsync._worker import shared_batch
from jobsync._worker.store_calls import worker_id
from jobsync.backend import Backend, BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing import Fault, FaultyBackend

DEADLINE_SEC = 120


class Worker:
    """A job that works through a batch in a thread of its own."""

    def __init__(self, job: Job, tasks: list[str], took: list[tuple[str, str]], task_sec: float = 0.0) -> None:
        self.job, self.errors = job, list[BaseException]()
        self._tasks, self._took, self._task_sec = tasks, took, task_sec
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            for task in self.job.batch(self._tasks):
                self._took.append((self.job.node_name, task))
                time.sleep(self._task_sec)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.errors.append(error)

    def join(self) -> None:
        """Wait for the end of the batch."""
        self.thread.join(DEADLINE_SEC)
        assert not self.thread.is_alive()
        assert self.errors == []


# --- batch --------------------------------------------------------------------------------------------------------------------


@pytest.mark.any_store
def test_a_batch_is_done_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Each id comes out once, and a second run does nothing, and says so."""
    with store.job('a') as job:
        tasks = [Task('x'), Task('y'), Task('x')]
        assert list(job.batch(iter(tasks))) == tasks[:2]
        with caplog.at_level(logging.INFO, 'jobsync.job'):
            assert list(job.batch(tasks)) == []
            assert list(job.batch([])) == []
        wait_until(lambda: 'a batch of 2 tasks was complete already' in caplog.text, 'it says so')
    assert sorted(store.audits) == ['x', 'y']


def test_a_join_and_a_leave_in_good_order(store: Store) -> None:
    """Two workers on 300 tasks; the second joins midway and leaves before the end: none is done twice, none is left."""
    took: list[tuple[str, str]] = []
    tasks = [f'task-{number}' for number in range(300)]
    with store.job('a') as a:
        one = Worker(a, tasks, took, 0.01)
        wait_until(lambda: len(took) > 30, 'the first is at work')
        with store.job('b') as b:
            two = Worker(b, tasks, took, 0.01)
            wait_until(lambda: sum(name == 'b' for name, _ in took) > 20, 'the second is at work')
        two.join()
        one.join()
        counts = Counter(task for _, task in took)
        assert counts == dict.fromkeys(tasks, 1)
        assert sorted(store.audits) == sorted(tasks)


@pytest.mark.any_store
def test_one_is_killed(shared_store: Store) -> None:
    """Of three processes on 300 tasks one is killed midway: none is left, and only what the killed one began is done twice."""
    tasks = [f'task-{number}' for number in range(300)]
    shared_store.handle  # noqa: B018 - makes the namespace
    started = [Process(shared_store.url, name, 'batch', minimum_nodes=3) for name in 'abc']
    with workers(*started):
        victim, *rest = started
        wait_until(lambda: all(len(began(worker)) > 5 for worker in started), 'all three are at work')
        victim.process.kill()
        victim.wait()
        for worker in rest:
            worker.wait_until_said('complete')
        counts = Counter(task for worker in started for task in began(worker))
        twice = {task for task, count in counts.items() if count > 1}
        assert set(counts) == set(shared_store.audits) == set(tasks)
        assert twice <= set(began(victim))
        assert max(counts.values()) <= 2


def began(worker: Process) -> list[str]:
    """The tasks that a process has begun."""
    return [line['task'] for line in worker.said if 'task' in line]


@pytest.mark.any_store
def test_it_waits_for_what_another_node_has_in_hand(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch goes on while another node works on its task, says in whose hands that is, and ends with that task."""
    monkeypatch.setattr(shared_batch, '_REPORT_SEC', 0.2)
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        slow, took = f'{foreign_task(a)}', list[tuple[str, str]]()
        with caplog.at_level(logging.INFO, 'jobsync.job'):
            with b.task(slow):
                worker = Worker(a, [slow, *map(str, owned_tasks(a, 3)[:3])], took)
                wait_until(
                    lambda: 'waited for' in caplog.text and "1 of a batch of 4 tasks: 1 with 'b'" in caplog.text, 'it says so'
                )
                assert f"task '{slow}', for example, was begun by 'b'" in caplog.text
                assert worker.thread.is_alive()
                idle = Worker(a, [slow], took)
                wait_until(lambda: "1 of a batch of 1 task: 1 with 'b'" in caplog.text, 'a batch with nothing to do here waits')
            worker.join()
            idle.join()
            wait_until(lambda: 'a batch of 1 task is complete, 0 done here' in caplog.text, 'it says who has not done it')
        assert len(took) == 3
        assert 'already' not in caplog.text


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_whose_hands_a_task_is_in(store: Store) -> None:
    """A task of this node is in another loop only if one has it, and a lease that is over is no other node's doing."""
    with store.job('a') as job:
        batch = job._shared_batch(['x', 'y'], progress=False)
        entered, end = threading.Event(), threading.Event()

        def work() -> None:
            with job.task('y'):
                entered.set()
                end.wait(120)

        other = threading.Thread(target=work)
        other.start()
        assert entered.wait(120)
        assert (batch._holder_of('x'), batch._holder_of('y')) == ('with this node', 'with this node, in another loop')
        end.set()
        other.join(120)
        assert job._session.lease is not None
        job._session.lease.drop()
        assert batch._holder_of('x') == 'with this node, which may not begin them now'


@pytest.mark.any_store
def test_what_another_loop_has_in_hand_is_not_claimed_again(store: Store) -> None:
    """Several loops of one node share a set: one that waits for the tasks of the others makes no claims of them meanwhile."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    begun, end = threading.Barrier(4), threading.Event()
    waiting: list[int] = []

    with store.job('a', config={'backend': backend}) as job:

        def work() -> None:
            for _ in job.batch(range(3)):
                begun.wait(120)
                end.wait(120)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(120)
        claimed = backend.calls.count('append_claims')
        other = threading.Thread(target=lambda: waiting.extend(job.batch(range(3))))
        other.start()
        before = backend.calls.count('history')
        wait_until(lambda: backend.calls.count('history') >= before + 4, 'it has read several times what is complete')
        assert backend.calls.count('append_claims') == claimed
        end.set()
        for thread in (*threads, other):
            thread.join(120)
    backend.inner.close()
    assert waiting == []
    assert sorted(store.audits) == ['0', '1', '2']


@pytest.mark.any_store
def test_it_says_that_another_node_works_for_another_date(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that waits for what a node has done for another date names both dates, and goes on waiting."""
    monkeypatch.setattr(shared_batch, '_REPORT_SEC', 0.2)
    today, tomorrow = dt.date(2026, 1, 1), dt.date(2026, 1, 2)
    with store.job('a', date=today) as a, store.job('b', date=tomorrow) as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        task = f'{foreign_task(a)}'
        with b.task(task):
            pass
        with caplog.at_level(logging.INFO, 'jobsync.job'):
            worker = Worker(a, [task], [])
            found = f"task '{task}', for example, was begun by 'b' for {tomorrow}, and this job is for {today}"
            wait_until(lambda: found in caplog.text, 'it says so')
        assert worker.thread.is_alive()
        store.handle.append_audits('b', [task], today)
        worker.join()


def test_it_takes_over_what_a_dead_node_leaves(store: Store) -> None:
    """A task that an evicted node had begun comes out of the batch of the node that owns it then."""
    took: list[tuple[str, str]] = []
    with store.job('a') as a:
        with store.job('b') as b:
            wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
            task = f'{foreign_task(a)}'
            assert b.add_task(task)
            worker = Worker(a, [task], took)
            time.sleep(0.1)
            assert took == []
        worker.join()
    assert took == [('a', task)]


@pytest.mark.any_store
def test_it_says_that_no_live_node_matches(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task locked to a pattern that no node matches keeps the batch waiting, which says so, until the lock goes."""
    monkeypatch.setattr(shared_batch, '_REPORT_SEC', 0.2)
    took: list[tuple[str, str]] = []
    with store.job('a') as job:
        job.register_task_lock('x', 'gpu-%')
        wait_until(lambda: not job.can_claim_task('x'), 'the lock holds')
        with caplog.at_level(logging.INFO, 'jobsync.job'):
            worker = Worker(job, ['x', 'y'], took)
            wait_until(lambda: '1 locked to a pattern that no live node matches' in caplog.text, 'it says so')
        assert took == [('a', 'y')]
        job.clear_all_locks()
        worker.join()
    assert took == [('a', 'y'), ('a', 'x')]


@pytest.mark.any_store
def test_a_batch_ends_as_the_node_leaves(store: Store) -> None:
    """A batch that waits for ever ends soon after the node is to leave."""
    with store.job('a') as job:
        job.register_task_lock('x', 'gpu-%')
        wait_until(lambda: not job.can_claim_task('x'), 'the lock holds')
        worker = Worker(job, ['x'], [])
        time.sleep(0.05)
        assert worker.thread.is_alive()
    worker.join()


@pytest.mark.any_store
@pytest.mark.parametrize('how', ['raise', 'break'])
def test_a_body_that_ends_early_leaves_its_task(store: Store, how: str) -> None:
    """The task stays incomplete and is not in flight, and the next batch offers it again, with what was not begun."""
    tasks = [f't{number}' for number in range(10)]
    with store.job('a') as job:
        out = []
        try:
            for task in job.batch(tasks):
                out.append(task)
                if len(out) == 5:
                    if how == 'break':
                        break
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert job.get_coordination_status()['open_tasks'] == 0
        assert list(job.batch(tasks)) == tasks[4:]
    assert sorted(store.audits) == tasks


@pytest.mark.any_store
def test_two_threads_share_a_batch(store: Store) -> None:
    """Two batches in one process wait for each other's tasks, and do none twice."""
    took: list[tuple[str, str]] = []
    tasks = [f't{number}' for number in range(60)]
    with store.job('a') as job:
        for worker in [Worker(job, tasks, took, 0.005) for _ in range(2)]:
            worker.join()
    assert sorted(task for _, task in took) == sorted(tasks)


@pytest.mark.any_store
def test_a_batch_in_a_batch_does_not_wait_for_itself(store: Store) -> None:
    """The inner one passes over the task that the outer one has in hand."""
    with store.job('a') as job:
        out = [(outer, list(job.batch(['x', 'y']))) for outer in job.batch(['x', 'y'])]
    assert out == [('x', ['y'])]


def limits_read(job: Job) -> list[int | None]:
    """Return a list that gets, from now on, how many audits each reading of the job is limited to."""
    read, limits = job._task_log.history.read_audits, list[int | None]()

    def noted(limit: int | None = None, item: str | None = None) -> object:
        limits.append(limit)
        return read(limit, item)

    job._task_log.history.read_audits = noted  # type: ignore[method-assign,assignment]
    return limits


@pytest.mark.any_store
def test_it_does_not_read_every_audit_again(store: Store) -> None:
    """A waiting batch reads a bounded number of audits at a time, once it has read them all."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        store.handle.append_audits('b', [f'old-{number}' for number in range(3000)], job.date)
        limits = limits_read(job)
        job.register_task_lock('x', 'gpu-%')
        wait_until(lambda: not job.can_claim_task('x'), 'the lock holds')
        worker = Worker(job, ['x'], [])
        wait_until(lambda: len(limits) > 3, 'all are read')
        assert max(limit or 10**9 for limit in limits) <= 16_384
        store.handle.append_audits('b', ['x'], job.date)
        worker.join()
    backend.inner.close()


@pytest.mark.any_store
def test_it_goes_on_after_an_outage(store: Store) -> None:
    """While a batch waits, the store may be away."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2}) as job:
        job.register_task_lock('x', 'gpu-%')
        wait_until(lambda: not job.can_claim_task('x'), 'the lock holds')
        backend.faults.append(Fault('history', times=3))
        worker = Worker(job, ['x'], [])
        wait_until(lambda: not any(fault.times for fault in backend.faults), 'the outage is over')
        store.handle.append_audits('b', ['x'], job.date)
        worker.join()
    backend.inner.close()


@pytest.mark.any_store
def test_a_loop_that_was_left_and_is_kept(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The tasks that it has in hand are another worker's to wait for, and named if this worker's next batch leaves them out."""
    with store.job('a') as job:
        kept = job.batch(['x', 'y'])
        first = next(iter(kept))
        rest = list(job.batch(['x', 'y']))
        assert first not in rest
        named = f'leaves out 1 that another loop of this worker has in hand: {first!r}'
        wait_until(lambda: named in caplog.text, 'the log names it')
        kept.close()
        assert [*rest, *job.batch(['x', 'y'])] == [*rest, first]


def test_a_thread_whose_ident_is_used_again() -> None:
    """The system gives the ident of a thread that is over to a later one, which is another worker all the same."""
    numbers: list[int] = []
    for _ in range(20):
        thread = threading.Thread(target=lambda: numbers.append(worker_id()))
        thread.start()
        thread.join()
    assert len(set(numbers)) == 20


class RefusingBackend(FaultyBackend):
    """One that refuses the next readings of the history."""

    refusals: list[JobsyncError] = []  # noqa: RUF012 - set for each object

    def history(self, *arguments: Any, **named: Any) -> Sequence[Any]:
        """Read claims or audits."""
        if self.refusals:
            raise self.refusals.pop()
        return super().history(*arguments, **named)


@pytest.mark.any_store
@pytest.mark.parametrize('error', [ConfigError, SchemaMismatch])
def test_it_goes_on_after_a_refusal(store: Store, error: type[JobsyncError], caplog: pytest.LogCaptureFixture) -> None:
    """A right that is revoked, or a password that is changed, counts as an outage here as well."""
    backend = RefusingBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2}) as job:
        job.register_task_lock('x', 'gpu-%')
        wait_until(lambda: not job.can_claim_task('x'), 'the lock holds')
        backend.refusals = [error('permission denied')] * 3
        worker = Worker(job, ['x'], [])
        wait_until(lambda: not backend.refusals, 'it was refused')
        store.handle.append_audits('b', ['x'], job.date)
        worker.join()
    backend.inner.close()
    assert caplog.text.count('a batch cannot read what is complete, and waits: permission denied') == 1


class AwayBackend(FaultyBackend):
    """A store that keeps the first record of a task waiting, and is away for the first records of another."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.has_begun, self.has_failed, self.attempts = threading.Event(), threading.Event(), 0

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """Record completions."""
        if 'x' not in items:
            self.has_begun.set()
            assert self.has_failed.wait(120)
        else:
            self.attempts += 1
            if self.attempts == 2:  # the record of the other task is made only now
                self.has_failed.set()
            if self.attempts <= 15:
                raise BackendUnavailable('away')
        super().append_audits(node, items, date)


@pytest.mark.any_store
@pytest.mark.parametrize('is_shared', [False, True])
def test_it_waits_for_its_records_whatever_else_is_recorded_meanwhile(store: Store, is_shared: bool) -> None:
    """That a record of another thread has succeeded says nothing about those of the batch, nor of one with the same tasks."""
    backend = AwayBackend(plugins.connect(store.url, BackendOptions()))
    ended: list[list[str]] = []
    may_read = threading.Event()

    def work() -> None:
        for _ in job.batch(['x']):
            may_read.set()
            wait_until(lambda: not is_shared or other.is_alive(), 'the other one is there')
        ended.append(sorted(store.audits))

    def read() -> None:
        assert may_read.wait(120)
        list(job.batch(['x']))
        ended.append(sorted(store.audits))

    with store.job('a', config={'backend': backend, 'op_timeout_sec': 0.2}) as job:
        first = threading.Thread(target=job.write_audit)
        job.add_task('first')
        first.start()
        assert backend.has_begun.wait(120)
        other = threading.Thread(target=read)
        if is_shared:
            other.start()
        work()
        first.join()
        if is_shared:
            other.join()
    backend.inner.close()
    assert ended == [['first', 'x']] * (1 + is_shared)


@pytest.mark.any_store
def test_progress(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """``progress`` shows how many tasks are complete."""
    with store.job('a') as job:
        assert list(job.batch(['x', 'y'], progress=True)) == ['x', 'y']
    assert '100%' in capsys.readouterr().out


@pytest.mark.any_store
@pytest.mark.any_store
@pytest.mark.parametrize('method', ['start', 'update'])
def test_progress_that_cannot_be_shown(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Another bar of the process, which rich before 14.1 refuses, or a closed output ends no batch: the number is logged."""
    import rich.progress

    def fail(*_: object, **__: object) -> None:
        raise ValueError('Only one live display may be active at once')

    monkeypatch.setattr(rich.progress.Progress, method, fail)
    caplog.set_level('INFO')
    with store.job('a') as job:
        assert list(job.batch(['x', 'y'], progress=True)) == ['x', 'y']
    assert 'complete: 2 of 2' in caplog.text


def test_progress_without_rich(store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``rich`` the number is logged."""
    monkeypatch.setitem(__import__('sys').modules, 'rich.progress', None)
    with store.job('a') as job, caplog.at_level(logging.INFO, 'jobsync.job'):
        assert list(job.batch(['x', 'y'], progress=True)) == ['x', 'y']
        wait_until(lambda: 'tasks of a batch that are complete: 2 of 2' in caplog.text, 'it is logged')


@pytest.mark.any_store
def test_a_batch_without_coordination(store: Store) -> None:
    """What the store has as complete is passed over all the same."""
    with store.job('a', config={'enabled': False}) as job:
        store.handle.append_audits('b', ['x'], job.date)
        assert list(job.batch(['x', 'y'])) == ['y']
    with Job('a', coordination_config=CoordinationConfig(enabled=False)) as job:
        assert list(job.batch(['x', 'y', 'x'])) == ['x', 'y']


@pytest.mark.any_store
def test_bad_arguments(store: Store) -> None:
    """They are refused before the loop begins."""
    with store.job('a') as job:
        with pytest.raises(ConfigError):
            job.batch(['x'], progress='yes')  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            job.batch(['\0'])


@pytest.mark.any_store
def test_a_batch_on_an_event_loop(store: Store) -> None:
    """It yields each task once, and while it waits, the event loop goes on, and a cancelled call loses no task."""

    async def main() -> list[str]:
        async with store.async_job('a') as job:
            await job.register_task_lock('x', 'gpu-%')
            while job.can_claim_task('x'):
                await asyncio.sleep(0.01)
            loop, out = job.batch(['x', 'y', 'z', 'y']), list[str]()
            while len(out) < 2:
                out.append(await anext(loop))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(loop), 0.3)
            await job.clear_all_locks()
            out.extend([task async for task in loop])
            return out

    assert asyncio.run(main()) == ['y', 'z', 'x']
    assert sorted(store.audits) == ['x', 'y', 'z']


def test_a_long_reading_does_not_put_the_end_off() -> None:
    """What other nodes have completed is read a tenth of the time, and every few seconds where a reading takes long."""
    assert shared_batch.rest_sec(0.05) == 0.5
    assert shared_batch.rest_sec(2.0) == 3.0


@pytest.mark.any_store
def test_a_batch_that_is_complete_ends_though_little_may_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the rest after a long reading lasts, tasks are read by themselves: all at once again if these are complete."""
    monkeypatch.setattr(shared_batch, 'rest_sec', lambda took_sec: 3600.0)
    tasks = [f'x{number}' for number in range(300)]
    with store.job('a') as job:
        limits = limits_read(job)
        job.register_task_locks_bulk([(task, 'gpu-%') for task in tasks])
        wait_until(lambda: not any(map(job.can_claim_task, tasks)), 'the locks hold')
        worker = Worker(job, tasks, [])
        wait_until(lambda: len(limits) > 3, 'tasks are read by themselves')
        assert set(limits[1:]) == {1}
        store.handle.append_audits('b', tasks, job.date)
        worker.join()


def test_the_clock_of_the_store_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is completed then is older than what was read before, and is read all the same, not a few tasks at a time."""
    monkeypatch.setattr(shared_batch, '_REPORT_SEC', 0.2)
    monkeypatch.setattr(shared_batch, '_FIRST_READING', 8)
    moment = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    backend = MemoryBackend(MemoryStore(clock=lambda: moment), BackendOptions())
    early, newest, late = ([f'{when}{number}' for number in range(count)] for when, count in (('e', 90), ('n', 4), ('l', 100)))
    with Job('a', coordination_config=CoordinationConfig(backend=backend, **FAST)) as job:
        read, counts = job._task_log.history.read_audits, list[int]()

        def by_time(limit: int | None = None, item: str | None = None) -> Sequence[Any]:
            found = sorted(read(None, item), key=lambda audit: audit.created_on, reverse=True)[:limit]
            counts.append(len(found))
            return found

        job._task_log.history.read_audits = by_time  # type: ignore[method-assign]
        job.register_task_locks_bulk([(task, 'gpu-%') for task in late])
        wait_until(lambda: not any(map(job.can_claim_task, late)), 'the locks hold')
        backend.append_audits('b', early, job.date)
        moment += dt.timedelta(minutes=1)
        backend.append_audits('b', newest, job.date)
        worker = Worker(job, late, [])
        wait_until(lambda: 8 in counts[len([8, 64, 94]) :], 'all were read, and then only the newest')
        moment -= dt.timedelta(hours=1)
        backend.append_audits('b', late, job.date)
        worker.join()
    assert max(counts) == len([*early, *newest, *late])
