"""The threads of a job, and the queues on which they wait.

``jobsync.testing.VirtualCluster`` puts others in the place of these, of ``clock.now``, ``time.monotonic`` and ``time.sleep``. So
the rest of the package reads them from this module at each use, and never imports them by name.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - a driver cannot import it once the main thread is over, and fails
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from jobsync import _threads
from jobsync._event_log import EventLogger
from jobsync.errors import JobsyncError

__all__ = ['Pool', 'Queue', 'Running', 'duty', 'is_interruptible', 'keep_on', 'new_pool', 'new_queue', 'result_of', 'start']

T = TypeVar('T')

_logger = EventLogger('jobsync.node')


class _Duty(threading.local):
    """What the present thread is for."""

    serves_a_node = False
    """Whether a node depends on it, and it is in no function of the user's: it must wait for no node."""


duty = _Duty()


def keep_on(node_name: str, what: str, step: Callable[[], bool], pause_sec: float) -> None:
    """Repeat a step until it returns False, after a pause if it raises: there may be no memory for a moment."""
    goes_on, failures = True, 0
    while goes_on:
        # A ``with suppress(Exception)`` would do, but makes an object: without memory for it this thread would end.
        try:
            try:
                while goes_on := step():
                    failures = 0
            except BaseException:
                failures += 1
                if failures & (failures - 1) == 0:  # each has a traceback
                    text = 'node %r: %s goes on after an unexpected error (failure %d in a row)'
                    _logger.exception(text, node_name, what, failures)
                time.sleep(pause_sec)
        except Exception:  # noqa: BLE001, S110 - a second error, while the first is logged
            pass


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
    """Threads that make one call after the other."""

    def submit(self, function: Callable[..., T], /, *arguments: Any) -> Future[T]:
        """Call a function in a thread. Raises ``RuntimeError``, and never calls it, if the process can start none now."""

    def shutdown(self) -> None:
        """Let the threads end once they are idle."""


class _NoThread(JobsyncError, RuntimeError):
    """No thread can be started. Also a ``RuntimeError``, as Python's own error is; an ``AsyncJob`` passes it on to its user."""


class _Started:
    """A thread, without a reference to its object: the main thread must not be the last to have one (see ``_threads.start``)."""

    def __init__(self, target: Callable[[], object]) -> None:
        self._target, self._has_ended = target, False
        self._thread: threading.Thread | None = None
        """Its object until it is at work: one that ends before its first step, as there is no memory for it, cannot say so."""

    def make(self, name: str) -> threading.Thread:
        thread = self._thread = threading.Thread(target=self.run, name=name, daemon=True)
        return thread

    def run(self) -> None:
        try:
            self._thread = None
            self._target()
        finally:
            self._has_ended = True

    def is_alive(self) -> bool:
        thread = self._thread
        return not self._has_ended and (thread is None or thread.is_alive())


def _start(node_name: str, what: str, target: Callable[[], object]) -> Running:
    started = _Started(target)
    if not _threads.start(lambda: started.make(f'jobsync-{what}-{node_name}')):
        raise _NoThread('the process can start no thread now')
    return started


class _Pool:
    """At most so many threads, in place of a ``ThreadPoolExecutor``, whose user may wait for ever where memory is short.

    ::

        t=0  ``submit`` has queued a call, can start no thread for it, and raises
        t=1  ``submit`` starts a thread for another call: it makes the first one too, for no caller

        t=0  a thread is idle, and there is no memory for its next step: it ends
        t=1  ``submit`` leaves a call to it

        t=0  ``submit`` starts a thread for whose first step there is no memory, and waits until it has begun
    """

    def __init__(self, node_name: str, what: str, most: int) -> None:
        self._node_name, self._what, self._most = node_name, what, most
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._unfinished: deque[None] = deque()
        """Has an item for each call that is not over. One that an error has ended in its midst counts for good: too many."""
        self._threads: list[Running] = []
        weakref.finalize(self, self._calls.put, None).atexit = False

    def submit(self, function: Callable[..., T], /, *arguments: Any) -> Future[T]:
        future: Future[T] = Future()
        self._unfinished.append(None)
        self._calls.put(partial(_call, future, partial(function, *arguments)))
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < min(self._most, len(self._unfinished)):
            try:
                self._threads.append(start(self._node_name, self._what, partial(_make_calls, self._calls, self._unfinished)))
            except RuntimeError:
                # Another thread makes the call, or one that only seemed not to start has begun it.
                if not self._threads and future.cancel():
                    raise
        return future

    def shutdown(self) -> None:
        self._calls.put(None)


def _make_calls(calls: SimpleQueue[Callable[[], object] | None], unfinished: deque[None]) -> None:
    """Make calls, one after the other, until there is a None, which stays for the other threads."""
    while (call := calls.get()) is not None:
        call()
        del call  # until the next call arrives, the name would keep this one and its result in memory
        unfinished.pop()
    calls.put(None)


def _call(future: Future[T], action: Callable[[], T]) -> None:
    """Call a function on behalf of a future, unless that is cancelled."""
    if future.set_running_or_notify_cancel():
        try:
            result = action()
        except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
            future.set_exception(error)
        else:
            future.set_result(result)


def _is_interruptible() -> bool:
    return threading.get_ident() == threading.main_thread().ident


start: Callable[[str, str, Callable[[], object]], Running] = _start
"""Start a daemon thread of a node, named after ``what`` it does. Raises ``RuntimeError`` if the process can start none now."""
new_queue: Callable[[], Queue[Any]] = SimpleQueue
"""Return a queue."""
new_pool: Callable[[str, str, int], Pool] = _Pool
"""Return a pool of at most so many threads of a node, named after ``what`` they do."""
result_of: Callable[[Future[Any]], Any] = Future.result
"""Wait for a future, and return its result or raise its exception."""
is_interruptible: Callable[[], bool] = _is_interruptible
"""Return whether the handler of a signal may interrupt the present thread."""
