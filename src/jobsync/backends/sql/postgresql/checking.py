"""What a new connection is checked for: that it leads to the one place where the namespace is, and that this survives a crash."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg.pq import Conninfo

from jobsync.backends.sql.postgresql.connection import ENCODING, RECOVERED, STARTED, BoundedConnection
from jobsync.backends.sql.postgresql.ddl import FUNCTIONS
from jobsync.backends.sql.postgresql.errors import READ_ONLY_HINT, STANDBY, in_one_line
from jobsync.backends.sql.postgresql.url import SHORTEST_SEC, SOCKETS, PostgresqlServer
from jobsync.errors import ConfigError, SchemaMismatch

__all__ = ['SEARCH_PATH', 'Hosts', 'SchemaCheck']

TABLES = """
    SELECT oid, relname, relnamespace::regnamespace::text, relpersistence, pg_catalog.pg_table_is_visible(oid), relkind, EXISTS (
        SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = pg_class.oid AND tgenabled IN ('D', 'R')
        AND tgfoid IN (SELECT oid FROM pg_catalog.pg_proc WHERE proname IN ({functions}))
    )
    FROM pg_catalog.pg_class WHERE relname IN ({names}) AND relkind IN ('r', 'p', 'v', 'm', 'f') AND {which} ORDER BY relname
"""
"""Tables, and what a statement takes for one: partitioned tables, views, materialized views and foreign tables; and whether a
trigger of jobsync's on it is disabled, or enabled for replicas alone (R)."""
IN_PATH = """relnamespace = ANY (ARRAY(
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = ANY (pg_catalog.current_schemas(true))
))"""
"""``which``: not those of all other schemas, of which a database may have hundreds, each with a namespace of this name."""
ORDINARY = 'r'
SEARCH_PATH = """
    FROM regexp_matches(current_setting('search_path'), '"(?:[^"]|"")*"|[^",\\s]+', 'g') WITH ORDINALITY AS path(items, place)
    JOIN pg_catalog.pg_namespace AS schema ON nspname = CASE
        WHEN items[1] = '"$user"' THEN current_user
        WHEN left(items[1], 1) = '"' THEN replace(substr(items[1], 2, length(items[1]) - 2), '""', '"')
        ELSE lower(items[1]) END
"""
"""The schemas of the search_path that exist, whether this user may use them or not, and their ``place``."""
CLOSED = f"""
    WITH closed AS MATERIALIZED (
        SELECT schema.oid, nspname, place {SEARCH_PATH} WHERE NOT has_schema_privilege(schema.oid, 'USAGE')
    )
    SELECT quote_ident(nspname), quote_ident(current_user) FROM closed
    JOIN pg_catalog.pg_class ON relnamespace = closed.oid AND relkind = 'r' AND relname = '{{state}}'
    ORDER BY place LIMIT 1
"""  # noqa: S608 - all of it is written here
SERVER = f'SELECT system_identifier, {STARTED}, {RECOVERED}, pg_backend_pid() FROM pg_control_system()'  # noqa: S608 - as above
"""The cluster, and when this server of it was started: two standbys that are promoted may begin timelines of one number; when it
recovered from a crash; and the process of the session, whose number a pooler does not pass on."""
READ_ONLY = 'SHOW transaction_read_only'
RECOVERS = 'SELECT pg_is_in_recovery()'
NAMED = 'SELECT FROM pg_catalog.pg_class WHERE relname = %s'

REFUSES = (
    'the database system is in recovery mode',
    'the database system is shutting down',
    'too many clients already',
    'remaining connection slots are reserved',
    'too many connections for',
    'is not permitted to log in',
    'is not currently accepting connections',
    'permission denied for database',
    'pg_hba.conf rejects connection',
    'no more connections allowed',  # these are of pgbouncer, as it is full, a database is disabled on its console, or hba rejects
    'client connections exceeded',
    '" is disabled',
    'login rejected',
)
STARTING = 'the database system is starting up'
"""How a primary lets no client in that serves the sessions it has, or is to serve soon. libpq gives no SQLSTATE. A server with
messages in another language is taken for one that is away."""
TOLD_APART = 14
"""The first version in which a standby with ``hot_standby = off``, which never lets a client in, does not say that it starts."""

AWAY = 'server login has been failing'
"""What pgbouncer says once it has let a client in, while its server is away."""

ONLY_WRITABLE = ('read-write', 'primary')
ATTRIBUTES_HINT = 'put target_session_attrs=read-write into the URL, by which that one is found'
POOLER_HINT = (
    'the former said that it accepts writes, as a pooler says by itself if its server did so at first: RECONNECT on the console '
    'of pgbouncer has it ask its server again'
)

