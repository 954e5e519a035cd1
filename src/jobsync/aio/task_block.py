"""The block of one task, as ``AsyncJob.task`` returns it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from jobsync._worker.refusals import refused

__all__ = ['TaskBlock']

T = TypeVar('T')


class TaskBlock(AbstractAsyncContextManager[T]):
    """The work on one task, for ``async with``."""

    def __init__(self, block: AbstractAsyncContextManager[T]) -> None:
        self._block = block

    async def __aenter__(self) -> T:
        """Claim the task, and return it."""
        return await self._block.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Record the task as complete, unless the block has raised."""
        return await self._block.__aexit__(exc_type, exc, traceback)

    if not TYPE_CHECKING:  # a type checker finds ``async with`` by itself, as long as these are missing
        __enter__ = __exit__ = refused('a task of an AsyncJob is worked on in "async with job.task(…)", not in "with"')
