"""The loop over tasks that are this node's, on an event loop: the source is read here, what reaches the store goes to threads."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Generic, Literal, TypeVar

from jobsync.aio.threads import Threads
from jobsync.claiming import Batches

__all__ = ['Claims']

T = TypeVar('T')

_AT_A_STRETCH = 1000
"""Tasks that are looked at before other asyncio tasks have their turn."""
_LOOK_SEC = 0.2
"""How often a loop that waits for its source looks whether the node is leaving."""


class _End(enum.Enum):
    END = 'no more tasks'


END = _End.END


class Claims(AsyncIterator[T], Generic[T]):
    """The tasks that are ours, batch by batch."""

    def __init__(
        self, batches: Batches[T], tasks: Iterable[T] | AsyncIterable[T], is_ours: Callable[[T], bool], threads: Threads
    ) -> None:
        self._batches, self._is_ours, self._threads = batches, is_ours, threads
        self._work: Iterator[T] = iter(())
        self._source = tasks.__aiter__() if isinstance(tasks, AsyncIterable) else iter(tasks)
        self._looked_at = 0

    async def __anext__(self) -> T:
        while (task := await self._next_at_work()) is END:
            taken = await self._take()
            if not taken:
                await self._threads.call(self._batches.finish)
                raise StopAsyncIteration
            self._work = self._batches.work(taken)
        return task

    async def aclose(self) -> None:
        """Leave the loop: the task that is out stays incomplete."""
        _close(self._work)
        self._work = self._source = iter(())

    def __del__(self) -> None:
        # A loop that is left lets go of this at once. The batch itself may for a moment be in the hands of its last thread.
        _close(self._work)

    async def _next_at_work(self) -> T | Literal[_End.END]:
        work = self._work
        return await self._threads.call(partial(next, work, END), undo=lambda _: _close(work))

    async def _take(self) -> list[T]:
        """The next batch; empty at the end."""
        taken: list[T] = []
        while len(taken) < self._batches.size and not self._batches.are_over:
            task = await self._next_of_source()
            if task is END:
                break
            if self._is_ours(task):
                taken.append(task)
            self._looked_at += 1
            if self._looked_at % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)
        return taken

    async def _next_of_source(self) -> T | Literal[_End.END]:
        source = self._source
        if not isinstance(source, AsyncIterator):
            return next(source, END)
        step = asyncio.ensure_future(_step(source))
        try:
            while not step.done() and not self._batches.are_over:
                await asyncio.wait([step], timeout=_LOOK_SEC)
            return step.result() if step.done() else END
        finally:
            if step.cancel():
                await asyncio.wait([step])


async def _step(source: AsyncIterator[T]) -> T | Literal[_End.END]:
    return await anext(source, END)


def _close(work: Iterator[object]) -> None:
    """Leave a batch in the midst of it, so that its task is no longer in flight."""
    if isinstance(work, Generator):
        with suppress(ValueError):  # a thread is in it still, and will close it
            work.close()
