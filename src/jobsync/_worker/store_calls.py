"""Calls of the backend on behalf of the user: repeated while the store does not answer, and never ended half-way by a signal."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from jobsync._event_log import EventLogger
from jobsync._random import RANDOM
from jobsync._runtime import threads
from jobsync._threads import others_run, start
from jobsync.errors import BackendUnavailable, JobsyncError, WrongProcess

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ['PendingCall', 'StoreCalls', 'acting_for', 'worker_id']

T = TypeVar('T')
Condition = Callable[[], bool]

_logger = EventLogger('jobsync.job')
_QUIET_SEC = 1.0
"""How long a call is repeated before that is logged."""
_RARER = 10
"""How many times as long it is repeated before that is logged again."""
_CHECK_SEC = 0.5
"""How often a thread that waits for the call thread checks that it is alive."""
_END_CHECK_SEC = 0.02
"""How often a thread that waits for the end of the call thread checks that it is alive."""

# --- the worker that a call is for ------------------------------------------------------------------------------------------

_acting_for: ContextVar[int | None] = ContextVar('jobsync_acting_for', default=None)
_numbers = itertools.count(1)


class _ThreadNumber(threading.local):
    """The number of the present thread. Its ident would not do: it is given to a later thread once this one is over."""

    def __init__(self) -> None:
        self.number = next(_numbers)


_here = _ThreadNumber()


def worker_id() -> int:
    """Return the number of the worker that runs this code: a thread, or the asyncio task on whose behalf a thread acts.

    Each task in flight carries it, since leaving must not wait for the tasks of the worker that leaves.
    """
    worker = _acting_for.get()
    return _here.number if worker is None else worker


@contextmanager
def acting_for(worker: int) -> Iterator[None]:
    """Have this thread act for another worker within the block. A ``worker`` below 0 is the number of no thread."""
    token = _acting_for.set(worker)
    try:
        yield
    finally:
        _acting_for.reset(token)


# --- calls ------------------------------------------------------------------------------------------------------------------


class _CallDepth(threading.local):
    """How many calls the present thread is in, one within the other."""

    depth = 0


class StoreCalls:
    """Makes calls, knows for each thread whether it is inside one, and lets no signal end one half-way.

    **Signals.** Python runs a signal's handler in the main thread, between any two steps of the code there, and an exception
    that the handler raises (``sys.exit``, ``KeyboardInterrupt``) ends that code::

        t=0  main thread: the driver takes a lock (``with`` on a ``threading.Condition``)
        t=1  main thread: the handler raises before the block of the ``with`` has begun: the lock is never released
        t=2  heartbeat thread: the node wants to leave, and waits for that lock for ever

    So another thread makes the calls of the main thread, one after the other, and a signal can end only the wait for it.
    """

    def __init__(
        self,
        patience_sec: float,
        thread_name: str | None = None,
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Store how long a call is repeated (``patience_sec``), and the name of the call thread. None: no call thread.

        ``waiting`` returns the context of a call, and of the further attempts of ``call_here``, whose first one may be a
        statement of the program's that takes however long.
        """
        self._patience_sec, self._thread_name, self._waiting = patience_sec, thread_name, waiting
        self._here = _CallDepth()
        self._call_thread: _CallThread | None = None

    @property
    def is_calling(self) -> bool:
        """Return whether the present thread, or the code that a signal has interrupted in it, is inside a call."""
        return self._here.depth > 0

    def call(self, action: Callable[[], T], while_: Condition | None = None) -> T:
        """Return the result of ``action``, which is repeated verbatim until the store answers or ``while_`` returns False.

        Without ``while_`` a call is repeated for ``patience_sec``. Raises what ``action`` raises; ``BackendUnavailable`` only
        after the last attempt.
        """
        _check_interpreter()
        with self._waiting():
            return self._call(action, while_)

    def _call(self, action: Callable[[], T], while_: Condition | None) -> T:
        name = self._thread_name
        if name is None or not threads.is_interruptible():
            return self.call_here(action, while_)
        here = self._here
        here.depth += 1
        try:
            # t=0  memory is short: the call thread ends with an error, and this thread makes the call after half a second
            # t=1  the next call: without another call thread, that and each after it would take half a second longer
            if self._call_thread is None or self._call_thread.has_ended:
                self._call_thread = _CallThread(name)
            go_on = self._patience(while_)
            return self._call_thread.run(lambda is_awaited: self.call_here(action, lambda: is_awaited() and go_on()))
        finally:
            here.depth -= 1

    def call_here(self, action: Callable[[], T], while_: Condition | None = None) -> T:
        """Make a call as ``call`` does, but in the present thread, where a signal may end it half-way."""
        _check_interpreter()
        here = self._here
        here.depth += 1
        try:
            go_on = self._patience(while_)
            failed = []
            try:
                return action()
            except BackendUnavailable as error:
                failed.append(error)
            with self._waiting():
                return _call_again(action, failed, go_on)
        finally:
            here.depth -= 1

    def close(self, timeout_sec: float) -> None:
        """Wait at most ``timeout_sec`` for a call that a signal has left under way. Later calls have no call thread."""
        self._thread_name = None
        if self._call_thread is not None:
            self._call_thread.end(timeout_sec)

    def _patience(self, while_: Condition | None) -> Condition:
        end = time.monotonic() + self._patience_sec
        return while_ or (lambda: time.monotonic() < end)


