"""A node of the peer's with default settings and nothing to do, for the peer's own environment. Each line of input is a figure.

leads    whether it leads the cluster
tokens   how many tokens it has
cpu      seconds of CPU so far
mb       resident memory beyond what it was when everything had been imported, MB
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.libraries.peer import settings
from benchmarks.libraries.serving import serve


def resident_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def main(port: str, role: str, wait_on_enter: str) -> None:
    import psycopg  # noqa: F401  (the peer imports it when it connects)

    from jobsync import CoordinationConfig, Job

    imported = resident_mb()
    with Job(role, coordination_config=CoordinationConfig(**settings(port, role)), wait_on_enter=float(wait_on_enter)) as job:
        figures: dict[str, Callable[[], object]] = {
            'leads': job.am_i_leader,
            'tokens': lambda: len(job.my_tokens),
            'cpu': time.process_time,
            'mb': lambda: resident_mb() - imported,
        }
        serve(role, lambda line: figures[line]())


if __name__ == '__main__':
    main(*sys.argv[1:])
