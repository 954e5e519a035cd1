"""One worker of ``rolling.py``: ``python -m benchmarks.rolling_worker ORDER``, the order being ``Order`` as JSON.

A *round* of tasks begins every second, at the same moment for all workers, and is *open* for some seconds. Each worker offers
the tasks of all open rounds to ``job.claim``, over and over, but for those that it knows to be done: whoever has done a task
puts a file of its name into the folder ``done``. Its log is that of ``jobsync.testing.worker_log``. SIGTERM ends it all.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from jobsync import CoordinationConfig, Job
from jobsync.testing.worker_log import LogWriter, log_tokens, now

__all__ = ['READ_SEC', 'ROUND_SEC', 'Load', 'Order', 'round_of', 'tasks_of', 'work']

ROUND_SEC = 1.0
READ_SEC = 0.02
_WORK_SEC = 0.004


@attrs.frozen
class Order:
    """The order for a worker."""

    node: str
    run: str
    """Distinguishes processes of one name; the name of the log."""
    folder: str
    origin: float
    """When the first round begins, on the clock of the logs."""
    tasks: int
    """Tasks of each round."""
    open_sec: float
    """How long a round is open."""
    settings: Mapping[str, Any]
    """Arguments of ``CoordinationConfig``."""
    pause_sec: float = 0.05
    """Seconds between two looks at the tasks."""


def tasks_of(number: int, count: int) -> list[str]:
    """Return the tasks of a round."""
    return [f'{number}-{task}' for task in range(count)]


def round_of(task: str) -> int:
    """Return the number of a task's round."""
    return int(task.partition('-')[0])


class Load:
    """The tasks that are not done, as far as this worker has read."""

    def __init__(self, order: Order) -> None:
        self._order, self._done = order, Path(order.folder, 'done')
        self.pause_sec = order.pause_sec
        self._pending: dict[int, set[str]] = {}
        self._next = max(0, int((now() - order.origin - order.open_sec) / ROUND_SEC))

    def offered(self, job: Job) -> list[str]:
        """Return the tasks of open rounds that this node owns and that are not done."""
        elapsed = now() - self._order.origin
        while self._next * ROUND_SEC <= elapsed:
            self._pending[self._next] = set(tasks_of(self._next, self._order.tasks))
            self._next += 1
        for number in [number for number in self._pending if number * ROUND_SEC + self._order.open_sec < elapsed]:
            del self._pending[number]
        mine = [task for pending in self._pending.values() for task in pending if job.can_claim_task(task)]
        for task in mine:
            if (self._done / task).exists():
                self._pending[round_of(task)].discard(task)
        return [task for task in mine if task in self._pending[round_of(task)]]

    def finish(self, task: str) -> None:
        """Record that a task is done."""
        (self._done / task).touch()
        self._pending.get(round_of(task), set()).discard(task)


def work(job: Job, load: Load, log: LogWriter) -> None:
    """Do tasks until the node is to leave."""
    for task in _until_it_leaves(job, load):
        log.write('begin', task=task)
        time.sleep(_WORK_SEC)
        load.finish(task)
        log.write('end', task=task)


def _until_it_leaves(job: Job, load: Load) -> Iterator[str]:
    while not job.is_leaving:
        yield from job.claim(load.offered(job))
        time.sleep(load.pause_sec)


def main(text: str) -> None:
    order = Order(**json.loads(text))
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(name)s %(message)s')
    log = LogWriter(Path(order.folder, f'{order.run}.log'))
    config = CoordinationConfig(**order.settings)
    job = Job(order.node, coordination_config=config, wait_on_enter=10, handle_signals=True)
    threading.Thread(target=log_tokens, args=(job, log, READ_SEC, threading.Event()), daemon=True).start()
    log.write('start', node=order.node, pid=os.getpid())
    with job:
        log.write('entered')
        work(job, Load(order), log)
    log.write('left')


if __name__ == '__main__':
    main(sys.argv[1])
