"""A process that has too many open files goes on with those that it has."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.job.processes import ROOT
from tests.job.stores import Store
from tests.support.timings import FAST

from jobsync import CoordinationConfig, Job


def work(url: str) -> None:
    """Enter, then open no more files: begin a task, record it, register a lock, and leave."""
    with Job('a', coordination_config=CoordinationConfig(backend=url, **FAST), wait_on_enter=60) as job:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 + max(int(each.name) for each in Path('/proc/self/fd').iterdir()), most))
        with suppress(OSError):
            while True:
                os.open(os.devnull, os.O_RDONLY)
        assert job.add_task('task')
        job.write_audit()
        job.register_task_lock('locked', 'a', reason='a test')
        assert job.my_tokens


def test_a_job_goes_on_when_no_more_files_may_be_opened(shared_store: Store) -> None:
    """It reads the files of jobsync before: a later one could also be that of another version, installed meanwhile."""
    command = [sys.executable, '-m', 'tests.job.test_open_files', shared_store.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


if __name__ == '__main__':
    work(sys.argv[1])
