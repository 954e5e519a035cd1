"""Waiting for a new revision: LISTEN on a connection of its own, or polling where announcements do not come through."""

from __future__ import annotations

import math
import time
import uuid

import psycopg
from psycopg import sql

from jobsync.backend import EventLogger
from jobsync.backends._common import listening
from jobsync.backends.sql.postgresql.connection import BoundedConnection, connect
from jobsync.backends.sql.postgresql.ddl import CHANNEL
from jobsync.backends.sql.postgresql.url import PostgresqlServer
from jobsync.errors import JobsyncError

__all__ = ['PostgresqlListener']

log = EventLogger('jobsync.backends.postgresql')

PROOF_SEC = 2.0
"""How long to wait for an announcement of our own before it is taken for lost, as behind pgbouncer in transaction mode."""


class PostgresqlListener(listening.Listener):
    """Listens to the channel of a namespace."""

    losses = (psycopg.Error, JobsyncError)

    def __init__(self, server: PostgresqlServer, state: str, op_timeout_sec: float) -> None:
        self._server = server
        self._state = state
        self._op_timeout = op_timeout_sec
        super().__init__()

    def _begin(self) -> None:
        super()._begin()
        self._connection: BoundedConnection | None = None
        self._listens = self._logged = False
        self._channel = ''

    def _open(self, within_sec: float) -> None:  # noqa: ARG002 - any wait may take the time to connect
        self._connection = self._connected()

    def _connected(self) -> BoundedConnection:
        connection = connect(self._server)
        try:
            connection.deadline = time.monotonic() + self._op_timeout
            table = connection.execute('SELECT %s::regclass::oid', [self._state]).fetchone()
            assert table is not None
            self._channel = f'{CHANNEL}{table[0]}'
            connection.add_notify_handler(self._note)
            # t=0  this reads revision 5        t=0  this listens
            # t=1  a commit makes it 6          t=1  a commit makes it 6, and is announced
            # t=2  this listens: too late       t=2  this reads 6
            # So LISTEN comes first, and ``Listener`` reads the revision after ``_open``.
            connection.execute(sql.SQL('LISTEN {}').format(sql.Identifier(self._channel)))
            self._listens = self._is_direct(connection) or self._proved(connection)
            if not self._listens:
                # The pooler lends the session to any client, which would receive our announcements. As a rule, UNLISTEN is sent
                # to the session of LISTEN, since that was used last.
                connection.execute('UNLISTEN *')
            if not self._listens and not self._logged:
                self._logged = True
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
        """Return whether the server process that answers is the one we connected to; a proxy gives another process number."""
        row = connection.execute('SELECT pg_backend_pid()').fetchone()
        return row is not None and row[0] == connection.info.backend_pid

    def _proved(self, connection: BoundedConnection) -> bool:
        """Return whether an announcement from another connection arrives while this one is idle."""
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

    def _note(self, notify: psycopg.Notify) -> None:
        """Keep an announcement that came along with the answer to a statement."""
        self._received.append(notify.payload)

    def _read_revision(self) -> int:
        assert self._connection is not None
        self._connection.deadline = time.monotonic() + self._op_timeout
        # t=0  an operator's open transaction has the lock of the table, which this query waits for
        # t=1  the time is over, the connection is closed, and another one is made, whose query waits too
        # The server does not notice the end of a connection while it waits for a lock: without the timeout each try of each node
        # leaves a session behind, until there are none for any program.
        self._connection.before += ['BEGIN READ ONLY', f'SET LOCAL statement_timeout = {math.ceil(self._op_timeout * 1000)}']
        self._connection.after = ['COMMIT']
        query = sql.SQL('SELECT revision, tableoid FROM {}').format(sql.Identifier(self._state))
        # t=0  this query reads revision 5
        # t=1  a commit makes it 6, and is announced
        # t=2  the announcement arrives together with the answer 5, and is consumed with it
        # No other announcement follows, so the wait for 6 would last until the next commit. But the announcement is kept
        # (``_note``), and after it the revision is read again.
        row = self._connection.execute(query).fetchone()
        if row is None:
            return 0
        # t=0  the tables are dropped, which announces nothing
        # t=1  a node makes them anew: the oid is another one, and later changes are announced on another channel
        if f'{CHANNEL}{row[1]}' != self._channel:
            raise psycopg.OperationalError('the table of the state is another one than before')
        return int(row[0])

    def _descriptor(self) -> int | None:
        return self._connection.fileno() if self._connection is not None and self._listens else None

    def _receive(self) -> None:
        assert self._connection is not None
        self._connection.pgconn.consume_input()
        while (notify := self._connection.pgconn.notifies()) is not None:
            self._received.append(notify.extra.decode(errors='replace'))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
