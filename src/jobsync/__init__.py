"""jobsync: many worker processes share a pile of tasks, and exactly one answers yes to "is this task mine?".

from jobsync import CoordinationConfig, Job, Task

with Job('worker-01', coordination_config=CoordinationConfig(backend='sqlite:///jobs.db', minimum_nodes=2)) as job:
    for task_id in pending():
        task = Task(task_id)
        if job.can_claim_task(task) and job.add_task(task):
            work_on(task_id)
    job.write_audit()
"""

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
    UnsupportedOperation,
    WrongProcess,
)
from jobsync.job import Job
from jobsync.runtime.callbacks import RebalanceEvent
from jobsync.task import Task

__all__ = [
    'BackendNotFound',
    'BackendUnavailable',
    'ClusterTimeout',
    'ConfigError',
    'ConfigMismatch',
    'CoordinationConfig',
    'Job',
    'JobsyncError',
    'NodeNameInUse',
    'NotOwned',
    'RebalanceEvent',
    'SchemaMismatch',
    'Task',
    'UnsupportedOperation',
    'WrongProcess',
]
