"""``claim(once=True)``: tasks that any node has completed are passed over."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.starts import in_flight

from jobsync import ConfigError, CoordinationConfig, Job
from jobsync._worker.claim_recording import Claimed

DEADLINE_SEC = 120


@pytest.mark.any_store
def test_once_passes_over_what_any_node_has_completed(store: Store) -> None:
    """Tasks with an audit of any node at the job's date are not yielded, and keep their records; those of another date are."""
    with store.job('a') as job:
        assert list(job.claim(['x', 'y'], once=True)) == ['x', 'y']
        store.handle.append_audits('b', ['z'], job.date)
        store.handle.append_audits('b', ['w'], job.date.replace(year=2000))
        before = store.claims, store.audits
        assert list(job.claim(['x', 'z', 'w', 'y'], once=True)) == ['w']
        assert list(job.claim(['x', 'y'], once=True, batch=1)) == []
        assert (store.claims, store.audits) == ([*before[0], 'w'], [*before[1], 'w'])


@pytest.mark.any_store
def test_without_once_a_completed_task_comes_out_again(store: Store) -> None:
    """It is yielded as often as it is given; its first completion and its claim keep their times."""
    with store.job('a') as job:
        assert list(job.claim(['x'])) == ['x']
        claim, audit = job._task_log.history.read_last_claim('x'), job.get_audit()
        assert list(job.claim(['x'])) == ['x']
        assert (job._task_log.history.read_last_claim('x'), job.get_audit()) == (claim, audit)


@pytest.mark.any_store
@pytest.mark.parametrize('tasks', [['x', 'y', 'x', 'x'], ['x'] * 500])
def test_once_takes_a_task_once_that_is_given_again(store: Store, tasks: list[str]) -> None:
    """Also while its completion is not recorded yet, and whether or not it is in the same batch."""
    with store.job('a') as job:
        assert list(job.claim(tasks, once=True)) == list(dict.fromkeys(tasks))
        assert list(job.claim(iter(tasks), once=True)) == []


