"""The user's functions: a job calls them from its own threads, and coroutine functions run on the event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable
from typing import Any

from jobsync._runtime import threads
from jobsync.errors import UnsupportedOperation

__all__ = ['OnLoop', 'is_coroutine_function', 'is_loop_running', 'running_loop']

_GRACE_SEC = 1.0
"""How long a cancelled coroutine may take to end before the job is closed without it."""


class OnLoop:
    """Runs coroutines on one event loop while the thread that called waits for them.

    That thread is abandoned at the call's deadline like one whose function hangs (``_runtime.callbacks``). The coroutine then
    goes on, as the function would.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run coroutines on this event loop from now on."""
        self._loop = loop

    def wrapped(self, function: Any) -> Any:
        """Return the function as one for threads; any other value as it is, since ``Job`` checks it."""
        if not callable(function):
            return function

        @functools.wraps(function)
        def called(*arguments: Any) -> bool:
            result = function(*arguments)
            return self.wait_for(result) if inspect.isawaitable(result) else True

        return called

    def wait_for(self, awaitable: Awaitable[object]) -> bool:
        """Run an awaitable on the loop and wait for its end; drop it after ``close``, and return False.

        Not for the loop's own thread.
        """
        coroutine = self._run(awaitable)
        # t=0  a thread of the job reads the loop, which is open
        # t=1  the event loop's thread closes, and cancels what it finds
        # t=2  the thread schedules its coroutine, which would outlive the block
        # With the lock, t=2 comes before t=1, or the thread finds no loop.
        with self._lock:
            future = None if self._loop is None else asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if future is not None:
            threads.result_of(future)
            return True
        for each in (coroutine, awaitable):
            if inspect.iscoroutine(each):
                each.close()
        return False

    async def _run(self, awaitable: Awaitable[object]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._loop is None:  # ``close`` was cancelled, and did not wait for this to start
            task.cancel()
        try:
            await awaitable
        finally:
            self._tasks.discard(task)

    def may_wait_here(self, exc_type: type[BaseException] | None) -> bool:
        """Return whether the present coroutine can wait for something, and does not end because Python frees it."""
        return is_loop_running() and not (exc_type is GeneratorExit and asyncio.get_running_loop() is not self._loop)

    @property
    def is_running_here(self) -> bool:
        """Return whether the present asyncio task is one of these coroutines."""
        return asyncio.current_task() in self._tasks

    def cancel(self) -> None:
        """Cancel the coroutines that are running."""
        for task in self._tasks:
            task.cancel()

    def leave_loop(self) -> None:
        """Start no more coroutines."""
        with self._lock:
            self._loop = None

    async def close(self) -> None:
        """Start no more coroutines, and cancel the running ones: none outlives the job's block."""
        self.leave_loop()
        # t=0  leaving ends, while a coroutine goes on
        # t=1  it is cancelled in one of the next two steps: without the ``finally`` the coroutine would outlive the block
        try:
            for _ in range(2):  # in one step a scheduled coroutine becomes a task, in the next the task starts
                await asyncio.sleep(0)
        finally:
            self.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_GRACE_SEC)


def is_loop_running() -> bool:
    """Return whether asyncio runs an event loop in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def running_loop(node_name: str) -> asyncio.AbstractEventLoop:
    """Return the present event loop. Raise ``UnsupportedOperation`` if asyncio runs none here."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedOperation(
            f'job {node_name!r}: an AsyncJob runs on an event loop of asyncio, and none runs in this thread. Start the '
            'program with asyncio.run; on another loop, such as that of trio, work with a Job in a thread of its own'
        ) from None


def is_coroutine_function(function: object) -> bool:
    """Return whether a call of the function returns a coroutine."""
    called = getattr(function, '__call__', None)  # noqa: B004 - of an object whose call is a coroutine function
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
