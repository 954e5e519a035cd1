"""``max_attempts``: a task that kills its workers ends in quarantine, and costs no other task anything."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.job.processes import Worker as Process
from tests.job.stores import Store, foreign_task, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import BackendUnavailable, Cluster, Job, NotOwned
from jobsync._core.agent.lease import Lease
from jobsync._core.records import LockEdit, LockReading, LockRequest, NodeRef, Registration
from jobsync._random import RANDOM
from jobsync.backend import Unclaimed
from jobsync.errors import SchemaMismatch
from jobsync.testing import FaultyBackend

THREE = {'max_attempts': 3}
DEADLINE_SEC = 120


def lose(store: Store, job: Job, *items: str, times: int = 1) -> None:
    """Have runs of other nodes attempt items and end without giving them up, before the job is entered."""
    for _ in range(times):
        ref = NodeRef('lost', uuid.uuid4().hex)
        store.handle.register(Registration(ref, 1.0), store.handle.snapshot().timeline, 0)
        store.handle.append_claims(ref, items, job.date, 100)
        store.handle.deregister(ref)


def lost(store: Store, job: Job) -> dict[str, int]:
    """The items with lost attempts."""
    return dict(store.handle.lost_attempts(job.date))


class Watched(FaultyBackend):
    """A backend that notes what is claimed and completed, in order."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.handle)
        self.noted: list[tuple[Any, ...]] = []

    def append_claims(self, ref: Any, items: Sequence[str], date: Any, tolerated: int | None = None) -> Unclaimed:
        """Note and forward."""
        self.noted.append((tolerated, *items))
        return super().append_claims(ref, items, date, tolerated)

    def append_audits(self, node: str, items: Sequence[str], date: Any) -> None:
        """Note and forward."""
        self.noted.append(('done', *items))
        super().append_audits(node, items, date)


