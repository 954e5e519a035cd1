"""Threads that race: all start at one moment, and none may take longer than the deadline."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

__all__ = ['DEADLINE_SEC', 'LinesOfCalls', 'race']

DEADLINE_SEC = 60.0
"""The limit for anything that should happen at once. It ends a test that hangs; it measures nothing."""


NAME = 'jobsync-conformance'


class LinesOfCalls(logging.Handler):
    """Collects, in a ``with`` block, the lines from level WARNING that threads of ``race`` hand to ``logging`` themselves."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line, if the thread that hands it over is one of a test's."""
        if threading.current_thread().name.startswith(NAME):
            self._lines.append(f'{record.name}: {record.getMessage()}')

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        logging.getLogger().removeHandler(self)
        # A handler may wait for a disk or for a pipe that is full, and with it a heartbeat.
        assert kind or not self._lines, f'a call logs in its own thread, where an EventLogger is right: {self._lines}'


def race(jobs: Sequence[Callable[[], object]], deadline_sec: float = DEADLINE_SEC) -> list[object]:
    """Run each job in a thread of its own, all released together; return the result or the exception of each, in order."""
    barrier = threading.Barrier(len(jobs))
    results = dict[int, object]()

    def run(number: int, job: Callable[[], object]) -> None:
        barrier.wait(DEADLINE_SEC)
        try:
            results[number] = job()
        except Exception as error:  # noqa: BLE001 - the test judges it
            results[number] = error

    threads = [threading.Thread(target=run, args=pair, name=f'{NAME}-{pair[0]}', daemon=True) for pair in enumerate(jobs)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads of one process take turns often enough to get in each other's way
    try:
        for thread in threads:
            thread.start()
        until = time.monotonic() + deadline_sec
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    finally:
        sys.setswitchinterval(interval)
    late = {number: job for number, job in enumerate(jobs) if number not in results}
    assert not late, f'jobs {late} of {len(jobs)} have not ended after {deadline_sec} s; the others: {results}'
    return [results[number] for number in range(len(jobs))]
