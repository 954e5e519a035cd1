"""``can_claim_task``."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Hashable
from pathlib import Path

import pytest
from tests.job.stores import Store, foreign_task, owned_tasks
from tests.job.waiting import wait_until
from tests.support.timings import FAST, TOKENS

from jobsync import CoordinationConfig, Job, Task, plugins
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend

ODD_IDS: list[Hashable] = [
    0,
    -1,
    10**30,
    10**18,
    'a b',
    "o'hara",
    'ü☃\n',
    ('a', 1),
    frozenset({1}),
    uuid.UUID(int=7),
    Path('/tmp/x'),  # noqa: S108  (only an id)
]


def test_one_owner_for_every_id(store: Store) -> None:
    """Of two nodes exactly one says yes to any id, bare or as a ``Task``, and both agree on its token."""
    with store.job('a') as a, store.job('b') as b:
        for task in [*range(500), *(f'task-{number}' for number in range(500)), *ODD_IDS]:
            answers = [job.can_claim_task(form) for job in (a, b) for form in (task, Task(task))]
            assert answers in ([True, True, False, False], [False, False, True, True]), task
            assert a.task_to_token(task) == b.task_to_token(Task(task)) in range(TOKENS)


@pytest.mark.any_store
def test_an_int_and_its_text_are_one_task(store: Store) -> None:
    """A task is known by the text of its id."""
    with store.job('a') as a, store.job('b'):
        assert all(a.can_claim_task(number) == a.can_claim_task(str(number)) for number in range(200))


@pytest.mark.any_store
def test_outside_the_block(store: Store) -> None:
    """Before the block is entered and after it is left the answer is False."""
    job = store.job()
    assert not job.can_claim_task(1)
    with job:
        assert job.can_claim_task(1)
    assert not job.can_claim_task(1)
    assert job.my_tokens == frozenset()


@pytest.mark.any_store
def test_lease_over(store: Store) -> None:
    """While the lease is over the answer is False; when the store is back it is True for the same tokens."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job(config={'backend': backend}) as job:
        before = job.my_tokens
        backend.faults.append(Fault(times=1_000_000))
        wait_until(lambda: not job.can_claim_task(1), 'the lease ends')
        assert job.my_tokens == frozenset()
        assert not job.am_i_healthy()
        assert not job.am_i_leader()
        backend.faults.clear()
        wait_until(lambda: job.can_claim_task(1), 'the lease is back')
        assert job.my_tokens == before
        assert job.get_coordination_status()['state'] == 'member'
    backend.inner.close()


def test_store_outage_moves_nothing(store: Store) -> None:
    """Two nodes that miss the store for longer than their leases go on with the tokens they had."""
    backends = [FaultyBackend(plugins.connect(store.url, BackendOptions())) for _ in range(2)]
    with store.job('a', config={'backend': backends[0]}) as a, store.job('b', config={'backend': backends[1]}) as b:
        before = a.my_tokens, b.my_tokens
        for backend in backends:
            backend.faults.append(Fault(times=1_000_000))
        wait_until(lambda: not a.my_tokens and not b.my_tokens, 'both leases end')
        for backend in backends:
            backend.faults.clear()
        wait_until(lambda: (a.my_tokens, b.my_tokens) == before, 'both have what they had')
    for backend in backends:
        backend.inner.close()


def test_evicted(store: Store) -> None:
    """A node that was evicted answers False from its next heartbeat on, registers anew and owns tokens again."""
    with store.job('a') as a, store.job('b') as b:
        version = b.token_version
        store.evict('b')
        wait_until(lambda: len(a.my_tokens) == TOKENS // 2 == len(b.my_tokens) and b.token_version > version, 'b is back')
        assert not a.my_tokens & b.my_tokens


def test_disabled(tmp_path: Path) -> None:
    """With coordination off every task is this node's, and there is no thread and no file."""
    threads = set(threading.enumerate())
    with Job('w1', coordination_config=CoordinationConfig(enabled=False)) as job:
        assert all(job.can_claim_task(task) for task in [1, 'x', Task(3), *ODD_IDS])
        assert set(threading.enumerate()) <= threads
        assert job.add_task(1)
        job.write_audit()
        assert job.am_i_healthy()
        assert not job.am_i_leader()
        assert job.nodes == []
        assert job.get_active_nodes() == job.get_dead_nodes() == []
        assert job.get_coordination_status()['state'] == 'disabled'
        assert not job._coordination_enabled
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_store
def test_disabled_with_a_backend(store: Store) -> None:
    """With coordination off and a backend configured, the audit is written there and no node registers."""
    threads = set(threading.enumerate())
    with store.job('w1', config={'enabled': False}) as job:
        assert job.add_task(1)
        assert job.add_task('two')
        job.write_audit()
        assert {row['item'] for row in job.get_audit()} == {'1', 'two'}
        assert set(threading.enumerate()) <= threads
    assert store.node_names == []


@pytest.mark.any_store
def test_unhashable_ids_are_named(store: Store) -> None:
    """An id that cannot be one raises an error that shows it."""
    with store.job() as job:
        for bad in ([1, 2], {'a': 1}, object(), 'nul\0'):
            with pytest.raises(ValueError, match='task id'):
                job.can_claim_task(bad)


@pytest.mark.any_store
def test_no_call_to_the_store(store: Store) -> None:
    """``can_claim_task`` and ``my_tokens`` answer while every call to the store hangs."""
    backend = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    with store.job(config={'backend': backend}) as job, store.job('b'):
        mine, foreign = owned_tasks(job)[0], foreign_task(job)
        calls = backend.calls[:]
        answers = [job.can_claim_task(mine) for _ in range(1000)] + [job.can_claim_task(foreign) for _ in range(1000)]
        assert answers == [True] * 1000 + [False] * 1000
        assert set(backend.calls[len(calls) :]) <= {'heartbeat', 'snapshot', 'wait', 'read_assignment', 'read_locks'}
    backend.inner.close()


def test_fast_settings_are_valid() -> None:
    """The timings of these tests are a configuration like any other."""
    assert CoordinationConfig(**FAST).lease_sec > 2