@pytest.mark.any_store
def test_a_task_in_quarantine_is_started_nowhere(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """No loop and no call starts it; it is listed, logged once, and a batch does not wait for it; released, it is done."""
    job = store.job('a', config=THREE)
    lose(store, job, 'bad', times=3)
    lose(store, job, 'good', times=2)
    with caplog.at_level(logging.INFO, 'jobsync.job'), job:
        assert list(job.claim(['bad', 'x', 'good', 'y'])) == ['x', 'y', 'good']
        assert list(job.claim(iter(['bad', 'z']), once=True)) == ['z']
        assert not job.add_task('bad')
        assert not job.set_claim(['w', 'bad'])
        with pytest.raises(NotOwned, match=r"task 'bad' is in quarantine: .*release_quarantined"), job.task('bad'):
            pass
        assert list(job.batch(['v', 'bad'])) == ['v']
        wait_until(lambda: 'a batch of 2 tasks is complete except 1 in quarantine' in caplog.text, 'the batch says so')
        assert job.list_quarantined() == [{'item': 'bad', 'attempts': 3}]
        assert caplog.text.count("task 'bad' is in quarantine, and is not started: 3 runs") == 1
        job.release_quarantined('bad')
        assert job.list_quarantined() == []
        released = [event for event in Cluster(store.handle).history('bad') if event['event'] == 'release']
        assert [event['by'] for event in released] == ['a']
        assert list(job.batch(['v', 'bad'])) == ['bad']
    assert sorted(store.audits) == ['bad', 'good', 'v', 'x', 'y', 'z']
    assert lost(store, job) == {}


@pytest.mark.any_store
def test_a_task_that_is_released_while_a_batch_waits(store: Store) -> None:
    """The batch has found it in quarantine, and waits for a task of another node: once it is released, the batch takes it."""
    job, took = store.job('a', config=THREE), list[str]()
    lose(store, job, 'bad', times=3)
    store.handle.edit_locks(LockEdit(put=(LockRequest('bad', ('a',), 'test'),)))
    with job, store.job('b', config=THREE) as other:
        wait_until(
            lambda: min(len(job.my_tokens), len(other.my_tokens)) == TOKENS // 2, 'both have their share'
        )  # one has the pin
        slow = str(foreign_task(job))
        with other.task(slow):
            thread = threading.Thread(target=lambda: took.extend(job.batch(['bad', slow])))
            thread.start()
            wait_until(lambda: job._task_log.attempts.quarantined == {'bad'}, 'it is found in quarantine')
            other.release_quarantined('bad')
            wait_until(lambda: 'bad' in store.audits, 'the batch has taken it')
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()
    assert took == ['bad']
    assert sorted(store.audits) == sorted(['bad', slow])


def test_a_task_that_another_node_has_released(store: Store) -> None:
    """A node that has found it in quarantine counts it no longer once it has claimed it."""
    job = store.job('a', config=THREE)
    lose(store, job, 'bad', times=3)
    with job:
        assert not job.add_task('bad')
        assert job._task_log.attempts.quarantined == {'bad'}
        store.handle.forget_attempts(['bad'], job.date)
        assert job.add_task('bad')
        assert job._task_log.attempts.quarantined == set()
        job.write_audit()


@pytest.mark.parametrize('what', ['release', 'purge'])
def test_what_cannot_be_recorded_was_carried_out(store: Store, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The error of the action says so."""
    with store.job('a', config=THREE) as job:
        lose(store, job, 'bad', times=3)

        def edit_locks(edit: LockEdit) -> int:
            raise SchemaMismatch('the table is not there')

        monkeypatch.setattr(job._session.needed_backend, 'edit_locks', edit_locks)
        with pytest.raises(SchemaMismatch, match=r'was carried out, and is missing in the history.*the table is not there'):
            if what == 'release':
                job.release_quarantined('bad')
            else:
                job.purge(older_than=0)
        assert job.list_quarantined() == ([] if what == 'release' else [{'item': 'bad', 'attempts': 3}])


@pytest.mark.any_store
def test_no_signal_ends_a_call_that_removes_old_actions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would leave a lock of the driver taken, as in each other call of the store."""
    monkeypatch.setattr(RANDOM, 'random', lambda: 0.0)
    with store.job('a', config=THREE) as job:
        backend, read, are_calls = job._session.needed_backend, job._session.needed_backend.read_locks, list[bool]()

        def read_locks() -> LockReading:
            are_calls.append(job._session.caller.is_calling)
            return read()

        monkeypatch.setattr(backend, 'read_locks', read_locks)
        job.release_quarantined('x')
    assert True in are_calls


def test_a_block_around_a_task_of_another_thread(store: Store) -> None:
    """The error says that another thread of the node works on the task, since asking ``can_claim_task`` would not help."""
    errors = list[str]()

    def attempt() -> None:
        try:
            with job.task('x'):
                pass
        except NotOwned as error:
            errors.append(str(error))

    with store.job('a') as job, job.task('x'):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert errors == ["node 'a': task 'x' is with another thread or asyncio task of this node"]


def test_suspects_are_claimed_alone() -> None:
    """Tasks that a run was lost at come last, one by one, and nothing that is finished is unrecorded beside them."""
    store = Store(f'memory://{uuid.uuid4().hex}')
    watched = Watched(store)
    job = Job('a', coordination_config=store.config(backend=watched, **THREE))
    lose(store, job, 's', 't', 'u')
    with job:
        loop = job._claim_loop([], None)
        loop.size = 10
        watched.noted.clear()
        for task in loop.run_batch(['s', 'x', 't', 'y', 'u']):
            if task in 'stu':
                assert watched.noted[-1] == (2, task)
                assert job._task_log.completions._finished == {}
        assert job._task_log.completions._finished == {}  # as the next batch is claimed
    assert [each for each in watched.noted if each[0] != 'done'] == [(0, *'sxtyu'), *((2, task) for task in 'stu')]


def test_nothing_is_counted_without_it() -> None:
    """By default no attempt is counted, and leaving makes no call for that."""
    store = Store(f'memory://{uuid.uuid4().hex}')
    watched = Watched(store)
    job = Job('a', coordination_config=store.config(backend=watched))
    lose(store, job, 'x', times=5)
    with job:
        assert list(job.batch(['x', 'y'])) == ['x', 'y']
        assert job.add_task('z')
        assert job.list_quarantined() == []
    assert {each[0] for each in watched.noted} == {None, 'done'}
    assert 'forget_attempts' not in watched.calls


@contextlib.contextmanager
def body_that_fails() -> Iterator[None]:
    """A body whose error is the user's to catch."""
    with contextlib.suppress(ZeroDivisionError):
        yield
        raise ZeroDivisionError


@pytest.mark.any_store
@pytest.mark.parametrize('how', ['break', 'raise', 'block', 'open', 'set_claim', 'thread'])
def test_what_is_given_up_is_not_lost(store: Store, how: str) -> None:
    """A task that is abandoned, or claimed and not started, is no lost attempt, at the latest when the node has left."""
    job = store.job('a', config=THREE)
    tasks = [f't{number}' for number in range(20)]
    with job:
        if how in ('break', 'raise'):
            with contextlib.suppress(ZeroDivisionError):
                for number, _ in enumerate(job.claim(tasks)):
                    if number == 4:  # of the batch of 3, 4, 5 and 6
                        if how == 'break':
                            break
                        raise ZeroDivisionError
            # What was recorded as complete, what was abandoned, and what was claimed and never started.
            wait_until(lambda: not job._task_log.attempts._begun, 'the rest of the batch is given up')
        elif how == 'block':
            with body_that_fails(), job.task('t0'):
                pass
            with contextlib.suppress(ZeroDivisionError), job.task('t1'):
                raise ZeroDivisionError
        elif how == 'open':
            assert job.add_task('t0')
        elif how == 'set_claim':
            assert job.set_claim(tasks)
        else:
            loop = job.claim(tasks)
            next(loop)
            assert not job._task_log.start_claimed('t0', 0, None)
    assert lost(store, job) == {}


@pytest.mark.any_store
def test_an_abandoned_task_is_given_up_at_once(store: Store) -> None:
    """The node may die long after its user has caught the error: the attempt is forgotten by then."""
    job = store.job('a', config=THREE)
    with job:
        for task in 'xy':
            with contextlib.suppress(ZeroDivisionError), job.task(task):
                raise ZeroDivisionError
        assert job.add_task('z')
        wait_until(lambda: job._task_log.attempts._given_up == {}, 'it is given up')
        assert job.set_claim('w')
        job._task_log.record_before_leaving()  # leaving may wait for what another thread has in hand
        store.evict('a')
        assert lost(store, job) == {'z': 1}


@pytest.mark.any_store
def test_a_block_that_fails_gives_up_no_attempt_that_goes_on(store: Store) -> None:
    """Another worker is at the task, or its work is done, and not recorded yet."""
    with store.job('a', config=THREE) as job, ThreadPoolExecutor(1) as pool:
        with contextlib.suppress(ZeroDivisionError), job.task('x'):
            assert pool.submit(job.add_task, 'x').result()
            raise ZeroDivisionError
        with contextlib.suppress(ZeroDivisionError), job.task('y'):
            job._task_log.finish('y', job._task_log.begun('y'))
            raise ZeroDivisionError
        job._task_log.attempts._flush()
        store.evict('a')
        assert lost(store, job) == {'x': 1, 'y': 1}


@pytest.mark.any_store
def test_what_passes_on_amid_its_claim_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """``add_task`` has claimed the task, and leaves it to the next owner."""
    with store.job('a', config=THREE) as job:
        attempts = job._task_log.attempts
        begin = attempts.begin

        def passes_on(*args: Any) -> None:
            begin(*args)
            monkeypatch.setattr(Lease, 'may_claim', lambda *_: False)

        monkeypatch.setattr(attempts, 'begin', passes_on)
        assert not job.add_task('x')
        attempts._flush()
        store.evict('a')
        assert lost(store, job) == {}


@pytest.mark.any_store
def test_what_is_refused_with_a_task_in_quarantine_is_given_up(store: Store) -> None:
    """The others of the call have been claimed with it, and are not begun."""
    job = store.job('a', config=THREE)
    lose(store, job, 'q', times=3)
    with job:
        assert not job.set_claim(['x', 'q', 'y'])
        job._task_log.attempts._flush()
        store.evict('a')
        assert lost(store, job) == {'q': 3}


@pytest.mark.any_store
def test_what_a_loop_gives_up_that_another_worker_has_open_goes_on(store: Store) -> None:
    """The loop has claimed the task as well, and is left before it would have passed it over."""
    with store.job('a', config=THREE) as job:
        assert job.add_task('x')
        batches = job._claim_loop([], None)
        batches.size = 2
        loop = batches.run_batch(['y', 'x'])
        assert next(loop) == 'y'
        loop.close()
        batches.leave()
        job._task_log.attempts._flush()
        store.evict('a')
        assert lost(store, job) == {'x': 1}


def test_a_task_that_is_claimed_again_while_it_is_given_up() -> None:
    """The store forgets the earlier attempt late, and not the one that has begun since; nor one whose claim is under way."""
    store = Store(f'memory://{uuid.uuid4().hex}')
    watched, begun, go_on, is_over = Watched(store), threading.Event(), threading.Event(), threading.Event()

    def forget_attempts(items: Sequence[str], date: Any, ref: Any = None) -> None:
        begun.set()
        assert go_on.wait(DEADLINE_SEC)
        store.handle.forget_attempts(items, date, ref)
        is_over.set()

    watched.forget_attempts = forget_attempts  # type: ignore[method-assign]
    job = Job('a', coordination_config=store.config(backend=watched, **THREE))
    with job, ThreadPoolExecutor(1) as pool:
        with contextlib.suppress(ZeroDivisionError), job.task('x'):
            raise ZeroDivisionError
        assert begun.wait(DEADLINE_SEC)
        claim = pool.submit(job.add_task, 'x')
        assert job.add_task('y')  # no other task waits for that
        time.sleep(0.1)
        go_on.set()
        assert claim.result()
        assert is_over.wait(DEADLINE_SEC)
        with contextlib.suppress(ZeroDivisionError), job.task('z'):
            raise ZeroDivisionError
        assert job.add_task('z')  # before the store is called for that
        job._task_log.attempts._flush()
        store.evict('a')
        assert lost(store, job) == {'x': 1, 'y': 1, 'z': 1}


def test_a_task_that_is_claimed_again_as_the_store_is_to_forget_it() -> None:
    """What is to be forgotten was read before that claim, whose attempt is not forgotten."""
    store = Store(f'memory://{uuid.uuid4().hex}')
    job = store.job('a', config=THREE)
    attempts = job._task_log.attempts

    class ClaimedAfterCopying(dict[str, NodeRef]):
        def copy(self) -> dict[str, NodeRef]:
            copied = dict(self)
            assert job.add_task('x')
            return copied

    class ReadAfterNoting(dict[object, Collection[str]]):
        def copy(self) -> dict[object, Collection[str]]:
            with pytest.raises(BackendUnavailable):  # so from now on no claim of it is made
                attempts.check_claimable(['x'])
            return dict(self)

    with job:
        with contextlib.suppress(ZeroDivisionError), job.task('x'):
            raise ZeroDivisionError
        attempts._alarm.cancel()
        attempts._given_up, attempts._claims = ClaimedAfterCopying(attempts._given_up), ReadAfterNoting()
        attempts._flush()
        attempts._given_up, attempts._claims = {}, {}
        store.evict('a')
        assert lost(store, job) == {'x': 1}


def test_no_attempt_is_given_up_amid_the_call_that_claims_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has counted it with the claim, and the answer has not come."""
    store = Store(f'memory://{uuid.uuid4().hex}')
    watched = Watched(store)
    job = Job('a', coordination_config=store.config(backend=watched, **THREE))
    attempts = job._task_log.attempts

    def append_claims(*args: Any) -> Unclaimed:
        unclaimed = store.handle.append_claims(*args)
        attempts._flush()
        return unclaimed

    with job:
        with contextlib.suppress(ZeroDivisionError), job.task('x'):
            raise ZeroDivisionError
        attempts._alarm.cancel()
        monkeypatch.setattr(watched, 'append_claims', append_claims)
        assert job.add_task('x')
        store.evict('a')
        assert lost(store, job) == {'x': 1}


def test_no_attempt_is_given_up_while_its_task_is_claimed(store: Store) -> None:
    """If the claim is refused, the attempt before it is given up after it."""
    with store.job('a', config=THREE) as job:
        attempts = job._task_log.attempts
        with contextlib.suppress(ZeroDivisionError), job.task('x'):
            raise ZeroDivisionError
        with attempts.claiming(['x']):
            attempts._flush()
            attempts._alarm.cancel()  # as if it had rung amid the claim
            assert attempts._given_up
        wait_until(lambda: not attempts._given_up, 'it is given up')
        store.evict('a')
        assert lost(store, job) == {}


@pytest.mark.any_store
def test_what_moves_away_is_given_up(store: Store) -> None:
    """A task that was claimed with others, and moved away before it was started, is not lost when that node dies."""
    with store.job('a', config=THREE) as a, store.job('b', config=THREE) as b:
        log, (task, token) = a._task_log, a._parse(owned_tasks(a)[0])
        claimed = log.claims.record_owned({task: token})
        assert task in log.attempts._begun
        a.register_task_lock(task, 'b')
        wait_until(lambda: b.can_claim_task(task), 'it is moved')
        assert not log.start_claimed(task, token, claimed)
        wait_until(lambda: not log.attempts._given_up and not log.attempts._begun, 'it is given up')
        store.evict('a')
        assert lost(store, a) == {}


@pytest.mark.any_store
def test_a_batch_does_not_wait_for_what_others_have_in_quarantine(store: Store) -> None:
    """A task in quarantine that another node owns, which has no batch, keeps no batch waiting."""
    job = store.job('a', config=THREE)
    lose(store, job, *map(str, range(300)), times=3)
    with job as a, store.job('b', config=THREE) as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        task = foreign_task(a)
        assert list(a.batch([f'{task}'])) == []


@pytest.mark.slow
@pytest.mark.any_store
@pytest.mark.parametrize('names', ['the same names', pytest.param('new names', marks=pytest.mark.full)])
def test_a_task_that_kills_its_worker_costs_three(shared_store: Store, names: str) -> None:
    """Of 1,000 tasks one kills its worker, and a supervisor restarts workers: three die, and the other 999 are done."""
    fields = {'max_attempts': 3, 'heartbeat_timeout_sec': 3}
    made: list[Process] = []

    def start(slot: int) -> Process:
        name = f'w{slot}' if names == 'the same names' else f'w{slot}-{len(made)}'
        made.append(Process(shared_store.url, name, 'poison', **fields))
        return made[-1]

    running = {slot: start(slot) for slot in range(2)}
    died = 0

    def are_done() -> bool:
        nonlocal died
        for slot, worker in list(running.items()):
            status = worker.process.poll()
            if status == -signal.SIGKILL:
                died += 1
                assert died <= 3
                running[slot] = start(slot)
            elif status is not None:
                assert worker.wait() == 0, ''.join(worker.errors)
                del running[slot]
        return not running

    try:
        wait_until(are_done, 'the workers have left', 10 * DEADLINE_SEC)
    finally:
        for worker in made:
            worker.end()
    assert died == 3
    assert sorted(shared_store.audits) == sorted({f'task-{number}' for number in range(1000)} - {'task-500'})
    job = shared_store.job(config=fields)
    with job:
        assert job.list_quarantined() == [{'item': 'task-500', 'attempts': 3}]
