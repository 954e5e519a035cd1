"""jobsync: many worker processes share a set of tasks, and exactly one answers yes to "is this task mine?".

from jobsync import CoordinationConfig, Job, Task

with Job('worker-01', coordination_config=CoordinationConfig(backend='sqlite:///jobs.db', minimum_nodes=2)) as job:
    for task_id in pending():
        task = Task(task_id)
        if job.can_claim_task(task) and job.add_task(task):
            work_on(task_id)
    job.write_audit()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jobsync._runtime.callbacks import RebalanceEvent
from jobsync._worker.singleton import Singleton, Turn
from jobsync._worker.ticks import Tick
from jobsync.config import CoordinationConfig
from jobsync.errors import (
    BackendNotFound,
    BackendUnavailable,
    ClusterTimeout,
    ConfigError,
    ConfigMismatch,
    JobsyncError,
    NodeNameInUse,
    NotOwned,
    SchemaMismatch,
    StaleFence,
    UnsupportedOperation,
    WrongProcess,
)
from jobsync.job import Job
from jobsync.rows import AuditRow, CoordinationStatus, LockRow, NodeRow, UnreadableRow
from jobsync.task import Task

if TYPE_CHECKING:
    from jobsync.aio import AsyncJob
    from jobsync.cluster import Cluster

__all__ = [
    'AsyncJob',
    'AuditRow',
    'BackendNotFound',
    'BackendUnavailable',
    'Cluster',
    'ClusterTimeout',
    'ConfigError',
    'ConfigMismatch',
    'CoordinationConfig',
    'CoordinationStatus',
    'Job',
    'JobsyncError',
    'LockRow',
    'NodeNameInUse',
    'NodeRow',
    'NotOwned',
    'RebalanceEvent',
    'SchemaMismatch',
    'Singleton',
    'StaleFence',
    'Task',
    'Tick',
    'Turn',
    'UnreadableRow',
    'UnsupportedOperation',
    'WrongProcess',
]


_LATE = {'AsyncJob': 'jobsync.aio', 'Cluster': 'jobsync.cluster'}
"""What is imported at its first use: asyncio takes longer to import than all of this package, and few workers need a cluster."""


def __getattr__(name: str) -> Any:
    """Import a name of ``_LATE`` at its first use."""
    if name not in _LATE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_LATE[name]), name)
