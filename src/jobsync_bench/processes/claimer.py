"""A worker whose tasks do nothing, so all of its cost is that of jobsync."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from jobsync import CoordinationConfig, Job
from jobsync_bench.processes.serving import order, serve

__all__ = ['LOOPS', 'main']

_WAIT_SEC = 60


def claim(job: Job, tasks: range) -> Iterator[int]:
    """Pass the tasks to ``claim`` as a sequence, so that many are recorded at a time."""
    return job.claim(tasks)


def stream(job: Job, tasks: range) -> Iterator[int]:
    """Pass the tasks to ``claim`` as an iterator, so that one is recorded at a time."""
    return job.claim(iter(tasks))


def batch(job: Job, tasks: range) -> Iterator[int]:
    """Pass the tasks to ``batch``, which ends when all are complete, wherever they were done."""
    return job.batch(tasks)


def steps(job: Job, tasks: range) -> Iterator[int]:
    """Check, add and audit the tasks, as the guide does without ``claim``."""
    yield from (task for task in tasks if job.can_claim_task(task) and job.add_task(task))
    job.write_audit()


LOOPS: dict[str, Callable[[Job, range], Iterator[int]]] = {'claim': claim, 'stream': stream, 'batch': batch, 'steps': steps}


def work(job: Job, loop: str, first: int, count: int) -> dict[str, Any]:
    """Return the tasks that were done, with the begin, the last task and the end on the clock that all processes share."""
    began = last = time.monotonic()
    done = []
    for task in LOOPS[loop](job, range(first, first + count)):
        done.append(task)
        last = time.monotonic()
    return {'began': began, 'last': last, 'ended': time.monotonic(), 'done': done}


def main(url: str, namespace: str, node: str, tokens: int, nodes: int) -> None:
    """Enter, and serve requests until the end of the input."""
    config = CoordinationConfig(backend=url, appname=namespace, total_tokens=tokens, minimum_nodes=nodes)
    with Job(node, coordination_config=config, wait_on_enter=_WAIT_SEC) as job:
        serve({
            'work': lambda loop, first, count: work(job, loop, first, count),
            'tokens': lambda: len(job.my_tokens),
        })  # fmt: skip


if __name__ == '__main__':
    main(**order())
