"""One worker of ``signals.py``: ``python -m benchmarks.signals_worker URL NAME PLACE HANDLER SETTINGS``.

It says ``entering``, ``entered``, ``leaving`` and ``left``, a word a line, and is nearly always at the ``PLACE`` where the
signal is to fall. ``HANDLER`` is ``guide``, the handler of the user's guide, or ``own``: ``handle_signals=True``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from itertools import count
from types import FrameType
from typing import Any

from jobsync import CoordinationConfig, Job

__all__: list[str] = []


def say(word: str) -> None:
    os.write(1, f'{word}\n'.encode())


class PlainHandler(logging.Handler):
    """A log without Python's buffer, which refuses a signal handler that interrupts a write and would write too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line at once."""
        os.write(2, f'{self.format(record)}\n'.encode())


def work(job: Job, place: str) -> None:
    """Work in the given place until the signal; return if the place is not in the block."""
    match place:
        case 'enter' | 'exit':
            return
        case 'add_task':
            for task in count():
                job.add_task(task)
        case 'write_audit':
            for task in count():
                if job.can_claim_task(task) and job.add_task(task):
                    job.write_audit()
        case 'claim':
            for _ in job.claim(count()):
                time.sleep(0.001)
        case 'claim batch':
            while not job.is_leaving:
                for _ in job.claim(range(200)):
                    time.sleep(0.0005)
        case _:
            time.sleep(3600)


def callback(*_: object) -> None:
    """Take some time, so that the signal comes during the callback."""
    logging.getLogger('worker').info('called')
    time.sleep(0.05)


def main(url: str, name: str, place: str, handler: str, settings: str) -> None:
    logging.basicConfig(level=logging.INFO, handlers=[PlainHandler()])
    job: Job | None = None

    def leave(number: int, _: FrameType | None) -> None:
        logging.getLogger('worker').info('received signal %d', number)
        if handler == 'guide' and job is not None:
            job.__exit__(None, None, None)
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    told: dict[str, Any] = dict.fromkeys(('on_assign', 'on_revoke', 'on_lost'), callback) if place == 'callback' else {}
    config = CoordinationConfig(backend=url, **json.loads(settings))
    job = Job(name, coordination_config=config, handle_signals=handler == 'own', **told)
    say('entering')
    with job:
        say('entered')
        work(job, place)
        say('leaving')
    say('left')


if __name__ == '__main__':
    main(*sys.argv[1:])
