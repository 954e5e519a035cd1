"""Waiting for a new revision: LISTEN on a connection of its own, or asking now and then where that is not to be had."""

from __future__ import annotations

import time
import uuid

import psycopg
from psycopg import sql

from jobsync.backend import EventLogger
from jobsync.backends._common import listening
from jobsync.backends.sql.postgresql.connection import BoundedConnection, connect
from jobsync.backends.sql.postgresql.ddl import CHANNEL
from jobsync.backends.sql.postgresql.url import PostgresqlServer

__all__ = ['PostgresqlListener']

log = EventLogger('jobsync.backends.postgresql')

PROOF_SEC = 2.0
"""How long to wait for an announcement of our own before it is taken as lost, as behind pgbouncer in transaction mode."""


class PostgresqlListener(listening.Listener):
    """Listens to the channel of a namespace."""

    losses = (psycopg.Error,)

    def __init__(self, server: PostgresqlServer, state: str, op_timeout_sec: float) -> None:
        self._server = server
        self._state = state
        self._op_timeout = op_timeout_sec
        self._connection: BoundedConnection | None = None
        self._listens = False
        self._told = False
        self._hinted = False
        self._channel = ''
        super().__init__()

    def _open(self, within_sec: float) -> None:  # noqa: ARG002 - what it takes to connect is granted to any wait
        self._connection = self._connected()

    def _connected(self) -> BoundedConnection:
        connection = connect(self._server)
        try:
            connection.deadline = time.monotonic() + self._op_timeout
            table = connection.execute('SELECT %s::regclass::oid', [self._state]).fetchone()
            assert table is not None
            self._channel = f'{CHANNEL}{table[0]}'
            connection.add_notify_handler(self._note)
            connection.execute(sql.SQL('LISTEN {}').format(sql.Identifier(self._channel)))
            self._listens = self._is_direct(connection) or self._proved(connection)
            if not self._listens and not self._told:
                self._told = True
                log.info(
                    '%s: announcements do not come through (a proxy in transaction mode?); polling every %g s instead',
                    self._server,
                    listening.POLL_SEC,
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
            self._sleep(left, connection.fileno())
            connection.pgconn.consume_input()
            while (notify := connection.pgconn.notifies()) is not None:
                if notify.extra.decode() == proof:
                    return True
        return False

    def _note(self, _: object) -> None:
        """Note that an announcement came along with the answer to a statement."""
        self._hinted = True

    def _read_revision(self) -> int:
        assert self._connection is not None
        self._connection.deadline = time.monotonic() + self._op_timeout
        query = sql.SQL('SELECT revision FROM {}').format(sql.Identifier(self._state))
        while True:
            self._hinted = False
            row = self._connection.execute(query).fetchone()
            # What is announced while this is read may have happened after it was read.
            if not self._hinted:
                return 0 if row is None else int(row[0])

    def _descriptor(self) -> int | None:
        return self._connection.fileno() if self._connection is not None and self._listens else None

    def _receive(self) -> None:
        assert self._connection is not None
        self._connection.pgconn.consume_input()
        hinted = False
        while self._connection.pgconn.notifies() is not None:
            hinted = True
        # Anybody who may connect may announce anything: what counts is what the table says.
        if hinted:
            self._newest = self._read_revision()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
