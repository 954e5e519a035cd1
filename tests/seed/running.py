"""Running the guide's examples in a namespace with what they leave to the reader."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jobsync.database as db
from jobsync import CoordinationConfig, Job, Task

TASKS = list(range(100))


class Namespace(SimpleNamespace):
    """Names that an example uses, and those that it defines."""

    def run(self, code: str) -> None:
        """Run an example's code here."""
        exec(compile(code, '<guide>', 'exec'), vars(self))  # noqa: S102 - the user's own document


def namespace(config: object, **names: Any) -> Namespace:
    """What the guide imports and assumes; what the example calls to do its work is noted in ``done``, in order.

    ``names`` go before it.
    """
    done: list[Any] = []

    def do_tasks(job: Job) -> None:
        done.extend(task for task in TASKS if job.can_claim_task(task) and job.add_task(task))
        job.write_audit()

    def take() -> list[int]:
        return list(TASKS)

    given: dict[str, Any] = {
        **dict.fromkeys(('get_pending_tasks', 'get_all_tasks', 'get_task_list', 'get_tasks', 'get_new_tasks'), take),
        **dict.fromkeys(('process_task', 'process_gpu_task'), done.append),
        'process_tasks': do_tasks,
        'compute_result': lambda task: f'result of {task}',
    }
    common = {'Job': Job, 'Task': Task, 'CoordinationConfig': CoordinationConfig, 'db': db, 'time': time}
    times = {'datetime': datetime, 'timedelta': timedelta}
    logger = logging.getLogger('guide')
    return Namespace(config=config, logger=logger, done=done, **(common | times | given | names))
