"""Who is at work on a task: a thread, or the asyncio task on whose behalf a thread is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident

__all__ = ['acting_for', 'worker_id']

_acting_for: ContextVar[int | None] = ContextVar('jobsync_acting_for', default=None)


def worker_id() -> int:
    """The number of whoever is at work here. It goes with a task in flight: nobody who leaves waits for their own tasks."""
    other = _acting_for.get()
    return get_ident() if other is None else other


@contextmanager
def acting_for(worker: int) -> Iterator[None]:
    """Within the block this thread is at work for somebody else. Below 0, ``worker`` is not the number of any thread."""
    token = _acting_for.set(worker)
    try:
        yield
    finally:
        _acting_for.reset(token)
