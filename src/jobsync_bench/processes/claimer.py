"""A worker whose tasks do nothing: all that it costs is what jobsync costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jobsync import CoordinationConfig, Job
from jobsync_bench.processes.serving import order, serve

__all__ = ['LOOPS', 'main']

_WAIT_SEC = 60


def claim(job: Job, tasks: range) -> list[int]:
    """Offer them to ``claim`` in a sequence, so that they are recorded many at a time."""
    return list(job.claim(tasks))


def stream(job: Job, tasks: range) -> list[int]:
    """Offer them in an iterator, whose next task may be long in coming: they are recorded one at a time."""
    return list(job.claim(iter(tasks)))


def steps(job: Job, tasks: range) -> list[int]:
    """Ask, add and audit, as the guide does without ``claim``."""
    done = [task for task in tasks if job.can_claim_task(task) and job.add_task(task)]
    job.write_audit()
    return done


LOOPS: dict[str, Callable[[Job, range], list[int]]] = {'claim': claim, 'stream': stream, 'steps': steps}


def work(job: Job, loop: str, first: int, count: int) -> dict[str, Any]:
    """Which of the tasks were ours, and when it began and ended on the clock that all share."""
    began = time.monotonic()
    done = LOOPS[loop](job, range(first, first + count))
    return {'began': began, 'ended': time.monotonic(), 'done': done}


def main(url: str, namespace: str, node: str, tokens: int, nodes: int) -> None:
    """Enter, and work until there is no more input."""
    config = CoordinationConfig(backend=url, appname=namespace, total_tokens=tokens, minimum_nodes=nodes)
    with Job(node, coordination_config=config, wait_on_enter=_WAIT_SEC) as job:
        serve({
            'work': lambda loop, first, count: work(job, loop, first, count),
            'tokens': lambda: len(job.my_tokens),
        })  # fmt: skip


if __name__ == '__main__':
    main(**order())
