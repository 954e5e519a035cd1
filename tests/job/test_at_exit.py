"""A program that ends without leaving: what is left is freed as the interpreter ends, when no other thread runs any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from jobsync import CoordinationConfig, Job, JobsyncError

class Worker:
    def __init__(self, url):
        config = CoordinationConfig(backend=url, minimum_nodes=1, max_attempts=3)
        self.job = Job('a', coordination_config=config).__enter__()

    def __del__(self):
        print('freed', sys.is_finalizing())
        try:
            {freed}
        except JobsyncError as error:
            print(error)
        print(self.job.is_leaving)

worker = Worker(sys.argv[1])
job = worker.job
{body}
"""
REFUSAL = 'the store cannot be called any more, since the interpreter is ending: leave the job before that\n'
WHAT = {
    'a call': ("job.add_task('x')", 'self.job.write_audit()', REFUSAL + 'False\n'),
    'a task': ('', "print(self.job.can_claim_task('x'), self.job.add_task('x'))", 'True False\nFalse\n'),
    'leaving': ("for _ in job.claim(['x']): pass", 'self.job.__exit__(None, None, None)', 'True\n'),
    'a loop': ("next(loop := iter(job.claim(['x', 'y'])))", 'pass', 'False\n'),
}
"""What the program does, what its object does as it is freed, and what it prints then."""


@pytest.mark.parametrize('what', WHAT)
def test_it_ends(tmp_path: Path, what: str) -> None:
    """It waits for no thread and no lock, since no other thread runs; a call of the store is refused."""
    body, freed, printed = WHAT[what]
    program = PROGRAM.format(body=body, freed=freed)
    url = f'sqlite:///{tmp_path}/jobs.db'
    done = subprocess.run([sys.executable, '-c', program, url], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == f'freed True\n{printed}', done.stderr
    assert 'Exception ignored' not in done.stderr


LOOP_IN_A_THREAD = """
import asyncio, sys, threading
from jobsync import AsyncJob, CoordinationConfig

async def main():
    config = CoordinationConfig(backend=sys.argv[1], minimum_nodes=1)
    async with AsyncJob('a', coordination_config=config) as job:
        entered.set()
        while threading.main_thread().is_alive():
            await asyncio.sleep(0.01)
        async for task in job.claim(['x', 'y']):
            print(task)
    print(job._job._session.runtime.status.phase.value)

entered = threading.Event()
threading.Thread(target=asyncio.run, args=[main()]).start()
entered.wait()
"""


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 3), reason='starts no thread once the main thread is over: gh-113964')
def test_an_event_loop_that_outlives_the_main_thread(tmp_path: Path) -> None:
    """Python waits for the thread of such a loop; its job goes on, and leaves in good order."""
    command = [sys.executable, '-c', LOOP_IN_A_THREAD, f'sqlite:///{tmp_path}/jobs.db']
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == 'x\ny\nleft\n', done.stderr


ENTERED_LATE = """
import threading
from jobsync import plugins
from jobsync.backend import BackendOptions

def connect():
    threading.main_thread().join()
    for url in ('redis://127.0.0.1:1', 'postgresql://127.0.0.1:1/jobs', 'etcd://127.0.0.1:1'):
        plugins.connect(url, BackendOptions()).close()
        print(url)

threading.Thread(target=connect).start()
"""


def test_drivers_are_imported_when_the_main_thread_is_over() -> None:
    """A program may end its main thread and enter in another one: redis-py imports a module that Python then refuses."""
    done = subprocess.run([sys.executable, '-c', ENTERED_LATE], capture_output=True, text=True, timeout=600, check=True)
    assert len(done.stdout.splitlines()) == 3, done.stderr
