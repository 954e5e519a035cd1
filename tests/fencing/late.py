"""The story that fences are for, with real processes."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.fencing.late_worker import TASK
from tests.fencing.places import place
from tests.job.processes import Worker, workers

CRASH = {'heartbeat_interval_sec': 0.25, 'heartbeat_timeout_sec': 4}
"""How long the other waits for the first; and long enough for a busy machine not to end the first one's lease by itself."""


class LateWorker(Worker):
    """A process of ``tests.fencing.late_worker``."""

    module = 'tests.fencing.late_worker'


def tell_of_a_late_write(folder: Path, url: str) -> None:
    """A worker is stopped at work until another has the task and has written; then it goes on, and writes too late.

    The write is refused, with the fence that is higher in the message, and what the other wrote stays.
    """
    there = place(url)
    there.prepare(TASK)
    store = f'sqlite:///{folder}/jobs.db'
    first = LateWorker(store, 'first', url, word=f'{folder}/first', **CRASH)
    with workers(first):
        lower = first.wait_until_said('at work')['fence']
        first.stop()
        second = LateWorker(store, 'second', url, word=f'{folder}/second', **CRASH)
        with workers(second):
            higher = second.wait_until_said('at work')['fence']
            assert higher > lower
            (folder / 'second').touch()
            second.wait_until_said('accepted')
            assert there.read(TASK) == 'by second'
            (folder / 'first').touch()
            first.process.send_signal(signal.SIGCONT)
            error = first.wait_until_said('refused')['error']
        assert f'was not written under fence {lower}' in error
    assert there.read(TASK) == 'by second'
    there.close()
