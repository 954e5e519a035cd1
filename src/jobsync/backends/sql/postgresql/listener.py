"""Waiting for a new revision: LISTEN on a connection of its own, or asking now and then where that is not to be had."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
import uuid

import psycopg
from psycopg import sql

from jobsync.backends.sql.postgresql.connection import BoundedConnection, connect
from jobsync.backends.sql.postgresql.ddl import CHANNEL
from jobsync.backends.sql.postgresql.url import Server

__all__ = ['Listener']

log = logging.getLogger('jobsync.backends.postgresql')

POLL_SEC = 1.0
"""How often to ask where nothing is announced: behind pgbouncer in transaction mode, for instance."""
RETRY_SEC = 0.5
"""Between two attempts to reach a server that is away."""
PROOF_SEC = 2.0
"""How long to wait for an announcement of our own before it is taken as lost."""


class Listener:
    """One per backend. Thread-safe, though only one thread at a time is served at once; the others wait their turn."""

    def __init__(self, server: Server, state: str, op_timeout_sec: float) -> None:
        self._server = server
        self._state = state
        self._op_timeout = op_timeout_sec
        self._lock = threading.Lock()
        self._connection: BoundedConnection | None = None
        self._listens = False
        self._told = False
        self._channel = ''
        self._newest = 0
        self._closed = False
        self._wake, self._woken = os.pipe()

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout_sec
        if not self._lock.acquire(timeout=timeout_sec):
            return revision
        try:
            newest = revision
            while not self._closed:
                try:
                    newest = self._look(revision, deadline)
                except psycopg.Error:
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

    def _look(self, revision: int, deadline: float) -> int:
        """The newest revision, as soon as it exceeds ``revision`` or the time is over."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open()
            self._newest = self._ask(connection)
        while self._newest <= revision and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if self._listens:
                self._sleep(left, connection)
                self._hear(connection)
            else:
                self._sleep(min(POLL_SEC, left))
                self._newest = self._ask(connection)
        return self._newest

    def _open(self) -> BoundedConnection:
        connection = connect(self._server)
        try:
            connection.deadline = time.monotonic() + self._op_timeout
            table = connection.execute('SELECT %s::regclass::oid', [self._state]).fetchone()
            assert table is not None
            self._channel = f'{CHANNEL}{table[0]}'
            connection.execute(sql.SQL('LISTEN {}').format(sql.Identifier(self._channel)))
            self._listens = self._is_direct(connection) or self._proved(connection)
            if not self._listens and not self._told:
                self._told = True
                log.info(
                    '%s: announcements do not come through (a proxy in transaction mode?); looking every %g s instead',
                    self._server,
                    POLL_SEC,
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_direct(self, connection: BoundedConnection) -> bool:
        """Whether the server process that answers is the one that greeted us; a proxy greets with a number of its own."""
        row = connection.execute('SELECT pg_backend_pid()').fetchone()
        return row is not None and row[0] == connection.info.backend_pid

    def _proved(self, connection: BoundedConnection) -> bool:
        """Whether an announcement from another connection arrives while this one is idle."""
        proof = uuid.uuid4().hex
        with connect(self._server) as other:
            other.deadline = time.monotonic() + self._op_timeout
            other.execute('SELECT pg_notify(%s, %s)', [self._channel, proof])
        deadline = time.monotonic() + PROOF_SEC
        while (left := deadline - time.monotonic()) > 0 and not self._closed:
            self._sleep(left, connection)
            connection.pgconn.consume_input()
            while (notify := connection.pgconn.notifies()) is not None:
                if notify.extra.decode() == proof:
                    return True
        return False

    def _ask(self, connection: BoundedConnection) -> int:
        connection.deadline = time.monotonic() + self._op_timeout
        query = sql.SQL('SELECT revision FROM {}').format(sql.Identifier(self._state))
        row = connection.execute(query).fetchone()
        return 0 if row is None else int(row[0])

    def _hear(self, connection: BoundedConnection) -> None:
        connection.pgconn.consume_input()
        while (notify := connection.pgconn.notifies()) is not None:
            with contextlib.suppress(ValueError):
                self._newest = int(notify.extra)

    def _sleep(self, seconds: float, connection: BoundedConnection | None = None) -> None:
        """Until the time is over, ``close`` is called, or something comes on ``connection``."""
        watched = [self._wake, *([] if connection is None else [connection.fileno()])]
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        poll.poll(math.ceil(max(0.0, seconds) * 1000))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _close_pipe(self) -> None:
        for descriptor in (self._wake, self._woken):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._wake = self._woken = -1
