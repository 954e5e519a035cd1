"""The event log: jobsync's log lines, handed to ``logging`` by a thread with no other work.

A log handler may take its time: for a lock, for a slow disk, for a pipe that is full because its reader has stopped. A
handler and a filter may also raise. A node's threads keep the node's promises, so they never call ``logging``. They put a
line into a bounded queue, which takes no lock and never waits, and a writer hands the lines over, one at a time and in order.
The writer is a thread that ends when the queue is empty; the next line starts another one.

A line that finds the queue full is dropped and counted, as is a line that a handler or a filter refuses by raising. The count
is logged once the log takes lines again.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, sleep  # by name: the log is real, also where a test's time is virtual

from jobsync._threads import start

__all__ = ['Diverted', 'EventLog', 'EventLogger', 'event_log']

_CAPACITY = 1000
"""How many lines may wait in the queue."""
_FLUSH_SEC = 1.0
"""How long leaving, and the end of the program, wait for the lines that are queued."""
_STARTING_SEC = 1.0
"""How long a line waits for its writer to start. A node's threads log under their lock, and hold up its heartbeats."""
_POLL_SEC = 0.005
_WRITER = 'jobsync-log'


class EventLog:
    """A bounded queue of log lines and its writer."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self.dropped = 0
        """Lines that never reached the log. Two threads that drop a line at the same moment may count as one."""
        self._reported = 0
        self._begin()

    def _begin(self) -> None:
        self._lines: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._writing = threading.Lock()

    def put(self, line: Callable[[], object]) -> None:
        """Queue a line, given as a function that hands it to ``logging``. Never waits for the log and never raises."""
        if self._lines.qsize() < self._capacity:
            self._lines.put(line)
        else:
            self.dropped += 1
        self._start()

    def flush(self, timeout_sec: float = _FLUSH_SEC) -> bool:
        """Wait until every queued line is written, at most ``timeout_sec``; return whether it is.

        Safe inside a signal handler. If the handler has interrupted a logging call, whose lock the writer needs, time runs out.
        """
        deadline = monotonic() + timeout_sec
        while self._writing.locked() or not self._lines.empty():
            if monotonic() >= deadline:
                return False
            self._start()
            sleep(_POLL_SEC)
        return True

    def _start(self) -> None:
        if not self._writing.locked():
            # Where the process cannot start another thread now, the next line tries again.
            start(lambda: threading.Thread(target=self._write, name=_WRITER, daemon=True), _STARTING_SEC)

    def _write(self) -> None:
        # t=0  the writer finds the queue empty
        # t=1  another thread queues a line, finds the lock taken, and starts no writer
        # t=2  the writer releases the lock
        # So the writer reads the queue once more after it has released the lock.
        while not self._lines.empty() and self._writing.acquire(blocking=False):
            try:
                while True:
                    self._write_line(self._lines.get_nowait())
            except Empty:
                pass
            finally:
                self._writing.release()

    def _write_line(self, line: Callable[[], object]) -> None:
        try:
            line()
            if (dropped := self.dropped) > self._reported:
                count, self._reported = dropped - self._reported, dropped
                logging.getLogger('jobsync.node').warning('log lines dropped, since the log did not take them: %d', count)
        except BaseException:  # noqa: BLE001 - a handler or a filter may raise anything, and the next line may get through
            self.dropped += 1


event_log = EventLog()
"""The event log of this process."""
atexit.register(event_log.flush)
os.register_at_fork(after_in_child=event_log._begin)


class EventLogger:
    """A logger for threads that must not wait: methods of ``logging.Logger`` that go through the event log."""

    def __init__(self, name: str) -> None:
        self.name = name

    def info(self, text: str, *values: object) -> None:
        """Log at level INFO."""
        self.log(logging.INFO, text, *values)

    def warning(self, text: str, *values: object) -> None:
        """Log at level WARNING."""
        self.log(logging.WARNING, text, *values)

    def error(self, text: str, *values: object) -> None:
        """Log at level ERROR."""
        self.log(logging.ERROR, text, *values)

    def exception(self, text: str, *values: object) -> None:
        """Log at level ERROR, with the exception under way."""
        self.log(logging.ERROR, text, *values, error=sys.exception())

    def log(self, level: int, text: str, *values: object, error: BaseException | None = None) -> None:
        """Log a line with the time and thread of this call. ``values`` are formatted later, so they must not change."""
        thread = threading.current_thread()
        event_log.put(partial(_hand_over, self.name, level, text, values, error, time.time(), thread.ident, thread.name))


def _hand_over(
    name: str,
    level: int,
    text: str,
    values: tuple[object, ...],
    error: BaseException | None,
    at: float,
    thread: int | None,
    thread_name: str,
) -> None:
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        about = None if error is None else (type(error), error, error.__traceback__)
        record = logger.makeRecord(name, level, '(jobsync)', 0, text, values, about)
        record.relativeCreated += (at - record.created) * 1000
        record.created, record.msecs = at, at % 1 * 1000
        record.thread, record.threadName = thread, thread_name
        logger.handle(record)


class Diverted(logging.Filter):
    """A filter for the logger of a driver: its lines from jobsync's threads go through the event log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record may be handled in this thread; queue it if not."""
        name = threading.current_thread().name
        if name == _WRITER or not name.startswith('jobsync-'):
            return True
        event_log.put(partial(logging.getLogger(record.name).handle, record))
        return False
