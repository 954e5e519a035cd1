"""A node whose log blocks, or raises, is a node like any other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from tests.job.processes import Worker, workers
from tests.job.samples import load, loads
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync._event_log import event_log

pytestmark = pytest.mark.any_store


def test_a_filter_that_raises_ends_no_thread(store: Store) -> None:
    """The leader goes on leading: who joins gets a share, and what was not logged is counted."""
    before = event_log.dropped

    def refuse(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError(record)

    target = logging.getLogger('jobsync.node')
    level = target.level
    target.setLevel(logging.INFO)
    with store.job('a') as a:
        target.addFilter(refuse)
        try:
            with store.job('b', wait_on_enter=60) as b:
                wait_until(lambda: len(b.my_tokens) == len(a.my_tokens) == TOKENS // 2, 'b has its share')
            wait_until(lambda: len(a.my_tokens) == TOKENS, 'a has all again')
            wait_until(lambda: a.get_coordination_status()['log_lines_dropped'] > before, 'the lines are counted')
        finally:
            target.removeFilter(refuse)
            target.setLevel(level)


def test_a_filter_that_raises_keeps_no_job_out(store: Store) -> None:
    """A job enters and leaves: raised after the node has registered, the error of a filter would leave the node registered."""

    def refuse(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError(record)

    target = logging.getLogger('jobsync.job')
    level = target.level
    target.setLevel(logging.INFO)
    target.addFilter(refuse)
    try:
        with store.job('a', config={'locks_enabled': False}, lock_provider=lambda _: None) as a:
            assert len(a.my_tokens) == TOKENS
    finally:
        target.removeFilter(refuse)
        target.setLevel(level)


def test_a_handler_that_hangs_holds_nobody_up(store: Store) -> None:
    """While the log takes no line, nodes join, lead, hand over and leave, and callbacks are made."""
    reached, go = threading.Event(), threading.Event()

    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reached.set()
            go.wait(120)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    target, handler = logging.getLogger('jobsync.node'), Hanging()
    level = target.level
    target.setLevel(logging.INFO)
    with store.job('a', on_assign=fail, on_revoke=fail) as a:
        target.addHandler(handler)
        try:
            for name in 'bc':
                with store.job(name, wait_on_enter=60) as other:
                    wait_until(lambda: len(a.my_tokens) == TOKENS // 2 == len(other.my_tokens), 'shared')
                    assert reached.wait(120)
                wait_until(lambda: len(a.my_tokens) == TOKENS, 'a has all again')
        finally:
            go.set()
            target.removeHandler(handler)
            target.setLevel(level)
            assert event_log.flush(60)


class UnreadWorker(Worker):
    """A worker whose stderr nobody reads before ``read`` is called."""

    def __init__(self, *arguments: str) -> None:
        self._may_read = threading.Event()
        super().__init__(*arguments, unread=True, handle_signals=True)

    def _read_errors(self) -> None:
        self._may_read.wait()
        super()._read_errors()

    def read(self) -> None:
        """Begin to read."""
        self._may_read.set()

    def end(self) -> None:
        """Kill it, and read."""
        self.read()
        super().end()


def test_a_leader_whose_stderr_nobody_reads(shared_store: Store) -> None:
    """Its pipe is full: it still replaces whoever is killed, gives a share to whoever joins, and leaves when it is told to."""
    leader = UnreadWorker(shared_store.url, 'a', 'sample')
    others: list[Worker] = []

    def add(name: str) -> Worker:
        others.append(Worker(shared_store.url, name, 'sample'))
        others[-1].wait_until_said('entered')
        return others[-1]

    def share(count: int) -> Callable[[], bool]:
        return lambda: loads(leader, *(each for each in others if each.process.poll() is None)) == [TOKENS // count] * count

    with workers(leader):
        leader.wait_until_said('full')
        try:
            first = add('b')
            wait_until(share(2), 'the first has its share')
            first.process.kill()
            first.wait()
            wait_until(share(1), 'it is replaced')
            add('c')
            wait_until(share(2), 'the next has its share')
            leader.process.terminate()
            leader.wait_until_said('left')
            wait_until(lambda: load(others[-1]) == TOKENS, 'the last has all')
            leader.read()
            assert leader.wait() == 0
            assert "node 'a' left" in ''.join(leader.errors)
        finally:
            for other in others:
                other.end()


@pytest.mark.parametrize('mode', ['idle', 'log'])
def test_the_last_lines_are_written(shared_store: Store, mode: str) -> None:
    """What a node has to say at its very end is in its log, be that slow and its lock held by the thread that a signal ends."""
    worker = Worker(shared_store.url, 'a', mode)
    with workers(worker):
        worker.wait_until_said('entered')
        worker.process.terminate()
        assert worker.wait() == 0
        assert "node 'a' left" in ''.join(worker.errors)
