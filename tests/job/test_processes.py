"""Real processes: many at once, killed ones, and one that is stopped and goes on."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading

import pytest
from tests.job.processes import Worker, workers
from tests.job.samples import load, loads, overlaps, owned_at
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync.cluster import Cluster

CRASH = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': 2}
NEVER_SEC = 3000
"""A heartbeat timeout that no test sees the end of: what passes on without it passes on because the death is known."""
PROCESSES = 10


@pytest.mark.full  # that processes open an absent store at once is part of the contract, on each
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


@pytest.mark.parametrize('leads', [pytest.param(False, marks=pytest.mark.any_store), True])
def test_killed(shared_store: Store, leads: bool) -> None:
    """Where its death is not known, the tokens of a killed process are owned again after its timeout, if it followed or led."""
    started: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        for name in ('victim', 'other') if leads else ('other', 'victim'):
            started[name] = Worker(shared_store.url, name, 'sample', known_death=False, **CRASH)
            stack.enter_context(workers(started[name]))
            started[name].wait_until_said('entered')
        wait_until(lambda: loads(*started.values()) == [TOKENS // 2] * 2, 'both have their share')
        started['victim'].process.kill()
        wait_until(lambda: load(started['other']) == TOKENS, 'all tokens are owned again')
    assert overlaps(*started.values()) == []


@pytest.mark.any_store
def test_killed_together(shared_store: Store) -> None:
    """The tokens of a leader and a follower that are killed together are owned again at once, and the name is free at once."""
    names = ['w1', 'w2', 'w3']
    started = {name: Worker(shared_store.url, name, 'sample', heartbeat_timeout_sec=NEVER_SEC) for name in names}
    with workers(*started.values()):
        for worker in started.values():
            worker.wait_until_said('entered')
        wait_until(lambda: loads(*started.values()) == [TOKENS // 3] * 3, 'all have their share')
        with contextlib.closing(Cluster(shared_store.url)) as cluster:
            leader = next(node['name'] for node in cluster.nodes() if node['is_leader'])
        survivor, other = sorted(set(names) - {leader})
        for victim in (leader, other):
            started[victim].process.kill()
        wait_until(lambda: load(started[survivor]) == TOKENS, 'all tokens are owned again')
        again = Worker(shared_store.url, other, 'sample', heartbeat_timeout_sec=NEVER_SEC)
        with workers(again):
            wait_until(lambda: loads(started[survivor], again) == [TOKENS // 2] * 2, 'both have their share')
    assert [overlaps(one, two) for one, two in itertools.combinations([*started.values(), again], 2)] == [[]] * 6


def test_stopped_and_continued(shared_store: Store) -> None:
    """A process that is stopped for longer than its timeout never owns a token that another has, before, then or after."""
    one, two = (Worker(shared_store.url, name, 'sample', **CRASH) for name in ('one', 'two'))
    with workers(one, two):
        one.wait_until_said('entered')
        two.wait_until_said('entered')
        for stopped, goes_on in ((one, two), (two, one)):
            wait_until(lambda: loads(one, two) == [TOKENS // 2] * 2, 'both have their share')
            stopped.stop()
            wait_until(lambda goes_on=goes_on: load(goes_on) == TOKENS, 'one owns everything')  # type: ignore[misc]
            threading.Event().wait(0.3)
            stopped.process.send_signal(signal.SIGCONT)
        wait_until(lambda: loads(one, two) == [TOKENS // 2] * 2, 'both have their share')
    assert len(owned_at(one.said)) > 2
    assert len(owned_at(two.said)) > 2
    assert overlaps(one, two) == []
