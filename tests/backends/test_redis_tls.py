"""``rediss://``: the same over TLS, through a front that speaks it (not every build of the servers does)."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from tests.backends.tls import TlsFront
from tests.support.servers import RedisServer, SentinelServer
from tests.support.waiting import eventually

from jobsync.backend import BackendOptions, NodeRef
from jobsync.backends.redis.errors import translate
from jobsync.backends.redis.plugin import connect
from jobsync.backends.redis.url import server_of
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = pytest.mark.redis


@pytest.fixture(params=[False, True], ids=['any client', 'known clients'])
def front(request: pytest.FixtureRequest, certificates: Path, forgetful_redis_server: RedisServer) -> Iterator[TlsFront]:
    """Before an empty server."""
    forgetful_redis_server.ask('FLUSHALL')
    front = TlsFront(certificates, forgetful_redis_server.port, knows_clients=request.param)
    yield front
    front.close()


def url(front: TlsFront, host: str, **options: object) -> str:
    """A URL of the front."""
    query = '&'.join(f'{name}={value}' for name, value in options.items())
    return f'rediss://:{quote(RedisServer.password, safe="")}@{host}:{front.port}/0?{query}'


def test_everything_goes_through_it(front: TlsFront, certificates: Path) -> None:
    """A node registers, beats and hears of changes, on connections that are all encrypted."""
    client = {'ssl_certfile': certificates / 'client.pem', 'ssl_keyfile': certificates / 'client.key'}
    with closing(connect(url(front, '127.0.0.1', ssl_ca_certs=certificates / 'ca.pem', **client), BackendOptions())) as backend:
        namespace = Namespace(backend)
        ref = namespace.join('a')
        assert namespace.beat(ref).heartbeat == 1
        assert backend.wait(0, 60.0) > 0
    assert front.served >= 2


def test_another_working_directory(front: TlsFront, certificates: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative paths are those of the directory in which the backend was made: each connection reads the files anew."""
    monkeypatch.chdir(certificates)
    files = {'ssl_ca_certs': 'ca.pem', 'ssl_certfile': './client.pem', 'ssl_keyfile': 'client.key'}
    with closing(connect(url(front, '127.0.0.1', **files), BackendOptions())) as backend:
        monkeypatch.chdir(tmp_path)
        namespace = Namespace(backend)
        assert namespace.beat(namespace.join('a')).heartbeat == 1


def test_a_server_that_cannot_prove_who_it_is(front: TlsFront, certificates: Path) -> None:
    """Another authority, or another name than the certificate's, is as good as away."""
    for host, authority in (('127.0.0.1', 'other'), ('localhost', 'ca')):
        address = url(front, host, ssl_ca_certs=certificates / f'{authority}.pem')
        backend = connect(address, BackendOptions(op_timeout_sec=2.0))
        with closing(backend), pytest.raises(BackendUnavailable):
            backend.open(SETTINGS, create=True)


@pytest.mark.parametrize('of', ['rediss://h', 'rediss+sentinel://h/service'])
def test_names_are_checked(of: str) -> None:
    """Host names are compared by default, at every version of redis-py and of a sentinel too, unless the URL says otherwise."""

    def checks(url: str) -> set[bool]:
        server = server_of(url)
        told = [server.parameters] + ([server.sentinels.parameters] if server.sentinels else [])
        connections: list[Any] = [server.connection_class(**parameters) for parameters in told]
        return {connection.check_hostname for connection in connections}

    assert checks(of) == checks(f'{of}?ssl_ca_certs=ca.pem') == {True}
    assert checks(f'{of}?ssl_check_hostname=no') == {False}
    server = server_of(f'{of}?ssl_cert_reqs=none')
    assert not server.parameters.get('ssl_check_hostname')


def test_a_sentinel_of_another_name(certificates: Path, forgetful_redis_server: RedisServer) -> None:
    """A sentinel whose certificate is for another name is asked for nothing."""
    front = TlsFront(certificates, forgetful_redis_server.port, knows_clients=False)
    address = f'rediss+sentinel://localhost:{front.port}/service?ssl_ca_certs={certificates / "ca.pem"}'
    with closing(front), closing(connect(address, BackendOptions(op_timeout_sec=2.0))) as backend:
        with pytest.raises(BackendUnavailable):
            backend.open(SETTINGS, create=True)
        assert front.served == 0


