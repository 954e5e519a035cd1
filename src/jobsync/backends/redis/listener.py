"""Wait for a new revision: SUBSCRIBE on a connection of its own, or poll where the user may not subscribe."""

from __future__ import annotations

import math
import time

import redis
from redis.connection import AbstractConnection

from jobsync.backend import EventLogger
from jobsync.backends._common import listening
from jobsync.backends.redis.connection import Deadline, can_read, close, exchange
from jobsync.backends.redis.errors import OUTAGES, code_of
from jobsync.backends.redis.namespace import RedisNamespace
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['RedisListener']

log = EventLogger('jobsync.backends.redis')

LEAST_SEC = 1.0
"""The least time to connect, also for a shorter wait."""

AGAIN_SEC = 60.0
"""How long after a refusal the listener tries to subscribe again: the right may have been gone for a moment."""


class RedisListener(listening.Listener):
    """A subscription to the channel of a namespace."""

    losses = (redis.RedisError, OSError, JobsyncError)

    def __init__(self, namespace: RedisNamespace) -> None:
        self._namespace, self._op_timeout = namespace, namespace.options.op_timeout_sec
        self._polls = False
        self._subscribes_at = -math.inf
        super().__init__()

    def _begin(self) -> None:
        super()._begin()
        self._connection: AbstractConnection | None = None
        self._received_at = 0.0
        self._pinged_at: float | None = None
        """When the listener subscribed again and has received no answer yet; None if it waits for none."""

    def poll(self, why: str, seconds: float = math.inf) -> None:
        """Poll for so long instead of subscribing."""
        self._subscribes_at = time.monotonic() + seconds
        if not self._polls:
            self._polls = True
            log.info('%s: %s; polling every %g s instead', self._namespace.server, why, listening.POLL_SEC)

    def _open(self, within_sec: float) -> None:
        if time.monotonic() < self._subscribes_at:
            return
        deadline = Deadline(min(self._op_timeout, max(LEAST_SEC, within_sec)), self._op_timeout)
        connection = self._namespace.pool.connect(deadline)
        try:
            exchange(connection, deadline, 'SUBSCRIBE', self._namespace.channel)
        except redis.ResponseError as error:
            close(connection)
            if code_of(error) in OUTAGES:
                raise
            # A server without SUBSCRIBE says so in words that are known; each proxy has words of its own.
            self.poll(f'this user may not subscribe to announcements, or the server has no SUBSCRIBE ({error})', AGAIN_SEC)
        except BaseException:
            close(connection)
            raise
        else:
            self._connection, self._polls = connection, False
            self._received_at, self._pinged_at = time.monotonic(), None

    def _read_revision(self) -> int:
        found = self._namespace.pool.command(Deadline(self._op_timeout), 'HGET', self._namespace.key('state'), 'revision')
        try:
            return int(found)
        except (TypeError, ValueError) as error:
            raise BackendUnavailable('the namespace is not there, or its revision was changed manually') from error

    def _descriptor(self) -> int | None:
        if self._connection is None:
            if time.monotonic() >= self._subscribes_at:
                raise redis.ConnectionError('no subscription yet')
            return None
        if self._connection._sock is None:
            raise redis.ConnectionError('the connection was closed')
        self._check_life(self._connection)
        descriptor: int = self._connection._sock.fileno()
        return descriptor

    def _check_life(self, connection: AbstractConnection) -> None:
        """Subscribe again after a long silence; give up the connection if the server has not answered the last time."""
        if connection._sock is not None and can_read(connection._sock, 0):
            return
        now = time.monotonic()
        if self._pinged_at is not None and now - self._pinged_at > self._op_timeout:
            raise redis.ConnectionError('no answer to a listener')
        if self._pinged_at is None and now - self._received_at > self._op_timeout:
            # To subscribe again changes nothing, is answered, and needs no further right.
            connection.send_command('SUBSCRIBE', self._namespace.channel, check_health=False)  # type: ignore[no-untyped-call]
            self._pinged_at = now

    def _sleep(self, seconds: float, descriptor: int | None = None) -> None:
        super()._sleep(min(seconds, self._op_timeout), descriptor)

    def _receive(self) -> None:
        connection = self._connection
        while connection is not None and connection.can_read(0):
            message = connection.read_response()
            self._received_at, self._pinged_at = time.monotonic(), None
            if message[0] == b'message':
                self._received.append(message[2].decode(errors='replace'))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)
