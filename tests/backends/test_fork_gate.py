"""The gate that keeps a fork out of the calls of a library, in a child that was forked in the midst of a call."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.timings import DEADLINE_SEC

from jobsync.backends._common.fork_gate import ForkGate
from jobsync.backends.etcd import forks


def forked(work: Callable[[], object]) -> int:
    """Run some work in a forked child, which is ended if it hangs; return its status, 0 if it has raised nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # the process may have threads
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(DEADLINE_SEC))
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_of_a_signals_handler_waits_for_no_call_of_its_parents() -> None:
    """The handler has interrupted a call, which the child never ends: a fork of another thread of the child goes on at once."""
    gate = ForkGate(waits_sec=10 * DEADLINE_SEC, holds_sec=10 * DEADLINE_SEC)

    def shut_in_a_thread() -> None:
        thread = threading.Thread(target=gate.shut)
        thread.start()
        thread.join()

    with gate.passed():
        assert forked(shut_in_a_thread) == 0


def test_a_call_that_waits_for_a_fork_keeps_no_other_fork_waiting() -> None:
    """Whether it came just before the fork or after it: the two would wait for each other."""
    gate = ForkGate(waits_sec=10 * DEADLINE_SEC, holds_sec=10 * DEADLINE_SEC)
    came = threading.Event()

    class Inside(set[Any]):
        def add(self, passage: Any) -> None:
            super().add(passage)
            came.set()

    def call() -> None:
        with gate.passed():
            pass

    gate._inside = Inside()
    calling, forking = (threading.Thread(target=each, daemon=True) for each in (call, gate.shut))
    gate.shut()
    try:
        calling.start()
        assert came.wait(DEADLINE_SEC)
        forking.start()
        forking.join(DEADLINE_SEC)
        assert not forking.is_alive()
    finally:
        gate._forking.clear()
        calling.join()
        forking.join()


def test_a_fork_waits_for_no_call_of_its_own_thread() -> None:
    """A signal's handler that forks has interrupted the call, which cannot go on before the handler returns."""
    gate = ForkGate(waits_sec=10 * DEADLINE_SEC, holds_sec=10 * DEADLINE_SEC)

    def fork_in_a_call() -> None:
        with gate.passed():
            gate.shut()

    thread = threading.Thread(target=fork_in_a_call, daemon=True)
    thread.start()
    thread.join(DEADLINE_SEC)
    assert not thread.is_alive()


def test_such_a_child_closes_its_channels_to_etcd_before_it_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or gRPC would run as the child forks, and may crash what it forks."""
    monkeypatch.setattr(forks, '_callers', set())
    gate, hung_up = forks.Gate(), list[object]()

    class Caller:
        def hang_up(self) -> None:
            hung_up.append(self)

    def shut() -> None:
        caller = Caller()
        forks.hang_up_before_fork(caller)
        gate.shut()
        assert hung_up == [caller]

    with gate.passed():
        assert forked(shut) == 0


@pytest.mark.parametrize('state', ['R', 'S'])
def test_a_fork_waits_for_threads_of_grpc_that_end_late(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """A child that is forked amid their end, on a busy machine, may hang. Those that sleep are another library's: they stay."""
    until = math.inf if state == 'S' else time.monotonic() + 1.5 * forks.THREADS_END_SEC
    monkeypatch.setattr(forks, '_callers', set())
    monkeypatch.setattr(forks, '_states', lambda: iter([state] if time.monotonic() < until else []))
    gate = forks.Gate()
    gate.shut()
    gate.reopen()
    assert forks.has_threads() is (state == 'S')
