"""A worker whose tasks do nothing, so all of its cost is that of jobsync."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jobsync import CoordinationConfig, Job
from jobsync_bench.processes.serving import order, serve

__all__ = ['LOOPS', 'main']

_WAIT_SEC = 60


def claim(job: Job, tasks: range) -> list[int]:
    """Pass the tasks to ``claim`` as a sequence, so that many are recorded at a time."""
    return list(job.claim(tasks))


def stream(job: Job, tasks: range) -> list[int]:
    """Pass the tasks to ``claim`` as an iterator, so that one is recorded at a time."""
    return list(job.claim(iter(tasks)))


def steps(job: Job, tasks: range) -> list[int]:
    """Check, add and audit the tasks, as the guide does without ``claim``."""
    done = [task for task in tasks if job.can_claim_task(task) and job.add_task(task)]
    job.write_audit()
    return done


LOOPS: dict[str, Callable[[Job, range], list[int]]] = {'claim': claim, 'stream': stream, 'steps': steps}


def work(job: Job, loop: str, first: int, count: int) -> dict[str, Any]:
    """Return the tasks that were done, with the begin and the end on the clock that all processes share."""
    began = time.monotonic()
    done = LOOPS[loop](job, range(first, first + count))
    return {'began': began, 'ended': time.monotonic(), 'done': done}


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
