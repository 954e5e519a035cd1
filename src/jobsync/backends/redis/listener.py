"""Waiting for a new revision: SUBSCRIBE on a connection of its own, or asking now and then where that is not allowed."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time

import redis
from redis.connection import AbstractConnection

from jobsync.backends.redis.connection import Deadline, close, exchange
from jobsync.backends.redis.keys import Keys
from jobsync.backends.redis.link import Link, abandon
from jobsync.errors import JobsyncError

__all__ = ['Listener']

log = logging.getLogger('jobsync.backends.redis')

POLL_SEC = 1.0
"""How often to ask where nothing is announced."""
RETRY_SEC = 0.5
"""Between two attempts to reach a server that is away."""
LEAST_SEC = 1.0
"""What it takes to connect is granted even to a shorter wait."""


class Listener:
    """One per backend. Thread-safe, though only one thread is served at once; the others wait their turn."""

    def __init__(self, link: Link, keys: Keys, op_timeout_sec: float) -> None:
        self._link = link
        self._state = keys.name('state')
        self._channel = keys.channel(link.server.db)
        self._op_timeout = op_timeout_sec
        self._polls = False
        self._closed = False
        self._set_up()

    def _set_up(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connection: AbstractConnection | None = None
        self._newest = 0
        self._wake, self._woken = os.pipe()

    def poll(self, why: str) -> None:
        """From now on ask instead of listening."""
        if not self._polls:
            self._polls = True
            log.info('%s: %s; looking every %g s instead', self._link.server, why, POLL_SEC)

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        if self._process != os.getpid():
            self._forget()
        deadline = time.monotonic() + timeout_sec
        if not self._lock.acquire(timeout=timeout_sec):
            return revision
        try:
            newest = revision
            while not self._closed:
                try:
                    newest = self._look(revision, deadline)
                except (redis.RedisError, OSError, JobsyncError):
                    self._drop()
                    self._sleep(min(RETRY_SEC, deadline - time.monotonic()))
                if newest > revision or time.monotonic() >= deadline:
                    break
            return newest
        finally:
            if self._closed:
                self._drop()
                self._close_pipe()
            self._lock.release()

    def close(self) -> None:
        """Wake whoever waits and close the connection."""
        if self._process != os.getpid():
            self._forget()
        self._closed = True
        with contextlib.suppress(OSError):
            os.write(self._woken, b'x')
        # Whoever waits does the rest.
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
                self._close_pipe()
            finally:
                self._lock.release()

    def _forget(self) -> None:
        """In a forked child: leave the parent's connection alone."""
        abandon(self._connection)
        self._close_pipe()
        self._set_up()

    def _look(self, revision: int, deadline: float) -> int:
        """The newest revision, as soon as it exceeds ``revision`` or the time is over."""
        if self._connection is None:
            within = Deadline(min(self._op_timeout, max(LEAST_SEC, deadline - time.monotonic())))
            if not self._polls:
                self._connection = self._subscribed(within)
            # What was announced before that is lost.
            self._newest = self._ask(within)
        while self._newest <= revision and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if self._connection is None:
                self._sleep(min(POLL_SEC, left))
                self._newest = self._ask(Deadline(self._op_timeout))
            else:
                self._sleep(left, self._connection)
                self._hear(self._connection)
        return self._newest

    def _subscribed(self, deadline: Deadline) -> AbstractConnection | None:
        connection = self._link.connect(deadline)
        try:
            exchange(connection, deadline, 'SUBSCRIBE', self._channel)
        except redis.exceptions.NoPermissionError:
            close(connection)
            self.poll('this user may not subscribe to announcements')
            return None
        except BaseException:
            close(connection)
            raise
        return connection

    def _ask(self, deadline: Deadline) -> int:
        return int(self._link.command(deadline, 'HGET', self._state, 'revision') or 0)

    def _hear(self, connection: AbstractConnection) -> None:
        while connection.can_read(0):
            message = connection.read_response()
            if message[0] == b'message':
                with contextlib.suppress(ValueError):
                    self._newest = int(message[2])

    def _sleep(self, seconds: float, connection: AbstractConnection | None = None) -> None:
        """Until the time is over, ``close`` is called, or something comes on ``connection``."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if connection is not None:
            socket = connection._sock
            if socket is None:
                return
            poll.register(socket, select.POLLIN)
        poll.poll(math.ceil(max(0.0, seconds) * 1000))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)

    def _close_pipe(self) -> None:
        for descriptor in (self._wake, self._woken):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._wake = self._woken = -1
