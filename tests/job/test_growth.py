"""What a job keeps that runs for months."""

from __future__ import annotations

import pytest

from jobsync import CoordinationConfig
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
