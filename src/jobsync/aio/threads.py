"""The threads that make a job's calls for an event loop, each on behalf of the asyncio task that awaits it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar
from weakref import WeakKeyDictionary

from jobsync._runtime import threads
from jobsync._worker.store_calls import acting_for
from jobsync.errors import JobsyncError

__all__ = ['Threads']

R = TypeVar('R')

_MOST = 8
"""How many calls run at a time, at most. Each takes a thread, and a connection to the store."""


class Threads:
    """Threads for calls, and one for entering and leaving, which must not have to wait for a call.

    Before the job's block calls are made in the thread of the caller: they do not reach the store then. After it each call has a
    thread of its own.
    """

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._calls: threads.Pool | None = None
        self._gate: threads.Pool | None = None
        self._has_closed = False
        self._numbers: WeakKeyDictionary[asyncio.Task[object], int] = WeakKeyDictionary()
        self._unused = itertools.count(-1, -1)
        self._cut: WeakKeyDictionary[asyncio.Task[object], list[asyncio.Future[None]]] = WeakKeyDictionary()
        """For each asyncio task the ends of its cancelled calls that are made all the same."""

    @property
    def are_open(self) -> bool:
        """Return whether there are threads."""
        return self._calls is not None

    def open(self) -> None:
        """Make calls in threads from now on."""
        self._calls = threads.new_pool(self._node_name, 'calls', _MOST)
        self._gate = threads.new_pool(self._node_name, 'gate', 1)

    def close(self) -> None:
        """Let the threads end once they are idle; wait for none."""
        # t=0  a pool ends; a signal's handler raises here, and the program goes on
        # t=1  leaving is called again: a call that was given to that pool would never be made
        pools, self._calls, self._gate, self._has_closed = (self._calls, self._gate), None, None, True
        for pool in pools:
            if pool is not None:
                pool.shutdown()

    async def call(
        self,
        action: Callable[[], R],
        undo: Callable[[R], object] | None = None,
        drop: Callable[[BaseException], object] | None = None,
    ) -> R:
        """Make a call. If it is cancelled once it has started, it is made all the same, and then ``undo`` with its result.

        If it is cancelled before that, it is never made: ``drop`` is called with the exception.
        """
        if undo is not None:
            await self.until_undone()
        future = self.submit(action)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if undo is not None:
                self.cut(future, lambda done: _undo(done, undo))
            elif drop is not None and future.cancelled():
                drop(error)
            elif drop is not None:
                self.cut(future)
            raise

    def cut(self, future: Future[R], then: Callable[[Future[R]], object] = lambda _: None) -> asyncio.Future[None]:
        """Have ``then`` called once a cancelled call is over, and return what is done after that (see ``until_undone``)."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        over = loop.create_future()

        # t=0  a batch is left, and that raises: there is no memory for it, or a span of the program's ends with an error
        # t=1  the next call waits for the end of the batch: for ever, if only a success counted as one
        def end(done: Future[R]) -> None:
            try:
                then(done)
            finally:
                with suppress(RuntimeError):  # the event loop is closed
                    loop.call_soon_threadsafe(over.set_result, None)

        future.add_done_callback(end)
        if task is not None:
            self._cut[task] = [*(each for each in self._cut.get(task, ()) if not each.done()), over]
        return over

    async def until_undone(self) -> None:
        """Wait until the cancelled calls of the present asyncio task are over. To be called before it begins a task."""
        # t=0  the beginning of a block is cancelled, by a timeout, say, while its claim is on the way; or a call of ``complete``
        # t=1  the same asyncio task begins the task once more
        # t=2  the call of t=0 goes on, and ends the task: it would not be in flight, amid the work
        task = asyncio.current_task()
        for over in [] if task is None else self._cut.get(task, ()):
            await asyncio.shield(over)

    def call_here(self, action: Callable[[], R]) -> R:
        """Make a call that does no I/O in this thread, on behalf of the present asyncio task."""
        with acting_for(self._number()):
            return action()

    def submit(self, action: Callable[[], R]) -> Future[R]:
        """Start a call on behalf of the present asyncio task; make it here if this was never open."""
        if self._calls is not None:
            return self._submit(self._calls, action)
        if self._has_closed:
            # t=0  the block is left, while an asyncio task is at work on a task of its loop
            # t=1  it is done, and requests the next one: what it has done is recorded after the end, and the store hangs
            # Made here, this call would stop the event loop for as long.
            late = threads.new_pool(self._node_name, 'late calls', 1)
            try:
                return self._submit(late, action)
            finally:
                late.shutdown()
        future: Future[R] = Future()
        try:
            future.set_result(action())
        except Exception as error:  # noqa: BLE001 - raised where the future is awaited
            future.set_exception(error)
        return future

    async def complete(self, action: Callable[[], R], hurry: Callable[[], object]) -> R:
        """Enter or leave. If cancelled, call ``hurry``, wait for the end all the same, and raise ``CancelledError`` then."""
        if self._gate is None:
            return action()
        future = asyncio.wrap_future(self._submit(self._gate, action))
        cancelled = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
                hurry()
        if cancelled is not None:
            future.exception()  # read, so that asyncio does not log it as never retrieved
            raise cancelled
        return future.result()

    def _submit(self, pool: threads.Pool, action: Callable[[], R]) -> Future[R]:
        """Start a call in the present context, for the present asyncio task."""
        number = self._number()

        def act() -> R:
            # asyncio passes no StopIteration on: the future would never be done, and its caller wait for ever.
            with acting_for(number):
                try:
                    return action()
                except StopIteration as error:
                    raise RuntimeError('code that was called in a thread raised StopIteration') from error

        return pool.submit(copy_context().run, act)

    def _number(self) -> int:
        task = asyncio.current_task()
        if task is None:
            raise JobsyncError(f'job {self._node_name!r}: an AsyncJob is used in a task of asyncio, and this code is in none')
        # t=0  asyncio task A starts a task of the job and ends: in flight, with A's number
        # t=1  asyncio task B is made at A's address: id(B) == id(A), and B would be taken for the worker of A's task
        # So the numbers are counted, and never used again.
        return self._numbers.setdefault(task, next(self._unused))


def _undo(done: Future[R], undo: Callable[[R], object]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())
