"""gRPC and fork: the child goes on with channels of its own, and leaves those of its parent alone.

gRPC survives a fork only if it was told before it was imported, and if no thread is inside a call at that moment: then the child
may hang or be aborted, whatever it does. So calls wait while a fork is under way, and a fork waits for those under way.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import py_object, pythonapi
from typing import Any, Protocol

if 'grpc' not in sys.modules:
    os.environ.setdefault('GRPC_ENABLE_FORK_SUPPORT', '1')

__all__ = ['GATE', 'abandon', 'forget_in_child']

FORK_WAITS_SEC = 10.0
"""How long a fork waits for calls. A server that answers takes milliseconds, one that does not ``op_timeout_sec``.

A child that is forked amid a call hangs as it begins: gRPC waits there for a lock that a thread of the parent had.
"""
LOOKS_EVERY_SEC = 0.0005


class Forgetful(Protocol):
    """Something that has to begin anew in a child."""

    def forget(self) -> None:
        """Go on with nothing that the parent has open."""


class Gate:
    """Calls pass it, any number at once, but not during a fork.

    Without a lock: a signal's handler may run in the middle of this, and make other threads call before it returns.
    """

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As new: in a child no other thread is left."""
        self._inside: set[object] = set()
        self._reopened = threading.Event()
        self._is_shut = False

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Around a call."""
        call = object()
        self._inside.add(call)
        # Whoever shuts the gate looks who is inside only after that, so one of the two sees the other.
        while self._is_shut:
            self._inside.discard(call)
            self._reopened.wait()
            self._inside.add(call)
        try:
            yield
        finally:
            self._inside.discard(call)

    def shut(self) -> None:
        """Before a fork."""
        self._reopened.clear()
        self._is_shut = True
        deadline = time.monotonic() + FORK_WAITS_SEC
        while self._inside and time.monotonic() < deadline:
            time.sleep(LOOKS_EVERY_SEC)

    def reopen(self) -> None:
        """After a fork, in the parent."""
        self._is_shut = False
        self._reopened.set()


def abandon(thing: Any) -> None:
    """Keep a thing for good, so that not even the garbage collector closes what belongs to the parent process."""
    pythonapi.Py_IncRef(py_object(thing))


GATE = Gate()
_forgetful: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_in_child(thing: Forgetful) -> None:
    """Have ``thing.forget`` called in every child that is forked from now on."""
    _forgetful.add(thing)


def _begin_anew() -> None:
    GATE.open()
    for thing in list(_forgetful):
        thing.forget()


os.register_at_fork(before=GATE.shut, after_in_parent=GATE.reopen, after_in_child=_begin_anew)
