"""An event loop of asyncio in virtual time: where it would wait, it gives the turn away."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from jobsync.testing.virtual_time import VirtualTime, Waiter

__all__ = ['VirtualLoop', 'VirtualPool', 'result_of', 'run']

R = TypeVar('R')


class VirtualPool:
    """Threads of virtual time for the calls of an event loop, in place of threads of the system."""

    def __init__(self, virtual: VirtualTime, node_name: str) -> None:
        self._virtual, self._node_name = virtual, node_name

    def submit(self, function: Callable[..., R], /, *arguments: Any) -> Future[R]:
        """Call a function in a thread of the node. Raises ``RuntimeError`` on another event loop, which would never be woken."""
        if not isinstance(asyncio.get_running_loop(), VirtualLoop):
            raise RuntimeError(  # noqa: TRY004 - no argument is of a wrong type
                'an AsyncJob of a cluster in virtual time runs on an event loop of the cluster: give its coroutine function to '
                'cluster.start'
            )
        future: Future[R] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*arguments)
            except Exception as error:  # noqa: BLE001 - raised where the future is awaited
                self._conclude(future.set_exception, error)
            else:
                self._conclude(future.set_result, result)

        self._virtual.start(self._node_name, 'call', call)
        return future

    def _conclude(self, conclude: Callable[[Any], object], outcome: object) -> None:
        if not self._virtual.is_over:  # no event loop is left that waits for it
            conclude(outcome)

    def shutdown(self) -> None:
        """Do nothing: each thread ends with its call."""


def result_of(virtual: VirtualTime, future: Future[R]) -> R | None:
    """Return the result of a future, as ``Future.result`` does, in a thread of virtual time; None once that is over."""
    present = virtual.present()
    if not future.done():
        future.add_done_callback(lambda _: virtual.wake(present))
    while not future.done() and not virtual.is_over:
        virtual.wait(math.inf)
    return None if virtual.is_over else future.result()


class _Selector(selectors.DefaultSelector):
    """Waits in virtual time. No file is ever ready: what happens in a cluster of virtual time comes from its threads."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        """Give the turn away for so many virtual seconds, or until a thread has something for the loop."""
        if timeout is None or timeout > 0:
            self.loop.wait(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on the clock of a cluster, in a thread of virtual time."""

    def __init__(self, virtual: VirtualTime, node_name: str) -> None:
        self._virtual, self._pool = virtual, VirtualPool(virtual, node_name)
        self._waiting: Waiter | None = None
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return how many virtual seconds have passed."""
        return self._virtual.now

    def wait(self, timeout: float | None) -> None:
        """Give the turn away."""
        virtual = self._virtual
        self._waiting = virtual.present()
        try:
            virtual.wait(math.inf if timeout is None else virtual.now + timeout)
        finally:
            self._waiting = None
            if virtual.is_over:
                self.set_exception_handler(lambda *_: None)  # tasks that are left end here, and that is no news

    def _write_to_self(self) -> None:
        if self._waiting is not None:
            self._virtual.wake(self._waiting)

    def run_in_executor(self, executor: Any, func: Callable[..., R], *args: Any) -> asyncio.Future[R]:  # type: ignore[override]
        """Call a function in a thread of the node, as ``asyncio.to_thread`` does."""
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        return asyncio.wrap_future(self._pool.submit(func, *args), loop=self)


def run(virtual: VirtualTime, node_name: str, coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine as ``asyncio.run`` does, in the present thread of virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(virtual, node_name)) as runner:
        return runner.run(coroutine)
