"""The user's functions as a job calls them from its own threads, run on the event loop where they are coroutine functions."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable
from typing import Any

__all__ = ['OnLoop', 'is_coroutine_function']

_GRACE_SEC = 1.0
"""How long a coroutine that is cancelled at the end may take to end."""


class OnLoop:
    """Runs coroutines on one event loop and has the thread that called wait for them.

    That thread is given up at the call's deadline like one whose function hangs (``runtime.callbacks``). The coroutine then goes
    on, as the function would.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """The present event loop is the one."""
        self._loop = asyncio.get_running_loop()

    def wrapped(self, function: Any) -> Any:
        """The function as one for threads; anything else as it is, to be refused by whoever checks it."""
        if not callable(function):
            return function

        @functools.wraps(function)
        def called(*arguments: Any) -> None:
            result = function(*arguments)
            if inspect.isawaitable(result):
                self.wait_for(result)

        return called

    def wait_for(self, awaitable: Awaitable[object]) -> None:
        """Have it done on the loop, and wait for that. Not from the loop's own thread. Nothing once this is closed."""
        coroutine = self._run(awaitable)
        with self._lock:
            future = None if self._loop is None else asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if future is not None:
            future.result()
            return
        for each in (coroutine, awaitable):
            if inspect.iscoroutine(each):
                each.close()

    async def _run(self, awaitable: Awaitable[object]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await awaitable
        finally:
            self._tasks.discard(task)

    def cancel(self) -> None:
        """Cancel the coroutines that run."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Begin no more coroutines, and cancel those that run: none outlives the job's block."""
        with self._lock:
            self._loop = None
        for _ in range(2):  # what is scheduled becomes a task, and the task begins
            await asyncio.sleep(0)
        self.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_GRACE_SEC)


def is_coroutine_function(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, '__call__', None))  # noqa: B004