PLACE = (b'host', b'hostaddr', b'port')
"""The parameters that say where a server is."""


class SchemaCheck:
    """The tables of one namespace, which a search_path leads to.

    Args:
        server: The server, for messages.
        state: The name of the table that is known again.
        names: The names of all tables.
    """

    def __init__(self, server: PostgresqlServer, state: str, names: Sequence[str]) -> None:
        self._server, self._state = server, state
        functions = [state.removesuffix('state') + name for name in FUNCTIONS]
        self._given = {kind: ', '.join(map(repr, each)) for kind, each in (('names', names), ('functions', functions))}
        self._oid: int | None = None

    def existing(self, read: Callable[[str], Iterable[Any]]) -> set[str]:
        """Return the names of the tables, after ``check``; ``SchemaMismatch`` if what has the name of one is of another kind."""
        found = self.check(read)
        if others := [name for name, kind in found.items() if kind != ORDINARY]:
            raise SchemaMismatch(
                f'{self._server}: {", ".join(others)} is a partitioned table, a view or a foreign table: put back an ordinary '
                'table as jobsync makes it, with its rows; old rows of the history are deleted by retention_days'
            )
        return set(found)

    def check(self, read: Callable[[str], Iterable[Any]]) -> dict[str, str]:
        """Return the kinds of the tables by their names; ``ConfigError`` unless they keep their rows, and are in one schema.

        That is the one of before.

        ``read`` returns the rows of a statement: of a new connection, or within the transaction that depends on the answer, since
        behind a proxy each transaction of a connection may have another session.
        """
        found = list(read(TABLES.format(**self._given, which=IN_PATH)))
        visible = [(name, schema, persistence) for _, name, schema, persistence, is_visible, *_ in found if is_visible]
        # t=0  a role's search_path is jobs, public. It has no right to use jobs, where the tables are: they are invisible to it
        # t=1  a node of this role makes tables in public, and owns all tokens there
        if not any(name == self._state for name, *_ in visible):
            for schema, user in read(CLOSED.format(state=self._state)):
                raise ConfigError(
                    f'{self._server}: this user may not do what is needed: the tables are in the schema {schema}, which it may '
                    f'not use; let its owner run GRANT USAGE ON SCHEMA {schema} TO {user};'
                )
        # t=0  sync_token is UNLOGGED, and the server crashes: the table is empty, past every trigger
        # t=1  node a, which reads differences, owns token 42 as before
        # t=2  a leader that has read everything finds no row of token 42, waits for a timeout, and gives 42 to b
        # A crash ends every connection, so no node comes to t=1.
        if lost := [name for name, _, persistence in visible if persistence == 'u']:
            raise ConfigError(
                f'{self._server}: {", ".join(lost)} is UNLOGGED, so a crash of the server empties it: ALTER TABLE … SET LOGGED; '
                'if it has crashed since, stop all nodes before that'
            )
        # t=0  an operator's ALTER TABLE sync_token DISABLE TRIGGER ALL stays in force, and a DELETE of a row there goes unnoticed
        # t=1  node a, which reads differences, owns token 42 as before; a new leader, which reads everything, gives it to b
        if off := [name for _, name, _, _, is_visible, _, is_off in found if is_visible and is_off]:
            revised = self._state.removesuffix('state') + 'revised'
            raise ConfigError(
                f'{self._server}: triggers of {", ".join(off)} are disabled, so manual changes go unnoticed: ALTER TABLE … '
                f'ENABLE TRIGGER USER; ALTER TABLE {self._state} ENABLE ALWAYS TRIGGER {revised}; if rows were changed '
                'meanwhile, stop all nodes before that'
            )
        # t=0  a role's search_path begins with a schema that has an old copy of sync_token, or a view of one, and no other table
        # t=1  a node of this role joins the others, and takes the old owners for those of now
        if len({schema for _, schema, _ in visible}) > 1:
            where = ', '.join(f'{schema}.{name}' for name, schema, _ in visible)
            raise ConfigError(
                f'{self._server}: this search_path finds the tables of one namespace in several schemas: {where}; rename the '
                'copy, or take its schema out of the search_path (ALTER ROLE … SET search_path)'
            )
        # t=0  ALTER ROLE … SET search_path = jobs, while nodes a and b have their tables in public
        # t=1  node b connects anew, makes tables in jobs, and owns all tokens there
        # t=2  node a, whose connection has the former search_path, goes on in public
        if self._oid is not None and not any(oid == self._oid and is_visible for oid, _, _, _, is_visible, *_ in found):
            for _, name, schema, *_ in read(TABLES.format(**self._given, which=f'oid = {self._oid}')):
                raise ConfigError(
                    f'{self._server}: the search_path of this user no longer leads to {schema}.{name}, where this cluster is: '
                    'set it back, or stop all workers before they use another schema'
                )
        self._oid = next((oid for oid, name, _, _, is_visible, *_ in found if is_visible and name == self._state), None)
        return {name: kind for _, name, _, _, is_visible, kind, _ in found if is_visible}


