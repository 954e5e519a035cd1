"""Calls of the backend on behalf of the user: repeated while the store does not answer, known to be under way, and whole."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from jobsync.errors import BackendUnavailable, WrongProcess

__all__ = ['StoreCalls']

T = TypeVar('T')
Condition = Callable[[], bool]

_LOOK_SEC = 0.5
"""How often a thread that waits for its stand-in looks whether that is still there."""


class _Here(threading.local):
    """How many calls the present thread is in, one within the other."""

    depth = 0


class StoreCalls:
    """Makes the calls, knows for each thread whether it is inside one, and lets no signal end one half-way.

    **Signals.** Python runs a signal's handler in the main thread, between any two steps of what that is doing; the exception
    it raises (``sys.exit``, ``KeyboardInterrupt``) ends that there. In a driver it would leave locks taken that are never
    given back: a ``with`` on a ``threading.Condition``, for one, may be left after the lock is taken and before the block has
    begun. Then whoever else needs the driver waits for ever, such as the node that is to leave. So another thread makes the
    calls of the main thread, one after the other, and all that a signal can end is the wait for it.
    """

    def __init__(self, patience_sec: float, thread_name: str | None = None) -> None:
        """``patience_sec``: how long a store that does not answer is asked again. ``thread_name``: None for no such thread."""
        self._patience_sec, self._thread_name = patience_sec, thread_name
        self._here = _Here()
        self._stand_in: _CallThread | None = None
        self._closed = False

    @property
    def is_calling(self) -> bool:
        """Whether the present thread (or what a signal has interrupted in it) is inside a call."""
        return self._here.depth > 0

    def call(self, action: Callable[[], T], while_: Condition | None = None) -> T:
        """Do ``action``, which may be repeated verbatim, until the store answers, patience ends or ``while_`` says no.

        Raises what ``action`` raises, ``BackendUnavailable`` after the last attempt.
        """
        name = self._thread_name
        if name is None or self._closed or threading.get_ident() != threading.main_thread().ident:
            return self.call_here(action, while_)
        here = self._here
        here.depth += 1
        try:
            if self._stand_in is None:
                self._stand_in = _CallThread(name)
            until = self._patience(while_)
            return self._stand_in.do(lambda is_awaited: self.call_here(action, lambda: is_awaited() and until()))
        finally:
            here.depth -= 1

    def call_here(self, action: Callable[[], T], while_: Condition | None = None) -> T:
        """The same in the present thread, whichever that is: a signal ends it where it is, be that half-way."""
        here = self._here
        here.depth += 1
        try:
            until = self._patience(while_)
            failed = []
            try:
                return action()
            except BackendUnavailable as error:
                failed.append(error)
            # Only now, for what it needs takes a tenth of the time that all of jobsync takes to import.
            from jobsync._worker.retries import ask_again

            return ask_again(action, failed, until)
        finally:
            here.depth -= 1

    def close(self, timeout_sec: float) -> None:
        """Wait at most so long for a call that a signal has left under way. Later ones are made in the thread that makes them."""
        self._closed = True
        if self._stand_in is not None:
            self._stand_in.end(timeout_sec)

    def _patience(self, while_: Condition | None) -> Condition:
        end = time.monotonic() + self._patience_sec
        return while_ or (lambda: time.monotonic() < end)


class _CallThread:
    """A thread that works in the place of another, in the order in which it is asked to."""

    def __init__(self, name: str) -> None:
        self._pieces: SimpleQueue[_PendingCall[Any] | None] = SimpleQueue()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=_work, args=(self._pieces,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._pieces.put, None).atexit = False

    def do(self, work: Callable[[Condition], T]) -> T:
        """What ``work`` returns or raises. It can ask whether that is still waited for."""
        piece = _PendingCall(work)
        try:
            self._pieces.put(piece)
            while not piece.wait(_LOOK_SEC):
                if os.getpid() != self._pid:  # the handler of a signal has forked
                    raise WrongProcess(f'this is process {os.getpid()}, a fork of {self._pid}, which is making this call')
                if not self._thread.is_alive() and not piece.wait(0):  # another thread has ended it just before
                    piece.carry_out()
            return piece.result()
        finally:
            piece.is_awaited = False

    def end(self, timeout_sec: float) -> None:
        """Take no more work. Wait until what there is has been done, at most so long."""
        last = _PendingCall(lambda _: None)
        self._pieces.put(last)
        self._pieces.put(None)
        if self._thread.is_alive():
            last.wait(timeout_sec)


def _work(pieces: SimpleQueue[_PendingCall[Any] | None]) -> None:
    while (piece := pieces.get()) is not None:
        piece.carry_out()
        del piece  # until the next comes it would hold what it was made of


class _PendingCall(Generic[T]):
    """A piece of work, and what came of it."""

    def __init__(self, work: Callable[[Condition], T]) -> None:
        self.is_awaited = True
        self._work, self._context = work, copy_context()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._is_done = False
        self._results: list[T] = []
        self._error: BaseException | None = None

    def carry_out(self) -> None:
        """Do it."""
        try:
            self._results.append(self._context.run(self._work, lambda: self.is_awaited))
        except BaseException as error:  # noqa: BLE001 - raised again by ``result``
            self._error = error
        self._done.put(None)

    def wait(self, timeout_sec: float) -> bool:
        """Whether it is done within this time. A plain look into a queue: a signal can end it anywhere."""
        if not self._is_done:
            with suppress(Empty):
                self._done.get(timeout=timeout_sec)
                self._is_done = True
        return self._is_done

    def result(self) -> T:
        """What came of it, once."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # a traceback that holds its own frame is garbage
        return self._results.pop()
