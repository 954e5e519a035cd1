"""A process that is forked while its other threads are in SQLite: the child can use SQLite too."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.signals import AlarmError, Interruption
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import Backend
from jobsync.backends.sql.sqlite import fork_gate
from jobsync.backends.sql.sqlite.file import DatabaseFile
from jobsync.backends.sql.sqlite.fork_gate import in_sqlite
from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.namespace import SETTINGS, Namespace


def forked(work: Callable[[], object]) -> int:
    """Run some work in a forked child, which is ended if it hangs; return its status."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # that there are threads is the point
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def repeated(work: Callable[[], object]) -> Iterator[None]:
    """Do some work in a thread, again and again."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            work()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """An open backend."""
    harness = SqliteHarness(tmp_path)
    backend = harness.connect()
    backend.open(SETTINGS, True)
    yield backend
    harness.close()


def test_no_child_hangs(backend: Backend, tmp_path: Path) -> None:
    """Three threads open files and read without a pause, so without the gate every second child waits for ever."""

    def open_another() -> None:
        other = SqliteHarness(tmp_path).connect()
        other.open(SETTINGS, True)
        other.close()

    with ExitStack() as stack:
        for work in (open_another, open_another, backend.snapshot):
            stack.enter_context(repeated(work))
        assert [forked(backend.snapshot) for _ in range(20)] == [0] * 20


def test_a_long_call_keeps_no_fork_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork goes on after a moment, and so do the calls that it has kept waiting."""
    monkeypatch.setattr(fork_gate._gate, 'waits_sec', 0.1)
    is_inside, may_end, came = threading.Event(), threading.Event(), threading.Event()

    def take_long() -> None:
        with in_sqlite():
            is_inside.set()
            may_end.wait(60)

    def come() -> None:
        with in_sqlite():
            came.set()

    threads = [threading.Thread(target=take_long), threading.Thread(target=come)]
    threads[0].start()
    assert is_inside.wait(60)
    assert forked(lambda: None) == 0
    threads[1].start()
    assert came.wait(60)
    may_end.set()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    assert forked(come) == 0
    assert time.monotonic() - began < 60


def test_a_fork_in_the_midst_of_a_call() -> None:
    """The forking thread waits for others only, and its child has left the block when the block ends."""
    with in_sqlite(), in_sqlite():
        assert forked(lambda: None) == 0

    def leave_and_enter() -> None:
        with in_sqlite():
            pass

    assert forked(leave_and_enter) == 0


def test_what_a_signals_handler_raises_leaves_nothing_behind() -> None:
    """At no step of the main thread: not a lock, which the next thread would wait for, nor a mark, which forks would wait for."""

    def enter() -> None:
        with in_sqlite():
            pass

    with Interruption(None, 'threading.py') as points:
        enter()
    for at in range(1, points.count + 1):
        with pytest.raises(AlarmError), Interruption(at, 'threading.py'):
            enter()
        another = threading.Thread(target=enter, daemon=True)
        another.start()
        another.join(60)
        assert not another.is_alive(), f'interrupted at point {at} of {points.count}'
        assert not fork_gate._gate._inside


@contextmanager
def child_that_lives(work: Callable[[], object]) -> Iterator[None]:
    """Fork a child that does some work, and lives until the end of the block."""
    ours, childs = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # the process may have threads
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os.write(childs[1], b'!')
            os.close(ours[1])
            os.read(ours[0], 1)
            os._exit(0)
    try:
        assert os.read(childs[0], 1)
        yield
    finally:
        for end in (*ours, *childs):
            os.close(end)
        os.waitpid(pid, 0)


def test_a_child_keeps_its_log_when_its_parent_closes(backend: Backend, tmp_path: Path) -> None:
    """The parent is not the last that uses the database, and so removes nothing that the child writes to."""
    backend.wait(0, 0)
    ours, childs = os.pipe(), os.pipe()

    def work() -> None:
        namespace = Namespace(SqliteHarness(tmp_path).connect())
        ref = namespace.join('child')
        os.write(childs[1], b'!')
        assert os.read(ours[0], 1)
        namespace.beat(ref)
        os.write(childs[1], b'!')

    def close() -> None:
        assert os.read(childs[0], 1)
        backend.close()
        os.write(ours[1], b'!')

    thread = threading.Thread(target=close)
    thread.start()
    forked(work)
    os.close(childs[1])
    thread.join()
    assert os.read(childs[0], 1)
    for end in (*ours, childs[0]):
        os.close(end)


def test_a_wait_goes_on_after_a_fork(backend: Backend, tmp_path: Path) -> None:
    """It still learns of changes, over another connection."""
    namespace = Namespace(backend)
    namespace.join('parent')
    revision = backend.snapshot().revision.number
    found = list[int]()
    thread = threading.Thread(target=lambda: found.append(backend.wait(revision, 600.0)))
    thread.start()

    def join() -> None:
        Namespace(SqliteHarness(tmp_path).connect()).join('child')

    forked(join)
    thread.join(600)
    assert found
    assert 'child' in namespace.nodes()


def test_a_child_does_not_keep_the_file_of_the_lock(tmp_path: Path) -> None:
    """A child that was forked while its parent opened the database, and lives on, keeps no other process from opening it."""
    file = DatabaseFile(tmp_path / 'jobs.db')
    with ExitStack() as children:
        with file.held(time.monotonic()):
            children.enter_context(child_that_lives(lambda: None))
        with file.held(time.monotonic()):
            pass


def test_a_child_does_not_release_the_file_of_the_lock(tmp_path: Path) -> None:
    """A child that was forked in the midst, and leaves the block, leaves the lock to its parent."""
    file = DatabaseFile(tmp_path / 'jobs.db')
    held = file.held(time.monotonic())
    refused = pytest.raises(BackendUnavailable, match='is held by another process')
    with held, child_that_lives(lambda: held.__exit__(None, None, None)), refused, file.held(time.monotonic()):
        pass
