"""The gate that keeps a fork out of the calls of a library, in a child that was forked in the midst of a call."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.timings import DEADLINE_SEC

from jobsync.backends._common import fork_gate
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


def test_a_call_that_waits_for_a_fork_keeps_no_other_fork_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it came just before the fork or after it: the two would wait for each other."""
    monkeypatch.setattr(fork_gate, 'TURN_SEC', 0.0)
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


def test_a_call_that_a_fork_has_kept_waiting_goes_before_the_next_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the forks of a pool of processes, one right after the other, would keep heartbeats back until the lease is over."""
    gate = ForkGate(waits_sec=10 * DEADLINE_SEC, holds_sec=10 * DEADLINE_SEC)
    monkeypatch.setattr(fork_gate, 'TURN_SEC', DEADLINE_SEC)
    waits, passed = threading.Event(), list[int]()

    def call() -> None:
        for number in range(3):
            with gate.passed():
                passed.append(number)

    def sleep(seconds: float) -> None:
        waits.set()
        time.sleep(seconds)

    monkeypatch.setattr(fork_gate, 'time', SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    calling = threading.Thread(target=call)
    gate.shut()
    try:
        calling.start()
        assert waits.wait(DEADLINE_SEC)
        gate.reopen()
        gate.shut()
        assert passed
    finally:
        gate.reopen()
        calling.join()
    assert passed == [0, 1, 2]


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


def test_forks_beside_another_librarys_channel_take_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads of gRPC stay, and no call is made while a fork waits for their end: only the first one waits for long."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def fork_times(number: int) -> float:
        began = now[0]
        for _ in range(number):
            gate.shut()
            gate.reopen()
        return now[0] - began

    threads = ['S', 'S']
    monkeypatch.setattr(forks, '_callers', set())
    monkeypatch.setattr(forks, '_states', lambda: iter(threads))
    monkeypatch.setattr(forks, 'time', SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    gate = forks.Gate()
    assert fork_times(1) >= forks.THREADS_END_SEC
    assert fork_times(16) < forks.THREADS_END_SEC
    threads.clear()  # the channel is closed
    assert fork_times(1) < forks.THREADS_END_SEC
    threads.append('S')
    assert fork_times(1) >= forks.THREADS_END_SEC
