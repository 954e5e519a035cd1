"""A signal to a forked child in which Python has not yet called what is registered for it, as at its very beginning."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.job.stores import Store, kinds
from tests.job.test_fork import in_fork

from jobsync import CoordinationConfig, Job


def in_early_child(work: Callable[[], Any]) -> Any:
    """What ``work`` gives in a child that C has forked, without the steps of Python's own fork.

    A child that has no lock of Python's interpreter can do nothing: it is ended, and there is another. None collects garbage:
    Python 3.13 detaches each thread whose object it frees, and in such a child the memory of the thread may be gone.
    """

    def child() -> Any:
        gc.disable()
        return work()

    return next(filter(None, (in_fork(child, ctypes.PyDLL(None).fork, within_sec=20) for _ in range(5))), None)


@pytest.mark.any_store
@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux clears memory in a fork')
@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_child_that_python_has_not_prepared_has_the_former_handlers(store: Store) -> None:
    """The signal is the child's alone: it does what the program did before it entered the job, and a worker ends."""
    given = list[int]()

    def handler(number: int, _: object) -> None:
        given.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with store.job('one', handle_signals=True) as job:

            def child() -> list[int]:
                for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                    signal.raise_signal(number)
                return given

            assert in_early_child(child) == [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
            signal.raise_signal(signal.SIGTERM)
            assert job.is_leaving
    finally:
        for number, each in before.items():
            signal.signal(number, each)
    assert given == []


@pytest.mark.any_store
@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux clears memory in a fork')
@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_job_that_such_a_child_has_entered_is_stopped(store: Store) -> None:
    """Only the parent's job is not the child's."""
    given = list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, _: given.append(number))
    try:
        with store.job('one', handle_signals=True):

            def child() -> tuple[bool, list[int]]:
                with Job('own', coordination_config=CoordinationConfig(enabled=False), handle_signals=True) as own:
                    signal.raise_signal(signal.SIGTERM)
                    return own.is_leaving, given

            assert in_early_child(child) == [True, []]
    finally:
        signal.signal(signal.SIGTERM, before)
