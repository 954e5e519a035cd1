"""What only PostgreSQL has: its URL, rights, restarts, hints, proxies, and edits by hand seen with psql."""

# ruff: noqa: SIM117 - the statements are the tests' own

from __future__ import annotations

import datetime as dt
import errno
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from functools import partial
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import event
from tests.backends.handles import beat_and_wait, go_on_after_a_fork
from tests.signals import AlarmError, a_signal_comes
from tests.support.harnesses.postgresql import NAMESPACE, PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer, free_port
from tests.support.waiting import eventually

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import INITIAL, HistoryKind, LockEdit, LockFilter, LockRequest, NodeRef, Opened, Pin
from jobsync._event_log import event_log
from jobsync.backend import BackendOptions
from jobsync.backends._common import listening
from jobsync.backends.sql import history as histories
from jobsync.backends.sql import locks, nodes
from jobsync.backends.sql import state as states
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.commits import REMEMBERED
from jobsync.backends.sql.node_records import read_nodes
from jobsync.backends.sql.postgresql import store as postgresql_store
from jobsync.backends.sql.postgresql.connection import BoundedConnection
from jobsync.backends.sql.postgresql.dialect import PostgresqlDialect
from jobsync.backends.sql.postgresql.plugin import connect
from jobsync.backends.sql.postgresql.rights import grants, needed
from jobsync.backends.sql.postgresql.store import PostgresqlStore
from jobsync.backends.sql.postgresql.transaction import Framed
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.store import Mode, SqlTransaction
from jobsync.errors import BackendUnavailable, ConfigError, Conflict, Evicted, SchemaMismatch, UnsupportedOperation
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace, purged
from jobsync.testing.conformance.threads import race

pytestmark = pytest.mark.postgres


@pytest.fixture
def server(postgres_server: PostgresServer) -> PostgresServer:
    return postgres_server


