"""The program's own random numbers: jobsync takes none of them, and their seed decides nothing in it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from jobsync import BackendUnavailable
from jobsync._worker.store_calls import StoreCalls
from jobsync.backends._common.backoff import Backoff
from jobsync.backends.sql.sqlite.write_queue import WriteQueue
from jobsync.backends.sql.store import Busy, patiently


def a_server_that_is_away() -> float:
    return Backoff().next_sec()


def a_file_that_others_write() -> float:
    return WriteQueue().pause(0)


def a_transaction_in_the_way() -> float:
    return seconds(lambda action: patiently(time.monotonic() + 600, action), Busy('another one'))


def a_call_that_fails() -> float:
    return seconds(StoreCalls(600).call, BackendUnavailable('no answer'))


def seconds(call: Callable[[Callable[[], None]], None], error: Exception) -> float:
    """How long a call takes whose action raises this error, and not again."""
    errors = [error]

    def action() -> None:
        if errors:
            raise errors.pop()

    begun = time.perf_counter()
    call(action)
    return time.perf_counter() - begun


WAITS = [a_server_that_is_away, a_file_that_others_write, a_transaction_in_the_way, a_call_that_fails]


@pytest.mark.parametrize('wait_for', WAITS)
def test_pauses_are_drawn_elsewhere(wait_for: Callable[[], float]) -> None:
    """Workers whose programs have the same seed do not all try again at the same moments."""
    random.seed(7)
    before, pause = random.getstate(), wait_for()
    assert random.getstate() == before
    assert wait_for() != pause
