"""A URL that leads to another kind of server, or to what the user may not have: one line, and no wait as for an outage."""

from __future__ import annotations

import http.server
import itertools
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.backends.tls import TlsFront
from tests.support.servers import EtcdServer, PostgresServer, RedisServer
from tests.support.waiting import eventually

from jobsync import Cluster, plugins
from jobsync.backend import BackendOptions
from jobsync.backends._common.probing import ETCD, POSTGRESQL, REDIS, refuse_other_server
from jobsync.errors import BackendUnavailable, ConfigError
from jobsync.testing.conformance.namespace import SETTINGS


@pytest.fixture
def web_port() -> Iterator[int]:
    """Yield the port of a web server."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def error_of(url: str) -> str:
    """Return the one line with which a backend at this URL refuses to be opened.

    A server that takes too long to show what it is, as on a busy machine, is an outage so far.
    """
    refused: list[str] = []

    def is_refused() -> bool:
        try:
            backend.open(SETTINGS, create=True)
        except ConfigError as error:
            refused[:] = str(error).splitlines()
        except BackendUnavailable:
            pass
        return bool(refused)

    with closing(plugins.connect(url, BackendOptions())) as backend:
        eventually(is_refused)
    (line,) = refused
    assert 'secret' not in line
    return line


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.etcd
@pytest.mark.parametrize('scheme', ['postgresql', 'redis', 'etcd'])
def test_another_kind_of_server_is_named(
    newest_postgres: PostgresServer, redis_of_many: RedisServer, etcd_server: EtcdServer, web_port: int, scheme: str
) -> None:
    """What is at the address, what the URL is for, and how the right URL begins; for a worker and for who watches."""
    ports = {
        'postgresql': newest_postgres.port,
        'redis': redis_of_many.port,
        'etcd': int(etcd_server.endpoint.rpartition(':')[2]),
    }
    names = {'postgresql': 'a PostgreSQL server', 'redis': 'a Redis server', 'etcd': 'an etcd server'}
    for kind, port in ports.items():
        if kind != scheme:
            url = f'{scheme}://user:secret@127.0.0.1:{port}'
            line = error_of(url)
            with Cluster(url) as cluster, pytest.raises(ConfigError, match=re.escape(line)):
                cluster.status()
            assert f'127.0.0.1:{port} is {names[kind]}, and the URL is for {names[scheme]}' in line
            assert line.endswith(f'begins with {kind}://')
    assert f'is a web server, and the URL is for {names[scheme]}' in error_of(f'{scheme}://user:secret@127.0.0.1:{web_port}')


@pytest.fixture
def tls_port(certificates: Path, redis_of_many: RedisServer) -> Iterator[int]:
    """Yield the port of a server that speaks TLS."""
    with closing(TlsFront(certificates, redis_of_many.port, knows_clients=False)) as front:
        yield front.port


@pytest.mark.redis
@pytest.mark.parametrize('scheme', ['redis', 'etcd'])
def test_a_server_that_speaks_tls(tls_port: int, scheme: str) -> None:
    """It answers nothing that is not encrypted, as if it were away; the right URL begins otherwise."""
    line = error_of(f'{scheme}://user:secret@127.0.0.1:{tls_port}')
    assert f'127.0.0.1:{tls_port} speaks TLS, and the URL is for a server that does not' in line
    assert line.endswith(f'begins with {scheme}s://')


@pytest.mark.redis
@pytest.mark.etcd
def test_a_server_that_does_not_speak_tls(redis_of_many: RedisServer, etcd_server: EtcdServer) -> None:
    """It is named, for either scheme of TLS."""
    etcd_port = int(etcd_server.endpoint.rpartition(':')[2])
    line = error_of(f'etcds://user:secret@127.0.0.1:{etcd_port}')
    assert f'127.0.0.1:{etcd_port} does not speak TLS, and the URL is for TLS' in line
    assert line.endswith('begins with etcd://')
    assert 'is a Redis server, and the URL is for an etcd server' in error_of(f'etcds://127.0.0.1:{redis_of_many.port}')
    assert 'is an etcd server, and the URL is for a Redis server' in error_of(f'rediss://:secret@127.0.0.1:{etcd_port}')
    with pytest.raises(ConfigError, match='begins with redis://'):
        refuse_other_server(REDIS, '127.0.0.1', redis_of_many.port, '', 600, over_tls=True)


@pytest.mark.redis
def test_what_says_nothing_against_a_url(tls_port: int, web_port: int) -> None:
    """PostgreSQL may speak TLS at once, for some of its URLs; a web server may say in plain text that it speaks TLS."""
    refuse_other_server(POSTGRESQL, '127.0.0.1', tls_port, '', 600)
    for kind, port in itertools.product((REDIS, ETCD), (tls_port, web_port)):
        refuse_other_server(kind, '127.0.0.1', port, '', 600, over_tls=True)


@pytest.mark.redis
def test_a_silent_server_may_not_speak_tls() -> None:
    """As Redis, which waits for the rest of a line: that takes all the time of the call."""
    with socket.create_server(('127.0.0.1', 0)) as silent:
        url = f'rediss://127.0.0.1:{silent.getsockname()[1]}'
        with (
            closing(plugins.connect(url, BackendOptions(op_timeout_sec=0.3))) as backend,
            pytest.raises(BackendUnavailable, match='may be a server that does not speak TLS, whose URL begins with redis://'),
        ):
            backend.open(SETTINGS, create=True)


@pytest.mark.parametrize('scheme', ['postgresql', 'redis', 'etcd'])
def test_no_server_at_all_is_an_outage(scheme: str) -> None:
    """A server that is not there yet may come: nothing is said against the URL."""
    with (
        closing(plugins.connect(f'{scheme}://127.0.0.1:1', BackendOptions(op_timeout_sec=2))) as backend,
        pytest.raises(BackendUnavailable) as caught,
    ):
        backend.open(SETTINGS, create=True)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize('greeting', ['* OK mail.example ready', ':chat.example NOTICE * :hello'])
@pytest.mark.parametrize(
    'url', ['redis://127.0.0.1:{}', 'redis://127.0.0.1:{}?client_name=', 'redis+sentinel://127.0.0.1:{}/service']
)
def test_a_server_whose_greeting_begins_as_a_redis_answer(url: str, greeting: str) -> None:
    """What follows is no number, as redis-py expects: an outage, and no error of Python's."""

    def greet() -> None:
        with suppress(OSError):  # the test closes the listener
            while True:
                client, _ = server.accept()
                clients.append(client)
                client.sendall(f'{greeting}\r\n'.encode())

    clients: list[socket.socket] = []
    with socket.create_server(('127.0.0.1', 0)) as server:
        threading.Thread(target=greet, daemon=True).start()
        try:
            with closing(plugins.connect(url.format(server.getsockname()[1]), BackendOptions())) as backend:
                for call in (lambda: backend.open(SETTINGS, create=True), backend.snapshot):
                    with pytest.raises(BackendUnavailable, match='example'):
                        call()
        finally:
            for client in clients:
                client.close()


