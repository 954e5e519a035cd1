"""One node of ``idle.py``, ours or the peer's, in that one's own environment. Each line of input names a figure to answer.

``leads``, ``tokens``, ``cpu`` (seconds), ``mb`` (memory above the imports); ours also ``calls`` and ``readings``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.compare import serve
from benchmarks.rivals.peer import settings


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def ours(url: str, name: str, wait_on_enter: float) -> None:
    from jobsync import CoordinationConfig, Job, plugins
    from jobsync.testing.faults import FaultyBackend

    with closing(FaultyBackend(plugins.connect(url, CoordinationConfig().options))) as backend:  # without faults, it counts
        figures = {
            'calls': lambda: float(sum(call != 'wait' for call in backend.calls)),
            'readings': lambda: float(backend.calls.count('read_assignment')),
        }
        run(Job, name, CoordinationConfig(backend=backend), wait_on_enter, figures)


def peer(port: str, role: str, wait_on_enter: float) -> None:
    import psycopg  # noqa: F401  (the peer imports it when it connects)

    from jobsync import CoordinationConfig, Job

    run(Job, role, CoordinationConfig(**settings(port, role)), wait_on_enter, {})


def run(job_type: Any, name: str, config: object, wait_on_enter: float, figures: dict[str, Callable[[], float]]) -> None:
    """Enter, and answer until there is no more input."""
    imported = resident_mb()
    with job_type(name, coordination_config=config, wait_on_enter=wait_on_enter) as job:
        figures |= {
            'leads': lambda: float(job.am_i_leader()),
            'tokens': lambda: float(len(job.my_tokens)),
            'cpu': time.process_time,
            'mb': lambda: resident_mb() - imported,
        }
        serve(name, lambda line: figures[line]())


if __name__ == '__main__':
    {'ours': ours, 'peer': peer}[sys.argv[1]](sys.argv[2], sys.argv[3], float(sys.argv[4]))
