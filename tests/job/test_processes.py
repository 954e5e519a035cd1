"""Real processes: many at once, killed ones, and one that is stopped and goes on."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest
from tests.job.processes import Worker, workers
from tests.job.samples import load, loads, overlaps, owned_at
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

CRASH = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': 2}
PROCESSES = 10


@pytest.mark.any_store  # that processes open an absent store at once is part of the contract, on each
def test_ten_at_once_on_an_absent_store(shared_store: Store) -> None:
    """Ten processes started at once where there is nothing yet: all enter, with loads within one token."""
    total = 1003
    started = [
        Worker(shared_store.url, f'w{number}', minimum_nodes=PROCESSES, total_tokens=total, heartbeat_timeout_sec=20)
        for number in range(PROCESSES)
    ]
    with workers(*started):
        loads = [worker.wait_until_said('entered', 120)['tokens'] for worker in started]
    assert sum(loads) == total
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize('leads', [False, True])
def test_killed(shared_store: Store, leads: bool) -> None:
    """The tokens of a killed process are owned again after its timeout, whether it followed or led."""
    started: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        for name in ('victim', 'other') if leads else ('other', 'victim'):
            started[name] = Worker(shared_store.url, name, 'sample', **CRASH)
            stack.enter_context(workers(started[name]))
            started[name].wait_until_said('entered')
        wait_until(lambda: loads(*started.values()) == [TOKENS // 2] * 2, 'both have their share')
        started['victim'].process.kill()
        wait_until(lambda: load(started['other']) == TOKENS, 'all tokens are owned again')
    assert overlaps(*started.values()) == []


def test_stopped_and_continued(shared_store: Store) -> None:
    """A process that is stopped for longer than its timeout never owns a token that another has, before, then or after."""
    one, two = (Worker(shared_store.url, name, 'sample', **CRASH) for name in ('one', 'two'))
    with workers(one, two):
        one.wait_until_said('entered')
        two.wait_until_said('entered')
        for stopped, goes_on in ((one, two), (two, one)):
            wait_until(lambda: loads(one, two) == [TOKENS // 2] * 2, 'both have their share')
            stopped.process.send_signal(signal.SIGSTOP)
            wait_until(lambda goes_on=goes_on: load(goes_on) == TOKENS, 'one owns everything')  # type: ignore[misc]
            threading.Event().wait(0.3)
            stopped.process.send_signal(signal.SIGCONT)
        wait_until(lambda: loads(one, two) == [TOKENS // 2] * 2, 'both have their share')
    assert len(owned_at(one.said)) > 2
    assert len(owned_at(two.said)) > 2
    assert overlaps(one, two) == []
