"""Workers that call ``can_claim_task`` again and again, and log the answers.

Each sweep has one task of every tenth token. The log is that of ``jobsync.testing.worker_log``: ``tokens`` when the answers have
changed, ``seen`` after every sweep.

Each worker is a fork of one process, which has imported what they need: to start an interpreter takes longer than to join. That
process takes orders, and logs when a worker ``started`` and when it ``ended``. At the end of its input it kills all workers, so
no worker outlives the process that wants it.

This module is run by its path, and imports only what every version of ``jobsync`` has, so it measures other versions too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
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
    """Import the backend's driver. That reaches no server, and starts no thread."""
    from jobsync import plugins
    from jobsync.backend import BackendOptions

    plugins.connect(url, BackendOptions()).close()


def work(where: dict[str, Any], node: str, path: str, options: Sequence[str]) -> None:
    """Enter, and stay until the end of the input. ``where`` has the arguments of ``CoordinationConfig`` for the store."""
    from jobsync import CoordinationConfig, Job

    config = CoordinationConfig(**where, total_tokens=TOTAL)
    log = Log(Path(path))
    job = Job(node, coordination_config=config, wait_on_enter=_WAIT_ON_ENTER_SEC)
    asked = tasks(job)
    pause_sec = _CALM_PAUSE_SEC if 'calm' in options else _PAUSE_SEC
    threading.Thread(target=watch, args=(job, asked, log, pause_sec), daemon=True).start()
    log.write('entering', t=now())
    with job:
        log.write('entered', t=now())
        while os.read(0, 1):
            pass
        log.write('leaving', t=now())
    log.write('left', t=now())


class Workers:
    """The workers of this process, which are forks of it."""

    def __init__(self, where: dict[str, Any], log: Log) -> None:
        self._where, self._log = where, log
        self._names: dict[int, str] = {}
        """The name of each worker that has not ended, by its process id."""
        self._inputs: dict[str, int] = {}
        """The other end of the input of each worker that is not to leave."""

    def take(self, verb: str, *arguments: Any) -> None:
        """Take an order: ``start`` or ``leave``."""
        if verb == 'start':
            self.start(*arguments)
        else:
            self.leave(*arguments)

    def start(self, node: str, path: str, errors: str, options: Sequence[str]) -> None:
        """Start a worker."""
        given, kept = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(given, [kept, *self._inputs.values()], errors, node, path, options)
        os.close(given)
        self._names[pid], self._inputs[node] = node, kept
        self._log.write('started', node=node, pid=pid)

    def _become(self, given: int, others: Sequence[int], errors: str, *arguments: Any) -> None:
        """Be a worker, to the end of the process."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in others:  # else a worker's input would be open for as long as those who came later live
                os.close(each)
            output = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            for number, each in enumerate((given, output, output)):
                os.dup2(each, number)
            work(self._where, *arguments)
            status = 0
        except BaseException:  # noqa: BLE001  (nothing of a worker may go on as the process that it is a fork of)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def leave(self, node: str) -> None:
        """Let a worker leave."""
        os.close(self._inputs.pop(node))

    def reap(self) -> None:
        """Log the ends of workers."""
        while self._names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            node = self._names.pop(pid)
            self._log.write('ended', t=now(), node=node, status=os.waitstatus_to_exitcode(status))
            if node in self._inputs:
                self.leave(node)

    def kill(self) -> None:
        """Kill all workers."""
        for pid in self._names:
            os.kill(pid, signal.SIGKILL)
        while self._names:
            self._names.pop(os.wait()[0])


def main(path: str) -> None:
    """Take orders until the end of the input. The first line of the input has the arguments of ``CoordinationConfig`` as JSON."""
    awake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    unread, workers = b'', None
    events = select.poll()
    for each in (0, awake):
        events.register(each, select.POLLIN | select.POLLHUP)
    while True:
        ready = {number for number, _ in events.poll()}
        if awake in ready:
            os.read(awake, 4096)
        if workers is not None:
            workers.reap()
        if 0 not in ready:
            continue
        if not (some := os.read(0, 2**16)):
            break
        *lines, unread = (unread + some).split(b'\n')
        for line in lines:
            if workers is None:
                workers = prepared(json.loads(line), Log(Path(path)))
                continue
            workers.take(*json.loads(line))
    if workers is not None:
        workers.kill()


def prepared(where: dict[str, Any], log: Log) -> Workers:
    """Import what the workers need, and return them: none yet."""
    import jobsync  # noqa: F401

    if 'backend' in where:
        drivers(where['backend'])
    return Workers(where, log)


if __name__ == '__main__':
    main(*sys.argv[1:])
