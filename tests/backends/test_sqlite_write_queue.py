"""Processes that write to one SQLite file at the same time, on a clock and a processor of the test's own."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from types import SimpleNamespace

import attrs
import pytest

from jobsync.backends.sql.sqlite import write_queue
from jobsync.backends.sql.sqlite.write_queue import WriteQueue

COMMIT_SEC = 0.0015
ATTEMPT_SEC = 0.00004
"""Of the one processor that all share: so many attempts a second that nothing else is done are 25,000."""
LIMIT_SEC = 5.0
"""How long a call waits at most."""
SECONDS = 10.0


@attrs.define
class Caller:
    """A process, and the call that it makes."""

    queue: WriteQueue
    began: float
    writes: int = 0
    longest: float = 0.0
    refused: int = 0
    """Calls that never found the file free."""


def play(processes: int, think_sec: float, monkeypatch: pytest.MonkeyPatch) -> list[Caller]:
    """Let processes write again and again, ``think_sec`` after the end of each call."""
    random.seed(processes)
    clock = 0.0
    monkeypatch.setattr(write_queue, 'time', SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr(write_queue, 'RANDOM', random)
    callers = [Caller(WriteQueue(), 0.0) for _ in range(processes)]
    events = [(random.random() * 0.01, number, 'attempt') for number in range(processes)]
    heapq.heapify(events)
    writer = -1
    processor = 0.0
    """Free from then on. What is to be done waits for it in turn, and so does the process that writes."""

    def again(number: int, caller: Caller) -> None:
        caller.began = clock + think_sec + random.random() * ATTEMPT_SEC * 4
        heapq.heappush(events, (caller.began + caller.queue.first_pause(caller.began), number, 'attempt'))

    while events[0][0] < SECONDS:
        at, number, what = heapq.heappop(events)
        caller = callers[number]
        clock = max(at, processor)
        waited = clock - caller.began
        if what == 'commit':
            writer = -1
            processor = clock + COMMIT_SEC / 3
            caller.queue.wrote()
            caller.writes += 1
            again(number, caller)
            continue
        processor = clock + ATTEMPT_SEC
        if writer < 0:
            writer = number
            caller.queue.granted()
            caller.longest = max(caller.longest, waited)
            heapq.heappush(events, (clock + COMMIT_SEC, number, 'commit'))
            continue
        caller.queue.refused(clock)
        if waited >= LIMIT_SEC:
            caller.refused += 1
            again(number, caller)
        else:
            heapq.heappush(events, (clock + min(caller.queue.pause(waited), LIMIT_SEC - waited), number, 'attempt'))
    return callers


@pytest.mark.parametrize(('processes', 'think_sec'), [(2, 0.0), (8, 0.0), (50, 0.0), (200, 0.4), (400, 3.0)])
def test_each_process_writes_in_time(processes: int, think_sec: float, monkeypatch: pytest.MonkeyPatch) -> None:
    callers = play(processes, think_sec, monkeypatch)
    assert sum(caller.refused for caller in callers) == 0
    assert min(caller.writes for caller in callers) > 0
    assert max(caller.longest for caller in callers) < LIMIT_SEC / 2


def short(self: WriteQueue, waited: float) -> float:
    return random.uniform(0.002, 0.006)


def growing(self: WriteQueue, waited: float) -> float:
    return max(0.002, waited)


@pytest.mark.parametrize(('pause', 'processes', 'think_sec'), [(short, 400, 1.0), (growing, 50, 0.0)])
def test_pauses_that_are_always_short_or_grow_do_not_do(
    pause: Callable[[WriteQueue, float], float], processes: int, think_sec: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WriteQueue, 'pause', pause)
    callers = play(processes, think_sec, monkeypatch)
    assert max(caller.longest for caller in callers) >= LIMIT_SEC / 2
