"""A worker whose tasks do nothing: all that it costs is what jobsync costs."""

from __future__ import annotations

import time
from typing import Any

from jobsync import CoordinationConfig, Job
from jobsync.bench.members.serving import order, serve

__all__ = ['main']

_WAIT_SEC = 60


def claim(job: Job, first: int, count: int) -> dict[str, Any]:
    """Offer tasks to ``claim``, and say which of them were ours, and when it began and ended on the clock that all share."""
    began = time.monotonic()
    done = list(job.claim(range(first, first + count)))
    return {'began': began, 'ended': time.monotonic(), 'done': done}


def main(url: str, namespace: str, node: str, tokens: int, nodes: int) -> None:
    """Enter, and work until there is no more input."""
    config = CoordinationConfig(backend=url, appname=namespace, total_tokens=tokens, minimum_nodes=nodes)
    with Job(node, coordination_config=config, wait_on_enter=_WAIT_SEC) as job:
        serve({
            'claim': lambda first, count: claim(job, first, count),
            'tokens': lambda: len(job.my_tokens),
        })  # fmt: skip


if __name__ == '__main__':
    main(**order())
