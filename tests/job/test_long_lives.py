"""What a job keeps that runs for months."""

from __future__ import annotations

import gc
import time
from itertools import count, islice

import pytest

from jobsync import CoordinationConfig
from jobsync._worker import claim_loop
from jobsync._worker.claim_loop import ClaimLoop
from jobsync.testing import VirtualCluster
from jobsync.testing.virtual_time import VirtualQueue


@pytest.mark.parametrize('retention_days', [None, 1])
def test_no_bell_rings_unheard(jobsync_cluster: VirtualCluster, retention_days: int | None) -> None:
    """Each call of a node wakes its other threads, and a thread that is not there is not woken: rings would gather for ever."""
    job = jobsync_cluster.join('a', coordination_config=CoordinationConfig(retention_days=retention_days))
    jobsync_cluster.advance(3000)
    runtime = job._session.runtime
    assert runtime is not None
    bells = list(runtime._bells.values())
    assert all(isinstance(bell, VirtualQueue) and len(bell._items) < 10 for bell in bells)
    assert len(bells) == len([what for what in runtime._threads if what in {'heartbeat', 'work', 'upkeep'}])


def test_a_loop_over_an_endless_source_forgets_what_is_completed(
    jobsync_cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``once`` each task is done once, however long ago, and a loop that runs for months remembers only some of them."""
    monkeypatch.setattr(claim_loop, '_MOST_COMPLETED', 100)
    job, done = jobsync_cluster.join('a'), list[str]()
    source = (f'task {number % 1500}' for number in count())
    for task in job.claim(islice(source, 4000), batch=50, once=True):
        time.sleep(0.01)
        done.append(task)
        loops = [each for each in gc.get_objects() if isinstance(each, ClaimLoop)] if len(done) % 500 == 0 else []
        assert all(len(loop._completed) <= 250 for loop in loops)
    assert sorted(done) == sorted(f'task {number}' for number in range(1500))
