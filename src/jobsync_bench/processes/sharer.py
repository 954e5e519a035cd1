"""A node without tasks, which enters on request and reports its share of the pool, its memory and its CPU."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from jobsync import CoordinationConfig, Job, plugins
from jobsync_bench.processes.serving import order, serve

__all__ = ['main']

_WAIT_SEC = 120


def peak_mb() -> float:
    """Return the most resident memory that this process has had so far."""
    status = Path('/proc/self/status')
    if status.exists():  # not ``ru_maxrss``: on Linux it begins with the memory of the program that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith('VmHWM'))
        return 1024 * int(line.split()[1]) / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == 'darwin' else 1024 * most / 1e6


def main(url: str, namespace: str, node: str, tokens: int) -> None:
    """Serve requests until the end of the input."""
    config = CoordinationConfig(backend=url, appname=namespace, total_tokens=tokens, minimum_nodes=1)
    with ExitStack() as stack:
        with closing(plugins.connect(url, config.options)):  # imports the driver
            imported = peak_mb()
        job = Job(node, coordination_config=config, wait_on_enter=_WAIT_SEC)

        def state() -> dict[str, Any]:
            runtime = job._session.runtime  # ``my_tokens`` would make a set of them
            return {
                'share': runtime.lease.ownership.count if runtime is not None and runtime.status.settled else -1,
                'peak': peak_mb(),
                'imported': imported,
                'cpu': time.process_time(),
            }

        serve({'enter': lambda: stack.enter_context(job) and None, 'state': state})


if __name__ == '__main__':
    main(**order())
