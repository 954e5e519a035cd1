"""A finite set of tasks under joins, leaves and kills: how many tasks are done twice, and how many are left.

    python -m benchmarks.batches --rounds 20
    python -m benchmarks.batches --rounds 3 --store sqlite

In each round four processes work through 300 tasks with ``job.batch``. Two of them come and go: one joins late and leaves in
good order in the middle; one is killed at a random moment, and started again under its name. A task is done once its worker has
written a line; the worker that is killed may have done a task whose completion was not recorded, and only such a task may be
done again. ``files`` is the example of a backend of one's own, in ``examples/jobsync-files``; the memory store has one process.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.stores import KINDS

from benchmarks.libraries.process import ROOT
from jobsync import CoordinationConfig, Job
from jobsync.backend import Backend, BackendOptions
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

TASKS, TASK_SEC = 300, 0.02
STORES = ('sqlite', 'postgresql', 'redis', 'etcd', 'files')
_END_SEC = 300.0
_SETTINGS = {
    'total_tokens': 64,
    'minimum_nodes': 2,
    'heartbeat_interval_sec': 0.5,
    'heartbeat_timeout_sec': 3,
    'rebalance_delay_sec': 0.1,
    'rebalance_check_interval_sec': 1,
}


@contextmanager
def fresh(kind: str) -> Iterator[str]:
    """Provide the URL of an empty store, for the time of the block."""
    if kind == 'files':
        with tempfile.TemporaryDirectory(prefix='jobsync-files-') as folder:
            yield f'files://{folder}'
    else:
        with KINDS[kind].fresh() as url:
            yield url


def backend_of(url: str) -> str | Backend:
    """Return what ``CoordinationConfig`` takes: the example need not be installed."""
    if not url.startswith('files://'):
        return url
    sys.path.append(str(ROOT / 'examples' / 'jobsync-files' / 'src'))
    from jobsync_files import connect

    return connect(url, BackendOptions())


def work(url: str, name: str, log: str, most: int) -> None:
    """Be one worker: write a line for each task done, and leave in good order after ``most`` of them."""
    config = CoordinationConfig(backend=backend_of(url), **json.loads(json.dumps(_SETTINGS)))
    with Job(name, coordination_config=config) as job, Path(log).open('a', encoding='utf-8') as out:
        tasks = job.batch(range(TASKS))
        for number, task in enumerate(tasks, 1):
            time.sleep(TASK_SEC)
            out.write(f'{name} {task}\n')
            out.flush()
            if number >= most:
                job.complete(task)  # which leaving the loop would not say
                break


class Crew:
    """The processes of one round."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, most: int = 10**6) -> subprocess.Popen[bytes]:
        """Start a worker."""
        log = self._folder / f'{name}-{len(self.processes)}.log'
        command = [sys.executable, '-m', 'benchmarks.batches', '--worker', self._url, name, str(log), str(most)]
        process = subprocess.Popen(command, cwd=ROOT)
        self.processes.append(process)
        return process

    def done(self) -> list[tuple[str, str]]:
        """Return the log of each task that was done, and the task."""
        lines = ((log.name, line.split()) for log in self._folder.glob('*.log') for line in log.read_text().splitlines())
        return [(log, words[1]) for log, words in lines if len(words) == 2]


def play(url: str, killed: str) -> tuple[int, int, int]:
    """Play one round; return how many tasks were done twice, how many of these by the killed worker, and how many were left."""
    with tempfile.TemporaryDirectory(prefix='jobsync-batches-') as name:
        crew = Crew(url, Path(name))
        try:
            crew.start('w1')
            victim = crew.start(killed)
            crew.start('w3')
            time.sleep(random.uniform(0, 3))
            crew.start('w4', most=random.randrange(5, 40))
            while len(crew.done()) < random.randrange(20, 200):
                time.sleep(0.05)
            victim.kill()
            victim.wait()
            crew.start(killed)
            for process in crew.processes:
                process.wait(_END_SEC)
        finally:
            for process in crew.processes:
                process.kill()
        by_task: dict[str, list[str]] = defaultdict(list)
        for log, task in crew.done():
            by_task[task].append(log)
        twice = [logs for logs in by_task.values() if len(logs) > 1]
        theirs = sum(f'{killed}-1.log' in logs and Counter(logs).most_common(1)[0][1] == 1 for logs in twice)
        return len(twice), theirs, TASKS - len(by_task)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=STORES, action='append', help='this one only; may be given again')
    parser.add_argument('--rounds', type=int, default=20, help='rounds on each store')
    parser.add_argument('--seed', type=int, help='of the moments')
    parser.add_argument('--worker', nargs=4, metavar=('URL', 'NAME', 'LOG', 'MOST'), help='be a worker of a round')
    options = parser.parse_args(arguments)
    if options.worker:
        url, name, log, most = options.worker
        work(url, name, log, int(most))
        return
    random.seed(options.seed)
    rows, is_bad = [], False
    for kind in options.store or STORES:
        twice = theirs = left = 0
        for number in range(options.rounds):
            with fresh(kind) as url:
                found = play(url, 'w2')
            twice, theirs, left = twice + found[0], theirs + found[1], left + found[2]
            print(f'{kind}: round {number + 1} of {options.rounds}: {found}', file=sys.stderr, flush=True)
        is_bad = is_bad or twice != theirs or left > 0
        rows.append([kind, *map(str, (options.rounds, options.rounds * TASKS, twice - theirs, theirs, left))])
    columns = ['store', 'rounds', 'tasks', 'twice', "twice, the killed worker's", 'left']
    print(Machine.here(), table(columns, rows), sep='\n\n')
    sys.exit(is_bad)


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
