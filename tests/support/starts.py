"""The tasks that a node has in flight, by their keys."""

from __future__ import annotations

from collections.abc import Iterable

from jobsync._core.agent.lease import Lease
from jobsync._worker.task_log import TaskLog


def in_flight(lease: Lease) -> list[str]:
    """Return the keys of the tasks in flight, in the order of their starts, one for each start."""
    return [start.key for start in lease.in_flight]


def finish(lease: Lease, keys: Iterable[str]) -> None:
    """End all starts of these tasks."""
    wanted = set(keys)
    lease.finish([start for start in list(lease.in_flight) if start.key in wanted])


def abandon(log: TaskLog, key: str) -> None:
    """Take back all starts of a task."""
    for start in [*log._open.of(key), *log._checked_out.of(key)]:
        log.take_back(start)
