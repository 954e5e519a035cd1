"""Claims and audits."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable

import pytest
from tests.job.stores import Store, foreign_task, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import BackendUnavailable, ConfigError, JobsyncError, Task, plugins
from jobsync._core.records import HistoryKind
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend

DAY = dt.date(2024, 1, 18)


def test_claim_is_written_before_add_task_returns(store: Store) -> None:
    """``add_task`` returns True with the claim on record."""
    with store.job() as job:
        assert job.add_task(Task('x'))
        assert store.claims == ['x']
        assert job.add_task(7)
        assert store.claims == ['x', '7']


def test_audit_marks_what_was_added(store: Store) -> None:
    """``write_audit`` completes the tasks added since the last time, once; ``get_audit`` gives them newest first."""
    with store.job(date=DAY) as job:
        job.write_audit()
        job.add_task(1)
        job.add_task(2)
        assert job.get_audit() == []
        job.write_audit()
        job.add_task(3)
        job.write_audit()
        job.write_audit()
        rows = job.get_audit()
    assert rows[0]['item'] == '3'
    assert sorted(row['item'] for row in rows) == ['1', '2', '3']
    assert {(row['node'], row['date']) for row in rows} == {('a', DAY)}


@pytest.mark.any_store
def test_a_task_of_another_node(store: Store) -> None:
    """For a task that is not this node's, ``add_task`` and ``set_claim`` say False and write nothing."""
    with store.job('a') as a, store.job('b'):
        task = foreign_task(a)
        assert not a.add_task(task)
        assert not a.set_claim(task)
        a.write_audit()
        assert store.claims == store.audits == []


def test_evicted(store: Store) -> None:
    """A node that was evicted and does not know it yet gets False, and nothing is written."""
    with store.job('a', config={'heartbeat_interval_sec': 20, 'heartbeat_timeout_sec': 60}) as job:
        backend = store.handle
        assert job.can_claim_task(1)
        ref = next(node.ref for node in backend.snapshot().nodes)
        backend.deregister(ref)
        assert not job.add_task(1)
        assert store.claims == []


def test_audit_after_eviction(store: Store) -> None:
    """What a node finished is accepted from it, though it was evicted meanwhile."""
    with store.job('a') as a, store.job('b') as b:
        task = owned_tasks(b)[0]
        assert b.add_task(task)
        store.evict('b')
        b.write_audit()
        assert store.audits == [str(task)]
        assert [row['node'] for row in a.get_audit()] == ['b']


@pytest.mark.any_store
def test_set_claim(store: Store) -> None:
    """``set_claim`` records the beginning of one task or of several; they are not audited by ``write_audit``."""
    with store.job() as job:
        assert job.set_claim(1)
        assert job.set_claim([2, Task('x')])
        assert job.set_claim(range(3, 5))
        job.write_audit()
        assert sorted(store.claims) == ['1', '2', '3', '4', 'x']
        assert store.audits == []


def test_a_later_days_claim_is_not_lost(store: Store) -> None:
    """The same task at two dates is claimed twice, and complete at one it is still incomplete at the other."""
    later = DAY + dt.timedelta(days=1)
    with store.job(date=DAY) as job:
        job.add_task(1)
        job.write_audit()
        assert job.get_incomplete_tasks(0) == []
    with store.job(date=dt.datetime(2024, 1, 19, 6, 0)) as job:
        job.add_task(1)
        assert job.get_incomplete_tasks(0) == [Task(1)]
        assert job.get_audit() == []
    assert [row.date for row in store.handle.history(HistoryKind.CLAIM) if hasattr(row, 'date')] == [later, DAY]


def test_incomplete_by_age(store: Store) -> None:
    """``get_incomplete_tasks`` gives what was begun longer ago than asked: five minutes, a timedelta, or seconds."""
    with store.job() as job:
        job.add_task(1)
        assert job.get_incomplete_tasks() == []
        assert job.get_incomplete_tasks(dt.timedelta(0)) == [Task(1)]
        assert job.get_incomplete_tasks(0.0) == [Task(1)]
        for bad in ('5', -1, True, None):
            with pytest.raises(ConfigError, match='older_than'):
                job.get_incomplete_tasks(bad)  # type: ignore[arg-type]


def test_claims_of_the_dead_stay(store: Store) -> None:
    """What a node began and did not complete is found by the next one, until somebody audits it."""
    with store.job('b') as b:
        b.add_task(1)
        b.add_task(2)
    with store.job('a') as a:
        wait_until(lambda: store.node_names == ['a'], 'b is forgotten')
        found = a.get_incomplete_tasks(0)
        assert {task.id for task in found} == {'1', '2'}
        assert a.add_task(found[0])
        a.write_audit()
        assert a.get_incomplete_tasks(0) == found[1:]


