"""Connections to a Redis server that die without a word: calls end in about the time for one operation, and hints come again."""

from __future__ import annotations

import datetime as dt
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from tests.backends.proxy import SilentProxy
from tests.backends.redis_calls import Waiting
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import NodeRef, Settings
from jobsync.backend import Backend, BackendOptions, Changes
from jobsync.backends.redis.connection import Deadline, keepalive_options
from jobsync.backends.redis.plugin import connect
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace

pytestmark = pytest.mark.redis

TOKENS = 1_000_000
FOREVER = 100_000.0
"""A test that needs the whole time of a bulk call does not end."""


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def harness(server: RedisServer) -> Iterator[RedisHarness]:
    harness = RedisHarness(server)
    yield harness
    harness.close()


@pytest.fixture
def proxy(harness: RedisHarness, server: RedisServer) -> Iterator[SilentProxy]:
    proxy = SilentProxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def backend(proxy: SilentProxy, server: RedisServer) -> Iterator[Backend]:
    """A handle through the proxy."""
    url = server.url().replace(f':{server.port}', f':{proxy.port}')
    with closing(connect(url, BackendOptions(op_timeout_sec=0.5, bulk_timeout_sec=FOREVER))) as backend:
        yield backend


def ended(call: Callable[[], object]) -> object:
    """What a call returns or raises, if it ends."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(call())
        except BackendUnavailable as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(100)
    (outcome,) = found
    return outcome


@pytest.mark.parametrize(
    ('for_all', 'after_bytes'),
    [
        pytest.param(False, 0, id='this connection at first', marks=pytest.mark.full),
        pytest.param(False, 100_000, id='this connection half way'),
        pytest.param(True, 0, id='every connection at first'),
        pytest.param(True, 100_000, id='every connection half way', marks=pytest.mark.full),
    ],
)
def test_a_bulk_reading(harness: RedisHarness, backend: Backend, proxy: SilentProxy, for_all: bool, after_bytes: int) -> None:
    """A reading whose connection goes silent ends long before its own time is over, and succeeds on another connection."""
    own = Namespace(harness.connect(), Settings(TOKENS, 'xxh3'))
    own.commit(own.leader(), TokenGroup(range(TOKENS), 'a'))
    eventually(lambda: succeeds(backend.snapshot))
    proxy.fall_silent(for_all=for_all, after_bytes=after_bytes)
    assert isinstance(ended(backend.read_assignment), BackendUnavailable)
    proxy.speak()
    found: list[Changes] = []
    eventually(lambda: succeeds(lambda: found.append(backend.read_assignment())))
    (group,) = found[0].groups
    assert len(group.tokens) == TOKENS


@pytest.mark.parametrize('limit', ['50', '5000'], ids=['says that it is busy', 'says nothing'])
def test_a_server_at_work(harness: RedisHarness, server: RedisServer, limit: str) -> None:
    """A server that is silent because the call takes long is waited for."""
    # On a starved machine even the reading of so large a request takes long, and then the server is not at work yet.
    with closing(connect(server.url(), BackendOptions(op_timeout_sec=3.0, bulk_timeout_sec=FOREVER))) as backend:
        namespace = Namespace(backend)
        leader = namespace.leader()
        server.ask('CONFIG', 'SET', 'lua-time-limit', limit)
        # And a server that is starved itself may not say for six seconds that it is busy, so that it is taken for dead.
        eventually(lambda: _is_waited_for(backend, leader, server))
    server.ask('CONFIG', 'SET', 'lua-time-limit', '5000')
    assert server.ask('ZCARD', 'jobsync:{sync_}:claims') == '300000'


def _is_waited_for(backend: Backend, leader: NodeRef, server: RedisServer) -> bool:
    """Whether a call that keeps the server at work is waited for. If not, it is over before this returns."""
    try:
        backend.append_claims(leader, [f'item {number}' for number in range(300_000)], dt.date(2026, 3, 2))
    except BackendUnavailable:
        eventually(lambda: _answers(server))
        return False
    return True


def _answers(server: RedisServer) -> bool:
    try:
        server.ask('PING')
    except RuntimeError:  # busy
        return False
    return True


def test_a_server_that_holds_calls_back(harness: RedisHarness, server: RedisServer) -> None:
    """The error of a call to a server that is paused says what may pause it, and how that ends."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    options = BackendOptions(op_timeout_sec=0.3, bulk_timeout_sec=FOREVER)
    with closing(connect(server.url(), options)) as backend, server.session() as ask:
        eventually(lambda: succeeds(backend.snapshot))
        ask('CLIENT', 'PAUSE', '600000', 'WRITE')
        try:
            # A slow machine may not connect in time, which is another error.
            eventually(lambda: 'CLIENT UNPAUSE' in str(ended(lambda: backend.set_weight(leader, 2.0))))
            eventually(lambda: 'CLIENT UNPAUSE' in str(ended(backend.snapshot)))
            eventually(lambda: 'CLIENT UNPAUSE' in str(ended(backend.read_assignment)))
        finally:
            ask('CLIENT', 'UNPAUSE')


