"""What a Redis server may answer instead of doing what it is asked: which error it becomes, and that running nodes outlast it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import ClassVar

import pytest
import redis
from redis._parsers.base import BaseParser
from tests.backends.redis_jobs import Cluster
from tests.backends.test_redis_rights import RULES, user
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import RedisServer, free_port
from tests.support.timings import FAST
from tests.support.waiting import eventually

from jobsync._core.records import NodeRef, Revision
from jobsync.backend import Backend, BackendOptions, HistoryKind
from jobsync.backends.redis.errors import OUTAGES, RIGHTS, translate
from jobsync.backends.redis.plugin import connect
from jobsync.backends.redis.url import server_of
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.namespace import DAY, SETTINGS, Namespace

pytestmark = pytest.mark.redis


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def harness(server: RedisServer) -> Iterator[RedisHarness]:
    harness = RedisHarness(server)
    yield harness
    harness.close()


def cut(server: RedisServer) -> None:
    """Close the connections of all clients: who has authenticated already would not be asked again."""
    for kind in ('normal', 'pubsub'):
        server.ask('CLIENT', 'KILL', 'TYPE', kind, 'SKIPME', 'yes')


# States of a server, each for the time of a block.


@contextmanager
def another_password(server: RedisServer) -> Iterator[None]:
    """The password of all is another."""
    server.ask('CONFIG', 'SET', 'requirepass', 'other')
    server.password, password = 'other', server.password
    cut(server)
    try:
        yield
    finally:
        server.ask('CONFIG', 'SET', 'requirepass', password)
        server.password = password


@contextmanager
def no_rights(server: RedisServer, *rules: str) -> Iterator[None]:
    """The user of the nodes has fewer rights."""
    server.ask('ACL', 'SETUSER', 'node', *rules)
    try:
        yield
    finally:
        user(server, *RULES)


@contextmanager
def user_off(server: RedisServer) -> Iterator[None]:
    """The user of the nodes is switched off, and cut off."""
    with no_rights(server, 'off'):
        cut(server)
        yield


@contextmanager
def no_replicas(server: RedisServer) -> Iterator[None]:
    """The server wants replicas, and there are none."""
    server.ask('CONFIG', 'SET', 'min-replicas-to-write', '1')
    try:
        yield
    finally:
        server.ask('CONFIG', 'SET', 'min-replicas-to-write', '0')


@contextmanager
def no_disk(server: RedisServer) -> Iterator[None]:
    """The server cannot save what it is configured to save."""
    obstacle = server.folder / 'dump.rdb'
    obstacle.unlink(missing_ok=True)  # of a server that saved as it ended
    obstacle.mkdir()
    server.ask('CONFIG', 'SET', 'save', '3600 1')
    server.ask('BGSAVE')
    eventually(lambda: 'rdb_last_bgsave_status:err' in server.ask('INFO', 'persistence'))
    try:
        yield
    finally:
        server.ask('CONFIG', 'SET', 'save', '')
        obstacle.rmdir()
        server.ask('SAVE')
        obstacle.unlink()


@contextmanager
def no_memory(server: RedisServer) -> Iterator[None]:
    """The server has no memory left."""
    server.ask('CONFIG', 'SET', 'maxmemory', '1')
    try:
        yield
    finally:
        server.ask('CONFIG', 'SET', 'maxmemory', '0')


@contextmanager
def a_replica(server: RedisServer) -> Iterator[None]:
    """The server follows another, which is not there."""
    server.ask('REPLICAOF', '127.0.0.1', str(free_port()))
    try:
        yield
    finally:
        server.ask('REPLICAOF', 'NO', 'ONE')


@contextmanager
def a_stale_replica(server: RedisServer) -> Iterator[None]:
    """The server follows another, which is not there, and tells nothing until it is."""
    server.ask('CONFIG', 'SET', 'replica-serve-stale-data', 'no')
    try:
        with a_replica(server):
            yield
    finally:
        server.ask('CONFIG', 'SET', 'replica-serve-stale-data', 'yes')


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """Somebody's script does not end."""
    server.ask('CONFIG', 'SET', 'lua-time-limit', '50')

    def run() -> None:
        with contextlib.suppress(RuntimeError, OSError):
            server.ask('EVAL', 'while true do end', '0')

    def is_busy() -> bool:
        try:
            server.ask('PING')
        except RuntimeError as error:
            return 'BUSY' in str(error)
        return False

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(is_busy)
        yield
    finally:
        server.ask('SCRIPT', 'KILL')
        thread.join(100)
        server.ask('CONFIG', 'SET', 'lua-time-limit', '5000')