class Hosts:
    """The hosts of a URL, or the addresses of one, of which one accepts writes.

    Compared when a connection is to another address than the last, to a server that was started or has crashed since, or the
    first one after a connection was lost. ``state`` is the name of the namespace's table of the state.
    """

    def __init__(self, server: PostgresqlServer, state: str) -> None:
        self._server, self._state = server, state
        self._loss = object()
        """The last connection that was lost: another object for each, not a number, which two threads might add to together."""
        self._last: tuple[tuple[str, int] | None, Sequence[Any], tuple[int, object]] = None, (), (0, None)
        """The last connection's address, the server there, when that recovered, and the last loss before."""
        self._led_to: dict[tuple[str, int], list[str]] = {}
        """The address of the last connection, by the host and the port in the URL."""

    def note_loss(self) -> None:
        """Note that a connection was lost, by which the next one is compared."""
        # t=0  a process of the primary is killed for want of memory: its sessions end, and it reads its log, for minutes
        # t=1  an operator promotes a standby; node b, which is new, works there
        # t=2  the former primary serves again, which was not started since, and node a comes back to it
        self._loss = object()

    def check(self, connection: BoundedConnection, leave: Callable[[], None]) -> None:
        """Raise ``ConfigError`` if another host than that of a connection accepts writes too, and is another server.

        Call ``leave`` if the server is another one than before, and not if this is another way to the same server.
        """
        known = self._last
        last, before, _ = known
        here, loss = (connection.info.hostaddr or connection.info.host, connection.info.port), self._loss
        place, recovered, process = _place(connection)
        # t=0  idle_session_timeout ends the sessions of node a, which makes no call for long
        # t=1  the server crashes, and reads its log; a standby is promoted, to which all others turn
        # t=2  the former primary serves again, and node a, which has read of no crash, comes back to it
        crashes = recovered, loss
        # t=0  this is at a pooler. Its server ends, and a standby is promoted, to which others turn
        # t=1  the former primary is started again: the pooler lends its sessions to the clients that it has kept
        if process != connection.info.backend_pid:
            connection.started = place[1], recovered
        if (here, place, crashes) == self._last:
            return
        # t=0  the primary fails, and its standby is promoted, to which all nodes turn. Or all but node a, which makes no call now
        # t=1  the old primary is started again, as a primary. It comes first in the URL
        # t=2  node a connects to it, finds none of the others alive there, and owns all tokens after a timeout
        for (address, port), parameters in self._others(*here):
            accepts = False
            try:
                with contextlib.closing(BoundedConnection.connect(**parameters)) as other:  # its own exit logs a failed ROLLBACK
                    accepts = True
                    other.deadline = time.monotonic() + SHORTEST_SEC
                    # pgbouncer says by itself what its server said once: that one may be a standby by now. Not what the session
                    # says, which another client may have made read-only.
                    if other.execute(RECOVERS).fetchall() == [(True,)]:
                        continue
                    found, *_ = _place(other)
                    # t=0  containers are started anew, and have other addresses: another program's server has the former one
                    # t=1  this node would be refused at its own for as long as both run
                    is_foreign = (address, port) == last and not other.execute(NAMED, (self._state,)).fetchall()
            except psycopg.Error as error:
                # Of a process, or a host, without a file left for a connection libpq says nothing.
                try:
                    socket.socket().close()
                except OSError as lack:
                    raise psycopg.OperationalError(str(lack)) from error
                # t=0  the primary has crashed, and is started again: it reads its log. Or it has as many sessions as it may,
                #      or serves them to their ends (pg_ctl stop --mode=smart). Or it refuses this role or database, since an
                #      operator wants it so (NOLOGIN, ALLOW_CONNECTIONS, REVOKE CONNECT, pg_hba.conf): that ends no session
                # t=1  an operator promotes a standby, and has the name lead there; this node connects
                # t=2  the former one lets clients in again, or node b, which has a session there, works on
                # One that has let this node in accepts writes (``target_session_attrs``), and is slow, or ends.
                texts = (*REFUSES, STARTING) if connection.info.server_version >= TOLD_APART * 10_000 else REFUSES
                refuses = any(text in str(error) for text in texts)
                # t=0  an operator promotes a standby, and has the former primary refuse logins: node b, which is there, works on
                # t=1  this node is new. The pooler there lets it in, and says that its server is away, and why: that refuses it
                if (accepts and AWAY not in str(error)) or (refuses and (accepts or (address, port) == last)):
                    raise psycopg.OperationalError(
                        f'it is not known yet whether {address}:{port} accepts writes too: {in_one_line(error)}'
                    ) from error
                continue
            except OSError as error:  # as in ``connect``
                raise psycopg.OperationalError(str(error)) from error
            # What fails here fails the call: the two are not compared yet. Others that are away may have taken all of its time.
            connection.deadline = max(connection.deadline, time.monotonic() + SHORTEST_SEC)
            if found != place and not is_foreign:
                # t=0  a pair that is as it should be, and a name with the addresses of both: libpq takes the standby
                # t=1  an operator reads that both accept writes, and ends one of them
                if connection.execute(READ_ONLY).fetchall() == [('on',)]:
                    is_said = self._server.parameters.get('target_session_attrs') in ONLY_WRITABLE
                    raise ConfigError(
                        f'{self._server}: {here[0]}:{here[1]} accepts no writes, as a standby does, and {address}:{port} '
                        f'does: {POOLER_HINT if is_said else ATTRIBUTES_HINT}'
                    )
                raise ConfigError(
                    f'{self._server}: {here[0]}:{here[1]} and {address}:{port} both accept writes, '
                    'and are not the same server: end the one that is not the primary any more'
                )
        # t=0  the primary has failed, and the name leads to a standby, whose address this connection has
        # t=1  the standby is promoted, and the former primary started again. Forgotten at t=0, it is compared no more, nor if the
        #      connection of t=0 is used on. So with a copy that is no standby, and read-only until it takes over
        if connection.execute(READ_ONLY).fetchall() == [('on',)]:
            is_standby = connection.execute(RECOVERS).fetchall() == [(True,)]
            if here != last and (is_standby or last):
                raise psycopg.OperationalError(STANDBY if is_standby else READ_ONLY_HINT)
            return
        # t=0  a standby was promoted, and this node turns to it. Another session of it is at the former primary, which runs on
        # t=1  a signal's handler raises before that session has ended: it is ended with the next connection, if this one is not
        #      remembered yet
        if last is not None and place != before:
            leave()
        # t=0  this connection is to the primary, and no other one accepts writes
        # t=1  a standby is promoted, and the primary cut off: another thread connects to the new one, and finds no other either
        # t=2  the former primary is back. Noted as the last one, it would be compared no more, and this node work on with it
        if self._last is not known:
            self.check(connection, leave)
            return
        self._last = here, place, crashes
        self._led_to = {(connection.info.host, connection.info.port): [connection.info.hostaddr]}

    def _others(self, host: str, port: int) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
        """Yield each other address that may accept writes, and the parameters of a connection to it if it does."""
        given = self._server.parameters
        if 'service' not in given:
            given = {**_defaults(), **given}
        names = str(given.get('host') or given.get('hostaddr') or '')
        hosts, places = names.split(','), str(given.get('hostaddr') or names).split(',')
        ports = str(given.get('port') or '5432').split(',')
        if not names or len(places) != len(hosts) or len(ports) not in (1, len(hosts)):
            return
        # t=0  an operator has the primary for dead, promotes a standby, and has the name lead there
        # t=1  node a connects anew, and finds none of the others alive
        # t=2  node b, whose session at the former primary serves on, works on with it, and a owns all tokens after a timeout
        for other, where, its in zip(hosts, places, ports * len(hosts) if len(ports) == 1 else ports, strict=True):
            its_port = int(its or '5432')
            for address in dict.fromkeys([*_addresses(where), *self._led_to.get((other, its_port), ())]):
                place = address or other, its_port
                if place != (host, port):
                    at = {'host': other, 'hostaddr': address, 'port': its_port, 'target_session_attrs': 'read-write'}
                    attributes = {'connect_timeout': SHORTEST_SEC, 'client_encoding': ENCODING}
                    yield place, {**given, **at, **attributes, 'autocommit': True}


def _place(connection: BoundedConnection) -> tuple[Sequence[Any], int, int]:
    """Return the server that answers, when it recovered from a crash, and the number of its process for the session."""
    ((*place, recovered, process),) = connection.execute(SERVER).fetchall()
    return place, recovered, process


def _defaults() -> dict[str, str]:
    """Return where libpq connects to if the URL does not say: what is in the environment, or in the service named there."""
    return {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.val and option.keyword in PLACE
    }


def _addresses(host: str) -> Sequence[str]:
    """Return the addresses of a host; one that is empty for a socket."""
    if not host or host.startswith(SOCKETS):
        return ('',)
    with contextlib.suppress(OSError):
        return [*dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))]
    return ()
