"""A claim that takes longer than a hand-over may wait for it: the task is the next owner's by then."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.job.slow_claims import slow_claims
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.starts import in_flight


@pytest.mark.any_store
def test_a_task_that_passed_on_while_its_claim_was_under_way_is_not_begun(store: Store) -> None:
    """``add_task`` returns False once another node owns the task, though the claim is recorded and the lease is valid (P1)."""
    with (
        slow_claims(store) as (slow, is_under_way, may_go_on),
        store.job('a', config={'backend': slow, 'handover_timeout_sec': 0.5}) as a,
        ThreadPoolExecutor(1) as pool,
    ):
        begun = pool.submit(a.add_task, 'x')
        assert is_under_way.wait(120)
        with store.job('b') as b:
            b.register_task_lock('x', 'b')
            wait_until(lambda: b.can_claim_task('x'), 'the task passes on')
            may_go_on.set()
            assert not begun.result(120)
            assert b.can_claim_task('x')
            assert b.add_task('x')
            b.complete('x')


@pytest.mark.any_store
def test_a_thread_that_is_refused_takes_no_task_from_another(store: Store) -> None:
    """Two threads add one task, and a hand-over begins between: the one refused leaves the other's task in flight (P1)."""
    with (
        slow_claims(store) as (slow, is_under_way, may_go_on),
        store.job('a', config={'backend': slow, 'handover_timeout_sec': 600}) as a,
        store.job('b') as b,
        ThreadPoolExecutor(1) as pool,
    ):
        task = next(f't{number}' for number in range(1000) if a.can_claim_task(f't{number}'))
        refused = pool.submit(a.add_task, task)
        assert is_under_way.wait(120)
        assert a.add_task(task)
        b.register_task_lock(task, 'b')
        wait_until(lambda: not a.can_claim_task(task), 'the task is to pass on')
        may_go_on.set()
        assert not refused.result(120)
        assert a._session.lease is not None
        assert task in in_flight(a._session.lease)
        assert not b.can_claim_task(task)
        a.complete(task)
        wait_until(lambda: b.can_claim_task(task), 'the task passes on')