@pytest.mark.any_store
def test_once_in_two_threads_takes_each_task_once(store: Store) -> None:
    """A task that one thread has finished is not in the other thread's batch any more, although that has claimed it."""
    with store.job('a', config={'heartbeat_timeout_sec': 600}) as job:
        out: list[str] = []
        tasks = [f't{number}' for number in range(2000)]
        threads = [threading.Thread(target=lambda: out.extend(job.claim(tasks, once=True))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SEC)
        assert sorted(out) == sorted(tasks)


@pytest.mark.any_store
def test_once_claims_again_what_came_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose fence has risen since its claim may have been completed by the node in between: it is claimed again."""
    monkeypatch.setattr('jobsync._worker.claim_loop._BATCH_SEC', 3600.0)
    with store.job('a') as job:
        out, risen = [], set[str]()
        fence, record = job._task_log.fence, job._task_log.claims.record_owned
        monkeypatch.setattr(job._task_log, 'fence', lambda key, token: (fence(key, token), key in risen))

        def comes_back(key: str) -> None:
            assert key in store.claims
            store.handle.append_audits('other', [key], job.date)
            risen.add(key)

        def record_owned(tasks: Mapping[str, int], *, alone: bool = False) -> Claimed | None:
            claimed = record(tasks, alone=alone)
            if 'b5' in tasks and 'b5' not in risen:
                comes_back('b5')  # just after its claim
            return claimed

        monkeypatch.setattr(job._task_log.claims, 'record_owned', record_owned)
        for task in job.claim([f'b{number}' for number in range(9)], once=True):
            out.append(task)
            if task == 'b3':  # b6 is in the same batch
                comes_back('b6')
        assert out == [f'b{number}' for number in range(9) if number not in {5, 6}]
        assert not {'b5', 'b6'} & set(in_flight(job._session.runtime.lease))  # type: ignore[union-attr]


@pytest.mark.any_store
def test_once_passes_over_what_another_thread_audits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has claimed the task already, and the answer to its claim says nothing of it."""
    monkeypatch.setattr('jobsync._worker.claim_loop._BATCH_SEC', 3600.0)
    with store.job('a') as job:
        out = []

        def complete() -> None:
            assert job.add_task('b5')
            job.write_audit()

        for task in job.claim([f'b{number}' for number in range(9)], once=True):
            out.append(task)
            if task == 'b3':  # b5 is in the same batch
                assert 'b5' in store.claims
                thread = threading.Thread(target=complete)
                thread.start()
                thread.join(DEADLINE_SEC)
                assert 'b5' in store.audits
        assert out == [f'b{number}' for number in range(9) if number != 5]


@pytest.mark.any_store
def test_once_follows_what_is_finished_as_it_begins(store: Store) -> None:
    """Another thread finishes a task amid the first reading of what is finished: it is not missed."""
    with store.job('a') as job:
        completions = job._task_log.completions

        class FinishedMeanwhile(set[str]):
            def update(self, *tasks: Iterable[str]) -> None:
                super().update(*tasks)
                if not completions.has('x'):
                    completions.add(['x'])

        finished = FinishedMeanwhile()
        completions.follow(finished)
        assert finished == {'x'}


@pytest.mark.any_store
def test_once_without_coordination(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store has as complete is passed over all the same."""
    with store.job('a', config={'enabled': False}) as job:
        store.handle.append_audits('b', ['x'], job.date)
        assert list(job.claim(['x', 'y'], once=True)) == ['y']
        assert list(job.claim(['x', 'y', 'z'], once=True)) == ['z']
    with Job('a', coordination_config=CoordinationConfig(enabled=False)) as job:
        assert list(job.claim(['x', 'y', 'x'], once=True)) == ['x', 'y']
        monkeypatch.setattr('jobsync._worker.completions._GATHER_SEC', 0)
        monkeypatch.setattr('jobsync._worker.claim_loop._MOST_COMPLETED', 0)  # what is forgotten here is on record nowhere
        assert list(job.claim(['x', 'y', 'x'], batch=1, once=True)) == ['x', 'y']


@pytest.mark.any_store
def test_once_is_a_flag(store: Store) -> None:
    """Anything else is refused before the loop begins."""
    with store.job('a') as job, pytest.raises(ConfigError):
        job.claim(['x'], once=1)  # type: ignore[arg-type]


@pytest.mark.any_store
def test_a_token_passes_on_after_the_completion_is_recorded(store: Store) -> None:
    """A finished task whose completion the store does not have yet is held like one in flight, and is not afterwards."""
    from jobsync import plugins
    from jobsync.backend import BackendOptions
    from jobsync.testing import Fault, FaultyBackend

    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job('a', config={'backend': backend}) as job:
        runtime = job._session.runtime
        assert runtime is not None
        backend.faults.append(Fault('append_audits', times=1, delay_sec=0.3))
        loop = job.claim(['x', 'y'])
        assert [next(loop), job.can_claim_task('x')] == ['x', True]
        thread = threading.Thread(target=lambda: list(loop))
        thread.start()
        wait_until(lambda: 'append_audits' in backend.calls, 'x is being recorded')
        if not store.audits:
            assert 'x' in runtime.lease.unrecorded
        thread.join(DEADLINE_SEC)
        assert sorted(store.audits) == ['x', 'y']
        assert not runtime.lease.unrecorded
    backend.inner.close()


@pytest.mark.any_store
def test_a_task_that_is_finished_again_as_it_is_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is not held for a record that is never made."""
    with store.job('a') as job:
        runtime, log = job._session.runtime, job._task_log
        assert runtime is not None
        release = log.completions._on_recorded

        def released_and_finished_again(keys: Sequence[str]) -> None:
            release(keys)
            monkeypatch.setattr(log.completions, '_on_recorded', release)
            for key in keys:
                log.finish(key, log.begun(key))

        monkeypatch.setattr(log.completions, '_on_recorded', released_and_finished_again)
        assert list(job.claim(['x'])) == ['x']
        assert store.audits == ['x']
        assert not runtime.lease.unrecorded
