"""A worker that calls ``can_claim_task`` again and again, and logs the answers.

Each sweep has one task of every tenth token. The log is that of ``jobsync.testing.worker_log``: ``tokens`` when the answers have
changed, ``seen`` after every sweep. The worker leaves when its standard input is closed, so no worker outlives the process that
started it.

This module is run by its path, and imports only what every version of ``jobsync`` has, so it measures other versions too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

__all__ = ['EVERY', 'TOTAL', 'now']

EVERY = 10
"""One token in this many has a task in each sweep."""
TOTAL = 10_000
_PAUSE_SEC, _CALM_PAUSE_SEC = 0.02, 0.2
_WAIT_ON_ENTER_SEC = 5


def now() -> float:
    """Return the seconds of the clock that all processes of this host share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Log:
    """Appends lines, each with one ``write`` to the kernel, so nothing is lost with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **fields: object) -> None:
        """Append one event."""
        os.write(self._fd, json.dumps({'what': what, **fields}).encode() + b'\n')


def tasks(job: Any) -> dict[int, str]:
    """Return a task for each token of a sweep."""
    found: dict[int, str] = {}
    for task in map('task-{}'.format, count()):
        token = job.task_to_token(task)
        if token % EVERY == 0:
            found.setdefault(token, task)
            if len(found) == TOTAL // EVERY:
                return found
    raise AssertionError


def watch(job: Any, asked: dict[int, str], log: Log, pause_sec: float) -> None:
    """Sweep until the end of the process."""
    known: set[int] = set()
    number = 0
    while True:
        before = now()
        owned = {token for token, task in asked.items() if job.can_claim_task(task)}
        after = now()
        if owned != known or number == 0:
            number += 1
            log.write('tokens', set=number, gained=sorted(owned - known), lost=sorted(known - owned))
            known = owned
        log.write('seen', set=number, before=before, after=after, mine=len(job.my_tokens))
        time.sleep(pause_sec)


def drivers(url: str) -> None:
    """Import the backend's driver, because that belongs to the start of the process and not to its join."""
    from jobsync import plugins
    from jobsync.backend import BackendOptions

    plugins.connect(url, BackendOptions()).close()


def main(node: str, path: str, *options: str) -> None:
    """Enter, and stay until the end of the input. Its first line has the arguments of ``CoordinationConfig`` as JSON."""
    from jobsync import CoordinationConfig, Job

    where: dict[str, Any] = json.loads(sys.stdin.readline())
    config = CoordinationConfig(**where, total_tokens=TOTAL)
    if 'backend' in where:
        drivers(where['backend'])
    log = Log(Path(path))
    job = Job(node, coordination_config=config, wait_on_enter=_WAIT_ON_ENTER_SEC)
    asked = tasks(job)
    pause_sec = _CALM_PAUSE_SEC if 'calm' in options else _PAUSE_SEC
    threading.Thread(target=watch, args=(job, asked, log, pause_sec), daemon=True).start()
    log.write('entering', t=now())
    with job:
        log.write('entered', t=now())
        sys.stdin.read()
        log.write('leaving', t=now())
    log.write('left', t=now())


if __name__ == '__main__':
    main(*sys.argv[1:])
