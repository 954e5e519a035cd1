"""A place that one worker of the whole cluster holds at a time, on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from jobsync._worker.refusals import refused
from jobsync._worker.singleton import POLL_SEC, Place, SingletonBase, TurnBase
from jobsync.aio.threads import Threads

__all__ = ['AsyncSingleton', 'AsyncTurn']


class AsyncTurn(TurnBase):
    """A turn of ``AsyncJob.singleton``: true while this asyncio task alone holds the place."""

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until the turn is over, at most so many seconds; return whether it goes on.

        Args:
            seconds: The longest wait. None: until the turn is over.

        Raises:
            ConfigError: ``seconds`` is neither a number nor None.
        """
        for pause_sec in self._pauses(seconds):
            await asyncio.sleep(pause_sec)
        return bool(self)


class AsyncSingleton(SingletonBase):
    """A place that one worker of the whole cluster holds at a time, for ``async with`` and ``async for``."""

    def __init__(self, place: Place, threads: Threads) -> None:
        super().__init__(place)
        self._threads = threads

    def _turn(self) -> AsyncTurn:
        return self._threads.call_here(lambda: self._take(AsyncTurn))

    async def __aenter__(self) -> AsyncTurn:
        """Take the place if it is to be had, without waiting. The turn is false from the start otherwise."""
        return self._turn()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the place back."""
        self._leave(exc)

    def __aiter__(self) -> AsyncIterator[AsyncTurn]:
        """Return turns: one each time this asyncio task holds the place, until the node is to leave."""
        return _Turns(self._place, self._threads)

    if not TYPE_CHECKING:  # a type checker finds the right form by itself, as long as these are missing
        __enter__ = __exit__ = refused('a singleton of an AsyncJob is entered by "async with job.singleton(…)", not by "with"')
        __iter__ = refused('turns of an AsyncJob are taken by "async for turn in job.singleton(…)", not by "for"')


class _Turns(AsyncSingleton, AsyncIterator[AsyncTurn]):
    """The turns of one loop. A loop that is left frees this object at once, and with it the place."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncTurn:
        place = self._place
        place.session.check_entered()
        self._give_back()
        await asyncio.sleep(0)  # a body that awaits nothing does not hold up the event loop
        while not place.session.is_leaving:
            place.session.note_progress()
            if place.is_free_here:
                if turn := self._turn():
                    return turn
                self._give_back()
            await asyncio.sleep(POLL_SEC)
        raise StopAsyncIteration
