"""A worker that asks which tasks are its own, over and over, and logs what it hears.

It calls ``can_claim_task`` for one task of every tenth token. Its log is that of ``jobsync.testing.worker_log``: ``tokens`` when
the answers have changed, ``seen`` after every sweep. It leaves when its standard input is closed, so no worker outlives the
process that started it.

It is run by its path, and imports nothing of ours but what every ``jobsync`` has: other versions are watched by it as well.
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
"""One token in so many is asked for."""
TOTAL = 10_000
_PAUSE_SEC = 0.02
_WAIT_ON_ENTER_SEC = 5
_FAST: dict[str, Any] = dict.fromkeys(
    ('heartbeat_interval_sec', 'rebalance_check_interval_sec', 'dead_node_check_interval_sec',
     'token_refresh_initial_interval_sec', 'token_refresh_steady_interval_sec'),
    1,
) | {'heartbeat_timeout_sec': 3}  # fmt: skip


def now() -> float:
    """Seconds of the clock that all processes of this host share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Log:
    """Lines, each with one ``write`` to the kernel: nothing is lost with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **fields: object) -> None:
        """Append one event."""
        os.write(self._fd, json.dumps({'what': what, **fields}).encode() + b'\n')


def tasks(job: Any) -> dict[int, str]:
    """A task for each token that is asked for."""
    found: dict[int, str] = {}
    for task in map('task-{}'.format, count()):
        token = job.task_to_token(task)
        if token % EVERY == 0:
            found.setdefault(token, task)
            if len(found) == TOTAL // EVERY:
                return found
    raise AssertionError


def watch(job: Any, asked: dict[int, str], log: Log) -> None:
    """Sweep for as long as the process lives."""
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
        time.sleep(_PAUSE_SEC)


def drivers(url: str) -> None:
    """Import what the backend needs: that is a part of a process's start, not of its join. Others have done it by now."""
    from jobsync import plugins
    from jobsync.backend import BackendOptions

    plugins.connect(url, BackendOptions()).close()


def main(node: str, path: str, *options: str) -> None:
    """Enter, and stay until there is no more input. Its first line: what ``CoordinationConfig`` is told of the store, as JSON."""
    from jobsync import CoordinationConfig, Job

    where: dict[str, Any] = json.loads(sys.stdin.readline())
    config = CoordinationConfig(**where, total_tokens=TOTAL, **(_FAST if 'fast' in options else {}))
    if 'backend' in where:
        drivers(where['backend'])
    log = Log(Path(path))
    job = Job(node, coordination_config=config, wait_on_enter=_WAIT_ON_ENTER_SEC)
    asked = tasks(job)
    threading.Thread(target=watch, args=(job, asked, log), daemon=True).start()
    log.write('entering', t=now())
    with job:
        log.write('entered', t=now())
        sys.stdin.read()
        log.write('leaving', t=now())
    log.write('left', t=now())


if __name__ == '__main__':
    main(*sys.argv[1:])