@pytest.mark.any_store
def test_exception_completes_nothing(store: Store) -> None:
    """A block that ends by an exception leaves its tasks incomplete."""

    def use() -> None:
        with store.job('a') as job:
            job.add_task(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    with store.job('a') as job:
        assert store.audits == []
        assert job.get_incomplete_tasks(0) == [Task(1)]


@pytest.mark.any_store
def test_audit_while_the_store_is_away(store: Store) -> None:
    """``write_audit`` that finds no store raises and forgets nothing: the next one writes it."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job(config={'backend': backend, 'op_timeout_sec': 0.2}) as job:
        assert job.add_task(1)
        backend.faults.append(Fault('append_audits', times=1_000_000))
        with pytest.raises(BackendUnavailable):
            job.write_audit()
        assert store.audits == []
        backend.faults.clear()
        job.write_audit()
        assert store.audits == ['1']
    backend.inner.close()


@pytest.mark.any_store
def test_claim_waits_for_the_store(store: Store) -> None:
    """``add_task`` asks again when the store fails for a moment, before or after it has done its part."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job(config={'backend': backend}) as job:
        backend.faults.append(Fault('append_claims', times=3))
        assert job.add_task(1)
        assert store.claims == ['1']
        job._session.caller._patience_sec = (
            0.0  # for how long other calls are repeated: a claim is for as long as the lease lasts
        )
        backend.faults.append(Fault('append_claims', times=3))
        assert job.add_task(2)
    backend.inner.close()


@pytest.mark.any_store
def test_claim_of_a_lost_lease(store: Store) -> None:
    """``add_task`` waits no longer than the lease lasts, and then says False."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job(config={'backend': backend}) as job:
        backend.faults.append(Fault(times=1_000_000))
        assert not job.add_task(1)
        assert not job.can_claim_task(1)
        backend.faults.clear()
        wait_until(lambda: job.can_claim_task(1), 'the lease is back')
        assert job.get_coordination_status()['open_tasks'] == 0
    assert store.claims == []
    backend.inner.close()


@pytest.mark.any_store
def test_the_end_of_a_task_wakes_what_hands_its_token_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of the node are woken once nothing of it holds its token, not at their next heartbeat."""
    with store.job('a') as job:
        runtime, rings = job._session.runtime, list[bool]()
        assert runtime is not None
        lease, wake = runtime.lease, runtime.wake

        def woken() -> None:
            rings.append(not lease.in_flight and not lease.unrecorded)
            wake()

        monkeypatch.setattr(type(runtime.agent), 'is_asked', True)
        monkeypatch.setattr(runtime, 'wake', woken)
        assert job.add_task(1)
        job.complete(1)
        assert rings[-1]
        rings.clear()
        with contextlib.suppress(ZeroDivisionError), job.task(2):
            raise ZeroDivisionError
        assert rings
        assert rings[-1]


@pytest.mark.any_store
def test_a_task_in_flight_holds_its_token(store: Store) -> None:
    """A token is not handed over while a task of it is in flight, and goes as soon as that is audited."""
    with store.job('a') as a:
        held = {a.task_to_token(task): task for task in range(1000)}
        for token in range(TOKENS // 2 - 5):
            del held[token]
        assert all(a.add_task(task) for task in held.values())
        with store.job('b', config={'token_distribution_timeout_sec': 30}, wait_on_enter=0.5) as b:
            assert not b.my_tokens & held.keys()
            a.write_audit()
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')


@pytest.mark.any_store
def test_outside_the_block(store: Store) -> None:
    """Outside the block what needs the store raises an error that says so; but a loop that is overtaken just gets False."""
    job = store.job()
    before: list[Callable[[], object]] = [lambda: job.add_task(1), job.write_audit, job.get_audit, lambda: job.nodes]
    after: list[Callable[[], object]] = [
        job.write_audit, job.get_incomplete_tasks, job.list_quarantined, job.clear_all_locks, lambda: job._cn
    ]  # fmt: skip
    for use in before:
        with pytest.raises(JobsyncError, match='outside its with block'):
            use()
    with job:
        pass
    assert not job.add_task(1)
    assert not job.set_claim([1, 2])
    for use in after:
        with pytest.raises(JobsyncError, match='outside its with block'):
            use()
