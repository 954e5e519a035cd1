"""gRPC and fork: no gRPC is there while a process is forked.

In a forked child gRPC starts threads of its own before Python is ready for any, and these crash it now and then; a child forked
amid a call may hang as it begins. With the last channel gone gRPC ends its threads, and leaves nothing for a child to find. So a
fork waits until the calls under way are over, ends the streams, and closes all channels. Parent and child each open new ones
with their next call, which waits until the fork is over.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import py_object, pythonapi
from pathlib import Path
from typing import Any, Protocol

import attrs

__all__ = ['GATE', 'abandon', 'forget_in_child', 'hang_up_before_fork', 'prepare_for_forks']

FORK_WAITS_SEC = 10.0
"""How long a fork waits for calls. A server that answers takes milliseconds, one that does not ``op_timeout_sec``."""
THREADS_END_SEC = 1.0
"""How long a fork waits for gRPC's threads, which end within two milliseconds, unless somebody else has a channel too."""
LOOKS_EVERY_SEC = 0.0005
THREADS = Path('/proc/self/task')
THREAD_NAMES = ('event_engine', 'grpc', 'lifeguard', 'default-exec', 'resolver-exec')
"""How gRPC's names begin."""


class Forgetful(Protocol):
    """Something that has to begin anew in a child."""

    def forget(self) -> None:
        """Go on with nothing that the parent has open."""


class ForkCaller(Protocol):
    """Something that has a channel."""

    def hang_up(self) -> None:
        """Close it; the next call opens another."""


@attrs.define(eq=False)
class Passage:
    """A call that is under way, by its thread, and how to cancel it if it would last."""

    thread: int
    cancel: Callable[[], object] | None = None


class Gate:
    """Calls pass it, any number at once, but not during a fork.

    Without a lock: a signal's handler may run in the middle of this, and make other threads call before it returns.
    """

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As new: in a child no other thread is left."""
        self._inside: set[Passage] = set()
        self._forking: set[int] = set()
        """Threads that are about to fork."""

    @contextmanager
    def passed(self) -> Iterator[Passage]:
        """Around a call, and whatever else concerns a channel."""
        me = threading.get_ident()
        passage = Passage(me)
        self._inside.add(passage)
        # Whoever forks looks who is inside only after that, so one of the two sees the other.
        while self._forking and not self._is_expected(passage):
            self._inside.discard(passage)
            time.sleep(LOOKS_EVERY_SEC)
            self._inside.add(passage)
        try:
            yield passage
        finally:
            self._inside.discard(passage)

    def _is_expected(self, passage: Passage) -> bool:
        """Whether a fork waits for it: a signal's handler makes it, in a thread that forks or is inside already."""
        is_inside = any(other.thread == passage.thread for other in list(self._inside) if other is not passage)
        return is_inside or passage.thread in self._forking

    def shut(self) -> None:
        """Before a fork. A handler that interrupted a call of its own thread cannot wait for it; then gRPC is left as it is."""
        me = threading.get_ident()
        self._forking.add(me)
        deadline = time.monotonic() + FORK_WAITS_SEC
        while (others := [call for call in list(self._inside) if call.thread != me]) and time.monotonic() < deadline:
            for call in others:
                if call.cancel is not None:
                    call.cancel()
            time.sleep(LOOKS_EVERY_SEC)
        if not self._inside:
            for reference in list(_callers):
                if (caller := reference()) is not None:
                    caller.hang_up()
            wait_for_threads()

    def reopen(self) -> None:
        """After a fork, in the parent."""
        self._forking.discard(threading.get_ident())


def wait_for_threads() -> None:
    """Until gRPC has ended its threads."""
    if not THREADS.is_dir():
        time.sleep(0.02)  # where they cannot be seen
    deadline = time.monotonic() + THREADS_END_SEC
    while has_threads() and time.monotonic() < deadline:
        time.sleep(LOOKS_EVERY_SEC)


def has_threads() -> bool:
    """Whether gRPC has any."""
    for thread in THREADS.glob('*/comm'):
        with suppress(OSError):  # it has just ended
            if thread.read_text().startswith(THREAD_NAMES):
                return True
    return False


def abandon(thing: Any) -> None:
    """Keep a thing for good, so that not even the garbage collector closes what belongs to the parent process."""
    pythonapi.Py_IncRef(py_object(thing))


GATE = Gate()
_callers: set[weakref.ref[ForkCaller]] = set()
_forgetful: weakref.WeakSet[Any] = weakref.WeakSet()
_is_prepared = False


def forget_in_child(thing: Forgetful) -> None:
    """Have ``thing.forget`` called in every child that is forked from now on."""
    _forgetful.add(thing)


def hang_up_before_fork(caller: ForkCaller) -> None:
    """Have ``caller.hang_up`` called before every fork from now on."""
    _callers.add(weakref.ref(caller, _callers.discard))


def prepare_for_forks() -> None:
    """To be called whenever there is a channel: what is prepared last comes first before a fork, ours before gRPC's own."""
    global _is_prepared
    if not _is_prepared:
        _is_prepared = True
        os.register_at_fork(before=GATE.shut, after_in_parent=GATE.reopen)


def _begin_anew() -> None:
    GATE.open()
    _callers.clear()
    for thing in list(_forgetful):
        thing.forget()


os.register_at_fork(after_in_child=_begin_anew)
