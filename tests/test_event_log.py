"""The event log: lines that never wait, never raise and never get lost uncounted."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import pytest

from jobsync import _event_log as module
from jobsync._event_log import Diverted, EventLog, EventLogger

logger = EventLogger('jobsync.tested')


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[EventLog]:
    """An event log of the test's own, with room for ten lines."""
    log = EventLog(capacity=10)
    monkeypatch.setattr(module, 'event_log', log)
    caplog.set_level(logging.INFO, logger='jobsync')
    yield log
    assert log.flush(120)


class Blocked(logging.Handler):
    """A handler that waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Wait."""
        self.reached.set()
        assert self.go.wait(120)


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    """A handler that blocks the log until the test lets it go."""
    handler = Blocked()
    logging.getLogger('jobsync').addHandler(handler)
    yield handler
    handler.go.set()
    logging.getLogger('jobsync').removeHandler(handler)


def test_lines_come_in_order_with_the_time_and_the_thread_of_the_call(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    """What a handler is given says when and where the line was logged, not when and where it was written."""
    for number in range(5):
        logger.warning('line %d', number)
    assert log.flush(120)
    assert [record.getMessage() for record in caplog.records] == [f'line {number}' for number in range(5)]
    assert {record.threadName for record in caplog.records} == {threading.current_thread().name}
    assert [record.created for record in caplog.records] == sorted(record.created for record in caplog.records)


def test_both_times_of_a_line_are_those_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    """A line that is written 100 seconds late has the time of its event, counted from the start of the program too."""
    other = logging.makeLogRecord({})
    module._hand_over('jobsync.test', logging.WARNING, 'late', (), None, other.created - 100, None, 'thread')
    (record,) = caplog.records
    assert record.created == other.created - 100
    assert record.relativeCreated == pytest.approx(other.relativeCreated - 100_000, abs=1)


def test_a_level_that_is_off_is_not_written(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    """The level of the logger counts, as ever."""
    caplog.set_level(logging.WARNING, logger='jobsync')
    logger.info('quiet')
    logger.error('loud')
    assert log.flush(120)
    assert [record.getMessage() for record in caplog.records] == ['loud']


def test_a_blocked_log_blocks_nobody(log: EventLog, blocked: Blocked, caplog: pytest.LogCaptureFixture) -> None:
    """Lines that find no room are dropped and counted, and the count is logged when the log goes on."""
    logger.info('first')
    assert blocked.reached.wait(120)
    for number in range(25):
        logger.info('line %d', number)
    assert log.dropped == 15
    assert not log.flush(0.01)
    blocked.go.set()
    assert log.flush(120)
    assert [record.getMessage() for record in caplog.records] == [
        'first',
        'log lines dropped, since the log did not take them: 15',
        *(f'line {number}' for number in range(10)),
    ]


@pytest.mark.parametrize('error', [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_filter_that_raises(error: type[BaseException], log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    """Its line is lost and counted; the next lines come through, and nothing is raised where the line was logged."""
    refuses = [True]

    def refuse(_: logging.LogRecord) -> bool:
        if refuses[0]:
            raise error
        return True

    target = logging.getLogger('jobsync.tested')
    target.addFilter(refuse)
    try:
        logger.info('refused')
        assert log.flush(120)
        assert log.dropped == 1
        refuses.clear()
        refuses.append(False)
        logger.info('taken')
        assert log.flush(120)
    finally:
        target.removeFilter(refuse)
    assert [record.getMessage() for record in caplog.records] == [
        'taken',
        'log lines dropped, since the log did not take them: 1',
    ]


def test_a_line_that_comes_as_the_writer_ends(
    log: EventLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that finds the writer still there, when that has just found nothing left, is written all the same."""

    class Late(SimpleQueue[Callable[[], object]]):
        comes_late = True

        def get_nowait(self) -> Callable[[], object]:
            try:
                return super().get_nowait()
            except Empty:
                if self.comes_late:
                    self.comes_late = False
                    logger.info('left')
                raise

    log._lines = Late()
    logger.info('registered')
    assert log.flush(120)
    assert [record.getMessage() for record in caplog.records] == ['registered', 'left']


def test_an_exception_is_logged_with_its_traceback(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    """As ``logging.exception`` does."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logger.exception('failed')
    assert log.flush(120)
    assert 'test_an_exception_is_logged' in caplog.text
    assert 'ZeroDivisionError' in caplog.text


def test_flushing_is_bounded_when_this_very_thread_holds_the_lock(log: EventLog) -> None:
    """A signal has interrupted a logging call, and its handler waits for the log: it does not wait for ever."""
    handler = logging.StreamHandler(io.StringIO())
    root = logging.getLogger('jobsync')
    root.addHandler(handler)
    handler.acquire()
    try:
        logger.info('to be written later')
        assert not log.flush(0.05)
    finally:
        handler.release()
        assert log.flush(120)
        root.removeHandler(handler)


def test_a_forked_child_has_a_log_of_its_own(blocked: Blocked) -> None:
    """The child writes none of its parent's lines, and its own ones though the parent's writer is not there."""
    logger.info('the parent is at it')
    assert blocked.reached.wait(120)
    logger.info('the parent has this one waiting')
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            written: list[str] = []
            handler = logging.Handler()
            handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
            root = logging.getLogger('jobsync')
            root.handlers, root.propagate = [handler], False
            module.event_log._begin()  # the process's own does so by itself
            logger.info('the child')
            if module.event_log.flush(120) and written == ['the child']:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_driver_that_logs_in_a_thread_of_jobsync(log: EventLog, blocked: Blocked) -> None:
    """Its line is diverted, so the thread goes on while the log is blocked; in any other thread it is handled as ever."""
    driver = logging.getLogger('jobsync.a_driver')
    driver.addFilter(diverted := Diverted())
    try:
        thread = threading.Thread(target=driver.warning, args=('from a thread of ours',), name='jobsync-heartbeat-a')
        thread.start()
        thread.join(120)
        assert not thread.is_alive()
        assert blocked.reached.wait(120)
        blocked.go.set()
        assert log.flush(120)
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        driver.addHandler(handler)
        driver.warning('from another')
        assert lines == ['from another']
    finally:
        driver.removeFilter(diverted)
