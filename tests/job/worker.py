"""A worker process for the tests: ``python -m tests.job.worker URL NAME MODE [SETTING=VALUE …]``.

Its first lines of output say where it is; its last one, if it comes to that, how it ended. In mode ``sample`` it writes a
line for every sample of the tokens it may claim, with the time of the system's monotonic clock before and after.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from tests.support.timings import FAST

import jobsync.database as db
from jobsync import AsyncJob, CoordinationConfig, Job
from jobsync.errors import UnsupportedOperation


def say(**words: Any) -> None:
    """One line of JSON, written whole: two threads may say something, and a signal handler too."""
    os.write(1, json.dumps(words).encode() + b'\n')


class PlainHandler(logging.Handler):
    """A log on stderr without Python's buffer, which refuses a signal handler that interrupts a write and would write too."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a line, as ``logging`` has it from Python 3.13 on.

        Before, the lock stays taken for ever if a signal comes just after it was taken, and the signal's handler raises.
        """
        assert self.lock is not None
        passes = bool(self.filter(record))
        if passes:
            with self.lock:
                self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line at once."""
        os.write(2, f'{self.format(record)}\n'.encode())


class EndlessHandler(PlainHandler):
    """A log that takes its time, and whose lock is therefore nearly always held."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line slowly."""
        super().emit(record)
        time.sleep(0.01)


def loop(job: Job, mode: str) -> None:
    """What the worker does in its block, for ever."""
    logger = logging.getLogger('worker')
    pause = threading.Event()
    task = 0
    while True:
        task += 1
        match mode:
            case 'add':
                job.add_task(task)
            case 'audit':
                if job.can_claim_task(task):
                    job.add_task(task)
                    job.write_audit()
            case 'log':
                logger.info('at work on %d', task)
            case 'claim':
                job.can_claim_task(task)
            case 'sql':
                with contextlib.suppress(UnsupportedOperation):
                    db.select(job._cn, 'SELECT * FROM sync_token')
            case 'transaction':
                with job._cn.transaction():
                    db.execute(job._cn, 'INSERT INTO pairs (one, two) VALUES (%s, %s)', task, 0)
                    db.execute(job._cn, 'UPDATE pairs SET two = one WHERE one = %s', task)
            case 'loop':
                for each in job.claim(itertools.count()):
                    say(task=each)
                    pause.wait(0.001)
                return
            case 'batch':
                for name in job.batch(f'task-{number}' for number in range(300)):
                    say(task=name)
                    pause.wait(0.01)
                say(state='complete')
                return
            case 'poison':
                for name in job.batch(f'task-{number}' for number in range(1000)):
                    if name == 'task-500':
                        os.kill(os.getpid(), signal.SIGKILL)
                return
            case 'stuck':
                for each in job.claim(itertools.count()):
                    say(state='stuck', task=each)
                    while True:
                        pause.wait(1)
            case 'sample':
                sample(job)
                if job.is_leaving:
                    return
                pause.wait(0.005)
            case _:
                pause.wait(1)


_known: frozenset[int] | None = None


def sample(job: Job | AsyncJob) -> None:
    """Note which tokens may be claimed now, if any: with the times before and after asking."""
    global _known
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    tokens = job.my_tokens
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    if tokens is _known:
        say(seen=[before, after])
    else:
        _known = tokens
        say(seen=[before, after], tokens=sorted(tokens))


def slow(*_: object) -> None:
    """A callback that takes its time and logs."""
    logging.getLogger('worker').info('called')
    time.sleep(0.02)


def hang(*_: object) -> None:
    """A callback that does not return."""
    say(state='hanging')
    threading.Event().wait()


def fill_stderr() -> None:
    """Write into the pipe as much as it takes, so that the next write waits for a reader."""
    os.set_blocking(2, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(2, b'.' * 1024)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(2, b'.')
    os.set_blocking(2, True)


def main() -> None:
    """Run until a signal comes."""
    url, name, mode, *settings = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, handlers=[EndlessHandler() if mode == 'log' else PlainHandler()])
    fields = {key: json.loads(value) for key, value in (setting.split('=', 1) for setting in settings)}
    job_instance: Job | None = None

    def signal_handler(signum: int, frame: FrameType | None) -> None:
        """As the user's guide has it."""
        logging.getLogger('worker').info('Received signal %d, shutting down gracefully', signum)
        if job_instance:
            job_instance.__exit__(None, None, None)
        sys.exit(0)

    second_job: Job | None = None
    second = fields.pop('second', None)

    def change(signum: int, frame: FrameType | None) -> None:
        """Become this program anew, or have the second job leave."""
        if second_job is None:
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - a program that becomes itself
        second_job.__exit__(None, None, None)

    signal.signal(signal.SIGUSR1, change)
    wait_on_enter = fields.pop('wait_on_enter', 120)
    handle_signals = fields.pop('handle_signals', False)
    told: dict[str, Any] = {'on_assign': slow, 'on_revoke': slow, 'on_lost': slow} if fields.pop('callbacks', False) else {}
    if fields.pop('hanging', False):
        told['on_revoke'] = hang
    unread = fields.pop('unread', False)
    if not handle_signals:
        signal.signal(signal.SIGTERM, signal_handler)
        signal.signal(signal.SIGINT, signal_handler)
    config = CoordinationConfig(backend=url, **(FAST | fields))
    job_instance = Job(name, wait_on_enter=wait_on_enter, coordination_config=config, handle_signals=handle_signals, **told)
    if not handle_signals:
        say(state='entering')
    if second is not None:
        second_job = Job(second, wait_on_enter=wait_on_enter, coordination_config=config)
        second_job.__enter__()
    with job_instance as job:
        say(state='entered', tokens=len(job.my_tokens))
        if unread:
            fill_stderr()
            say(state='full')
        loop(job, mode)
    say(state='left')


if __name__ == '__main__':
    main()