@pytest.fixture
def harness(server: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(server)
    yield harness
    harness.close()


def beat_once(namespace: Namespace, ref: NodeRef, answers: list[object]) -> None:
    """Send a heartbeat, and append its answer, or the error if the run is registered no more."""
    try:
        answers.append(namespace.beat(ref))
    except Evicted as error:
        answers.append(error)


def succeeds(call: Callable[[], object]) -> bool:
    """Make a call that may fail for want of time, on a machine that is busy with other things."""
    try:
        call()
    except BackendUnavailable:
        return False
    return True


class TestUrl:
    """Which server a URL names, and that it tells no secret."""

    def test_a_password_of_any_characters(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """It reaches the server as it is, and shows nowhere."""
        backend = harness.connect()
        backend.open(SETTINGS, create=True)
        for shown in (repr(backend), str(backend), repr(vars(backend))):
            assert server.password not in shown
            assert quote(server.password, safe='') not in shown

    def test_other_spellings(self, harness: PostgresqlHarness) -> None:
        """The URL of SQLAlchemy and libpq's short one mean the same server."""
        for scheme in ('postgres://', 'postgresql+psycopg://'):
            with closing(connect(harness.url.replace('postgresql://', scheme, 1), BackendOptions())) as backend:
                backend.open(SETTINGS, create=True)

    def test_any_option_of_libpq(self, server: PostgresServer) -> None:
        """What follows the question mark reaches libpq: here the folder of the socket, and a name to be seen by."""
        with closing(connect(server.url(socket_only=True) + '&application_name=shown', BackendOptions('named_'))) as backend:
            backend.open(SETTINGS, create=True)
            assert server.psql("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'shown'") == ['t']

    @pytest.mark.parametrize(
        'url',
        [
            'postgresql://u:p@ss%zz@h/d',
            'postgresql://u:secret@h/d?no-nonsense=1',
            'postgresql://u:half?secret=1@h/d?nonsense=1',
            'postgresql://[u:secret',
            'postgresql://u:half@secret@h/d',
            'postgresql://u:secret@h:65536/d',
            'postgresql://u:secret@h:5432,h2:0/d',
        ],
    )
    def test_bad_urls_are_refused_without_their_secrets(self, url: str) -> None:
        """The message says how to write a URL, and quotes nothing of this one."""
        with pytest.raises(ConfigError, match='postgresql://user') as caught:
            connect(url, BackendOptions())
        assert 'secret' not in str(caught.value)
        assert 'p@ss' not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize('options', ['sslmod=require', 'sslmode=require&sslmod=1'])
    def test_an_unknown_option_is_named(self, options: str) -> None:
        """One that libpq does not know is a slip of the pen, and no character to escape."""
        with pytest.raises(ConfigError, match="has the option 'sslmod', which libpq does not know") as caught:
            connect(f'postgresql://u:secret@h/d?{options}', BackendOptions())
        assert 'secret' not in str(caught.value)

    def test_connect_timeout(self, harness: PostgresqlHarness) -> None:
        """A word in place of a number is refused by name."""
        with pytest.raises(ConfigError, match='connect_timeout in the PostgreSQL URL must be a whole number'):
            connect(harness.url + '&connect_timeout=soon', BackendOptions())

    @pytest.mark.parametrize('longest', [256.0, 3600.0])
    def test_the_longest_calls(self, harness: PostgresqlHarness, longest: float) -> None:
        """The system takes no more than 127 probes of a connection."""
        with closing(connect(harness.url, BackendOptions(op_timeout_sec=longest))) as backend:
            assert backend.open(SETTINGS, create=True).settings == SETTINGS

    def test_errors_tell_no_password(self, server: PostgresServer) -> None:
        """Neither a wrong password nor a port where nobody listens makes it into a message."""
        wrong = server.url().replace(quote(server.password, safe=''), 'wrongsecret')
        nobody = f'postgresql://postgres:wrongsecret@127.0.0.1:{free_port()}/postgres'
        for url, error in ((wrong, ConfigError), (nobody, BackendUnavailable)):
            with closing(connect(url, BackendOptions())) as backend:
                with pytest.raises(error, match='postgres') as caught:
                    backend.open(SETTINGS, create=True)
                assert 'wrongsecret' not in str(caught.value)
                assert 'wrongsecret' not in repr(caught.value.__cause__)

    def test_an_address_that_swallows_everything(self) -> None:
        """A host that takes the connection and says nothing costs no more than the time for the call, two seconds at least."""
        with socket.socket() as silent:
            silent.bind(('127.0.0.1', 0))
            silent.listen()
            url = f'postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres'
            with closing(connect(url, BackendOptions(op_timeout_sec=1.0))) as backend:
                with pytest.raises(BackendUnavailable):
                    backend.open(SETTINGS, create=True)


class TestRights:
    """What a role must be allowed."""

    def test_skip_db_init_needs_the_tables_alone(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """A role with the rights that the error names, and none to make anything, does all that a node does."""
        made = harness.connect()
        Namespace(made)
        assert isinstance(made, SqlBackend)
        assert isinstance(made.store, PostgresqlStore)
        role = f'node_{harness.schema}'
        harness.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
            f'GRANT USAGE ON SCHEMA {harness.schema} TO {role}',
            grants(needed(made.store.tables), role),
        )
        url = f'postgresql://{role}:x@127.0.0.1:{server.port}/postgres?options=-csearch_path%3D{harness.schema}'
        with closing(connect(url, BackendOptions())) as backend:
            opened = backend.open(SETTINGS, create=False)
            namespace = Namespace.__new__(Namespace)
            namespace.backend, namespace.settings, namespace.timeline = backend, SETTINGS, opened.timeline
            leader = namespace.leader()
            backend.edit_locks(LockEdit(put=(LockRequest('x', ('a',), 'me'),)))
            namespace.commit(leader, TokenGroup(range(9), 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),), moved=10)
            namespace.commit(leader, TokenGroup([1], None), TokenGroup([2], 'b'), unpinned=frozenset({TOKENS + 1}))
            for kind in HistoryKind:
                purged(backend, kind, dt.datetime(2099, 1, 1, tzinfo=dt.UTC))
            backend.set_weight(leader, 2.0)
            backend.append_claims(leader, ['x'], dt.date(2026, 1, 1))
            backend.append_audits('leader', ['x'], dt.date(2026, 1, 1))
            backend.edit_locks(LockEdit(remove=LockFilter()))
            assert backend.wait(0, 10.0) > 0
            namespace.state()
            with backend.connection() as connection:  # type: ignore[attr-defined]
                connection.exec_driver_sql('DELETE FROM sync_node')
                connection.commit()
            assert backend.snapshot().nodes == ()
        harness.execute(f'DROP OWNED BY {role}', f'DROP ROLE {role}')

    def test_without_rights(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """What is not allowed is told as a matter of configuration."""
        Namespace(harness.connect())
        role = f'none_{harness.schema}'
        harness.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f'GRANT USAGE ON SCHEMA {harness.schema} TO {role}')
        url = f'postgresql://{role}:x@127.0.0.1:{server.port}/postgres?options=-csearch_path%3D{harness.schema}'
        with (
            closing(connect(url, BackendOptions())) as backend,
            pytest.raises(ConfigError, match=rf'permission denied.*: GRANT SELECT ON .* TO {role}'),
        ):
            backend.open(SETTINGS, create=False)
        harness.execute(f'DROP OWNED BY {role}', f'DROP ROLE {role}')

    def test_without_the_right_to_call_a_function_of_the_server(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """An audit may have taken what every role has by default: the error names the function, and how to give it back."""
        Namespace(harness.connect())
        role = f'none_{harness.schema}'
        harness.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f'GRANT USAGE ON SCHEMA {harness.schema} TO {role}')
        url = f'postgresql://{role}:x@127.0.0.1:{server.port}/postgres?options=-csearch_path%3D{harness.schema}'
        for function in ('pg_control_system', 'pg_postmaster_start_time', 'pg_stat_get_bgwriter_stat_reset_time'):
            harness.execute(f'REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC')
            try:
                with (
                    closing(connect(url, BackendOptions())) as backend,
                    pytest.raises(ConfigError, match=rf'{function}.*GRANT EXECUTE ON FUNCTION'),
                ):
                    backend.open(SETTINGS, create=False)
            finally:
                harness.execute(f'GRANT EXECUTE ON FUNCTION {function} TO PUBLIC')
        harness.execute(f'DROP OWNED BY {role}', f'DROP ROLE {role}')

    def test_a_schema_from_the_future(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """Refused with both versions."""
        harness.execute('UPDATE sync_state SET schema_version = 7')
        for create in (True, False):
            with pytest.raises(SchemaMismatch, match=rf'version 7.*up to {SCHEMA_VERSION}'):
                harness.connect().open(SETTINGS, create=create)

    def test_tables_of_an_earlier_release(self, harness: PostgresqlHarness) -> None:
        """Tables of that name that are not ours are neither used nor changed."""
        harness.execute('CREATE TABLE sync_node (name text)')
        for create in (True, False):
            with pytest.raises(SchemaMismatch, match='sync_node but no sync_state'):
                harness.connect().open(SETTINGS, create=create)

    def test_tables_that_were_dropped_are_made_again(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """The functions that DROP TABLE leaves behind are in nobody's way."""
        namespace.join('a')
        tables = ('node', 'token', 'unowned', 'change', 'lock', 'rebalance', 'claim', 'audit', 'item', 'state')
        harness.execute(*(f'DROP TABLE sync_{table} CASCADE' for table in tables))
        with pytest.raises(SchemaMismatch):
            namespace.snapshot()
        assert namespace.backend.open(SETTINGS, create=True).timeline != namespace.timeline
        assert namespace.snapshot().nodes == ()
        assert Namespace(harness.connect()).join('a') is not None

    def test_tables_that_were_made_again_are_listened_to(
        self, harness: PostgresqlHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A listener that was there before finds out by itself: their changes are announced on another channel."""
        monkeypatch.setattr(listening, 'SILENT_SEC', 0.1)
        backend = namespace.backend
        backend.wait(0, 0.0)
        harness.execute(*(f'DROP TABLE {table} CASCADE' for table in backend.tables.values()))  # type: ignore[attr-defined]
        backend.open(SETTINGS, create=True)
        ref = Namespace(backend).join('a')
        revision = backend.wait(0, 100.0)
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(backend.wait(revision, 100.0)))
        waiting.start()
        backend.set_weight(ref, 2.0)
        waiting.join(100)
        assert answers == [revision + 1]


class TestConnections:
    """How many, for how long, and what becomes of them."""

    def test_an_idle_backend_holds_two(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """One for calls and one that listens, whatever went on before."""
        name = f'idle_{harness.schema}'
        backend = connect(f'{harness.url}&application_name={name}', BackendOptions())
        waiting = beat_and_wait(backend)
        count = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
        eventually(lambda: server.psql(count) == ['2'])
        backend.close()
        waiting.join(100)
        eventually(lambda: server.psql(count) == ['0'])

    @pytest.mark.parametrize('moment', ['taken', 'returned'])
    def test_closed_during_a_call(self, namespace: Namespace, moment: str) -> None:
        """The connection of a call is closed with the backend, at whichever of its steps that is closed by another thread."""
        backend = namespace.backend
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        connections = list[Any]()

        def close(connection: Any, *_: object) -> None:
            connections.append(connection)
            backend.close()

        event.listen(backend.store._engine.pool, {'taken': 'checkout', 'returned': 'checkin'}[moment], close)
        backend.snapshot()
        assert [connection.closed for connection in connections] == [True]

    @pytest.mark.parametrize('moment', ['before', 'after'])
    def test_a_users_connection_outlives_no_backend(self, namespace: Namespace, moment: str) -> None:
        """One that the user closes after the backend is closed for good, whenever it was made."""
        backend = namespace.backend
        assert isinstance(backend, SqlBackend)
        if moment == 'after':
            backend.close()
        with backend.connection() as connection:
            raw: Any = connection.connection.dbapi_connection
            backend.close()
        assert raw.closed

    def test_no_file_left_to_wait_for_the_server_with(self, harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is an outage: a call is repeated until another one gives its connection back."""
        backend = harness.connect()
        with monkeypatch.context() as patch:
            patch.setattr('psycopg.waiting.DefaultSelector', Mock(side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE))))
            with pytest.raises(BackendUnavailable, match='Too many open files'):
                backend.open(SETTINGS, True)
            assert backend.wait(0, 0.1) == 0
        backend.open(SETTINGS, True)

    def test_no_memory_for_a_look_at_a_new_connection(self, harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """The connection is closed, and the next call makes another one."""
        backend, found = harness.connect(), list[Any]()

        def without_memory(info: psycopg.ConnectionInfo, _: str) -> str:
            found.append(info.pgconn)
            raise MemoryError

        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(psycopg.ConnectionInfo, 'parameter_status', without_memory)
            backend.open(SETTINGS, True)
        assert [connection.status for connection in found] == [psycopg.pq.ConnStatus.BAD]
        backend.open(SETTINGS, True)

    def test_a_restart_is_survived(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """After a kill of the server the same handle goes on, at its first call, and waits again."""
        ref = namespace.join('a')
        namespace.backend.wait(0, 1.0)
        harness.restart()
        assert namespace.beat(ref).heartbeat == 1
        revision = namespace.revision.number
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(namespace.backend.wait(revision, 100.0)))
        waiting.start()
        namespace.join('b')
        waiting.join(100)
        assert answers == [revision + 1]

    def test_a_cut_listener_listens_again(self, harness: PostgresqlHarness, namespace: Namespace, server: PostgresServer) -> None:
        """What happens while a listener is cut off is found when it is back."""
        namespace.join('a')
        revision = namespace.revision.number
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(namespace.backend.wait(revision, 100.0)))
        waiting.start()
        listeners = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query LIKE '%sync_state%' AND state = 'idle'"
        eventually(lambda: server.psql(f'SELECT count(*) {listeners}') != ['0'])
        server.psql(f'SELECT pg_terminate_backend(pid) {listeners}')
        namespace.join('b')
        waiting.join(100)
        assert answers == [revision + 1]

    def test_a_deaf_server_costs_the_time_for_the_call(self, harness: PostgresqlHarness) -> None:
        """A server that is stopped with its connections open: the statement timeout is its own, the deadline is ours."""
        namespace, hasty = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0)
        ref = namespace.join('a')
        eventually(lambda: succeeds(lambda: hasty.open(SETTINGS, create=False)))
        harness.stop()
        try:
            with pytest.raises(BackendUnavailable):
                hasty.heartbeat(ref, INITIAL, frozenset())
        finally:
            harness.start()
        eventually(lambda: succeeds(lambda: namespace.beat(ref)))

    def test_a_server_that_is_deaf_once_it_has_let_a_process_in(self, harness: PostgresqlHarness) -> None:
        """What SQLAlchemy reads over the first connection of a process takes no longer than a call may."""
        Namespace(harness.connect())
        hasty = harness.connect(op_timeout_sec=1.0)
        assert isinstance(hasty, SqlBackend)
        assert isinstance(hasty.store, PostgresqlStore)
        engine, creator = hasty.store._engine, hasty.store._connect

        def connect_and_stop() -> BoundedConnection:
            connection = creator()
            harness.stop()
            return connection

        engine.pool._creator = connect_and_stop  # type: ignore[assignment]
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(hasty.snapshot)
            try:
                ended = wait([call], timeout=60).done
            finally:
                harness.start()
        assert ended == {call}
        assert isinstance(call.exception(), BackendUnavailable)

    def test_a_signal_while_a_refused_change_is_undone(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """What its handler raises leaves the call, although the server has not answered yet."""
        assert isinstance(namespace.backend, SqlBackend)
        is_refused = threading.Event()

        def refuse(tx: SqlTransaction) -> None:
            states.read(tx)
            harness.stop()
            is_refused.set()
            raise Conflict

        def ring(*_: object) -> None:
            raise AlarmError

        try:
            with a_signal_comes(lambda: is_refused.wait(100) and threading.Event().wait(0.3), ring), pytest.raises(AlarmError):
                namespace.backend.store.run(Mode.STRUCTURE, 100.0, refuse)
        finally:
            harness.start()
        eventually(lambda: succeeds(lambda: namespace.join('a')))

    def test_what_a_refused_change_was_about_to_send_is_never_sent(self, namespace: Namespace) -> None:
        """Its statements wait for the next one, and none follows: the next call on the connection is another one."""
        assert isinstance(namespace.backend, SqlBackend)
        namespace.lock('task')

        def refuse(tx: SqlTransaction) -> None:
            tx.enqueue(lambda dialect: sa.delete(dialect.tables.lock))
            raise Conflict

        with pytest.raises(Conflict):
            namespace.backend.store.run(Mode.STRUCTURE, 100.0, refuse)
        namespace.join('a')
        assert set(namespace.locks()) == {'task'}

    def test_a_lock_left_open(self, harness: PostgresqlHarness) -> None:
        """While another session holds the state, structure cannot change, and heartbeats and reading go on."""
        namespace, hasty = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0)
        ref = namespace.join('a')
        with namespace.backend.connection() as other:  # type: ignore[attr-defined]
            other.exec_driver_sql('BEGIN; SELECT * FROM sync_state FOR UPDATE')
            with pytest.raises(BackendUnavailable):
                hasty.set_weight(ref, 2.0)
            assert namespace.beat(ref).heartbeat == 1
            other.rollback()
        namespace.join('b')

    @pytest.mark.parametrize(
        ('row', 'change'),
        [
            ('b', lambda namespace, leader, ref: namespace.evict(leader, ref)),
            ('b', lambda namespace, _, ref: namespace.join('b', replacing=(ref.incarnation, 0))),
            ('b', lambda namespace, _, ref: namespace.backend.deregister(ref)),
            ('a', lambda namespace, leader, _: namespace.commit(leader, TokenGroup([1], 'a'))),
        ],
        ids=['eviction', 'replacement', 'leaving', 'commit'],
    )
    def test_a_lock_of_a_node_left_open(
        self, harness: PostgresqlHarness, row: str, change: Callable[[Namespace, NodeRef, NodeRef], object]
    ) -> None:
        """While another session holds a node's row, a change that needs it waits, and other nodes join and leave."""
        namespace = Namespace(harness.connect(op_timeout_sec=60.0))
        leader, ref = namespace.leader('a'), namespace.join('b')
        waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        with harness.connect().connection() as other, ThreadPoolExecutor(1) as pool:  # type: ignore[attr-defined]
            other.exec_driver_sql(f"BEGIN; SELECT * FROM sync_node WHERE name = '{row}' FOR UPDATE")
            changing = pool.submit(change, namespace, leader, ref)
            try:
                eventually(lambda: harness.server.psql(waits) == ['t'])
                hasty = Namespace(harness.connect(op_timeout_sec=5.0))
                for name in 'cde':
                    hasty.backend.deregister(hasty.join(name))
                assert not changing.done()
            finally:
                other.rollback()
            changing.result(60)

    def test_a_process_that_stops_in_a_transaction(self, harness: PostgresqlHarness) -> None:
        """It holds the others up for some seconds, not for as long as it is stopped; its own call has not happened."""
        stopped = harness.connect()
        Namespace(stopped).join('a')
        assert isinstance(stopped, SqlBackend)
        with pytest.raises(BackendUnavailable), stopped.store.transaction(Mode.STRUCTURE, time.monotonic() + 600) as tx:
            tx.execute_text('DELETE FROM sync_lock')
            Namespace(harness.connect(op_timeout_sec=100.0)).join('b')
            tx.execute_text('DELETE FROM sync_node')
        assert [node.name for node in stopped.snapshot().nodes] == ['a', 'b']

    @pytest.mark.parametrize('says_why', [True, False])
    def test_a_starved_process_tries_again(
        self, harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch, says_why: bool
    ) -> None:
        """What the server has ended between two statements is rolled back, and is done in the time that is left for the call."""
        backend = harness.connect()
        assert isinstance(backend, SqlBackend)
        backend.open(SETTINGS, create=True)
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        attempts: list[int] = []

        def work(tx: SqlTransaction) -> None:
            attempts.append(len(attempts))
            tx.execute_text('INSERT INTO other VALUES (1)')
            if len(attempts) == 1 and says_why:
                eventually(lambda: harness.query(idle) == [('0',)])
                monkeypatch.undo()
            elif len(attempts) == 1:
                assert isinstance(tx, Framed)
                with socket.socket(fileno=os.dup(tx.raw.fileno())) as end:
                    end.shutdown(socket.SHUT_RDWR)
            tx.execute_text('INSERT INTO other VALUES (2)')

        harness.execute('CREATE TABLE other (number integer)')
        if says_why:
            monkeypatch.setattr(postgresql_store, 'IDLE_SEC', 0.02)
        backend.store.run(Mode.WRITE, 100, work)
        assert attempts == [0, 1]
        assert harness.query('SELECT count(*) FROM other') == [('2',)]

    def test_locks_are_parsed_after_their_transaction(
        self, harness: PostgresqlHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server would end it: to parse very many locks takes longer than a transaction may be idle."""
        namespace.backend.edit_locks(LockEdit(put=(LockRequest('task', ('a',), 'a'),)))
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        parse, seen = locks.parse, []

        def parse_and_look(*values: Any, **named: Any) -> Any:
            seen.append(harness.query(idle))
            return parse(*values, **named)

        monkeypatch.setattr(locks, 'parse', parse_and_look)
        assert [lock.task_id for lock in namespace.backend.read_locks().locks] == ['task']
        assert seen == [[('0',)]]

    def test_a_history_is_parsed_after_its_transaction(
        self, harness: PostgresqlHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A million claims take longer than a transaction may be idle, too."""
        backend, seen = namespace.backend, list[Any]()
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"

        def look(rows: Any) -> Any:
            seen.append(harness.query(idle))
            return rows

        monkeypatch.setattr(histories, 'readable', look)
        for kind in HistoryKind:
            backend.history(kind)
        backend.incomplete(None, dt.timedelta(0))
        assert seen == [[('0',)]] * 4

    def test_a_connection_lost_while_idle(self, harness: PostgresqlHarness, namespace: Namespace, server: PostgresServer) -> None:
        """Another one is made, and no call fails, whether it is one message or several."""
        ref = namespace.join('a')
        idle = "FROM pg_stat_activity WHERE query LIKE '%sync_%' AND query NOT LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
        for call in (lambda: namespace.beat(ref), namespace.backend.snapshot, lambda: namespace.join('b')):
            server.psql(f'SELECT pg_terminate_backend(pid) {idle}')
            eventually(lambda: server.psql(f'SELECT count(*) {idle}') == ['0'])
            call()
        assert namespace.node('a').heartbeat == 1

    def test_a_session_that_ends_as_a_call_begins(self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server ends it for being idle (``idle_session_timeout``), and has not run what was sent: another one runs it."""
        ref, execute = namespace.join('a'), psycopg.ClientCursor.execute
        answers = [psycopg.errors.IdleSessionTimeout('terminating connection due to idle-session timeout')]

        def end_first(cursor: psycopg.ClientCursor[Any], *args: Any, **options: Any) -> Any:
            if answers:
                cursor.connection.close()
                raise answers.pop()
            return execute(cursor, *args, **options)

        monkeypatch.setattr(psycopg.ClientCursor, 'execute', end_first)
        assert namespace.beat(ref).heartbeat == 1

    def test_a_session_that_ends_as_a_call_is_committed(self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
        """The call fails, and is not sent again: a heartbeat that counts twice would look like that of another process."""
        ref, execute = namespace.join('a'), psycopg.ClientCursor.execute

        def lose_the_answer(cursor: psycopg.ClientCursor[Any], query: Any, *args: Any, **options: Any) -> Any:
            execute(cursor, query, *args, **options)
            if str(query).endswith('COMMIT'):
                cursor.connection.close()
                raise psycopg.errors.AdminShutdown('terminating connection due to administrator command')
            return cursor

        with monkeypatch.context() as patch, pytest.raises(BackendUnavailable):
            patch.setattr(psycopg.ClientCursor, 'execute', lose_the_answer)
            namespace.beat(ref)
        assert namespace.node('a').heartbeat == 1

    def test_many_claims_that_another_call_is_writing(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """The same call once more, as after an answer that was lost: it waits for the first one, and all is recorded once."""
        ref, items = namespace.join('a'), [f'task {number}' for number in range(500)]
        assert isinstance(namespace.backend, SqlBackend)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sync_claim%'"
        with namespace.backend.connection() as other:
            other.exec_driver_sql("BEGIN; INSERT INTO sync_claim VALUES ('task 7', '2026-01-02', 'a', '2000-01-01')")
            thread = threading.Thread(target=namespace.backend.append_claims, args=(ref, items, dt.date(2026, 1, 2)))
            thread.start()
            eventually(lambda: harness.query(waiting) == [('1',)])
            other.commit()
        thread.join(100)
        assert not thread.is_alive()
        assert harness.query("SELECT count(*), min(created_on) > '2020-01-01' FROM sync_claim") == [('500', 't')]

    @pytest.mark.parametrize('zone', ['Asia/Tokyo', 'America/New_York'])
    def test_a_lock_ends_at_the_same_moment_in_any_timezone(self, harness: PostgresqlHarness, zone: str) -> None:
        """What a lock's end means does not depend on the timezone of the server, which sessions have by default."""
        expiry = dt.timedelta(minutes=5)
        with closing(connect(f'{harness.url}%20-cTimeZone%3D{zone}', BackendOptions())) as backend:
            namespace = Namespace(backend)
            for reason in ('new', 'changed'):
                namespace.lock('a', expires_in=expiry, reason=reason)
                (lock,) = backend.read_locks().locks
                assert lock.expires_at is not None
                assert abs(lock.expires_at - namespace.snapshot().now - expiry) < dt.timedelta(minutes=1)

    @pytest.mark.parametrize('encoding', ['LATIN1', 'SQL_ASCII'])
    def test_a_database_that_cannot_store_every_text(self, server: PostgresServer, encoding: str) -> None:
        """It is refused: one name or task id outside of its encoding would stop the leader's commits, and so every failover."""
        name = f'in_{encoding.lower()}_{uuid.uuid4().hex[:8]}'
        server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
        with closing(connect(server.url(name), BackendOptions())) as backend, pytest.raises(ConfigError, match=encoding):
            backend.open(SETTINGS, create=True)

    @pytest.mark.parametrize('name', ['a', '\N{SNOWMAN}' * 200])
    def test_ids_up_to_the_longest(self, harness: PostgresqlHarness, name: str) -> None:
        """Any node records an id of that length; a longer one is refused at once, as no outage that would be waited for."""
        digits = '0123456789abcdef'
        longest = ''.join(random.Random(1).choices(digits, k=PostgresqlDialect.longest_id))
        namespace, day = Namespace(harness.connect()), dt.date(2026, 3, 2)
        backend, ref = namespace.backend, namespace.join(name)

        def put(task: str, group: str = '') -> LockEdit:
            return LockEdit(put=(LockRequest(task, ('%',), name),), group=group)

        def writes(task: str) -> list[Callable[[], object]]:
            return [
                lambda: backend.append_claims(ref, ['x', task], day),
                lambda: backend.append_claims(ref, ['x', task], day, 2),
                lambda: backend.append_audits(name, [task], day),
                lambda: backend.edit_locks(put(task)),
                lambda: backend.edit_locks(put(task, '\N{SNOWMAN}' * 200)),
            ]

        for write in writes(longest):
            write()
        assert [audit.item for audit in namespace.audits(date=day)] == [longest]
        for write in writes(longest + '0'):
            with pytest.raises(UnsupportedOperation, match=r'1801 bytes.*1800 at most.*a digest'):
                write()

    def test_a_publication_of_all_tables(self, server: PostgresServer) -> None:
        """A database that is replicated logically refuses no commit, however many came before, and no new timeline."""
        name = f'published_{uuid.uuid4().hex[:8]}'
        server.psql(f'CREATE DATABASE {name}')
        server.psql('CREATE PUBLICATION everything FOR ALL TABLES', database=name)
        with closing(connect(server.url(name), BackendOptions())) as backend:
            namespace = Namespace(backend)
            leader = namespace.leader('a')
            for _ in range(2 * REMEMBERED + 1):  # as many as until the first changes are forgotten
                namespace.commit(leader, TokenGroup([1], leader.name), moved=1)
            before = namespace.timeline
            backend.append_claims(leader, ['x'], dt.date(2026, 1, 1))
            backend.append_audits('a', ['x'], dt.date(2026, 1, 1))
            for kind in HistoryKind:
                assert purged(backend, kind, namespace.snapshot().now + dt.timedelta(days=1))
            backend.renew_timeline(before, 1000)
            assert namespace.snapshot().timeline.generation == before.generation + 1

    @pytest.mark.parametrize('encoding', ['SQL_ASCII', 'LATIN1', 'EUC_TW'])  # Python has no codec for the last one
    @pytest.mark.parametrize('way', ['options', 'environment'])
    def test_clients_of_another_encoding(
        self, harness: PostgresqlHarness, way: str, encoding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Names and ids of any characters are stored and read, whatever encoding the server, the role or the environment has."""
        if way == 'environment':
            monkeypatch.setenv('PGCLIENTENCODING', encoding)
        given = f'%20-cclient_encoding%3D{encoding}' if way == 'options' else ''
        with closing(connect(f'{harness.url}{given}', BackendOptions())) as backend:
            namespace = Namespace(backend)
            leader = namespace.leader('\N{SNOWMAN}')
            namespace.lock('\N{UMBRELLA}')
            namespace.commit(leader, TokenGroup([1, 2], leader.name), moved=2)
            assert namespace.node(leader.name).heartbeat == 1
            assert [lock.task_id for lock in backend.read_locks().locks] == ['\N{UMBRELLA}']

    def test_numbers_are_read_as_they_were_written(self, harness: PostgresqlHarness) -> None:
        """A server that shows fewer digits changes no weight: its node would write it again after each reading."""
        with closing(connect(f'{harness.url}%20-cextra_float_digits%3D0', BackendOptions())) as backend:
            namespace = Namespace(backend)
            namespace.join('a', weight=1 / 3)
            assert namespace.node('a').weight == 1 / 3

    @pytest.mark.parametrize('setting', ['DateStyle%3DGerman', 'DateStyle%3DSQL', 'standard_conforming_strings%3Doff'])
    def test_settings_of_a_server_that_change_how_sql_reads(self, harness: PostgresqlHarness, setting: str) -> None:
        """A server, database or role may have them otherwise than by default: all records are read all the same."""
        with closing(connect(f'{harness.url}%20-c{setting}', BackendOptions())) as backend:
            namespace = Namespace(backend)
            leader = namespace.leader('a\\b')
            namespace.lock('c\\d', expires_in=dt.timedelta(minutes=5))
            namespace.commit(leader, TokenGroup([1, 2], leader.name), moved=2)
            assert namespace.node(leader.name).heartbeat == 1
            assert [lock.task_id for lock in backend.read_locks().locks] == ['c\\d']
            assert len(backend.history(HistoryKind.REBALANCE)) == 1

    @pytest.mark.parametrize('level', ['serializable', 'repeatable read'])
    def test_first_starts_where_transactions_are_isolated_more(self, harness: PostgresqlHarness, level: str) -> None:
        """A role or a database may have another level by default: workers that start together still make the tables once."""
        url = f'{harness.url}%20-cdefault_transaction_isolation%3D{quote(level.replace(" ", chr(92) + " "))}'
        options = BackendOptions(op_timeout_sec=100, bulk_timeout_sec=100)
        with ExitStack() as stack:
            backends = [stack.enter_context(closing(connect(url, options))) for _ in range(8)]
            opened = race([partial(backend.open, SETTINGS, True) for backend in backends])
            assert isinstance(opened[0], Opened), opened[0]
            assert opened == [opened[0]] * len(backends)

    def test_a_reload_of_the_server_with_another_date_style(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """Sessions that are open keep the style that jobsync reads."""
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')
        try:
            server.psql("ALTER SYSTEM SET DateStyle = 'German'", 'SELECT pg_reload_conf()')
            eventually(lambda: server.psql('SHOW DateStyle') == ['German, DMY'])
            assert [namespace.beat(ref).heartbeat for _ in range(2)] == [1, 2]
        finally:
            server.psql('ALTER SYSTEM RESET DateStyle', 'SELECT pg_reload_conf()')
            eventually(lambda: server.psql('SHOW DateStyle') == ['ISO, MDY'])

    def test_a_users_connection(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """What is changed over it counts as an edit by hand; errors there are SQLAlchemy's."""
        namespace.join('a')
        assert isinstance(namespace.backend, SqlBackend)
        with namespace.backend.connection() as connection:
            with namespace.raises_revision():
                connection.exec_driver_sql(f'DELETE FROM {namespace.backend.tables["Node"]}')
                connection.commit()
            with pytest.raises(sqlalchemy.exc.ProgrammingError):
                connection.exec_driver_sql('SELECT * FROM absent')

    @pytest.mark.filterwarnings('ignore::DeprecationWarning')
    def test_a_forked_child_uses_nothing_of_its_parents(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """Both go on after a fork, each on connections of its own."""
        go_on_after_a_fork(namespace)


class TestHints:
    """LISTEN and NOTIFY."""

    def test_one_announcement_for_each_change(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """Each change of the revision is announced once, with the nodes it concerns; a heartbeat never, an edit by hand too."""
        ref = namespace.leader()
        assert isinstance(namespace.backend, SqlBackend)
        with namespace.backend.connection() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            (oid,) = harness.query("SELECT 'sync_state'::regclass::oid")[0]
            connection.exec_driver_sql(f'LISTEN jobsync_{oid}')
            connection.commit()
            before = namespace.revision.number
            namespace.beat(ref)
            namespace.join('b')
            namespace.commit(ref, TokenGroup(range(9), 'leader'))
            namespace.beat(ref)
            namespace.backend.edit_locks(LockEdit(put=(LockRequest('x', ('a',), 'me'),)))
            harness.execute('DELETE FROM sync_token WHERE token_id < 5')
            connection.exec_driver_sql('SELECT 1')
            connection.commit()
            heard = [notify.payload for notify in raw.notifies(timeout=60, stop_after=4)]
        # A registration and a lock concern the leader alone; a plan that does not say whom it affects, and an edit by hand, all.
        assert heard == [f'{before + 1} []', f'{before + 2}', f'{before + 3} []', f'{before + 4}']

    def test_what_is_announced_is_not_believed(
        self, harness: PostgresqlHarness, namespace: Namespace, server: PostgresServer
    ) -> None:
        """A role that may only connect announces revisions to come: whoever waits is not woken, and hears the next change."""
        (oid,) = harness.query("SELECT 'sync_state'::regclass::oid")[0]
        revision = namespace.revision.number
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(namespace.backend.wait(revision, 100.0)))
        waiting.start()
        eventually(
            lambda: server.psql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN%SELECT revision%'") != ['0']
        )
        server.psql(f'CREATE ROLE nobody_{harness.schema} LOGIN')
        for forged in (str(2**62), str(revision + 1), 'nonsense', '', f'{revision + 1} {"[" * 7900}'):
            server.psql(f'SET ROLE nobody_{harness.schema}', f"SELECT pg_notify('jobsync_{oid}', '{forged}')")
        for name in 'abc':
            namespace.join(name)
        waiting.join(100)
        server.psql(f'DROP ROLE nobody_{harness.schema}')
        assert answers
        assert revision < answers[0] <= revision + 3

    def test_behind_a_proxy_that_loses_announcements(
        self, harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where nothing arrives, changes are found all the same, and one line says that they are looked for."""
        from jobsync.backends.sql.postgresql import listener

        monkeypatch.setattr(listener.PostgresqlListener, '_is_direct', lambda self, connection: False)
        monkeypatch.setattr(listener, 'CHANNEL', 'a channel that nobody uses')
        monkeypatch.setattr(listener, 'PROOF_SEC', 0.0)
        monkeypatch.setattr('jobsync.backends._common.listening.POLL_SEC', 0.05)
        namespace = Namespace(harness.connect())
        with caplog.at_level(logging.INFO, 'jobsync.backends.postgresql'):
            for name in 'ab':
                revision = namespace.revision.number
                answers: list[int] = []
                waiting = threading.Thread(target=lambda r=revision, a=answers: a.append(namespace.backend.wait(r, 100.0)))
                waiting.start()
                namespace.join(name)
                waiting.join(100)
                assert answers == [revision + 1]
            assert event_log.flush(120)
        assert len([record for record in caplog.records if 'announcements do not come through' in record.message]) == 1
        assert isinstance(namespace.backend, SqlBackend)
        connection = namespace.backend.store._listener._connection  # type: ignore[attr-defined]
        assert connection.execute('SELECT pg_listening_channels()').fetchall() == []

    def test_a_session_that_listens_behind_a_pooler(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """One that another client has used before: what it receives does not pile up."""
        assert isinstance(namespace.backend, SqlBackend)
        with namespace.backend.store._engine.connect() as connection:  # type: ignore[attr-defined]
            raw = connection.connection.dbapi_connection
            for statement in ('LISTEN changes', 'NOTIFY changes'):
                raw.execute(statement)
            assert not raw._notifies_backlog

    def test_what_comes_along_with_an_answer_is_kept(self, namespace: Namespace) -> None:
        """An announcement that no other follows ends the wait, though it is received with the answer to a statement."""
        assert isinstance(namespace.backend, SqlBackend)
        namespace.join('a')
        namespace.backend.wait(0, 5.0)
        listener = namespace.backend.store._listener  # type: ignore[attr-defined]
        listener._connection.deadline = time.monotonic() + 100
        listener._connection.execute('SELECT pg_notify(%s, %s)', [listener._channel, '7'])
        assert listener._received == ['7']

    def test_behind_a_proxy_that_passes_them_on(self, harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy is tried out before it is distrusted."""
        from jobsync.backends.sql.postgresql import listener

        monkeypatch.setattr(listener.PostgresqlListener, '_is_direct', lambda self, connection: False)
        backend = harness.connect()
        Namespace(backend).join('a')
        backend.wait(0, 5.0)
        assert isinstance(backend, SqlBackend)
        assert backend.store._listener._listens  # type: ignore[attr-defined]


class TestByHand:
    """Edits with psql."""

    def test_a_transaction_is_one_revision(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """However many rows it deletes."""
        namespace.commit(namespace.leader(), TokenGroup(range(TOKENS), 'gone'))
        before = namespace.revision.number
        harness.execute('DELETE FROM sync_token WHERE node NOT IN (SELECT name FROM sync_node)')
        snapshot = namespace.snapshot()
        assert snapshot.version == snapshot.revision
        assert snapshot.revision.number == before + 1
        assert all(namespace.row(token).absent for token in range(TOKENS))

    def test_what_is_rolled_back_does_not_count(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """Neither a transaction nor a savepoint of it; what follows a savepoint counts."""
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'a'))
        with namespace.same_revision():
            harness.execute('BEGIN', 'DELETE FROM sync_token', 'ROLLBACK')
        with namespace.raises_revision():
            harness.execute(
                'BEGIN; SAVEPOINT s; DELETE FROM sync_token; ROLLBACK TO s; DELETE FROM sync_token WHERE token_id = 1; COMMIT'
            )
        assert [namespace.row(token).absent for token in range(3)] == [False, True, False]

    def test_pins_stay_whatever_is_tried(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """Neither a deletion, nor another number or task, nor TRUNCATE takes a pin away."""
        namespace.commit(namespace.leader(), TokenGroup([0], 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),))
        pins = namespace.pins()
        harness.execute('DELETE FROM sync_token')
        harness.execute('UPDATE sync_token SET token_id = 1')
        harness.execute('UPDATE sync_token SET task_id = NULL')
        with pytest.raises(RuntimeError, match='the rows of pins must stay'):
            harness.execute('TRUNCATE sync_token')
        assert namespace.pins() == pins
        assert namespace.row(0).absent

    def test_nobody_but_the_leader_makes_an_owner_nobody(self, namespace: Namespace) -> None:
        """By hand no token becomes nobody's, none that is nobody's becomes a node's, and no change is hidden from a reader."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup([0, 1], 'a'), TokenGroup([9], None), pins=(Pin(TOKENS + 1, 'x', None),))
        namespace.commit(leader, TokenGroup([0], 'b'))
        without_owner, kept = 'has no owner, and only the leader', 'is for jobsync alone to write'
        refusals = {
            "UPDATE sync_token SET node = '' WHERE token_id = 1": 'violates check constraint',
            'UPDATE sync_token SET node = NULL WHERE token_id = 1': 'violates not-null constraint',
            "INSERT INTO sync_token (token_id, node) VALUES (9, 'a')": without_owner,
            'UPDATE sync_token SET token_id = 9 WHERE token_id = 1': without_owner,
            'INSERT INTO sync_unowned (token_id, version) VALUES (1, 1)': kept,
            'UPDATE sync_unowned SET task_id = NULL': kept,
            'DELETE FROM sync_unowned': kept,
            'TRUNCATE sync_unowned': kept,
            'DELETE FROM sync_change': kept,
            'TRUNCATE sync_change': kept,
        }
        assert isinstance(namespace.backend, SqlBackend)
        with namespace.unchanged(), namespace.backend.connection() as connection:
            for edit, words in refusals.items():
                with pytest.raises(sqlalchemy.exc.DBAPIError, match=words), connection.begin():
                    connection.exec_driver_sql(edit)

    def test_an_owner_changed_by_hand_gets_a_new_fence(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """A new owner never has an older fence than the one before it."""
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'a'))
        fences = [namespace.row(token).version for token in range(9)]
        harness.execute("UPDATE sync_token SET node = 'b' WHERE token_id < 3", 'DELETE FROM sync_token WHERE token_id = 8')
        harness.execute("INSERT INTO sync_token (token_id, node) VALUES (8, 'c')")
        rows = [namespace.row(token) for token in range(9)]
        assert [row.owner for row in rows] == ['b'] * 3 + ['a'] * 5 + ['c']
        assert [row.version > fence for row, fence in zip(rows, fences, strict=True)] == [True] * 3 + [False] * 5 + [True]

    def test_locks(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """A lock written by hand is filled in, a changed pattern counts, TRUNCATE is noticed, and ids rise."""
        namespace.backend.edit_locks(LockEdit(put=(LockRequest('x', ('a', 'b'), 'me'),)))
        with namespace.raises_revision():
            harness.execute("INSERT INTO sync_lock (task_id, node_pattern) VALUES ('z', 'gpu-%')")
        found = namespace.locks()['z']
        assert (found.id, found.patterns, found.registered, found.created_by) == (2, ('gpu-%',), 0, '')
        assert abs(found.created_at - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
        assert harness.query("SELECT token_id FROM sync_lock WHERE task_id = 'z'") == [(str(TOKENS + 2),)]
        given = """('w', 'a', '["a", "b"]', '2026-01-01+00')"""
        with namespace.raises_revision():
            harness.execute(
                f'INSERT INTO sync_lock (task_id, node_pattern, patterns, created_at) VALUES {given}',
                "UPDATE sync_lock SET node_pattern = 'c%' WHERE task_id = 'x'",
            )
        assert namespace.locks()['x'].patterns == ('c%',)
        found = namespace.locks()['w']
        assert (found.patterns, found.created_at) == (('a', 'b'), dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        harness.execute("""UPDATE sync_lock SET node_pattern = 'd', patterns = '["d", "e"]' WHERE task_id = 'w'""")
        assert namespace.locks()['w'].patterns == ('d', 'e')
        with namespace.raises_revision():
            harness.execute('TRUNCATE sync_lock')
        assert namespace.locks() == {}
        namespace.lock('new')
        assert namespace.locks()['new'].id == 4

    def test_nodes(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """What others go by is noticed; times that are only for people are not."""
        namespace.join('a')
        for change in ("state = 'left'", 'weight = 2', "incarnation = 'x'", 'timeout_sec = 9', "replaces = '[]'"):
            with namespace.raises_revision():
                harness.execute(f'UPDATE sync_node SET {change}')
        with namespace.same_revision():
            harness.execute('UPDATE sync_node SET last_heartbeat = NULL')
        with namespace.raises_revision():
            harness.execute('TRUNCATE sync_node')

    def test_an_edit_and_our_own_write_do_not_wait_for_each_other(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """Whichever waits for the other's state holds no row meanwhile that the other one needs."""
        ref = namespace.join('a')
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert isinstance(namespace.backend, SqlBackend)
        with namespace.backend.connection() as connection, ThreadPoolExecutor(1) as threads:
            for beginning, other in (
                (
                    "SET LOCAL jobsync.writer = 'sync_'; SELECT FROM sync_state FOR UPDATE",
                    partial(harness.execute, 'UPDATE sync_node SET weight = 2'),
                ),
                (
                    "INSERT INTO sync_lock (task_id, node_pattern) VALUES ('x', 'a')",
                    partial(namespace.backend.set_weight, ref, 3),
                ),
            ):
                connection.exec_driver_sql(f'BEGIN; {beginning}')
                waits = threads.submit(other)
                eventually(lambda: harness.query(waiting) == [('1',)])
                connection.exec_driver_sql('UPDATE sync_node SET weight = 1')
                connection.commit()
                waits.result(100)
        assert namespace.node('a').weight == 3

    def test_an_edit_and_a_commit_at_once(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """A plan that was made before an edit by hand conflicts, though the edit is committed while the commit waits."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'a'))
        plan, guard = namespace.plan(TokenGroup([1], 'b')), namespace.guard()
        outcome: list[object] = []

        def commit() -> None:
            try:
                outcome.append(namespace.backend.commit(leader, plan, guard))
            except Exception as error:  # noqa: BLE001 - looked at below
                outcome.append(error)

        assert isinstance(namespace.backend, SqlBackend)
        with namespace.backend.connection() as connection:
            connection.exec_driver_sql('BEGIN; DELETE FROM sync_token WHERE token_id = 2')
            committing = threading.Thread(target=commit)
            committing.start()
            time.sleep(0.3)
            assert outcome == []
            connection.commit()
        committing.join(100)
        assert [type(found).__name__ for found in outcome] == ['Conflict']


class TestOutcomes:
    """Calls of unknown outcome."""

    def test_a_heartbeat_meets_a_commit(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """A leader's heartbeat that waited for its commit tells the revision of that commit, never an older one."""
        leader = namespace.leader()
        stop = threading.Event()
        seen: list[tuple[int, int]] = []

        def beat() -> None:
            while not stop.is_set():
                before = namespace.revision.number
                seen.append((before, namespace.beat(leader, INITIAL).revision.number))

        beating = threading.Thread(target=beat)
        beating.start()
        for number in range(60):
            committed = namespace.commit(leader, TokenGroup([number % TOKENS], 'a'))
            assert namespace.beat(leader, INITIAL).revision == committed
        stop.set()
        beating.join(100)
        assert all(before <= after for before, after in seen)

    def test_a_heartbeat_that_is_not_counted_is_refused(self, harness: PostgresqlHarness, namespace: Namespace) -> None:
        """A row that is deleted and inserted again while a heartbeat waits for it is not the row that the heartbeat updated."""
        ref = namespace.join('a')
        namespace.beat(ref)
        answers: list[object] = []
        assert isinstance(namespace.backend, SqlBackend)
        with namespace.backend.connection() as operator:
            operator.exec_driver_sql('BEGIN; CREATE TEMP TABLE kept AS TABLE sync_node; DELETE FROM sync_node')
            operator.exec_driver_sql('INSERT INTO sync_node TABLE kept')
            beating = threading.Thread(target=beat_once, args=(namespace, ref, answers))
            beating.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sync_node%'"
            eventually(lambda: harness.query(waiting) == [('1',)])
            operator.commit()
        beating.join(100)
        assert [type(answer) for answer in answers] == [Evicted]
        assert namespace.node('a').heartbeat == 1

    def test_a_clock_that_is_set_back_within_a_heartbeat_loses_none(self, harness: PostgresqlHarness) -> None:
        """A heartbeat knows by the time of the row that it wrote it; with one of before the transaction, it did not."""
        now = "$$ SELECT pg_catalog.clock_timestamp() - interval '1 minute' $$"
        harness.execute(f'CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS {now}')
        with closing(connect_to(harness.url + ',pg_catalog', NAMESPACE)) as backend:
            namespace = Namespace(backend)
            assert namespace.beat(namespace.join('a')).heartbeat == 1

    def test_a_heartbeat_counts_a_little_later_than_it_reads(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """A commit does not wait for it, and is not in its answer; one that would evict its node waits, and is refused."""
        with psycopg.connect(server.url(), autocommit=True) as holder:
            namespace = Namespace(harness.connect(op_timeout_sec=200.0))
            leader, ref = namespace.leader(), namespace.join('a')
            before = namespace.commit(leader)
            holder.execute('SELECT pg_advisory_lock(1)')
            wait = 'PERFORM pg_advisory_lock_shared(1)'
            harness.query(f"CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {wait}; RETURN NULL; END'")
            harness.query(
                'CREATE CONSTRAINT TRIGGER pause AFTER UPDATE ON sync_node DEFERRABLE INITIALLY DEFERRED FOR EACH ROW'
                " WHEN (NEW.name = 'a') EXECUTE FUNCTION pause()"
            )
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event {} 'advisory'"
            with ThreadPoolExecutor(2) as threads:
                answer = threads.submit(namespace.beat, ref)
                eventually(lambda: harness.query(waiting.format('=')) == [('1',)])
                after = namespace.commit(leader, TokenGroup([0], 'a'))
                assert (namespace.node('a').heartbeat, namespace.snapshot().version) == (0, after)
                evicted = threads.submit(namespace.evict, leader, ref)
                eventually(lambda: evicted.done() or harness.query(waiting.format('<>')) == [('1',)])
                holder.execute('SELECT pg_advisory_unlock(1)')
                assert (answer.result(100).version, answer.result().heartbeat) == (before, 1)
                with pytest.raises(Conflict):
                    evicted.result(100)
        assert namespace.node('a').heartbeat == 1

    def test_a_claim_under_way_while_its_run_ends(self, harness: PostgresqlHarness, server: PostgresServer) -> None:
        """The end waits for it: who reads the claims afterwards, as the next owner of a schedule does, misses none."""
        with psycopg.connect(server.url(), autocommit=True) as holder:
            namespace = Namespace(harness.connect(op_timeout_sec=200.0))
            ref = namespace.join('a')
            holder.execute('SELECT pg_advisory_lock(1)')
            wait = 'PERFORM pg_advisory_lock_shared(1)'
            harness.query(f"CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {wait}; RETURN new; END'")
            harness.query('CREATE TRIGGER pause BEFORE INSERT ON sync_claim FOR EACH ROW EXECUTE FUNCTION pause()')
            found: list[list[str]] = []

            def end() -> None:
                namespace.backend.deregister(ref)
                found.append([claim.item for claim in namespace.claims()])

            claiming = threading.Thread(target=namespace.backend.append_claims, args=(ref, ['x'], dt.date(2026, 1, 1)))
            ending = threading.Thread(target=end)
            claiming.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sync_{}%'"
            eventually(lambda: harness.query(waiting.format('claim')) == [('1',)])
            ending.start()
            eventually(lambda: bool(found) or harness.query(waiting.format('node')) == [('2',)])
            holder.execute('SELECT pg_advisory_unlock(1)')
            for thread in (claiming, ending):
                thread.join(100)
        assert found == [['x']]

    def test_a_heartbeat_while_another_process_takes_the_name(
        self, harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It waits until the record is replaced, and is refused: success would give the old run a new lease."""
        monkeypatch.setattr(postgresql_store, 'IDLE_SEC', 200.0)
        namespace = Namespace(harness.connect(op_timeout_sec=200.0))
        ref = namespace.join('a')
        namespace.beat(ref)
        has_read, goes_on = threading.Event(), threading.Event()

        def read_and_wait(*args: Any) -> Any:
            found = read_nodes(*args)
            has_read.set()
            assert goes_on.wait(100)
            return found

        monkeypatch.setattr(nodes, 'read_nodes', read_and_wait)
        answers: list[object] = []
        threads = [
            threading.Thread(target=partial(namespace.join, 'a', (ref.incarnation, 1))),
            threading.Thread(target=beat_once, args=(namespace, ref, answers)),
        ]
        threads[0].start()
        assert has_read.wait(100)
        threads[1].start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sync_node%'"
        eventually(lambda: bool(answers) or harness.query(waiting) == [('1',)])
        goes_on.set()
        for thread in threads:
            thread.join(100)
        assert [type(answer) for answer in answers] == [Evicted]
        assert namespace.node('a').incarnation != ref.incarnation


def test_signals_reach_the_server(server: PostgresServer) -> None:
    """The fixture's own: paused, it answers nothing; resumed, it does."""
    server.pause()
    server.resume()
    assert server.psql('SELECT 1') == ['1']
    server.resume()
