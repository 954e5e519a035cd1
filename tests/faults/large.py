"""A cluster of hundreds of nodes, on the timings that jobsync has by default: ``python -m tests.faults --nodes 200``."""

from __future__ import annotations

import resource

from tests.faults.catalogue import FAULTS
from tests.faults.cluster import Stage
from tests.support import forks

from jobsync import CoordinationConfig

__all__ = ['LARGE', 'SETTLE_SEC', 'faults_of_many', 'large_stage', 'make_room']

LARGE = 50
"""From so many workers on a cluster is a large one."""
SETTLE_SEC = 180.0
NAMES = (
    'kill a follower', 'kill the leader', 'kill a quarter', 'stop a quarter for 1.5 timeouts', 'stop several for about a timeout',
    'join', 'leave', 'the leader leaves', 'cut a worker off', 'the store killed', 'the store stopped', 'the store read-only',
)  # fmt: skip
_DESCRIPTORS = 200
"""Of the harness, for each worker: its lines keep every connection that it tries while the store is stopped."""


def large_stage(workers: int) -> Stage:
    """Return a cluster of many workers. Their traces are left out: see docs/guarantees.md."""
    usual = CoordinationConfig()
    return Stage(
        workers=workers,
        tokens=5 * workers,
        tasks=5,
        interval_sec=usual.heartbeat_interval_sec,
        timeouts=(usual.heartbeat_timeout_sec,),
        timings={},
        traced=False,
        pace=workers / 8,
        answers_sec=workers / 20,
        limit_sec=900.0,
    )


def faults_of_many(store: str) -> tuple[str, ...]:
    """Return the faults that a large cluster on a store goes through, in the order of the table."""
    return tuple(each.name for each in FAULTS.values() if each.name in NAMES and store in each.stores)


def make_room(workers: int) -> None:
    """Raise the limit of open files, and begin workers as forks: each would spend a second of a processor on its imports."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _DESCRIPTORS * workers
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough if most == resource.RLIM_INFINITY else min(enough, most), most))
    forks.prefer(True)
