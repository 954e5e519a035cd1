"""The program's own random numbers: jobsync takes none of them, and their seed decides nothing in it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from jobsync.backends._common.backoff import Backoff
from jobsync.backends.sql.sqlite.write_queue import WriteQueue
from jobsync.backends.sql.store import Busy, patiently


def a_server_that_is_away() -> float:
    return Backoff().next_sec()


def a_file_that_others_write() -> float:
    return WriteQueue().pause(0)


def a_transaction_in_the_way() -> float:
    answers = iter([Busy('one'), Busy('two')])

    def call() -> float:
        for answer in answers:
            raise answer
        return time.perf_counter()

    begun = time.perf_counter()
    return patiently(time.monotonic() + 600, call) - begun


@pytest.mark.parametrize('wait_for', [a_server_that_is_away, a_file_that_others_write, a_transaction_in_the_way])
def test_pauses_are_drawn_elsewhere(wait_for: Callable[[], float]) -> None:
    """Workers whose programs have the same seed do not all try again at the same moments."""
    random.seed(7)
    before, pause = random.getstate(), wait_for()
    assert random.getstate() == before
    assert wait_for() != pause
