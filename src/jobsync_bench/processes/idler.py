"""A node with default settings and no tasks, which reports its cost."""

from __future__ import annotations

import time
from contextlib import closing

import psutil

from jobsync import CoordinationConfig, Job, plugins
from jobsync.testing.faults import FaultyBackend
from jobsync_bench.processes.serving import order, serve

__all__ = ['main']

_WAIT_SEC = 60


def main(url: str, namespace: str, node: str, nodes: int) -> None:
    """Enter, and serve requests until the end of the input."""
    process = psutil.Process()
    config = CoordinationConfig(appname=namespace, backend=url, minimum_nodes=nodes)
    with closing(FaultyBackend(plugins.connect(url, config.options))) as backend:  # no faults: the wrapper counts calls
        imported = process.memory_info().rss
        config = CoordinationConfig(appname=namespace, backend=backend, minimum_nodes=nodes)
        with Job(node, coordination_config=config, wait_on_enter=_WAIT_SEC) as job:
            serve({
                'leads': job.am_i_leader,
                'cost': lambda: {
                    'calls': sum(call != 'wait' for call in backend.calls),
                    'readings': backend.calls.count('read_assignment'),
                    'cpu': time.process_time(),
                    'memory': (process.memory_info().rss - imported) / 1e6,
                },
            })  # fmt: skip


if __name__ == '__main__':
    main(**order())