@pytest.mark.redis
def test_a_redis_database_that_is_not_there(redis_of_many: RedisServer) -> None:
    """The number is above those of the server."""
    assert 'db 2000000000: DB index is out of range' in error_of(redis_of_many.url(2_000_000_000))


@pytest.mark.postgres
@pytest.mark.parametrize('may_use', [True, False])
@pytest.mark.parametrize('name', ['plain_{}', '"Of ""us""_{}"'])
def test_a_user_who_may_not_make_tables(newest_postgres: PostgresServer, name: str, may_use: bool) -> None:
    """The statement that gives the right is in the message, to be run as it is; also where the user may not use the schema."""
    schema = name.format(uuid.uuid4().hex)
    newest_postgres.arrange(f'CREATE SCHEMA {schema}')
    newest_postgres.arrange(
        'DO $$ BEGIN CREATE ROLE "Poor one" LOGIN PASSWORD \'x\'; EXCEPTION WHEN duplicate_object THEN END $$'
    )
    if may_use:
        newest_postgres.arrange(f'GRANT USAGE ON SCHEMA {schema} TO "Poor one"')
    path = quote(f'-csearch_path="$user",absent,{schema}'.replace(' ', '\\ '))
    url = f'postgresql://Poor%20one:x@127.0.0.1:{newest_postgres.port}/postgres?options={path}'
    line = error_of(url)
    grant = line.partition(' run ')[2]
    assert grant == f'GRANT USAGE, CREATE ON SCHEMA {schema} TO "Poor one";'
    newest_postgres.arrange(grant)
    with closing(plugins.connect(url, BackendOptions())) as backend:
        assert backend.open(SETTINGS, create=True).settings == SETTINGS


@pytest.mark.postgres
@pytest.mark.parametrize(
    ('login', 'database', 'words'),
    [
        ('postgres:secret', 'postgres', 'password authentication failed'),
        ('nobody:secret', 'postgres', 'password authentication failed'),
        (None, 'no_such', 'database "no_such" does not exist'),
    ],
)
def test_a_login_that_postgresql_refuses(newest_postgres: PostgresServer, login: str | None, database: str, words: str) -> None:
    """A wrong password, an unknown user, a database that is not there."""
    known = newest_postgres.url().partition('://')[2].rpartition('@')[0]
    line = error_of(f'postgresql://{login or known}@127.0.0.1:{newest_postgres.port}/{database}')
    assert words in line


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.etcd
@pytest.mark.parametrize('scheme', ['postgresql', 'redis', 'etcd'])
def test_a_server_that_never_answers_is_away(scheme: str) -> None:
    """A call that has taken all of its time leaves none to find out what is at the address: that is an outage."""
    with socket.create_server(('127.0.0.1', 0)) as silent:
        url = f'{scheme}://127.0.0.1:{silent.getsockname()[1]}'
        with (
            closing(plugins.connect(url, BackendOptions(op_timeout_sec=0.3))) as backend,
            pytest.raises(BackendUnavailable),
        ):
            backend.open(SETTINGS, create=True)
