"""The threads of a job, and the queues on which they wait.

``jobsync.testing.VirtualCluster`` puts others in the place of these, of ``clock.now``, ``time.monotonic`` and ``time.sleep``. So
the rest of the package reads them from this module at each use, and never imports them by name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from jobsync import _threads
from jobsync._event_log import EventLogger

__all__ = ['Pool', 'Queue', 'Running', 'is_interruptible', 'keep_on', 'new_pool', 'new_queue', 'result_of', 'start']

T = TypeVar('T')

_logger = EventLogger('jobsync.node')


def keep_on(node_name: str, what: str, step: Callable[[], bool], pause_sec: float) -> None:
    """Repeat a step until it returns False, after a pause if it raises: there may be no memory for a moment."""
    goes_on, failures = True, 0
    while goes_on:
        with suppress(Exception):  # a second error, while the first is logged
            try:
                while goes_on := step():
                    failures = 0
            except BaseException:
                failures += 1
                if failures & (failures - 1) == 0:  # each has a traceback
                    text = 'node %r: %s goes on after an unexpected error (failure %d in a row)'
                    _logger.exception(text, node_name, what, failures)
                time.sleep(pause_sec)


class Running(Protocol):
    """A thread that was started."""

    def is_alive(self) -> bool:
        """Return whether it has not ended."""


class Queue(Protocol[T]):
    """The methods of ``queue.SimpleQueue`` that are used. ``put`` is safe inside a signal handler."""

    def put(self, item: T) -> None:
        """Append an item, and wake a thread that waits for one."""

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove and return the first item. Raise ``Empty`` if there is none within ``timeout`` seconds."""

    def get_nowait(self) -> T:
        """Remove and return the first item. Raise ``Empty`` if there is none."""


class Pool(Protocol):
    """The methods of ``concurrent.futures.ThreadPoolExecutor`` that are used."""

    def submit(self, function: Callable[..., T], /, *arguments: Any) -> Future[T]:
        """Call a function in a thread."""

    def shutdown(self, wait: bool = True) -> None:
        """Let the threads end once they are idle."""


class _Started:
    """A thread, without a reference to its object: the main thread must not be the last to have one (see ``_threads.start``)."""

    def __init__(self, target: Callable[[], object]) -> None:
        self._target, self._has_ended = target, False

    def run(self) -> None:
        """Be the thread."""
        try:
            self._target()
        finally:
            self._has_ended = True

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return not self._has_ended


def _start(node_name: str, what: str, target: Callable[[], object]) -> Running:
    started = _Started(target)
    if not _threads.start(lambda: threading.Thread(target=started.run, name=f'jobsync-{what}-{node_name}', daemon=True)):
        raise RuntimeError('the process can start no thread now')
    return started


def _new_pool(node_name: str, what: str, most: int) -> Pool:
    return ThreadPoolExecutor(most, thread_name_prefix=f'jobsync-{what}-{node_name}')


def _is_interruptible() -> bool:
    return threading.get_ident() == threading.main_thread().ident


start: Callable[[str, str, Callable[[], object]], Running] = _start
"""Start a daemon thread of a node, named after ``what`` it does. Raises ``RuntimeError`` if the process can start none now."""
new_queue: Callable[[], Queue[Any]] = SimpleQueue
"""Return a queue."""
new_pool: Callable[[str, str, int], Pool] = _new_pool
"""Return a pool of at most so many threads of a node, named after ``what`` they do."""
result_of: Callable[[Future[Any]], Any] = Future.result
"""Wait for a future, and return its result or raise its exception."""
is_interruptible: Callable[[], bool] = _is_interruptible
"""Return whether the handler of a signal may interrupt the present thread."""
