"""Waiting for a new revision: SUBSCRIBE on a connection of its own, or asking now and then where that is not allowed."""

from __future__ import annotations

import os
import time

import redis
from redis.connection import AbstractConnection

from jobsync.backend import EventLogger
from jobsync.backends._common import listening
from jobsync.backends.redis.connection import Deadline, can_read, close, exchange
from jobsync.backends.redis.keys import RedisKeys
from jobsync.backends.redis.pool import RedisPool, abandon
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['RedisListener']

log = EventLogger('jobsync.backends.redis')

LEAST_SEC = 1.0
"""What it takes to connect is granted even to a shorter wait."""


class RedisListener(listening.Listener):
    """Subscribed to the channel of a namespace."""

    losses = (redis.RedisError, OSError, JobsyncError)

    def __init__(self, link: RedisPool, keys: RedisKeys, op_timeout_sec: float) -> None:
        self._link = link
        self._state = keys.name('state')
        self._channel = keys.channel(link.server.db)
        self._op_timeout = op_timeout_sec
        self._polls = False
        super().__init__()

    def _begin(self) -> None:
        super()._begin()
        self._process = os.getpid()
        self._connection: AbstractConnection | None = None
        self._received_at = 0.0
        self._pinged_at: float | None = None
        """When the server was asked for a sign of life that has not come yet."""

    def poll(self, why: str) -> None:
        """From now on ask instead of listening."""
        if not self._polls:
            self._polls = True
            log.info('%s: %s; looking every %g s instead', self._link.server, why, listening.POLL_SEC)

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        self._leave_the_parents()
        return super().wait(revision, timeout_sec)

    def close(self) -> None:
        """Wake whoever waits and close the connection."""
        self._leave_the_parents()
        super().close()

    def _leave_the_parents(self) -> None:
        """In a forked child: leave the parent's connection alone, and begin anew."""
        if self._process != os.getpid():
            abandon(self._connection)
            self._close_pipe()
            self._begin()

    def _open(self, within_sec: float) -> None:
        if self._polls:
            return
        deadline = Deadline(min(self._op_timeout, max(LEAST_SEC, within_sec)), self._op_timeout)
        connection = self._link.connect(deadline)
        try:
            exchange(connection, deadline, 'SUBSCRIBE', self._channel)
        except redis.exceptions.NoPermissionError:
            close(connection)
            self.poll('this user may not subscribe to announcements')
        except BaseException:
            close(connection)
            raise
        else:
            self._connection = connection
            self._received_at, self._pinged_at = time.monotonic(), None

    def _read_revision(self) -> int:
        found = self._link.command(Deadline(self._op_timeout), 'HGET', self._state, 'revision')
        if found is None:
            raise BackendUnavailable('the namespace is not there')
        return int(found)

    def _descriptor(self) -> int | None:
        if self._connection is None:
            return None
        if self._connection._sock is None:
            raise redis.ConnectionError('the connection was closed')
        self._check_life(self._connection)
        descriptor: int = self._connection._sock.fileno()
        return descriptor

    def _check_life(self, connection: AbstractConnection) -> None:
        """Ask for an answer after a long silence, and give the connection up if none has come."""
        if connection._sock is not None and can_read(connection._sock, 0):
            return
        now = time.monotonic()
        if self._pinged_at is not None and now - self._pinged_at > self._op_timeout:
            raise redis.ConnectionError('no answer to a listener')
        if self._pinged_at is None and now - self._received_at > self._op_timeout:
            # Subscribing again changes nothing, is answered, and takes no right of its own.
            connection.send_command('SUBSCRIBE', self._channel, check_health=False)  # type: ignore[no-untyped-call]
            self._pinged_at = now

    def _sleep(self, seconds: float, descriptor: int | None = None) -> None:
        super()._sleep(min(seconds, self._op_timeout), descriptor)

    def _receive(self) -> None:
        connection = self._connection
        announced = False
        while connection is not None and connection.can_read(0):
            message = connection.read_response()
            announced = announced or message[0] == b'message'
            self._received_at, self._pinged_at = time.monotonic(), None
        if announced:
            # Anybody may have announced anything: a number too high would hide all that come after it.
            self._newest = self._read_revision()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)
