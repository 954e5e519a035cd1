"""The guide's signal handler: ``job.__exit__(None, None, None)``, then ``sys.exit(0)``, at any moment."""

from __future__ import annotations

import random
import signal
import threading

import pytest
from tests.job.processes import Worker, workers
from tests.job.stores import TOKENS, Store
from tests.job.waiting import wait_until

PATIENT = {'heartbeat_interval_sec': 20, 'heartbeat_timeout_sec': 600}
"""With these no token changes hands because somebody is taken for dead."""


@pytest.mark.parametrize('mode', ['add', 'audit', 'log', 'claim', 'idle'])
def test_in_the_block(shared_store: Store, mode: str) -> None:
    """Wherever in the loop the signal comes: exit status 0, and the tokens are another's at once."""
    stop_in_the_block(shared_store, mode)


def test_in_a_statement(sql_store: Store) -> None:
    """The same in a loop that runs SQL of its own."""
    stop_in_the_block(sql_store, 'sql')


def stop_in_the_block(shared_store: Store, mode: str) -> None:
    with shared_store.job('a', config=PATIENT) as other:
        for number in range(3):
            worker = Worker(shared_store.url, f'worker-{number}', mode, **PATIENT)
            with workers(worker):
                worker.wait_until_said('entered')
                threading.Event().wait(random.uniform(0, 0.2))
                worker.process.send_signal(signal.SIGTERM)
                assert worker.wait() == 0, ''.join(worker.errors)
            assert 'could not leave in good order' not in ''.join(worker.errors)
            wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


@pytest.mark.parametrize('after_sec', [0.0, 0.01, 0.03, 0.06, 0.1])
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


def test_while_it_waits_for_others(shared_store: Store) -> None:
    """The same while the cluster is short of ``minimum_nodes``."""
    worker = Worker(shared_store.url, 'worker', 'idle', minimum_nodes=5, **PATIENT)
    with workers(worker):
        wait_until(lambda: shared_store.node_names == ['worker'], 'it waits')
        worker.process.send_signal(signal.SIGINT)
        assert worker.wait() == 0, ''.join(worker.errors)
    assert [node.last_heartbeat for node in shared_store.handle.snapshot().nodes] == [None]


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