@pytest.mark.parametrize('speaks_tls', ['sentinel', 'master'])
@pytest.mark.parametrize('scheme', ['redis', 'rediss'])
def test_tls_for_sentinels_or_for_servers_alone(
    certificates: Path, forgetful_redis_server: RedisServer, scheme: str, speaks_tls: str
) -> None:
    """Neither scheme fits, so no error may advise the other one: each says that the scheme is for sentinels and servers."""
    with closing(SentinelServer(forgetful_redis_server)) as sentinel:
        target = sentinel if speaks_tls == 'sentinel' else forgetful_redis_server
        front = TlsFront(certificates, target.port, knows_clients=False)
        port = front.port if speaks_tls == 'sentinel' else sentinel.port
        if speaks_tls == 'master':
            sentinel.ask('SENTINEL', 'REMOVE', sentinel.service)
            sentinel.ask('SENTINEL', 'MONITOR', sentinel.service, '127.0.0.1', str(front.port), '1')
        address = sentinel.url(query=f'ssl_ca_certs={certificates / "ca.pem"}' if scheme == 'rediss' else '')
        address = address.replace(f':{sentinel.port}/', f':{port}/').replace('redis+', f'{scheme}+')
        with (
            closing(front),
            closing(connect(address, BackendOptions(op_timeout_sec=2.0))) as backend,
            pytest.raises(BackendUnavailable, match=r'with rediss\+sentinel:// .* must all speak TLS'),
        ):
            backend.open(SETTINGS, create=True)


def test_a_client_that_nobody_knows(certificates: Path, forgetful_redis_server: RedisServer) -> None:
    """Where the server wants a certificate, who has none is told that it cannot be reached."""
    front = TlsFront(certificates, forgetful_redis_server.port, knows_clients=True)
    address = url(front, '127.0.0.1', ssl_ca_certs=certificates / 'ca.pem')
    with closing(front), closing(connect(address, BackendOptions(op_timeout_sec=2.0))) as backend:
        with pytest.raises(BackendUnavailable, match='ssl_certfile'):
            backend.open(SETTINGS, create=True)
        assert front.served == 0


@pytest.mark.parametrize('said', ['tlsv1 alert unknown ca', 'tlsv13 alert certificate required', 'sslv3 alert bad certificate'])
@pytest.mark.parametrize('step', ['Error 1 connecting to h:6379. ', 'Error while reading from h:6379 : '])
def test_a_certificate_that_a_server_refuses(said: str, step: str) -> None:
    """The error is about the certificate, whenever it comes, and about nothing else."""
    error = redis.ConnectionError(f'{step}[SSL: CODE] {said} (_ssl.c:1)')
    shown = str(translate(error, server_of('rediss://h')))
    assert shown.endswith('give it as ssl_certfile, and its key as ssl_keyfile, in the URL')


@pytest.mark.parametrize('options', ['ssl_ca_certs=no.pem', 'ssl_certfile=no.pem&ssl_keyfile=no.key', 'ssl_ca_path=no.pem'])
@pytest.mark.parametrize('of', ['rediss://h', 'rediss+sentinel://h/service'])
def test_a_file_that_is_not_there(of: str, options: str) -> None:
    """It is named at once. Python's error for each connection would name none, and be taken for an outage."""
    with pytest.raises(ConfigError, match=r"ssl_.*='/.*no\.pem' in the Redis URL: No such file or directory"):
        connect(f'{of}?{options}', BackendOptions())


def test_a_key_without_its_certificate() -> None:
    """It would be of no use, and redis-py raises an error of Python's for it at each connection."""
    with pytest.raises(ConfigError, match='as ssl_certfile'):
        connect('rediss://h/0?ssl_keyfile=client.key', BackendOptions())


@pytest.mark.skipif(sys.platform != 'linux', reason='others have 127.0.0.1 alone')
def test_a_name_that_leads_elsewhere_over_tls(
    certificates: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former master is known by the certificate of the name: one that runs on keeps a node from the promoted one."""
    find, leads_to = socket.getaddrinfo, ['127.0.0.2']

    def find_one(host: str, *rest: Any, **options: Any) -> list[Any]:
        return list(find(leads_to[0] if host == 'etcd.example' else host, *rest, **options))

    monkeypatch.setattr(socket, 'getaddrinfo', find_one)
    with closing(RedisServer(redis_server.program)) as former, closing(RedisServer(redis_server.program)) as promoted:
        front = TlsFront(certificates, former.port, knows_clients=False, address=('127.0.0.2', 0))
        there = TlsFront(certificates, promoted.port, knows_clients=False, address=('127.0.0.1', front.port))
        address = url(front, 'etcd.example', ssl_ca_certs=certificates / 'ca.pem')
        with closing(front), closing(there), closing(connect(address, BackendOptions())) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            leads_to[0] = '127.0.0.1'
            former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
            with pytest.raises(ConfigError, match=f'127.0.0.1:{front.port} and 127.0.0.2:{front.port} both accept writes'):
                eventually(lambda: beats(namespace, ref))  # the front may not have closed the connection of before yet
            former.kill()
            with pytest.raises(SchemaMismatch):
                namespace.beat(ref)


def beats(namespace: Namespace, ref: NodeRef) -> bool:
    """Whether a heartbeat is answered."""
    try:
        namespace.beat(ref)
    except BackendUnavailable:
        return False
    return True
