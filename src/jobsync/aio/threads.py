"""The threads in which a job makes its calls for an event loop, each on behalf of the asyncio task that awaits it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar
from weakref import WeakKeyDictionary

from jobsync._worker.store_calls import acting_for

__all__ = ['Threads']

R = TypeVar('R')

_MOST = 8
"""Calls at a time: as many as a store's pool of connections takes without waiting."""


class Threads:
    """Threads for calls, and one for coming and going, which must not have to wait for a call.

    While it is not open, outside the job's block, calls are made where they stand: they reach nothing there.
    """

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._calls: ThreadPoolExecutor | None = None
        self._door: ThreadPoolExecutor | None = None
        self._numbers: WeakKeyDictionary[asyncio.Task[object], int] = WeakKeyDictionary()
        self._unused = itertools.count(-1, -1)

    @property
    def are_open(self) -> bool:
        """Whether there are threads."""
        return self._calls is not None

    def open(self) -> None:
        """Have threads from now on."""
        self._calls = ThreadPoolExecutor(_MOST, thread_name_prefix=f'jobsync-calls-{self._node_name}')
        self._door = ThreadPoolExecutor(1, thread_name_prefix=f'jobsync-door-{self._node_name}')

    def close(self) -> None:
        """Let the threads end once they have nothing to do; wait for none."""
        for pool in (self._calls, self._door):
            if pool is not None:
                pool.shutdown(wait=False)
        self._calls = self._door = None

    async def call(self, action: Callable[[], R], undo: Callable[[R], object] | None = None) -> R:
        """Make a call. If it is cancelled when it has begun, it is made all the same, and then ``undo`` of what it gave."""
        future = self.submit(action)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(lambda done: _undo(done, undo))
            raise

    def submit(self, action: Callable[[], R]) -> Future[R]:
        """Begin a call, on behalf of the present asyncio task. Not open, this makes it."""
        if self._calls is not None:
            return self._submit(self._calls, action)
        future: Future[R] = Future()
        try:
            future.set_result(action())
        except Exception as error:  # noqa: BLE001 - raised where the future is awaited
            future.set_exception(error)
        return future

    async def see_through(self, action: Callable[[], R], hurry: Callable[[], object]) -> R:
        """Come or go. If that is cancelled, ``hurry`` it, wait for its end all the same, and raise ``CancelledError`` then."""
        if self._door is None:
            return action()
        future = asyncio.wrap_future(self._submit(self._door, action))
        cancelled = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
                hurry()
        if cancelled is not None:
            future.exception()  # it has been seen, so that asyncio does not complain
            raise cancelled
        return future.result()

    def _submit(self, pool: ThreadPoolExecutor, action: Callable[[], R]) -> Future[R]:
        """Begin a call, in the present context and for the present task."""
        number = self._number()

        def act() -> R:
            with acting_for(number):
                return action()

        return pool.submit(copy_context().run, act)

    def _number(self) -> int:
        task = asyncio.current_task()
        assert task is not None
        # Not id(task): that of a task that has ended may be another's soon, while what the first began is still in flight.
        return self._numbers.setdefault(task, next(self._unused))


def _undo(done: Future[R], undo: Callable[[R], object]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())