State = Callable[[RedisServer], AbstractContextManager[None]]

REFUSING_WRITES: dict[str, State] = {'NOREPLICAS': no_replicas, 'MISCONF': no_disk}
"""States in which a server answers who only reads."""
REFUSING_ALL: dict[str, State] = {'BUSY': busy}
ELSEWHERE: dict[str, State] = {'READONLY': a_replica, 'MASTERDOWN': a_stale_replica}
"""States that end a timeline."""


UNASKED = (
    'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?'
)


def answered(text: str) -> Exception:
    """The error that redis-py makes of an answer."""
    error: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error


class TestErrors:
    """Which error each refusal becomes."""

    SERVER = server_of('redis://h')

    @pytest.mark.parametrize('code', RIGHTS)
    def test_of_the_one_who_asks(self, code: str) -> None:
        """A matter of configuration, with what to do."""
        error = translate(answered(f'{code} no'), self.SERVER)
        assert isinstance(error, ConfigError)
        assert RIGHTS['WRONGPASS' if code == 'NOAUTH' else code] in str(error)

    @pytest.mark.parametrize('code', OUTAGES)
    @pytest.mark.parametrize('text', ['{} no', 'ERR Error running script (call to f_1): @user_script:1: -{} no'])
    def test_of_everybody(self, code: str, text: str) -> None:
        """An outage, with what it means, also as older servers word it."""
        error = translate(answered(text.format(code)), self.SERVER)
        assert isinstance(error, BackendUnavailable)
        assert f'{code}: {OUTAGES[code]}' in str(error)

    @pytest.mark.parametrize(
        ('text', 'kind'),
        [
            ('WRONGTYPE Operation against a key', SchemaMismatch),
            ('ASK 1 127.0.0.1:1', BackendUnavailable),
            ('ERR max number of clients reached', BackendUnavailable),
            (UNASKED, ConfigError),
            ('UNKILLABLE The busy script was not running in read-only mode.', BackendUnavailable),
            ('EXECABORT x', BackendUnavailable),
            ('something new', BackendUnavailable),
            ("ERR unknown command 'INFO', with args beginning with: 'server' ", ConfigError),
            ('ERR unknown command `INFO`, with args beginning with: `server`, ', ConfigError),
            ('ERR Unknown Redis command called from Lua script', ConfigError),
        ],
    )  # fmt: skip
    def test_of_other_kinds(self, text: str, kind: type[JobsyncError]) -> None:
        """Other refusals, those that are not known too."""
        assert type(translate(answered(text), self.SERVER)) is kind

    def test_a_value_that_is_larger_than_the_server_takes(self) -> None:
        """The error names the setting that limits them."""
        error = translate(answered('ERR Protocol error: invalid bulk length'), self.SERVER)
        assert isinstance(error, BackendUnavailable)
        assert 'raise its proto-max-bulk-len' in str(error)

    def test_an_answer_that_fills_a_buffer(self, harness: RedisHarness) -> None:
        """The server ends the connection without a word: the error names the settings that limit what it keeps for a client."""
        namespace = Namespace(harness.connect())
        namespace.backend.append_audits('a', [f'{number}-{"x" * 1000}' for number in range(2000)], DAY)
        harness.server.ask('CONFIG', 'SET', 'client-output-buffer-limit', 'normal 100kb 0 0')
        try:
            with pytest.raises(BackendUnavailable, match=r'if this goes on, .* client-output-buffer-limit or'):
                namespace.backend.history(HistoryKind.AUDIT)
        finally:
            harness.server.ask('CONFIG', 'SET', 'client-output-buffer-limit', 'normal 0 0 0')
        assert len(namespace.backend.history(HistoryKind.AUDIT)) == 2000

    def test_a_connection_that_ends_as_a_command_is_sent(self) -> None:
        """It names the same settings."""
        error = translate(redis.ConnectionError('Error 104 while writing to socket. Connection reset by peer.'), self.SERVER)
        assert isinstance(error, BackendUnavailable)
        assert 'client-query-buffer-limit' in str(error)


