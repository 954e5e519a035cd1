"""Processes that fork while another of their threads is in a call of the store."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection

from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import NAMESPACE, Namespace
from jobsync.testing.conformance.outages import eventually
from jobsync.testing.conformance.processes import START_SEC, Connector, common, processes, receive
from jobsync.testing.conformance.threads import DEADLINE_SEC
from jobsync.testing.conformance.write_history import COMMON

__all__ = ['ForkTests']

FORKS = 5


@contextlib.contextmanager
def beating(namespace: Namespace) -> Iterator[None]:
    """Send heartbeats of the common node in a thread, one after the other, for the time of a ``with`` block."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.is_set():
            with contextlib.suppress(BackendUnavailable):
                namespace.beat(COMMON)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    is_over.set()
    thread.join()


def fork_amid_calls(namespace: Namespace, _number: int, pipe: Connection) -> object:
    """Fork while another thread sends heartbeats, then send no more; the forks end with this process."""
    reading, writing = os.pipe()
    with beating(namespace):
        for _ in range(FORKS):
            time.sleep(0.001)
            if not os.fork():
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
    pipe.send('forked')
    return pipe.recv()


def forked(limit_sec: int, call: Callable[[], object]) -> int:
    """Fork, and have the child make a call until the store answers, and end; return its process id."""
    if not (fork := os.fork()):
        try:
            signal.alarm(limit_sec)  # which ends it, whatever it waits for
            eventually(call)
            os._exit(0)
        finally:
            os._exit(1)
    return fork


def exit_status(fork: int) -> int:
    """Wait for a child to end; return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])


def begin_in_forks(connector: Connector, limit_sec: int, namespace: Namespace, _number: int, _pipe: Connection) -> object:
    """Fork while another thread sends heartbeats; have each child send one through a handle of its own; return how each ended.

    Return also the stamps of revisions that two more children make, one after the other.
    """
    forks, ends, stamps = list[int](), list[int](), list[int]()
    with beating(namespace):
        for _ in range(FORKS):
            time.sleep(0.001)
            forks.append(forked(limit_sec, lambda: Namespace(connector(NAMESPACE)).beat(COMMON)))
        ends += [exit_status(fork) for fork in forks]
    for task in 'xy':
        fork = forked(limit_sec, lambda task=task: Namespace(connector(NAMESPACE)).lock(task))  # type: ignore[misc]
        ends.append(exit_status(fork))
        stamps.append(namespace.revision.stamp)
    return ends, stamps


def close_in_forks(limit_sec: int, namespace: Namespace, _number: int, _pipe: Connection) -> object:
    """Fork while a handle is open, have the child close its copy of the handle, and send a heartbeat; return the heartbeats."""
    beats = [namespace.beat(COMMON).heartbeat]
    for _ in range(FORKS):
        fork = forked(limit_sec, namespace.backend.close)
        beats += [exit_status(fork), namespace.beat(COMMON).heartbeat]
    return beats


@needs(Ability.PROCESSES)
class ForkTests:
    """A child takes nothing of its parent along: neither a lock of a call, nor a connection."""

    def test_a_fork_amid_calls_holds_up_no_other(self, harness: Harness) -> None:
        """What a process forks while it calls the store keeps no lock of the call, though it has the same descriptors open."""
        namespace = common(harness)
        with processes(harness, fork_amid_calls, count=1) as ((_, pipe),):
            assert receive(pipe) == 'forked'
            try:
                namespace.beat(COMMON)
            except BackendUnavailable as error:
                raise AssertionError(f'a child that was forked during a call keeps the lock of that call: {error}') from error

    def test_a_fork_amid_calls_opens_a_handle_of_its_own(self, harness: Harness) -> None:
        """A child that is forked while another thread is in a call becomes a node of its own, through a handle that it opens."""
        common(harness)
        with processes(harness, partial(begin_in_forks, harness.connector(), int(2 * DEADLINE_SEC)), count=1) as ((_, pipe),):
            ends, stamps = receive(pipe, START_SEC)
            assert ends == [0] * (FORKS + 2), (
                'a child that was forked during a call of another thread can make no call: what it needs is held, for ever, by a '
                'thread that it does not have'
            )
            assert stamps[0] != stamps[1], (
                'two children draw one stamp: a fork copies the state of a generator of random numbers; SystemRandom has none'
            )

    def test_a_fork_that_closes_its_copy_ends_no_other(self, harness: Harness) -> None:
        """A child that closes its copy of a handle, as whatever leaves a program does, takes no connection from its parent."""
        common(harness)
        with processes(harness, partial(close_in_forks, int(DEADLINE_SEC / 2)), count=1) as ((_, pipe),):
            beats = receive(pipe, START_SEC)
            assert beats == [1, *(each for count in range(2, FORKS + 2) for each in (0, count))], (
                f'exit statuses of children and heartbeats of their parent in turn: {beats}. A child has the connections of its '
                'parent open, and must not take leave of the server through them'
            )