def test_a_listener(harness: RedisHarness, backend: Backend, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose connection goes silent finds out, long before it would read the revision, and hears on another one."""
    monkeypatch.setattr('jobsync.backends._common.listening.SILENT_SEC', FOREVER)
    other = Namespace(harness.connect())
    other.join('a')
    revision = other.revision.number
    assert backend.wait(0, 10.0) == revision
    proxy.fall_silent(for_all=False)
    proxy.speak()
    waiting = Waiting(backend, revision)
    other.join('b')
    assert waiting.answer() == revision + 1


def test_a_listener_in_peace(harness: RedisHarness, backend: Backend, server: RedisServer) -> None:
    """A listener that hears nothing for long, because nothing happens, keeps its connection."""
    namespace = Namespace(backend)
    namespace.join('a')
    revision = namespace.revision.number
    assert backend.wait(0, 10.0) == revision

    def listeners() -> list[str]:
        return [line.split()[0] for line in server.ask('CLIENT', 'LIST', 'TYPE', 'pubsub').split('\n') if line]

    before = listeners()
    assert len(before) == 1
    for _ in range(5):
        assert backend.wait(revision, 0.4) == revision
    assert backend.wait(revision, 2.0) == revision
    assert listeners() == before


def test_a_late_answer_is_of_a_server(server: RedisServer) -> None:
    """The error of a call whose time is over names the server, for a person who sees only this error."""
    with (
        closing(connect(server.url(), BackendOptions())) as backend,
        pytest.raises(BackendUnavailable, match=f'^redis 127.0.0.1:{server.port} db 0: no answer from the server within'),
    ):
        backend._namespace.pool.command(Deadline(0.0), 'PING')  # type: ignore[attr-defined]


def test_a_call_that_outlasts_its_backend(server: RedisServer) -> None:
    """It closes its connection itself, which a program would have open otherwise for as long as it has the backend."""
    with closing(connect(server.url(), BackendOptions())) as backend:
        pool = backend._namespace.pool  # type: ignore[attr-defined]
        pool._with_connection(Deadline(600.0), lambda _: backend.close())
        assert not pool._idle


def test_a_server_that_never_answers_is_named() -> None:
    """The first error of a node says which server took all of the time."""
    with socket.create_server(('127.0.0.1', 0)) as silent:
        port = silent.getsockname()[1]
        with (
            closing(connect(f'redis://127.0.0.1:{port}', BackendOptions(op_timeout_sec=0.3))) as backend,
            pytest.raises(BackendUnavailable, match=f'^redis 127.0.0.1:{port} db 0: '),
        ):
            backend.open(Settings(9, 'xxh3'), create=True)


def test_a_server_that_hangs_before_a_bulk_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection to a server that accepts it and says nothing is given up long before the time of the call is over."""
    monkeypatch.setattr('jobsync.backends.redis.pool.BUSY_SEC', 0.1)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        options = BackendOptions(op_timeout_sec=0.1, bulk_timeout_sec=FOREVER)
        with closing(connect(f'redis://127.0.0.1:{silent.getsockname()[1]}', options)) as backend:
            assert isinstance(ended(backend.read_assignment), BackendUnavailable)


def test_a_server_that_is_slow_with_each_answer() -> None:
    """The time of a call is for all that its new connection asks, not for each answer anew."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = slow.accept()
        with suppress(OSError), connection, connection.makefile('rb') as stream:
            while line := stream.readline():
                words = [stream.readline() and stream.readline() for _ in range(int(line[1:]))]
                heard.append(b' '.join(map(bytes.strip, words)))
                time.sleep(0.2)
                connection.sendall(b'+OK\r\n')

    with socket.create_server(('127.0.0.1', 0)) as slow:
        url = f'redis://:password@127.0.0.1:{slow.getsockname()[1]}/1'
        threading.Thread(target=serve, daemon=True).start()
        with closing(connect(url, BackendOptions(op_timeout_sec=0.25))) as backend, pytest.raises(BackendUnavailable):
            backend.snapshot()
        assert len(heard) <= 2, heard


@pytest.mark.skipif(sys.platform != 'linux', reason='others refuse what a full queue does not take')
def test_a_host_with_two_addresses(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that swallows everything leaves time for the other: such is a host's IPv6 where the network lets only IPv4 through."""
    find = socket.getaddrinfo

    def find_two(host: str, *rest: object, **options: object) -> list[object]:
        hosts = ('127.0.0.2', '127.0.0.1') if host == 'two.example' else (host,)
        return [found for each in hosts for found in find(each, *rest, **options)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, 'getaddrinfo', find_two)
    with ExitStack() as stack:
        swallowing, *queue = (stack.enter_context(socket.socket()) for _ in range(4))
        swallowing.bind(('127.0.0.2', server.port))
        swallowing.listen(0)
        for waiting in queue:  # more than it takes
            waiting.setblocking(False)
            waiting.connect_ex(swallowing.getsockname())
        url = server.url().replace('127.0.0.1', 'two.example')
        backend = stack.enter_context(closing(connect(url, BackendOptions(op_timeout_sec=2.0))))
        eventually(lambda: succeeds(lambda: backend.open(Settings(9, 'xxh3'), create=True)))


def succeeds(call: Callable[[], object]) -> bool:
    """Make a call, and return whether the store was there."""
    with suppress(BackendUnavailable):
        call()
        return True
    return False


def test_the_system_watches_connections(server: RedisServer) -> None:
    """The options are what this system knows, and a connection has them."""
    options = keepalive_options(5.0)
    assert options[socket.TCP_KEEPCNT] == 2
    if hasattr(socket, 'TCP_USER_TIMEOUT'):
        assert options[socket.TCP_USER_TIMEOUT] == 5000
    assert all(value >= 1 for value in keepalive_options(0.1).values())
    with closing(connect(server.url(), BackendOptions(op_timeout_sec=5.0))) as backend:
        Namespace(backend)
        (connection,) = backend._namespace.pool._idle  # type: ignore[attr-defined]
        assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for option, value in options.items():
            assert connection._sock.getsockopt(socket.IPPROTO_TCP, option) == value


def test_a_connection_that_is_opened_late_in_a_call(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept for later calls, so the system gives its peer as long as that of any other one."""
    monkeypatch.setattr(Deadline, 'remaining', property(lambda self: min(1.0, self._at - time.monotonic())))
    with closing(connect(server.url(), BackendOptions(op_timeout_sec=5.0))) as backend:
        Namespace(backend)
        (connection,) = backend._namespace.pool._idle  # type: ignore[attr-defined]
        for option, value in keepalive_options(5.0).items():
            assert connection._sock.getsockopt(socket.IPPROTO_TCP, option) == value