class TestStart:
    """A node that meets a refusal at its first start hears of it at once."""

    @pytest.mark.parametrize('code', [*REFUSING_WRITES, *REFUSING_ALL, *ELSEWHERE, 'OOM'])
    def test_a_state_of_the_server(self, harness: RedisHarness, server: RedisServer, code: str) -> None:
        """An outage that names the state and what it means, and ends with it."""
        states: dict[str, State] = {**REFUSING_WRITES, **REFUSING_ALL, **ELSEWHERE, 'OOM': no_memory}
        with closing(connect(server.url(), BackendOptions())) as backend:
            with states[code](server), pytest.raises(BackendUnavailable, match=f'{code}: {OUTAGES[code]}'):
                backend.open(SETTINGS, create=True)
            assert server.ask('EXISTS', 'jobsync:{sync_}:state') == '0'
            backend.open(SETTINGS, create=True)

    @pytest.mark.parametrize('command', ['EVALSHA', 'INFO', 'HGETALL'])
    def test_a_command_that_the_server_does_not_have(self, server: RedisServer, command: str) -> None:
        """A matter of configuration that names the command, whether jobsync or one of its scripts gives it."""
        with (
            closing(RedisServer(server.program, options=['--rename-command', command, ''])) as without,
            closing(connect(without.url(), BackendOptions())) as backend,
            pytest.raises(ConfigError, match=f'does not have the command {command} that jobsync needs'),
        ):
            backend.open(SETTINGS, create=True)

    def test_a_server_without_announcements(self, server: RedisServer) -> None:
        """Nodes poll, as a user who may not subscribe does."""
        with (
            closing(RedisServer(server.program, options=['--rename-command', 'SUBSCRIBE', ''])) as without,
            closing(connect(without.url(), BackendOptions())) as backend,
        ):
            namespace = Namespace(backend)
            namespace.join('a')
            revision = namespace.snapshot().revision.number
            assert backend.wait(revision - 1, 10.0) == revision

    def test_a_proxy_without_announcements(self, harness: RedisHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """It refuses to subscribe in words of its own. Nodes poll there too."""

        def refuse(*_: object) -> None:
            raise redis.ResponseError("command 'SUBSCRIBE' is not allowed")

        monkeypatch.setattr('jobsync.backends.redis.listener.exchange', refuse)
        namespace = Namespace(harness.connect())
        namespace.join('a')
        revision = namespace.snapshot().revision.number
        assert namespace.backend.wait(revision - 1, 10.0) == revision

    def test_a_server_that_starts(self, server: RedisServer) -> None:
        """A server that has not read all of its data yet is away, also for a handle that is opened then and wants it durable."""
        with (
            closing(RedisServer(server.program)) as loading,
            closing(connect(loading.url(), BackendOptions())) as backend,
            closing(connect(loading.url(query='durable=yes'), BackendOptions('durable_'))) as durable,
        ):
            backend.open(SETTINGS, create=True)
            loading.ask('EVAL', "for i = 1, 20000 do redis.call('SET', 'k' .. i, 'x') end", '0')
            loading._options = ('--key-load-delay', '200')
            calls: list[tuple[list[str], Callable[[], object]]] = [([], backend.snapshot), ([], lambda: Namespace(durable))]

            def is_open() -> bool:
                failed = False
                for seen, call in calls:
                    try:
                        call()
                    except BackendUnavailable as error:
                        seen.append(str(error))
                        failed = True
                return not failed

            def is_met_while_it_starts() -> bool:
                loading.kill()
                starting = threading.Thread(target=loading.start)
                starting.start()
                eventually(is_open)
                starting.join(100)
                return all(any('LOADING: this server is starting' in text for text in seen) for seen, _ in calls)

            # It reads its data for four seconds. On a starved machine this process may not run for as long.
            assert any(is_met_while_it_starts() for _ in range(10)), calls

    def test_a_cluster_without_the_slot(self, server: RedisServer) -> None:
        """A node of a cluster that is not whole is away."""
        options = ['--cluster-enabled', 'yes', '--cluster-port', str(free_port())]
        with (
            closing(RedisServer(server.program, durable=False, options=options)) as node,
            closing(connect(node.url(), BackendOptions())) as backend,
            pytest.raises(BackendUnavailable, match='CLUSTERDOWN: the cluster has no node'),
        ):
            backend.open(SETTINGS, create=True)

    def test_a_slot_that_moves(self, server: RedisServer) -> None:
        """While a cluster moves the slot to another node some calls are refused; afterwards all is as before."""
        cluster = ['--cluster-enabled', 'yes', '--cluster-port']
        with (
            closing(RedisServer(server.program, durable=False, options=[*cluster, str(free_port())])) as one,
            closing(RedisServer(server.program, durable=False, options=[*cluster, str(port := free_port())])) as two,
            closing(connect(one.url(), BackendOptions())) as backend,
        ):
            one.ask('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
            one.ask('CLUSTER', 'MEET', '127.0.0.1', str(two.port), str(port))
            other = two.ask('CLUSTER', 'MYID')
            eventually(lambda: other in one.ask('CLUSTER', 'NODES') and 'cluster_state:ok' in one.ask('CLUSTER', 'INFO'))
            namespace = Namespace(backend)
            ref = namespace.join('a')
            slot = one.ask('CLUSTER', 'KEYSLOT', 'jobsync:{sync_}:state')
            one.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', other)
            with pytest.raises(BackendUnavailable, match=f'TRYAGAIN: {OUTAGES["TRYAGAIN"]}'):
                backend.read_assignment()
            one.ask('CLUSTER', 'SETSLOT', slot, 'STABLE')
            backend.read_assignment()
            assert namespace.beat(ref).store == namespace.timeline.store


def beats_again(backend: Backend, names: str) -> Callable[[], bool]:
    """Whether every node has beaten since now."""
    before = beats(backend)

    def have_beaten() -> bool:
        now = beats(backend)
        return all(now[name][1] > before[name][1] for name in names)

    return have_beaten


def beats(backend: Backend) -> dict[str, tuple[str, int]]:
    """The beat of each node."""
    return {node.name: node.beat for node in backend.snapshot().nodes}


def standing(backend: Backend) -> tuple[set[NodeRef], Revision]:
    """Which runs there are, and the version of what they own."""
    snapshot = backend.snapshot()
    return {node.ref for node in snapshot.nodes}, snapshot.version


class TestRunning:
    """Nodes at work outlast a refusal that is longer than their lease, and go on with the same tokens."""

    STATES: ClassVar[dict[str, State]] = {
        'MISCONF': no_disk,
        **REFUSING_ALL,
        'another password': another_password,
        'no rights': lambda server: no_rights(server, '-@all'),
        'OOM': no_memory,
    }
    ALIKE: ClassVar[dict[str, State]] = {
        'NOREPLICAS': no_replicas,
        'the user is switched off': user_off,
        'no keys': lambda server: no_rights(server, 'resetkeys'),
        'no writes': lambda server: no_rights(server, '-hset'),
    }
    """Those that are for a node the same as one of the others."""

    @pytest.mark.parametrize('state', [*STATES, *(pytest.param(state, marks=pytest.mark.full) for state in ALIKE)])
    def test_for_longer_than_a_timeout(self, harness: RedisHarness, server: RedisServer, state: str) -> None:
        """They answer False meanwhile; afterwards the runs, the version and each owner are those from before."""
        url = server.url(query='durable=yes') if state == 'another password' else user(server, *RULES) + '?durable=yes'
        with Cluster(url, 'abc') as cluster, closing(connect(server.url(query='durable=yes'), BackendOptions())) as handle:
            eventually(lambda: cluster.is_shared_out)
            before, owners = standing(handle), cluster.owners()
            with {**self.STATES, **self.ALIKE}[state](server):
                began = time.monotonic()
                eventually(lambda: not any(cluster.owners().values()))
                eventually(lambda: time.monotonic() - began > 1.5 * FAST['heartbeat_timeout_sec'])
            eventually(lambda: cluster.is_shared_out)
            eventually(beats_again(handle, 'abc'))
            assert standing(handle) == before
            assert cluster.owners() == owners
            assert cluster.watch.clashes == []