def _check_interpreter() -> None:
    """Raise ``JobsyncError`` as the interpreter ends, when a call might wait for ever, and nothing can be imported any more."""
    if not others_run():
        raise JobsyncError('the store cannot be called any more, since the interpreter is ending: leave the job before that')


def _call_again(action: Callable[[], T], failed: list[BackendUnavailable], while_: Condition) -> T:
    """Return the result of ``action`` once the store answers; raise its last error when ``while_`` returns False.

    ``failed`` has the error of the first attempt, which was made already, and is emptied.
    """
    from tenacity import Retrying, retry_if_exception_type, wait_exponential

    def attempt() -> T:
        if failed:
            raise failed.pop()
        return action()

    even = wait_exponential(multiplier=0.05, max=1.0)
    retrying = Retrying(
        retry=retry_if_exception_type(BackendUnavailable),
        stop=lambda _: not while_(),
        wait=lambda state: even(state) + RANDOM.uniform(0, 0.05),  # tenacity's own would be the program's numbers
        sleep=time.sleep,
        before_sleep=_warn_rarely(),
        reraise=True,
    )
    return retrying(attempt)


def _warn_rarely() -> Callable[[RetryCallState], None]:
    """Return a function that logs the error of a call that has been repeated for ``_QUIET_SEC``, ten times that, and so on.

    A store that takes heartbeats and no claims, as with a full disk, may do so for days, in which nothing else is logged.
    """
    quiet_sec = _QUIET_SEC

    def warn(state: RetryCallState) -> None:
        nonlocal quiet_sec
        waited_sec = state.seconds_since_start or 0.0
        if state.outcome is not None and waited_sec >= quiet_sec:
            quiet_sec = _RARER * waited_sec
            _logger.warning('calling the store again: %s', state.outcome.exception())

    return warn


# --- the call thread --------------------------------------------------------------------------------------------------------


class _CallThread:
    """A thread that makes the calls of the main thread, in their order."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[PendingCall[Any] | None] = SimpleQueue()
        self._pid = os.getpid()
        thread = self._thread = threading.Thread(target=_make_calls, args=(self._calls,), name=name, daemon=True)
        # t=0  main thread: starts the call thread
        # t=1  a signal's handler raises, and no object refers to this one any more
        # The thread then ends, since its end was arranged before its start.
        weakref.finalize(self, self._calls.put, None).atexit = False
        if not start(lambda: thread):
            raise JobsyncError(
                'no thread can be started for the calls of the store: the process is about to end, has too many threads or too '
                'little memory, or is a subinterpreter, where jobsync does not run'
            )

    @property
    def has_ended(self) -> bool:
        """Return whether the thread has ended, so that no call in its queue will be made."""
        return not self._thread.is_alive()

    def run(self, work: Callable[[Condition], T]) -> T:
        """Return what ``work`` returns in the present context, or raise what it raises.

        Its argument says whether the result is still awaited.
        """
        context = copy_context()
        call = PendingCall(lambda is_awaited: context.run(work, is_awaited))
        try:
            self._calls.put(call)
            while not call.wait(_CHECK_SEC):
                if os.getpid() != self._pid:  # the handler of a signal has forked
                    raise WrongProcess(f'this is process {os.getpid()}, a fork of {self._pid}, which is making this call')
                # t=0  this thread puts the call into the queue
                # t=1  another thread leaves: ``end`` has put None before the call, and the call thread is over
                # t=2  no thread makes the call: it is made here. The second ``wait`` is for a result that came since the first.
                if self.has_ended and not call.wait(0):
                    call.make()
            return call.result()
        finally:
            call.is_awaited = False

    def end(self, timeout_sec: float) -> None:
        """Take no more calls. Wait at most ``timeout_sec`` until those in the queue are made."""
        last = PendingCall(lambda _: None)
        self._calls.put(last)
        self._calls.put(None)
        # t=0  another thread leaves as well: its None is in the queue before this call, which is never made
        # t=1  this thread finds the call thread alive, and waits for the call
        # t=2  the call thread ends. The wait ends with it, not after ``timeout_sec``
        until = time.monotonic() + timeout_sec
        while not self.has_ended and (left := until - time.monotonic()) > 0 and not last.wait(min(left, _END_CHECK_SEC)):
            pass


def _make_calls(calls: SimpleQueue[PendingCall[Any] | None]) -> None:
    threads.duty.serves_a_node = True  # the main thread waits for this one, and the node for what the main thread has in flight
    while (call := calls.get()) is not None:
        call.make()
        del call  # until the next call arrives, the name would keep this one and its result in memory


class PendingCall(Generic[T]):
    """A call to be made by another thread, and its result."""

    def __init__(self, work: Callable[[Condition], T]) -> None:
        self.is_awaited = True
        self._work = work
        self._done: threads.Queue[None] = threads.new_queue()
        self._is_done = False
        self._results: list[T] = []
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call, and keep its result or error."""
        try:
            self._results.append(self._work(lambda: self.is_awaited))
        except BaseException as error:  # noqa: BLE001 - raised again by ``result``
            self._error = error
        self._done.put(None)

    def wait(self, timeout_sec: float) -> bool:
        """Wait at most ``timeout_sec`` for the result; return whether there is one. A signal may end this anywhere."""
        if not self._is_done:
            with suppress(Empty):
                self._done.get(timeout=timeout_sec)
                self._is_done = True
        return self._is_done

    def result(self) -> T:
        """Return the result or raise the error. To be called once."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # a traceback that refers to its own frame is garbage that only the collector finds
        return self._results.pop()
