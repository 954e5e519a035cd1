"""The loop over the tasks this node owns, on an event loop: it reads the source there, and threads call the store."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from contextvars import copy_context
from functools import partial
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from jobsync._worker.claim_loop import ClaimLoop, source_of
from jobsync._worker.refusals import refused
from jobsync._worker.tracing import task_span
from jobsync.aio.threads import Threads
from jobsync.errors import JobsyncError

__all__ = ['Claims']

T = TypeVar('T')

_READ_AT_ONCE = 1000
"""How many tasks are read before other asyncio tasks have their turn."""
_CHECK_SEC = 0.2
"""How often a loop that waits checks whether the node is leaving, and a batch whether tokens have moved."""


class _EndOfTasks(enum.Enum):
    END = 'no more tasks'


END = _EndOfTasks.END


class Claims(AsyncIterator[T], Generic[T]):
    """The tasks that this node owns, batch by batch.

    **Cancellation.** ``asyncio.wait_for(anext(claims), …)`` cancels a call, and the user may go on with the next one: so no task
    is lost with a call. The task that a cancelled call would have returned waits for the next batch, with the rest of its own,
    and tasks read for a batch are kept. A source may end when a call of it is cancelled, as an asynchronous generator does: that
    is an error, not the end of the tasks.
    """

    def __init__(self, loop: ClaimLoop[T], tasks: Iterable[T] | AsyncIterable[T], threads: Threads) -> None:
        self._loop, self._threads = loop, threads
        self._batch: Iterator[T] = iter(())
        self._leaving: asyncio.Future[None] | None = None
        """Done once the batch of a cancelled call is left."""
        self._unread: deque[T] = deque()
        """Tasks that the source returned to a cancelled call."""
        self._was_cut = False
        """Whether the last call of the source was cancelled."""
        self._cut_step: asyncio.Future[T | Literal[_EndOfTasks.END]] | None = None
        """The step of the source of the last call that was cancelled: it may go on."""
        self._taken: list[T] = []
        self._read = 0
        self._is_running = False
        """Whether a call waits for its task."""
        self._is_in_thread = False
        """Whether it waits for a thread that runs the batch."""
        self._has_left = False
        """Whether ``aclose`` was called."""
        self._span = ExitStack()
        """The span of the task that the caller has, if the program traces."""
        self._context = copy_context()
        """The context of the source. With one for each step, what a generator sets of a variable would be gone at the next."""
        # The last step, as it may raise: ``__del__`` finds all else.
        self._source = tasks.__aiter__() if isinstance(tasks, AsyncIterable) else source_of(tasks)

    if not TYPE_CHECKING:  # a type checker finds ``for`` by itself, as long as this is missing
        __iter__ = refused('tasks of an AsyncJob are claimed by "async for task in job.claim(…)" or job.batch(…), not by "for"')

    async def __anext__(self) -> T:
        # t=0  asyncio task a requests its next task, and waits for a thread
        # t=1  asyncio task b requests the next task of the same loop: both would start one batch, and both get its first task
        if self._is_running:
            raise JobsyncError('two asyncio tasks take the tasks of one loop: let each have a job.claim(…) of its own')
        self._is_running = True
        try:
            return await self._next()
        finally:
            self._is_running = False

    async def _next(self) -> T:
        self._loop.begin()
        self._span.close()
        while (task := await self._next_of_batch()) is END:
            await self._pause()
            await self._take()
            if self._has_left or not (self._taken or self._loop.has_waiting):
                self._loop.leave()
                await self._threads.call(self._loop.finish)
                raise StopAsyncIteration
            taken, self._taken = self._taken, []
            self._batch = self._loop.run_batch(taken)
        self._span.enter_context(task_span(self._loop.node_name, task))
        return task

    async def aclose(self) -> None:
        """Leave the loop: the task in flight stays incomplete, and no other comes."""
        self._has_left = True
        await self._until_left()
        self._close(self._batch)
        # t=0  asyncio task a requests its next task: a thread claims the batch, or records what is done
        # t=1  asyncio task b calls this, and the waiting tasks are dropped
        # t=2  the thread goes on: has the claims renewed that no call drops any more, or finds no task where there was one
        # So the call of a leaves the loop once the thread has returned.
        if not self._is_in_thread:
            self._loop.leave()
        self._batch = self._source = iter(())
        self._cut_step = None
        self._taken.clear()
        self._unread.clear()

    def __del__(self) -> None:
        # A loop that was left frees this object at once, or when the thread returns that ran its batch as the call was cancelled.
        self._close(self._batch)
        self._loop.leave()

    async def _next_of_batch(self) -> T | Literal[_EndOfTasks.END]:
        await self._until_left()
        work, future = self._batch, None
        try:
            await self._threads.until_undone()
            future = self._threads.submit(partial(next, work, END))
            self._is_in_thread = True
            task: T | Literal[_EndOfTasks.END] = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # t=0  the caller has done its task, and requests the next one; all threads are busy, or a cancelled call is not over
            #      yet, and the call is cancelled
            # t=1  the program keeps the exception, whose traceback refers to this object, and requests no more
            # t=2  the task, whose end no thread has recorded, would be in flight for as long as the exception is kept
            is_begun = future is not None and not future.cancelled()
            if not is_begun and isinstance(work, Generator) and getgeneratorstate(work) == GEN_SUSPENDED:
                with suppress(RuntimeError):  # the process can start no thread now
                    future = self._threads.submit(partial(next, work, END))
            if future is not None:
                self._leave(work, future)
            raise
        finally:
            self._is_in_thread = False
            if self._has_left and self._leaving is None:
                self._loop.leave()
        # t=0  asyncio task a waits for its task here
        # t=1  asyncio task b calls ``aclose``, which cannot close the batch under the thread
        # t=2  the thread returns: were its task returned, no object would refer to the batch, and it would not stay in flight
        if self._has_left:
            self._close(work)
            return END
        return task

    async def _until_left(self) -> None:
        if self._leaving is not None:
            await asyncio.shield(self._leaving)
            self._leaving = None

    def _leave(self, work: Iterator[T], future: Future[T | Literal[_EndOfTasks.END]]) -> None:
        """Leave the batch half-way, once the thread that runs it has returned."""

        # t=0  a thread runs the batch: it records claims, and is to return a task
        # t=1  the call is cancelled here. The batch cannot be closed under the thread
        # t=2  the thread returns, with a task in flight that no caller will finish: the batch is closed in that thread
        # t=3  the next call, which has waited for t=2, starts a new batch with what the old one has left
        # If no thread begins, the batch is as the call before has left it, and goes on with the next call: closed, it would
        # return the task once more that the caller has done since.
        def left(future: Future[T | Literal[_EndOfTasks.END]]) -> None:
            if not future.cancelled():
                self._close(work)
            if self._has_left:
                self._loop.leave()

        self._leaving = self._threads.cut(future, left)

    def _close(self, work: Iterator[T]) -> None:
        """Leave a batch half-way, so that its task is no longer in flight."""
        try:
            self._span.__exit__(GeneratorExit, GeneratorExit(), None)
        finally:
            if isinstance(work, Generator):
                with suppress(ValueError):  # a thread still runs it
                    work.close()

    async def _pause(self) -> None:
        while (left := self._loop.pause_sec) > 0:
            self._loop.note_progress()
            await asyncio.sleep(min(left, _CHECK_SEC))

    async def _take(self) -> None:
        """Take tasks until the next batch is full; none at the end of the source."""
        while len(self._taken) < self._loop.missing:
            task = await self._next_of_source()
            if task is END:
                break
            if self._loop.is_owned(task):
                self._taken.append(task)
            self._read += 1
            if self._read % _READ_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _next_of_source(self) -> T | Literal[_EndOfTasks.END]:
        while self._cut_step is not None:
            if self._loop.is_over:
                return END
            self._loop.note_progress()
            if (await asyncio.wait([self._cut_step], timeout=_CHECK_SEC))[0]:
                self._cut_step = None
        if self._unread:
            return self._unread.popleft()
        source = self._source
        if not isinstance(source, AsyncIterator):
            return next(source, END)
        step = asyncio.get_running_loop().create_task(_step(source), context=self._context)
        try:
            while not step.done() and not self._loop.is_over:
                self._loop.note_progress()
                await asyncio.wait([step], timeout=_CHECK_SEC)
        except asyncio.CancelledError:
            await self._cut(step)
            raise
        if not step.done():
            step.cancel()
            await asyncio.wait([step])
            return END
        task = step.result()
        if task is END and self._was_cut:
            raise JobsyncError(
                'a call of the loop was cancelled while it waited for its source, and that ended the source: the tasks after it '
                'are missing. Give the source a timeout of its own, or one that can be cancelled (an asyncio.Queue)'
            )
        self._was_cut = False
        return task

    async def _cut(self, step: asyncio.Future[T | Literal[_EndOfTasks.END]]) -> None:
        """Cancel a call of the source; keep the task that it returns all the same."""
        was_cut, self._was_cut = self._was_cut, True

        # t=0  the call is cancelled, and so is its step of the source, which goes on for now
        # t=1  the call is cancelled once more, as it waits here for the step to end
        # t=2  the step returns a task: no call waits for it, and the next call waits for the step before it takes another
        def keep(step: asyncio.Future[T | Literal[_EndOfTasks.END]]) -> None:
            if not step.cancelled() and step.exception() is None and (task := step.result()) is not END:
                self._unread.append(task)
                self._was_cut = was_cut

        step.add_done_callback(keep)
        step.cancel()
        self._cut_step = step
        await asyncio.wait([step])


async def _step(source: AsyncIterator[T]) -> T | Literal[_EndOfTasks.END]:
    return await anext(source, END)
