"""Wait for a new revision on a connection of its own: receive announcements, or poll where there are none.

An announcement is a hint. It may come late, twice or never, so a listener reads the revision each time it has connected. A lost
connection is replaced after a pause (see ``Backoff``).
"""

from __future__ import annotations

import abc
import contextlib
import math
import os
import select
import threading
import time
from queue import Empty, SimpleQueue
from typing import ClassVar

from jobsync.backends._common.abandon import abandon
from jobsync.backends._common.backoff import Backoff
from jobsync.backends._common.concerned import Concerned
from jobsync.backends._common.forks import forget_in_child
from jobsync.errors import BackendUnavailable

__all__ = ['POLL_SEC', 'Listener']

POLL_SEC = 1.0
"""How often to read the revision where nothing is announced."""
SILENT_SEC = 60.0
"""After how long without an announcement the revision is read."""


class Listener(abc.ABC):
    """A connection on which a backend waits. Thread-safe: one thread waits on the connection, and rings for the others."""

    losses: ClassVar[tuple[type[Exception], ...]]
    """What the methods below raise when the connection is lost or cannot be made."""

    def __init__(self) -> None:
        self._closed = False
        self._begin()
        forget_in_child(self)

    def forget(self) -> None:
        """See ``Forgetful``."""
        abandon(vars(self).copy())
        self._waking.clear()
        self._close_pipe()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._is_open = self._has_read = False
        self._newest, self._read_at = 0, -math.inf
        self._concerned = Concerned()
        self._received: list[str] = []
        """Announcements that were received and not taken."""
        self._backoff = Backoff()
        self._waking: dict[object, None] = {}
        """The calls of ``close`` that may write into the pipe."""
        self._wake = self._woken = -1
        """The ends of a pipe that ``close`` wakes the waiting thread by, once a thread waits."""
        self._bells: dict[SimpleQueue[None], None] = {}
        """What the threads wait for that do not wait on the connection."""

    # For the driver to implement

    @abc.abstractmethod
    def _open(self, within_sec: float) -> None:
        """Connect, and subscribe to announcements where that is possible."""

    @abc.abstractmethod
    def _read_revision(self) -> int:
        """Return the revision's number now."""

    @abc.abstractmethod
    def _descriptor(self) -> int | None:
        """Return the descriptor on which announcements come, or None to poll."""

    @abc.abstractmethod
    def _receive(self) -> None:
        """Receive announcements without waiting, and append them to ``_received``."""

    @abc.abstractmethod
    def _disconnect(self) -> None:
        """Close the connection, if there is one. Raises nothing."""

    # For every driver

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        deadline, newest = time.monotonic() + timeout, revision
        bell, is_mine = SimpleQueue[None](), False
        try:
            while not (is_mine := self._lock.acquire(blocking=False)):
                # t=0  thread a waits on the connection, and thread b, which knows as much, for a
                # t=1  a revision is announced: a takes it, and returns it
                # t=2  a waits anew, before b has had its turn: b, which could only wait for that, would learn of nothing
                # So b returns what a has taken, and needs no turn for that.
                if bell in self._bells:
                    if self._has_read and (found := self._newest) > revision:
                        newest = found
                        break
                    if self._closed or (left := deadline - time.monotonic()) <= 0:
                        break
                    with contextlib.suppress(Empty):
                        bell.get(timeout=left)
                self._bells[bell] = None
            # Not as the handle is made: that of a ``Cluster`` waits for nothing, and a program that does not close it would have
            # two descriptors less. And before ``_closed`` is read, or ``close`` might find no pipe to write to.
            if is_mine and self._wake < 0:
                self._wake, self._woken = _new_pipe()
            while is_mine and not self._closed:
                try:
                    newest = self._wait_for_newer(revision, deadline)
                except self.losses:
                    self._drop()
                    self._sleep(min(self._backoff.next_sec(), deadline - time.monotonic()))
                if newest > revision or time.monotonic() >= deadline:
                    break
            return self._concerned.hint(newest, revision)
        finally:
            self._bells.pop(bell, None)
            if is_mine:
                self._release()
                # t=0  this thread, which has the lock, finds that the listener is open
                # t=1  ``close`` finds the lock taken, and leaves the connection to this thread
                # So what t=1 leaves is closed once the lock is free.
                if self._closed:
                    self._end_if_free()

    def _release(self) -> None:
        """Release the lock, for which other threads may wait."""
        self._lock.release()
        self._ring()

    def _ring(self) -> None:
        """Wake the threads that do not wait on the connection."""
        for bell in list(self._bells):
            bell.put(None)

    def close(self) -> None:
        """Wake the waiting threads and close the connection."""
        self._closed = True
        self._ring()
        # t=0  this thread has read the number of the pipe's end, and is to write
        # t=1  a wait in another thread ends and closes the pipe; a file is opened, which gets the number
        # t=2  this thread writes into that file
        # So no thread closes the pipe between the two lines with this mark.
        call = object()
        try:
            self._waking[call] = None
            with contextlib.suppress(OSError):
                os.write(self._woken, b'x')
        finally:
            self._waking.pop(call, None)
        self._end_if_free()

    def _end_if_free(self) -> None:
        """Close the connection, unless a thread waits on it, which does so itself."""
        while self._lock.acquire(blocking=False):
            try:
                self._drop()
                self._close_pipe()
            finally:
                self._release()
            if self._wake < 0 or self._waking:
                break

    def _wait_for_newer(self, revision: int, deadline: float) -> int:
        """Return the newest revision, as soon as it exceeds ``revision`` or the time is over."""
        if not self._is_open:
            # t=0  the listener subscribes
            # t=1  revision 8 is announced, and received later
            # t=2  the listener reads the revision: 8. Read before subscribing, it could be 7, and the announcement of 8 lost.
            self._open(deadline - time.monotonic())
            self._is_open = True
            self._read()
            self._has_read = True
            self._ring()
            self._backoff.reset()
        while self._newest <= revision and self._is_open and not self._closed and (left := deadline - time.monotonic()) > 0:
            descriptor = self._descriptor()
            if descriptor is None:
                self._sleep(min(POLL_SEC, left))
                self._read()
                if self._newest < revision:  # see ``_check_silence``
                    self._drop()
            else:
                self._sleep(min(SILENT_SEC, left), descriptor)
                self._receive()
                self._check_silence(revision)
                self._take_received()
        return self._newest

    def _read(self) -> None:
        """Read the revision. Which nodes the changes since the last one concern is not known."""
        self._read_at = time.monotonic()
        number = self._read_revision()
        if number != self._newest:
            self._concerned.note(number, None)
        self._newest = number
        self._ring()
        self._take_received()

    def _check_silence(self, revision: int) -> None:
        """Read the revision after a long silence, and connect anew if it has changed without an announcement here.

        Or if it is lower than ``revision``, which was read elsewhere.
        """
        # t=0  the server leaves its cluster, or is the sentinels' choice no longer: it keeps the subscription, and answers
        # t=1  the revision is raised, and announced on the server that has the namespace now
        # A former primary of PostgreSQL's that is read-only keeps the revision of before t=1.
        if self._received or time.monotonic() < self._read_at + SILENT_SEC:
            return
        before = self._newest
        self._read()
        if self._newest != before or self._newest < revision:
            self._drop()

    def _take_received(self) -> None:
        """Take the announcements that were received: each a revision's number, and the nodes that it concerns.

        Any client may announce anything, and a number that is too high would hide all later ones. So the revision is read, and
        what is beyond it does not count.
        """
        while self._received:
            announced, self._received = self._received, []
            present = self._read_revision()
            if present < self._newest:
                self._newest = present
                self._concerned.note(present, None)
            self._newest = self._concerned.note_announced(announced, self._newest, present)
            self._ring()

    def _sleep(self, seconds: float, descriptor: int | None = None) -> None:
        """Sleep until the time is over, ``close`` is called, or ``descriptor`` can be read."""
        poll = select.poll()
        for watched in (self._wake, descriptor):
            if watched is not None:
                poll.register(watched, select.POLLIN)
        poll.poll(math.ceil(max(0.0, seconds) * 1000))

    def _drop(self) -> None:
        self._is_open = self._has_read = False
        self._disconnect()

    def _close_pipe(self) -> None:
        # t=0  this thread closes a descriptor, which lets other threads run; or a signal's handler raises after that
        # t=1  another thread opens a file, which gets the descriptor's number, and the process is forked
        # t=2  the child leaves the listener to its parent: it would close that file. So would a second ``close``
        # So the numbers are forgotten before.
        descriptors = self._wake, self._woken
        self._wake = self._woken = -1
        if self._waking:  # read after that: a later call of ``close`` finds no number
            self._wake, self._woken = descriptors
            return
        for descriptor in descriptors:
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _new_pipe() -> tuple[int, int]:
    try:
        return os.pipe()
    except OSError as error:
        raise BackendUnavailable(f'this process can make no pipe to wait on: {error}') from error
