"""gRPC and fork: no gRPC is running while a process is forked.

In a forked child gRPC starts threads of its own before Python is ready for any, which sometimes crashes the child; a child forked
during a call may hang at its start. Once the last channel is closed, gRPC ends its threads, and a child finds nothing of gRPC.
So a fork waits until the calls under way are over, ends the streams, and closes all channels. Parent and child each open new
channels with their next call, which waits until the fork is over.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from jobsync.backends._common.fork_gate import POLL_SEC, ForkGate

__all__ = ['GATE', 'hang_up_before_fork', 'has_threads', 'prepare_for_forks']

FORK_WAITS_SEC = 10.0
"""How long a fork waits for calls. A server that answers takes milliseconds, and one that does not takes ``op_timeout_sec``."""
THREADS_END_SEC = 1.0
"""How long a fork waits for gRPC's threads. They end, or sleep, in two milliseconds, unless another library has a channel too."""
SHARED_SEC = 0.02
"""How long a fork waits for their end if another library has had a channel at the last one, so that they may stay."""
CALLS_END_SEC = 1.0
"""How long closing waits for calls to end, which is a matter of milliseconds once their channel is closed."""
THREADS = Path('/proc/self/task')
THREAD_NAMES = ('event_engine', 'grpc', 'lifeguard', 'default-exec', 'resolver-exec')
"""How the names of gRPC's threads begin."""


class Gate(ForkGate):
    """Calls pass the gate, any number at once, except during a fork. It stays shut for as long as the fork takes."""

    def __init__(self) -> None:
        super().__init__(waits_sec=FORK_WAITS_SEC, holds_sec=math.inf)
        self._is_shared = False
        """Whether another library has had a channel at the last fork: gRPC's threads have stayed."""

    def wait_for_calls(self, channels: Collection[object]) -> None:
        """Wait until no other thread is in a call over one of these channels, at most ``CALLS_END_SEC``."""
        me, deadline = threading.get_ident(), time.monotonic() + CALLS_END_SEC
        while any(call.channel in channels and call.thread != me for call in self.under_way()) and time.monotonic() < deadline:
            time.sleep(POLL_SEC)

    def shut(self) -> None:
        """Prepare a fork.

        A handler that interrupted a call of its own thread cannot wait for that call: then gRPC is left as it is, once it has
        sent what it had to send.
        """
        super().shut()
        if not self.under_way():
            for reference in list(_callers):
                if (caller := reference()) is not None:
                    caller.hang_up()
            # t=0   another library has a channel, as an exporter of OpenTelemetry's does, so gRPC's threads stay
            # t=1   a pool of 16 processes is forked, and each fork waits a second for their end: no call is made meanwhile
            # t=15  heartbeat_timeout_sec is over, and the node has lost its lease
            _wait_while(has_threads, SHARED_SEC if self._is_shared else THREADS_END_SEC)
            # t=0  gRPC's threads are about to end, on a machine that is too busy to let them
            # t=1  the fork: the child may hang at its start
            # Those of another library's channel sleep at most moments.
            _wait_while(has_busy_threads, FORK_WAITS_SEC)
            self._is_shared = has_threads()
        else:
            # t=0  a call of this thread is under way, and what it sends is queued
            # t=1  the fork: gRPC's threads in the parent send it, and those that gRPC starts in the child do, on one connection
            # t=2  the server finds the same bytes twice, and closes the connection: the call fails
            _wait_while(has_busy_threads)


def _wait_while(condition: Callable[[], bool], within_sec: float = THREADS_END_SEC) -> None:
    if not THREADS.is_dir():
        time.sleep(0.02)  # this system does not list threads
    deadline = time.monotonic() + within_sec
    while condition() and time.monotonic() < deadline:
        time.sleep(POLL_SEC)


def has_threads() -> bool:
    """Return whether gRPC has threads in this process."""
    return any(_states())


def has_busy_threads() -> bool:
    """Return whether one of gRPC's threads is at work, or has work to begin with."""
    return any(state != 'S' for state in _states())


def _states() -> Iterator[str]:
    """Yield the state of each of gRPC's threads, as Linux names it: ``S`` for one that sleeps."""
    for thread in THREADS.glob('*/stat'):
        with contextlib.suppress(OSError):  # the thread has just ended
            # A name is cut off after 15 bytes, perhaps in the middle of a character. Since Python 3.14 it is that of the thread.
            text = thread.read_text(encoding='utf-8', errors='replace')
            name, _, rest = text.partition('(')[2].rpartition(')')
            if name.startswith(THREAD_NAMES):
                yield rest.split(maxsplit=1)[0]


GATE = Gate()
_callers: set[weakref.ref[Any]] = set()
_is_prepared = False


def hang_up_before_fork(caller: Any) -> None:
    """Call ``caller.hang_up()``, which closes its channels, before every fork from now on."""
    _callers.add(weakref.ref(caller, _callers.discard))


def prepare_for_forks() -> None:
    """Notify the gate of every fork. Called once gRPC has a channel, for the handler registered last runs first before a fork."""
    global _is_prepared
    if not _is_prepared:
        _is_prepared = True
        os.register_at_fork(before=GATE.shut, after_in_parent=GATE.reopen)
