"""The end of a watch of etcd's that an exception from outside interrupts."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from tests.signals import AlarmError, Interruption
from tests.support.timings import DEADLINE_SEC
from tests.support.waiting import eventually

from jobsync.backends.etcd.keys import EtcdKeys
from jobsync.backends.etcd.watcher import Watcher
from jobsync.errors import BackendUnavailable


class Unreachable:
    """The connection to servers that do not answer."""

    def read(self, *_: object) -> Any:
        """Fail."""
        raise BackendUnavailable('no server answers')


def close_interrupted(point: int | None) -> tuple[int, list[threading.Thread]]:
    """Close a watcher, interrupted at a point, and once more; return the number of points, and the threads that are to end."""
    watcher = Watcher(Unreachable(), EtcdKeys('sync_'), 1.0)  # type: ignore[arg-type]
    waiting = threading.Thread(target=watcher.wait, args=(1, 10 * DEADLINE_SEC), daemon=True)
    waiting.start()
    eventually(lambda: watcher._thread is not None)
    with suppress(AlarmError), Interruption(point, 'threading.py') as interruption:
        watcher.close()
    watcher.close()
    assert watcher._thread is not None
    return interruption.count, [waiting, watcher._thread]


def test_all_threads_end_wherever_it_is_interrupted() -> None:
    """A thread that waited for a lock for ever would also have every later fork of the process wait for the end of its watch."""
    count, _ = close_interrupted(None)
    assert count > 5
    for point in range(1, count + 1):
        for thread in close_interrupted(point)[1]:
            thread.join(DEADLINE_SEC)
            assert not thread.is_alive(), f'a thread waits after point {point}'
