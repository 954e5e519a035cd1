"""The end of a handle: what waits, and what an exception from outside interrupts."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.signals import AlarmError, Interruption
from tests.support.timings import DEADLINE_SEC

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.backends._common.closed import Closed


def close_interrupted(url: str, point: int | None) -> tuple[int, threading.Thread]:
    """Close a handle, interrupted at a point, and once more in a thread; return the number of points, and that thread."""
    backend = plugins.connect(url, BackendOptions())
    backend.wait(0, 0.01)
    with suppress(AlarmError), Interruption(point, 'threading.py') as interruption:
        backend.close()
    again = threading.Thread(target=backend.close, daemon=True)
    again.start()
    again.join(DEADLINE_SEC)
    return interruption.count, again


@pytest.mark.parametrize('store', ['memory', 'sqlite'])
def test_it_is_closed_once_more_wherever_it_is_interrupted(store: str, tmp_path: Path) -> None:
    """Whatever leaves a job closes its handle again after an error: a lock that was left taken would end there for good."""
    url = f'sqlite:///{tmp_path}/jobs.db' if store == 'sqlite' else 'memory://'
    count, _ = close_interrupted(url, None)
    assert count > 3
    for point in range(1, count + 1):
        _, again = close_interrupted(url, point)
        assert not again.is_alive(), f'closing again waits after point {point}'


def test_it_ends_the_waits_of_all_threads() -> None:
    """Those that wait already, and those that begin to wait later."""
    closed = Closed()
    threads = [threading.Thread(target=closed.wait, args=[10 * DEADLINE_SEC], daemon=True) for _ in range(3)]
    for thread in threads[:2]:
        thread.start()
    closed.set()
    threads[2].start()
    for thread in threads:
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()
