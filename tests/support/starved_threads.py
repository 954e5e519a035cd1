"""A process that has no memory for the start of a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.timings import DEADLINE_SEC

__all__ = ['without_first_thread']


@contextmanager
def without_first_thread(name: str, step: str) -> Iterator[None]:
    """Have the first thread of a name end in the block for lack of memory, which one there must be.

    By the step ``'run'`` it ends once it counts as started; by ``'start'`` before, and whoever starts it waits for it.
    """
    do, ended, never = getattr(threading.Thread, step), list[threading.Thread](), threading.Event()

    def without_memory(thread: threading.Thread) -> None:
        if thread.name == name and not ended:
            ended.append(thread)
            assert step == 'run' or never.wait(DEADLINE_SEC)  # as ``start`` waits for a thread that is over
        else:
            do(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, step, without_memory)
        try:
            yield
        finally:
            never.set()
    assert ended
