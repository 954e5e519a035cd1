"""A store whose first claim is under way for as long as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.job.stores import Store

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend, When

__all__ = ['slow_claims']


@contextmanager
def slow_claims(store: Store) -> Iterator[tuple[FaultyBackend, threading.Event, threading.Event]]:
    """A backend whose claims wait; whether one is under way; and whether they may go on, which the end of the block lets them."""
    is_under_way, may_go_on = threading.Event(), threading.Event()

    def wait(_: float) -> None:
        is_under_way.set()
        assert may_go_on.wait(120)

    slow = FaultyBackend(plugins.connect(store.url, BackendOptions()), sleep=wait)
    slow.faults.append(Fault('append_claims', When.NEVER, delay_sec=1))
    try:
        yield slow, is_under_way, may_go_on
    finally:
        may_go_on.set()
    slow.inner.close()
