"""A URL of several hosts, of which one accepts writes at a time."""

from __future__ import annotations

import errno
import os
import resource
import selectors
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count, cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine
from tests.backends.crash import crash
from tests.backends.proxy import SilentProxy
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer
from tests.support.timings import DEADLINE_SEC

from jobsync._event_log import event_log
from jobsync.backend import BackendOptions, NodeRef
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.postgresql import checking, connection, store
from jobsync.backends.sql.postgresql.store import PostgresqlStore, connect
from jobsync.backends.sql.postgresql.url import server_of
from jobsync.backends.sql.store import Mode, SqlTransaction
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


@pytest.fixture
def other() -> Iterator[PostgresServer]:
    """A server of another cluster."""
    server = PostgresServer()
    yield server
    server.close()


def url_of(harness: PostgresqlHarness, *hosts: str, attributes: str = '&target_session_attrs=read-write') -> str:
    """Return the URL of a namespace with these hosts."""
    alone = f'127.0.0.1:{harness.server.port}'
    return f'{harness.url.replace(alone, ",".join(hosts))}{attributes}'


@pytest.mark.parametrize('encoding', ['UTF8', 'EUC_TW'])  # Python has no codec for the last one
def test_two_that_accept_writes(
    harness: PostgresqlHarness, other: PostgresServer, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover, when the old primary is started again. Whichever comes first: the node owns nothing on either."""
    Namespace(harness.connect())
    monkeypatch.setenv('PGCLIENTENCODING', encoding)
    here, there = f'127.0.0.1:{harness.server.port}', f'127.0.0.1:{other.port}'
    for hosts in ((here, there), (there, here)):
        with (
            closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend,
            pytest.raises(ConfigError, match=f'{hosts[0]} and {hosts[1]} both accept writes'),
        ):
            backend.open(SETTINGS, create=False)


def test_two_that_are_named_elsewhere(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the environment, a service or addresses, and not by the hosts of the URL."""
    Namespace(harness.connect())
    hosts, ports = '127.0.0.1,127.0.0.1', f'{harness.server.port},{other.port}'
    service = tmp_path / 'services'
    service.write_text(f'[two]\nhost={hosts}\nport={ports}\n')
    by_service = {'PGSERVICE': 'two', 'PGSERVICEFILE': str(service)}
    url = url_of(harness, '')
    for environment, given in (
        ({'PGHOST': hosts, 'PGPORT': ports}, url),
        ({'PGHOSTADDR': hosts, 'PGPORT': ports}, url),
        (by_service, url),
        ({}, f'{url}&hostaddr={hosts}&port={ports}'),
    ):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            with closing(connect_to(given, 'sync_')) as backend, pytest.raises(ConfigError, match='both accept writes'):
                backend.open(SETTINGS, create=False)


class Copy(PostgresServer):
    """A server with the data of another one, which is down."""

    def __init__(self, original: PostgresServer) -> None:
        self._original = original
        super().__init__()

    def prepare(self) -> None:
        """See ``ServerProcess``."""
        shutil.copytree(self._original.folder / 'data', self._data)


def test_two_standbys_that_were_both_promoted(other: PostgresServer) -> None:
    """Like two copies of one cluster, they have one identifier, and timelines of one number."""
    with closing(connect_to(other.url(), 'sync_')) as backend:
        Namespace(backend)
    other.arrange('CHECKPOINT')
    other.kill()
    with closing(Copy(other)) as twin:
        other.start()
        first, second = f'127.0.0.1:{other.port}', f'127.0.0.1:{twin.port}'
        url = f'{other.url().replace(first, f"{first},{second}")}?target_session_attrs=read-write'
        with (
            closing(connect_to(url, 'sync_')) as backend,
            pytest.raises(ConfigError, match=f'{first} and {second} both accept writes'),
        ):
            backend.open(SETTINGS, create=False)


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_name_of_two_that_accept_writes(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name has the addresses of all servers, as that of a headless service in Kubernetes."""
    find = socket.getaddrinfo

    def find_two(host: str, *rest: object, **options: object) -> list[object]:
        hosts = ('127.0.0.2', '127.0.0.1') if host == 'two.example' else (host,)
        return [found for each in hosts for found in find(each, *rest, **options)]  # type: ignore[arg-type]

    Namespace(harness.connect())
    monkeypatch.setattr(socket, 'getaddrinfo', find_two)
    port = harness.server.port
    with closing(connect_to(url_of(harness, f'two.example:{port}'), 'sync_')) as backend:
        backend.open(SETTINGS, create=False)
    other.kill()
    other.port, other.settings = port, ('listen_addresses=127.0.0.2',)
    other.start()
    with (
        closing(connect_to(url_of(harness, f'two.example:{port}'), 'sync_')) as backend,
        pytest.raises(ConfigError, match=f'127.0.0.2:{port} and 127.0.0.1:{port} both accept writes'),
    ):
        backend.open(SETTINGS, create=False)


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_name_that_leads_elsewhere_meanwhile(harness: PostgresqlHarness, other: PostgresServer, leads_to: list[str]) -> None:
    """As after a failover by DNS: while the former primary runs on, nodes that have a session there go on with it."""
    port = harness.server.port
    other.kill()
    other.port, other.settings = port, ('listen_addresses=127.0.0.2',)
    other.start()
    with closing(connect_to(url_of(harness, f'one.example:{port}', attributes=''), 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        leads_to[0] = '127.0.0.2'
        harness.end_sessions()
        with pytest.raises(ConfigError, match=f'127.0.0.2:{port} and 127.0.0.1:{port} both accept writes'):
            namespace.beat(ref)
        harness.refuse_writes()
        try:
            wait_until(lambda: raised_by(namespace, ref) is SchemaMismatch, 'the other one, which has no tables, is called')
        finally:
            harness.accept_writes()


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_one_of_two_names_that_leads_elsewhere_meanwhile(
    harness: PostgresqlHarness, other: PostgresServer, leads_to: list[str]
) -> None:
    """A failover by DNS with two hosts in the URL, the second of which is down: the former primary is compared all the same."""
    port = harness.server.port
    other.kill()
    other.port, other.settings = port, ('listen_addresses=127.0.0.2',)
    other.start()
    with closing(connect_to(url_of(harness, f'one.example:{port}', '127.0.0.1:1'), 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        leads_to[0] = '127.0.0.2'
        harness.end_sessions()
        with pytest.raises(ConfigError, match=f'127.0.0.2:{port} and 127.0.0.1:{port} both accept writes'):
            namespace.beat(ref)


def test_a_node_at_work_that_turns_to_another(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """A connection that the old primary would take, since it comes first, is refused; the other one is used on."""
    other.kill()
    url = url_of(harness, f'127.0.0.1:{other.port}', f'127.0.0.1:{harness.server.port}')
    with closing(connect_to(url, 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        other.start()
        assert namespace.beat(ref).heartbeat == 1
        harness.end_sessions()
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)
        other.kill()
        assert namespace.beat(ref).heartbeat == 2


def test_a_node_at_work_whose_server_is_started_again(other: PostgresServer) -> None:
    """It makes no call while others turn to a promoted standby. Then it comes to the former primary, at the address of before."""
    with closing(PostgresServer()) as promoted:
        promoted.kill()
        hosts = f'127.0.0.1:{other.port}', f'127.0.0.1:{promoted.port}'
        with closing(connect_to(other.url().replace(hosts[0], ','.join(hosts)), 'sync_')) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            other.kill()
            other.start()
            assert namespace.beat(ref).heartbeat == 1
            other.kill()
            promoted.start()
            other.start()
            with pytest.raises(ConfigError, match=f'{hosts[0]} and {hosts[1]} both accept writes'):
                namespace.beat(ref)
            promoted.kill()
            assert namespace.beat(ref).heartbeat == 2


@pytest.mark.parametrize('has_sessions', [True, False])
def test_a_node_whose_server_crashes(harness: PostgresqlHarness, other: PostgresServer, has_sessions: bool) -> None:
    """A process of the former primary is killed, so it reads its log, and serves again: it was not started since.

    Sessions that were ended before, as by idle_session_timeout, are no sign of a crash.
    """
    hosts = f'127.0.0.1:{other.port}', f'127.0.0.1:{harness.server.port}'
    with closing(connect_to(other.url().replace(hosts[0], ','.join(hosts)), 'sync_')) as backend:
        harness.refuse_writes()
        try:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            if has_sessions:
                crash(other, "application_name = 'jobsync'")
            else:
                ended = "SELECT pg_terminate_backend(pid, 600000) FROM pg_stat_activity WHERE application_name = 'jobsync'"
                assert {*other.psql(ended)} == {'t'}
                crash(other, "backend_type = 'background writer'")
        finally:
            harness.accept_writes()
        with pytest.raises(ConfigError, match=f'{hosts[0]} and {hosts[1]} both accept writes'):
            namespace.beat(ref)


def test_a_session_that_a_server_ends_which_goes_on(harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host is compared: where one is cut off, that takes two seconds, which each call of a node would need."""
    with closing(connect_to(url_of(harness, f'127.0.0.1:{harness.server.port}', '127.0.0.1:1'), 'sync_')) as backend:
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        namespace = Namespace(backend)
        ref = namespace.join('a')
        monkeypatch.setattr(checking.Hosts, '_others', lambda *_: pytest.fail('compared'))
        harness.end_sessions()
        assert namespace.beat(ref).heartbeat >= 1
        with (
            pytest.raises(BackendUnavailable, match='due to administrator command'),
            backend.store.transaction(Mode.WRITE, time.monotonic() + DEADLINE_SEC) as tx,
        ):
            harness.end_sessions()
            tx.execute_text('SELECT 1')
        assert namespace.beat(ref).heartbeat >= 2


def test_others_that_do_no_harm(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """A standby, a host that does not answer, and another way to the same server."""
    refuse_writes(other)
    here = f'127.0.0.1:{harness.server.port}'
    for hosts in ((f'127.0.0.1:{other.port}', here), (here, '127.0.0.1:1'), (here, f'localhost:{harness.server.port}')):
        with closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend:
            backend.open(SETTINGS, create=True)


def test_a_primary_that_is_made_read_only(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """As in a switchover: a node that is refused a write turns to the host that accepts writes, while the former primary runs."""
    refuse_writes(other)
    url = url_of(harness, f'127.0.0.1:{harness.server.port}', f'127.0.0.1:{other.port}')
    with closing(connect_to(url, 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        harness.refuse_writes()
        try:
            with pytest.raises(BackendUnavailable, match='read-only transaction: default_transaction_read_only is on'):
                namespace.beat(ref)
            accept_writes(other)
            wait_until(lambda: raised_by(namespace, ref) is SchemaMismatch, 'the other host, which has no tables, is called')
        finally:
            harness.accept_writes()


def test_a_standby_that_comes_first(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """As after a failover: of several hosts the one that accepts writes is taken, though the URL does not say so."""
    Namespace(harness.connect())
    refuse_writes(other)
    wait_until(lambda: other.psql('SHOW transaction_read_only') == ['on'], 'the first host refuses writes')
    url = url_of(harness, f'127.0.0.1:{other.port}', f'127.0.0.1:{harness.server.port}', attributes='')
    with closing(connect_to(url, 'sync_')) as backend:
        Namespace(backend).join('a')


def test_a_standby_that_the_url_allows(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """The error does not say that it accepts writes, by which an operator would end one of a pair that is in order."""
    Namespace(harness.connect())
    refuse_writes(other)
    wait_until(lambda: other.psql('SHOW transaction_read_only') == ['on'], 'the first host refuses writes')
    here, there = f'127.0.0.1:{other.port}', f'127.0.0.1:{harness.server.port}'
    with (
        closing(connect_to(url_of(harness, here, there, attributes='&target_session_attrs=any'), 'sync_')) as backend,
        pytest.raises(ConfigError, match=f'{here} accepts no writes, .* {there} does: put target_session_attrs=read-write'),
    ):
        backend.open(SETTINGS, create=False)


def test_what_the_user_reads_after_a_switchover(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """A connection of the user's that was idle meanwhile is not used on: the former primary runs, and accepts it."""
    refuse_writes(other)
    url = url_of(harness, f'127.0.0.1:{harness.server.port}', f'127.0.0.1:{other.port}')
    with closing(connect_to(url, 'sync_')) as backend:
        assert isinstance(backend, SqlBackend)
        namespace = Namespace(backend)
        ref = namespace.join('a')
        assert port_of(backend) == harness.server.port
        harness.refuse_writes()
        try:
            accept_writes(other)
            wait_until(lambda: raised_by(namespace, ref) is SchemaMismatch, 'the other host, which has no tables, is called')
            assert port_of(backend) == other.port
        finally:
            harness.accept_writes()


def interrupted(_: Engine) -> None:
    """Stand for a call in which a signal's handler raises."""
    raise KeyboardInterrupt


@pytest.mark.parametrize('is_interrupted', [False, True])
def test_a_session_that_is_left_at_a_former_primary(
    harness: PostgresqlHarness, other: PostgresServer, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is under way there while another one turns to the new primary. Its session accepts writes, and is not used on.

    Nor where a signal's handler raises just as that session is to end.
    """
    refuse_writes(other)
    url = url_of(harness, f'127.0.0.1:{harness.server.port}', f'127.0.0.1:{other.port}')
    with closing(connect_to(url, 'sync_')) as backend:
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        namespace = Namespace(backend)
        ref = namespace.join('a')
        harness.server.arrange('ALTER DATABASE postgres SET default_transaction_read_only = on')  # of sessions from now on
        try:
            accept_writes(other)
            wait_until(lambda: other.psql('SHOW default_transaction_read_only') == ['off'], 'the other host accepts writes')
            deadline = time.monotonic() + DEADLINE_SEC
            with ExitStack() as later, backend.store._connected(deadline):
                if is_interrupted:
                    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                        patch.setattr(Engine, 'dispose', interrupted)
                        later.enter_context(backend.store._connected(deadline))
                later.enter_context(backend.store._connected(deadline))
            assert raised_by(namespace, ref) is SchemaMismatch
        finally:
            harness.server.arrange('ALTER DATABASE postgres RESET default_transaction_read_only')


def test_a_session_that_is_left_at_one_of_two_that_accept_writes(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """One connection of a node at work was lost, and another one is in use. The node learns of both hosts, and its lease ends."""
    refuse_writes(other)
    url = url_of(harness, f'127.0.0.1:{harness.server.port}', f'127.0.0.1:{other.port}')
    with closing(connect_to(url, 'sync_')) as backend:
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        namespace = Namespace(backend)
        ref = namespace.join('a')
        accept_writes(other)
        wait_until(lambda: other.psql('SHOW default_transaction_read_only') == ['off'], 'the other host accepts writes')
        with backend.store._connected(time.monotonic() + DEADLINE_SEC):
            backend.store._hosts.note_loss()
            assert raised_by(namespace, ref) is ConfigError
        assert raised_by(namespace, ref) is ConfigError


def test_another_thread_turns_to_a_new_primary_meanwhile(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection to the former primary was compared before that. Once both accept writes, neither is used on."""
    with closing(connect_to(other.url(), 'sync_')) as copy:
        copy.open(SETTINGS, create=True)
    refuse_writes(other)
    url = url_of(harness, f'127.0.0.1:{harness.server.port}', f'127.0.0.1:{other.port}')
    with closing(connect_to(url, 'sync_')) as backend:
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        namespace, connected, deadline = Namespace(backend), backend.store._connected, time.monotonic() + DEADLINE_SEC
        hosts = backend.store._hosts
        ref, compare, promotions = namespace.join('a'), hosts._others, iter([harness.server])

        def and_turn_to_the_other(*here: Any) -> Iterator[Any]:
            yield from compare(*here)
            for former in promotions:
                former.arrange('ALTER DATABASE postgres SET default_transaction_read_only = on')  # of sessions from now on
                try:
                    accept_writes(other)
                    wait_until(lambda: other.psql('SHOW default_transaction_read_only') == ['off'], 'the other accepts writes')
                    with connected(deadline) as (_, raw):
                        assert raw.info.port == other.port
                finally:
                    former.arrange('ALTER DATABASE postgres RESET default_transaction_read_only')

        monkeypatch.setattr(hosts, '_others', and_turn_to_the_other)
        hosts.note_loss()
        with ExitStack() as sessions, suppress(ConfigError):
            sessions.enter_context(connected(deadline))
            sessions.enter_context(connected(deadline))
        assert next(promotions, None) is None
        assert raised_by(namespace, ref) is ConfigError


def test_a_session_that_is_left_behind_one_address(harness: PostgresqlHarness, other: PostgresServer) -> None:
    """As of a proxy that leads to the primary, and ends no session as that changes."""
    with closing(SilentProxy(harness.server.port)) as proxy:
        url = url_of(harness, f'127.0.0.1:{proxy.port}', attributes='')
        with closing(connect_to(url, 'sync_')) as backend:
            assert isinstance(backend, SqlBackend)
            assert isinstance(backend.store, PostgresqlStore)
            namespace = Namespace(backend)
            ref = namespace.join('a')
            proxy.target = other.port
            deadline = time.monotonic() + DEADLINE_SEC
            with ExitStack() as later, backend.store._connected(deadline):
                later.enter_context(backend.store._connected(deadline))
            assert raised_by(namespace, ref) is SchemaMismatch


def test_another_way_to_the_same_server(harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a name of two proxies: each connection may go another way than the last, and the session of before is used on."""
    hosts = f'127.0.0.1:{harness.server.port}', f'{quote(str(harness.server.folder), safe="")}:{harness.server.port}'
    ways = cycle(server_of(url_of(harness, *each), 10.0) for each in (hosts, hosts[::-1]))
    monkeypatch.setattr(store, 'connect_to', lambda _: connection.connect(next(ways)))
    with closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend:
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        backend.open(SETTINGS, create=True)
        deadline = time.monotonic() + DEADLINE_SEC
        with backend.store._connected(deadline) as (_, first), backend.store._connected(deadline) as (_, second):
            assert first.info.host != second.info.host
        with backend.store._connected(deadline) as (_, third):
            assert third in (first, second)


def test_a_host_that_is_cut_off(harness: PostgresqlHarness) -> None:
    """To find that out takes longer than a call may. The call has some time left all the same."""
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        url = url_of(harness, f'127.0.0.1:{silent.getsockname()[1]}', f'127.0.0.1:{harness.server.port}')
        with closing(connect_to(f'{url}&connect_timeout=2', 'sync_')) as backend:
            assert isinstance(backend, SqlBackend)
            limit = backend.store.run(Mode.READ, 1.0, lambda tx: tx.execute_text('SHOW statement_timeout').scalar())
    assert limit != '1ms'


def test_a_host_that_is_far_away(harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """To connect takes many round trips, and all the time of the call. The transaction has half as much, for a few."""
    with closing(harness.connect()) as backend:
        backend.open(SETTINGS, create=True)
        assert isinstance(backend, SqlBackend)
        assert isinstance(backend.store, PostgresqlStore)
        monkeypatch.setattr(store, 'time', SimpleNamespace(monotonic=iter((1000.0, 1010.0)).__next__))
        with backend.store._connected(1010.0) as (_, raw):
            assert raw.deadline == 1015.0 + store.GRACE_SEC


def test_tables_are_made_in_many_round_trips(harness: PostgresqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that is far away these take longer than a call that is not for bulk may."""
    options, run = BackendOptions(op_timeout_sec=50.0, bulk_timeout_sec=500.0), PostgresqlStore.run
    limits: dict[Mode, float] = {}

    def recorded(self: PostgresqlStore, mode: Mode, timeout_sec: float, work: Callable[[SqlTransaction], object]) -> object:
        limits[mode] = timeout_sec
        return run(self, mode, timeout_sec, work)

    monkeypatch.setattr(PostgresqlStore, 'run', recorded)
    with closing(connect(harness.url, options)) as backend:
        backend.open(SETTINGS, create=True)
    assert limits == {Mode.READ: 50.0, Mode.WRITE: 500.0}


def raised_by(namespace: Namespace, ref: NodeRef) -> type[JobsyncError] | None:
    """Return the class of the error of a heartbeat."""
    try:
        namespace.beat(ref)
    except JobsyncError as error:
        return type(error)
    return None


def port_of(backend: SqlBackend) -> int:
    """Return the port of the server that a connection for the user leads to."""
    with backend.connection() as connection:
        port: int = connection.exec_driver_sql('SELECT inet_server_port()').scalar_one()
    return port


def refuse_writes(server: PostgresServer) -> None:
    """Have a server refuse writes, as a standby does."""
    server.arrange('ALTER SYSTEM SET default_transaction_read_only = on')
    server.arrange('SELECT pg_reload_conf()')


def accept_writes(server: PostgresServer) -> None:
    """Have a server accept writes, as a standby that is promoted."""
    server.arrange('ALTER SYSTEM RESET default_transaction_read_only')
    server.arrange('SELECT pg_reload_conf()')


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_former_address_that_another_program_s_server_has_by_now(
    harness: PostgresqlHarness, other: PostgresServer, leads_to: list[str]
) -> None:
    """As in a network of containers that are started anew: a server there without this namespace is no former primary."""
    leads_to[0] = '127.0.0.2'
    port = other.port
    other.kill()
    other.settings = ('listen_addresses=127.0.0.1,127.0.0.2',)
    other.start()
    with closing(connect_to(other.url().replace('127.0.0.1', 'one.example'), 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        other.kill()
        other.settings = ('listen_addresses=127.0.0.1',)
        other.start()
        leads_to[0] = '127.0.0.1'
        with closing(PostgresServer()) as foreign:
            foreign.kill()
            foreign.port, foreign.settings = port, ('listen_addresses=127.0.0.2',)
            foreign.start()
            assert namespace.beat(ref).heartbeat >= 1


@pytest.mark.parametrize('which', [0, 1])  # the host that the node has connected to; the one that it compares
def test_a_host_that_fails_as_it_is_compared(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """The call fails as in any outage, and the next one compares the two that accept writes all the same."""
    servers, ended = (harness.server, other), list[int]()
    hosts, failing = [f'127.0.0.1:{each.port}' for each in servers], servers[which]
    Namespace(harness.connect())
    execute: Callable[..., object] = connection.BoundedConnection.execute

    def ended_before(self: connection.BoundedConnection, query: str, *rest: object, **options: object) -> object:
        if query == checking.SERVER and self.info.port == failing.port and not ended:
            ended.append(self.info.backend_pid)
            failing.arrange(f'SELECT pg_terminate_backend({self.info.backend_pid}, 600000)')
        return execute(self, query, *rest, **options)

    monkeypatch.setattr(connection.BoundedConnection, 'execute', ended_before)
    with closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend:
        for error in (BackendUnavailable, ConfigError):
            with pytest.raises(error):
                backend.open(SETTINGS, create=False)
    assert ended


def test_a_slow_host_and_the_log(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver logs nothing of the statement that was not waited for, at each call anew."""
    Namespace(harness.connect())
    execute: Callable[..., object] = connection.BoundedConnection.execute

    def slow(self: connection.BoundedConnection, query: str, *rest: object, **options: object) -> object:
        is_slow = query == checking.SERVER and self.info.port == other.port
        return execute(self, 'SELECT pg_sleep(600)' if is_slow else query, *rest, **options)

    monkeypatch.setattr(connection.BoundedConnection, 'execute', slow)
    hosts = [f'127.0.0.1:{each.port}' for each in (harness.server, other)]
    with (
        closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend,
        pytest.raises(BackendUnavailable, match='not known yet whether'),
    ):
        backend.open(SETTINGS, create=False)
    assert event_log.flush(120)
    assert [record.message for record in caplog.records if record.name == 'psycopg'] == []


def test_no_file_left_to_reach_another_host_with(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call fails as in any outage, and the next one compares the two that accept writes all the same."""
    hosts, select, made = [f'127.0.0.1:{each.port}' for each in (harness.server, other)], selectors.DefaultSelector, count()
    Namespace(harness.connect())

    def select_if_a_file_is_left() -> selectors.BaseSelector:
        if next(made) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return select()

    with closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend:
        monkeypatch.setattr('psycopg.waiting.DefaultSelector', select_if_a_file_is_left)
        with pytest.raises(BackendUnavailable, match='Too many open files'):
            backend.open(SETTINGS, create=False)
        with pytest.raises(ConfigError, match='both accept writes'):
            backend.open(SETTINGS, create=False)


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_name_that_leads_to_a_standby_before_that_is_promoted(other: PostgresServer, leads_to: list[str]) -> None:
    """A node that connects to it while the former primary is down is refused once both accept writes."""
    with closing(PostgresServer()) as standby:
        standby.kill()
        standby.port, standby.settings = other.port, ('listen_addresses=127.0.0.2',)
        standby.start()
        refuse_writes(standby)
        with closing(connect_to(other.url().replace('127.0.0.1', 'one.example'), 'sync_')) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            other.kill()
            leads_to[0] = '127.0.0.2'
            wait_until(lambda: standby.psql('SHOW transaction_read_only') == ['on'], 'the standby refuses writes')
            with pytest.raises(BackendUnavailable, match='the server is a standby'):
                namespace.beat(ref)
            other.start()
            accept_writes(standby)
            wait_until(lambda: standby.psql('SHOW transaction_read_only') == ['off'], 'the standby accepts writes')
            with pytest.raises(ConfigError, match=f'127.0.0.2:{other.port} and 127.0.0.1:{other.port} both accept writes'):
                namespace.beat(ref)


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_session_at_a_standby_that_is_promoted(other: PostgresServer, leads_to: list[str]) -> None:
    """A reading has failed there. Its session is not used on after the promotion: the node is refused once both accept writes."""
    with closing(connect_to(other.url().replace('127.0.0.1', 'one.example'), 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        other.arrange('CHECKPOINT')
        other.kill()
        with closing(Copy(other)) as standby:
            standby.kill()
            standby.port, standby.settings = other.port, ('listen_addresses=127.0.0.2',)
            (standby.folder / 'data' / 'standby.signal').touch()
            standby.start()
            leads_to[0] = '127.0.0.2'
            with pytest.raises(BackendUnavailable, match='the server is a standby: the URL must lead to the one'):
                namespace.snapshot()
            other.start()
            standby.arrange('SELECT pg_promote()')
            with pytest.raises(ConfigError, match=f'127.0.0.2:{other.port} and 127.0.0.1:{other.port} both accept writes'):
                namespace.beat(ref)


def test_no_file_left_for_the_driver_to_reach_another_host_with(
    harness: PostgresqlHarness, other: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call fails as in any outage, and the next one compares the two that accept writes all the same."""
    hosts, held = [f'127.0.0.1:{each.port}' for each in (harness.server, other)], list[int]()
    Namespace(harness.connect())
    connect_driver: Callable[..., object] = connection.BoundedConnection.connect
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def connect_without_a_file(**parameters: object) -> object:
        if parameters['port'] == other.port and not held:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(file.name) for file in Path('/dev/fd').iterdir()) + 1, limits[1]))
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
        return connect_driver(**parameters)

    monkeypatch.setattr(connection.BoundedConnection, 'connect', connect_without_a_file)
    with closing(connect_to(url_of(harness, *hosts), 'sync_')) as backend:
        try:
            with pytest.raises(BackendUnavailable, match='Too many open files'):
                backend.open(SETTINGS, create=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for file in held:
                os.close(file)
        with pytest.raises(ConfigError, match='both accept writes'):
            backend.open(SETTINGS, create=False)


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
@pytest.mark.parametrize(
    'said',
    [
        'the database system is starting up',
        'the database system is in recovery mode',
        'the database system is shutting down',
        'sorry, too many clients already',
        # of pgbouncer, which serves the clients that it has
        'no more connections allowed',
        'client connections exceeded',
        'database "postgres" is disabled',
        'login rejected',
    ],
)
def test_a_former_primary_that_lets_no_client_in(other: PostgresServer, leads_to: list[str], said: str) -> None:
    """A call at the promoted one fails as in any outage while the former one starts, stops or is full. Then it is refused."""

    def serve() -> None:
        with closing(full), suppress(OSError):
            while True:
                with full.accept()[0] as client:
                    while len(client.recv(65536)) == 8:  # a request for encryption
                        client.sendall(b'N')
                    fields = f'SFATAL\0VFATAL\0C57P03\0M{said}\0\0'.encode()
                    client.sendall(b'E' + (len(fields) + 4).to_bytes(4, 'big') + fields)

    with closing(PostgresServer()) as promoted:
        promoted.kill()
        promoted.port, promoted.settings = other.port, ('listen_addresses=127.0.0.2',)
        promoted.start()
        with closing(connect_to(other.url().replace('127.0.0.1', 'one.example'), 'sync_')) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            other.kill()
            leads_to[0] = '127.0.0.2'
            full = socket.create_server(('127.0.0.1', other.port))
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            with pytest.raises(BackendUnavailable, match=f'not known yet whether 127.0.0.1:{other.port} accepts .*{said}'):
                namespace.beat(ref)
            full.shutdown(socket.SHUT_RDWR)
            thread.join(600)
            other.start()
            with pytest.raises(ConfigError, match=f'127.0.0.2:{other.port} and 127.0.0.1:{other.port} both accept writes'):
                namespace.beat(ref)


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_session_at_a_read_only_server_that_is_to_take_over(other: PostgresServer, leads_to: list[str]) -> None:
    """A copy that is no standby (blue and green). A session there is not used on once it and the former primary accept writes."""
    with closing(connect_to(other.url().replace('127.0.0.1', 'one.example'), 'sync_')) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        other.arrange('CHECKPOINT')
        other.kill()
        with closing(Copy(other)) as green:
            green.kill()
            green.port, green.settings = other.port, ('listen_addresses=127.0.0.2',)
            green.start()
            refuse_writes(green)
            wait_until(lambda: green.psql('SHOW transaction_read_only') == ['on'], 'the copy refuses writes')
            leads_to[0] = '127.0.0.2'
            with pytest.raises(BackendUnavailable, match='default_transaction_read_only is on here'):
                namespace.snapshot()
            other.start()
            accept_writes(green)
            wait_until(lambda: green.psql('SHOW transaction_read_only') == ['off'], 'the copy accepts writes')
            with pytest.raises(ConfigError, match=f'127.0.0.2:{other.port} and 127.0.0.1:{other.port} both accept writes'):
                namespace.beat(ref)
