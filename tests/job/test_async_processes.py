"""Processes on an event loop: signals, a loop that is blocked, and a process that is stopped."""

from __future__ import annotations

import signal

import pytest
from tests.job.processes import AsyncWorker, workers
from tests.job.samples import loads, overlaps, owned_at
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

pytestmark = pytest.mark.any_store

CRASH = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': 2}
PATIENT = {'heartbeat_interval_sec': 1, 'heartbeat_timeout_sec': 600}


@pytest.mark.parametrize('mode', ['claim', 'wait'])
def test_a_signal_ends_the_loop(shared_store: Store, mode: str) -> None:
    """At the first signal ``async for`` ends, also while it waits for its source; the block ends in good order."""
    with shared_store.job('a', config=PATIENT) as other:
        worker = AsyncWorker(shared_store.url, 'worker', mode, **PATIENT)
        with workers(worker):
            worker.wait_until_said('entered' if mode == 'claim' else 'waiting')
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, ''.join(worker.errors)
        assert [line['state'] for line in worker.said][-2:] == ['over', 'left']
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


def test_a_second_signal_ends_the_block(shared_store: Store) -> None:
    """It raises ``SystemExit`` in whatever the worker is at, and the tokens are given back all the same."""
    with shared_store.job('a', config=PATIENT) as other:
        worker = AsyncWorker(shared_store.url, 'worker', 'busy', **PATIENT)
        with workers(worker):
            worker.wait_until_said('busy')
            worker.process.send_signal(signal.SIGTERM)
            wait_until(lambda: len(other.my_tokens) == TOKENS - 1, 'what the worker is not busy with is back')
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() == 128 + signal.SIGTERM, ''.join(worker.errors)
        assert 'left' not in [line['state'] for line in worker.said]
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


def test_a_signal_while_entering(shared_store: Store) -> None:
    """The block is not entered: the process ends as if it had been, with nothing left behind."""
    worker = AsyncWorker(shared_store.url, 'worker', 'claim', minimum_nodes=5, **PATIENT)
    with workers(worker):
        wait_until(lambda: shared_store.node_names == ['worker'], 'it waits')
        worker.process.send_signal(signal.SIGINT)
        assert worker.wait() == 0, ''.join(worker.errors)
    assert [node.last_heartbeat for node in shared_store.handle.snapshot().nodes] == [None]


def test_blocked_loops_that_are_stopped_and_continued(shared_store: Store) -> None:
    """A blocked event loop keeps its tokens far beyond the lease; a stopped process never owns what another has."""
    one, two = (AsyncWorker(shared_store.url, name, 'sample', **CRASH) for name in ('one', 'two'))
    with workers(one, two):
        for worker in (one, two):
            worker.wait_until_said('entered')
        wait_until(lambda: loads(one, two) == [TOKENS // 2] * 2, 'both have their share')
        wait_until(
            lambda: any(until - since > 3 * CRASH['heartbeat_timeout_sec'] for _, since, until in owned_at(one.said)), 'kept'
        )
        assert loads(one, two) == [TOKENS // 2] * 2
        one.stop()
        wait_until(lambda: loads(two) == [TOKENS], 'the other owns everything')
        one.process.send_signal(signal.SIGCONT)
        wait_until(lambda: loads(one, two) == [TOKENS // 2] * 2, 'both have their share')
    assert overlaps(one, two) == []
