"""What only Redis has: its URL, rights, hash slots, restarts, lost announcements."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from unittest.mock import Mock, patch
from urllib.parse import quote

import attrs
import pytest
from click.testing import CliRunner
from tests.backends.handles import beat_and_wait, go_on_after_a_fork
from tests.backends.redis_calls import DAY, Waiting, everything
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import eventually

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import INITIAL, LockEdit, LockRequest, Member, Pin
from jobsync.backend import BackendOptions, HistoryKind
from jobsync.backends._common import listening
from jobsync.backends.redis import namespace as redis_namespace
from jobsync.backends.redis.assignment import RedisAssignment
from jobsync.backends.redis.backend import RedisBackend
from jobsync.backends.redis.connection import Deadline
from jobsync.backends.redis.layers import MOST_ENTRIES
from jobsync.backends.redis.plugin import connect
from jobsync.backends.redis.pool import RedisPool
from jobsync.backends.redis.script import script
from jobsync.backends.redis.server import check_server
from jobsync.backends.redis.url import server_of
from jobsync.cli.commands import cli
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace

pytestmark = pytest.mark.redis


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def harness(server: RedisServer) -> Iterator[RedisHarness]:
    harness = RedisHarness(server)
    yield harness
    harness.close()


def clients(server: RedisServer, name: str) -> int:
    """How many connections have a name."""
    return len(re.findall(rf'\bname={name}\b', server.ask('CLIENT', 'LIST')))


def is_whole(node: RedisServer) -> bool:
    """Whether a node of a cluster knows where all slots are."""
    return 'cluster_state:ok' in node.ask('CLUSTER', 'INFO')


@contextlib.contextmanager
def cluster_of_two(
    server: RedisServer, *, durable: tuple[bool, bool] = (False, False)
) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes of a cluster with half of the slots each."""
    cluster = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', '--cluster-port']
    ports = [str(free_port()) for _ in range(2)]
    with (
        closing(RedisServer(server.program, durable=durable[0], options=[*cluster, ports[0]])) as one,
        closing(RedisServer(server.program, durable=durable[1], options=[*cluster, ports[1]])) as two,
    ):
        one.ask('CLUSTER', 'ADDSLOTSRANGE', '0', '8191')
        two.ask('CLUSTER', 'ADDSLOTSRANGE', '8192', '16383')
        one.ask('CLUSTER', 'MEET', '127.0.0.1', str(two.port), ports[1])
        for node in (one, two):
            eventually(functools.partial(is_whole, node))
        yield one, two


def slot_of(node: RedisServer, namespace: str) -> int:
    """The slot of a cluster in which a namespace is."""
    return int(node.ask('CLUSTER', 'KEYSLOT', f'jobsync:{{{namespace}}}:state'))


def move_slot(slot: str, source: RedisServer, target: RedisServer) -> None:
    """Move a slot with its keys from one node of a cluster to another."""
    from_, to = source.ask('CLUSTER', 'MYID'), target.ask('CLUSTER', 'MYID')
    target.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from_)
    source.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to)
    keys = source.ask('CLUSTER', 'GETKEYSINSLOT', slot, '1000').split()
    source.ask('MIGRATE', '127.0.0.1', str(target.port), '', '0', '5000', 'AUTH', target.password, 'KEYS', *keys)
    for node in (target, source):
        node.ask('CLUSTER', 'SETSLOT', slot, 'NODE', to)


class TestUrl:
    """Which server a URL names, and that it tells no secret."""

    def test_a_password_of_any_characters(self, harness: RedisHarness, server: RedisServer) -> None:
        """It reaches the server as it is, over TCP and over a socket, and shows nowhere."""
        for url in (server.url(), server.url(socket_only=True)):
            with closing(connect(url, BackendOptions())) as backend:
                backend.open(SETTINGS, create=True)
                for shown in (repr(backend), str(backend), repr(vars(backend))):
                    assert server.password not in shown
                    assert quote(server.password, safe='') not in shown

    @pytest.mark.parametrize(
        'url',
        [
            'redis://u:sec#ret@h/0',
            'redis://u:12/secret@h/0',
            'redis://u:12?secret=1@h/0',
            'redis://u:secret@h:port/0',
            'redis://u:secret@h/zero',
            'redis://u:secret@h/-1',
            'redis://u:secret@[h/0',
            'redis://u:secret@h/0?ssl_nonsense=1',
            'redis://u:secret@h/0?db=x',
            'rediss://u:secret@h/0?ssl_cert_reqs=nonsense',
            'unix://u:secret@host/path',
            'unix://u:secret@',
            'redis+sentinel://u:secret@h1,h2',
            'redis+sentinel://u:secret@h1,,h2/name',
            'redis+sentinel://u:secret@h1:x/name',
        ],
    )
    def test_bad_urls_are_refused_without_their_secrets(self, url: str) -> None:
        """The message says how to write a URL, and quotes nothing of this one."""
        with pytest.raises(ConfigError, match='redis://user') as caught:
            connect(url, BackendOptions())
        assert 'sec' not in re.sub('secret', '', str(caught.value).partition('it is ')[0])
        assert '12' not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        ('query', 'told'),
        [
            ('retry_on_timeout=1', 'no others'),
            ('durable=maybe', 'must be yes or no'),
            ('x=1', 'no others'),
            ('client_name=a%20b', 'spaces'),
        ],
    )
    def test_unknown_options_are_refused(self, query: str, told: str) -> None:
        """An option that there is not, or a value that it does not have, is refused; what there is, is told."""
        with pytest.raises(ConfigError, match=told):
            connect(f'redis://h/0?{query}', BackendOptions())

    def test_what_is_not_said(self) -> None:
        """Host, port and database have their usual defaults, also those of sentinels; TLS options reach redis-py."""
        from jobsync.backends.redis.url import server_of

        assert str(server_of('redis://')) == 'redis localhost:6379 db 0'
        assert str(server_of('redis://h:1/2?client_name=x')) == 'redis h:1 db 2'
        assert str(server_of('unix:///a/b%20c?db=3')) == 'redis /a/b c db 3'
        server = server_of('rediss+sentinel://u:p@h1,[::1]:7/my%20name/4?ssl_cert_reqs=none&sentinel_password=q')
        assert str(server) == "redis service 'my name' of sentinels h1:26379,::1:7 db 4"
        assert server.sentinels is not None
        assert server.sentinels.parameters['password'] == 'q'
        assert server.sentinels.parameters['ssl_cert_reqs'] == server.parameters['ssl_cert_reqs'] == 'none'
        assert (server.parameters['username'], server.parameters['password']) == ('u', 'p')
        assert 'ssl_check_hostname' not in server.parameters
        assert server_of('rediss://h?ssl_check_hostname=false&ssl_ca_certs=/x').parameters['ssl_check_hostname'] is False

    def test_errors_tell_no_password(self, server: RedisServer) -> None:
        """A wrong password is a matter of configuration, a port where nobody listens is not; neither shows the password."""
        wrong = server.url().replace(quote(server.password, safe=''), 'wrongsecret')
        nobody = f'redis://:wrongsecret@127.0.0.1:{free_port()}/0'
        for url, error in ((wrong, ConfigError), (nobody, BackendUnavailable)):
            with closing(connect(url, BackendOptions())) as backend:
                with pytest.raises(JobsyncError, match='redis 127') as caught:
                    backend.open(SETTINGS, create=True)
                assert caught.type is error
                assert 'wrongsecret' not in str(caught.value) + repr(caught.value.__cause__)

    def test_without_a_password(self, server: RedisServer) -> None:
        """Where one is needed, it is a matter of configuration too."""
        with closing(connect(f'redis://127.0.0.1:{server.port}', BackendOptions())) as backend, pytest.raises(ConfigError):
            backend.open(SETTINGS, create=True)

    def test_an_address_that_swallows_everything(self) -> None:
        """A host that takes the connection and says nothing costs no more than the time for the call."""
        with socket.socket() as silent:
            silent.bind(('127.0.0.1', 0))
            silent.listen()
            url = f'redis://127.0.0.1:{silent.getsockname()[1]}'
            backend = connect(url, BackendOptions(op_timeout_sec=1.0))
            with pytest.raises(BackendUnavailable):
                backend.open(SETTINGS, create=True)

    def test_databases_are_apart(self, harness: RedisHarness, server: RedisServer) -> None:
        """One namespace in two databases is two, and neither wakes the other."""
        backends = [connect(server.url(db), BackendOptions()) for db in (1, 2)]
        one, two = map(Namespace, backends)
        one.join('a')
        assert one.timeline != two.timeline
        assert not two.nodes()
        assert backends[0].wait(0, 10.0) == 1
        assert backends[1].wait(0, 0.3) == 0
        for backend in backends:
            backend.close()


class TestServer:
    """What a server must be."""

    def test_one_that_drops_keys_is_refused(self, harness: RedisHarness, server: RedisServer) -> None:
        """When its memory is full it would forget who owns what."""
        server.ask('CONFIG', 'SET', 'maxmemory', '1gb')
        server.ask('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
        try:
            with pytest.raises(ConfigError, match='allkeys-lru'):
                harness.connect().open(SETTINGS, create=True)
            server.ask('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru')
            harness.connect().open(SETTINGS, create=True)
        finally:
            server.ask('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
            server.ask('CONFIG', 'SET', 'maxmemory', '0')

    def test_one_that_drops_keys_by_now_is_refused(self, harness: RedisHarness, server: RedisServer) -> None:
        """A node that begins anew, since its record was dropped, says why, and owns nothing until that is mended."""
        backend = harness.connect()
        backend.open(SETTINGS, create=True)
        server.ask('CONFIG', 'SET', 'maxmemory', '1gb')
        server.ask('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
        try:
            with pytest.raises(ConfigError, match='allkeys-lru'):
                backend.open(SETTINGS, create=True)
            server.ask('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
            backend.open(SETTINGS, create=True)
        finally:
            server.ask('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
            server.ask('CONFIG', 'SET', 'maxmemory', '0')

    @pytest.mark.parametrize(
        ('setting', 'value', 'right'),
        [('appendfsync', 'everysec', 'always'), ('appendonly', 'no', 'yes'), ('no-appendfsync-on-rewrite', 'yes', 'no')],
    )
    def test_durable_must_be_true(self, harness: RedisHarness, server: RedisServer, setting: str, value: str, right: str) -> None:
        """A server that may lose what it acknowledged is not taken for one that does not."""
        server.ask('CONFIG', 'SET', setting, value)
        try:
            with pytest.raises(ConfigError, match=f'{setting} {value}'):
                connect(server.url(query='durable=yes'), BackendOptions()).open(SETTINGS, create=True)
            undeclared = connect(server.url(), BackendOptions())
            undeclared.open(SETTINGS, create=True)
            assert not undeclared.info.durable
        finally:
            server.ask('CONFIG', 'SET', setting, right)
            eventually(lambda: 'aof_rewrite_in_progress:0' in server.ask('INFO', 'persistence'))

    def test_a_log_that_is_being_begun(self, server: RedisServer) -> None:
        """From when ``appendonly`` is switched on until the first log is complete, a server would lose everything in a crash."""
        with closing(RedisServer(server.program, durable=False)) as other:
            other.ask('MSET', *(word for number in range(200) for word in (f'k{number}', '')))
            other.ask('CONFIG', 'SET', 'rdb-key-save-delay', '1000000')  # microseconds for each key: it does not end by itself
            other.ask('CONFIG', 'SET', 'appendfsync', 'always')
            other.ask('CONFIG', 'SET', 'appendonly', 'yes')
            with closing(connect(other.url(query='durable=yes'), BackendOptions())) as backend:
                with pytest.raises(BackendUnavailable, match='rewriting its log for the first time'):
                    backend.open(SETTINGS, create=True)
                other.ask('CONFIG', 'SET', 'rdb-key-save-delay', '0')
                other.ask('CONFIG', 'SET', 'appendonly', 'no')
                other.ask('CONFIG', 'SET', 'appendonly', 'yes')
                eventually(lambda: 'aof_rewrite_in_progress:0' in other.ask('INFO', 'persistence'))
                backend.open(SETTINGS, create=True)

    def test_durable_must_be_true_of_the_node_with_the_slot(self, server: RedisServer) -> None:
        """In a cluster the node that keeps the namespace is checked, whichever node the URL names."""
        with cluster_of_two(server, durable=(True, False)) as nodes:
            kept = {slot_of(nodes[0], name) < 8192: name for name in ('a_', 'b_', 'c_', 'd_')}
            nodes[1].ask('CONFIG', 'SET', 'maxmemory', '1gb')
            nodes[1].ask('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
            for query, told in (('', 'allkeys-lru'), ('durable=yes', 'appendonly no')):
                for node in nodes:
                    with closing(connect(node.url(query=query), BackendOptions(kept[True]))) as backend:
                        backend.open(SETTINGS, create=True)
                    with (
                        closing(connect(node.url(query=query), BackendOptions(kept[False]))) as backend,
                        pytest.raises(ConfigError, match=told),
                    ):
                        backend.open(SETTINGS, create=True)
                nodes[1].ask('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')

    def test_a_slot_that_moves_to_a_node_that_is_not_durable(self, server: RedisServer) -> None:
        """No lease begins there: every call of a backend that is open is refused, until the slot is back."""
        with cluster_of_two(server, durable=(True, False)) as nodes:
            name = next(name for name in ('a_', 'b_', 'c_', 'd_') if slot_of(nodes[0], name) < 8192)
            slot = str(slot_of(nodes[0], name))
            with closing(connect(nodes[0].url(query='durable=yes'), BackendOptions(name))) as backend:
                namespace = Namespace(backend)
                ref = namespace.join('a')
                move_slot(slot, *nodes)
                for _ in range(2):
                    with pytest.raises(ConfigError, match=f'{nodes[1].port}, which has this namespace.*appendonly no'):
                        namespace.beat(ref)
                move_slot(slot, *reversed(nodes))
                assert namespace.beat(ref).heartbeat == 1

    def test_a_path_in_another_encoding(self) -> None:
        """A server reports the path of its configuration, which may have any bytes: it is read over."""
        info = b'config_file:/etc/\xff/redis.conf\r\nredis_version:6.0.16\r\n'
        with pytest.raises(ConfigError, match=r'6\.0\.16'):
            check_server(server_of('redis://h'), 'key', 'h', lambda *_: info)

    @pytest.mark.parametrize('info', [b'# Proxy\r\nVersion:1.0.5\r\n', b'redis_version:unknown\r\n', b''])
    def test_a_proxy_that_answers_by_itself(self, info: bytes) -> None:
        """One that does not show the server's version is refused, with an error that says so."""
        with pytest.raises(ConfigError, match='a server does not say its version in INFO, as a proxy does not'):
            check_server(server_of('redis://h'), 'key', 'a server', lambda *_: info)

    def test_full_memory(self, harness: RedisHarness, namespace: Namespace, server: RedisServer) -> None:
        """A server that cannot store more says so, and nothing is written by halves. To who begins it lacks no right."""
        leader, other = namespace.leader(), harness.connect()
        before = namespace.state()
        plan, guard = namespace.plan(TokenGroup([1], 'a'), moved=1), namespace.guard()
        server.ask('CONFIG', 'SET', 'maxmemory', '1')
        try:
            with pytest.raises(BackendUnavailable):
                namespace.backend.commit(leader, plan, guard)
            with pytest.raises(BackendUnavailable):
                namespace.backend.append_claims(leader, ['x'], DAY)
            with pytest.raises(BackendUnavailable):
                other.open(namespace.settings, create=True)
        finally:
            server.ask('CONFIG', 'SET', 'maxmemory', '0')
        assert namespace.state() == before

    @pytest.mark.parametrize('setting', ['maxmemory', 'min-replicas-to-write'])
    def test_doctor_notices_that_no_write_is_accepted(self, harness: RedisHarness, namespace: Namespace, setting: str) -> None:
        """What it tries changes nothing, and is refused as the heartbeats of all nodes are."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'leader'))
        command = ['doctor', '--backend', harness.url]
        harness.server.ask('CONFIG', 'SET', setting, '1')
        try:
            result = CliRunner().invoke(cli, command)
        finally:
            harness.server.ask('CONFIG', 'SET', setting, '0')
        assert result.exit_code == 3
        assert 'accepts no write' in result.stdout
        with namespace.unchanged():
            assert CliRunner().invoke(cli, command).exit_code == 0

    def test_a_key_of_somebody_elses(self, harness: RedisHarness, server: RedisServer) -> None:
        """A key of ours that holds something else is neither used nor replaced."""
        server.ask('SET', 'jobsync:{sync_}:state', 'mine')
        with pytest.raises(SchemaMismatch, match='another appname'):
            harness.connect().open(SETTINGS, create=True)
        assert server.ask('GET', 'jobsync:{sync_}:state') == 'mine'

    @pytest.mark.parametrize('kind', ['nodes', 'members', 'base', 'log', 'versions', 'pins', 'locks'])
    def test_a_key_beside_the_state(self, harness: RedisHarness, namespace: Namespace, server: RedisServer, kind: str) -> None:
        """Under whichever name it is, a newcomer is refused at once, and learns why."""
        key = f'jobsync:{{sync_}}:{kind}'
        server.ask('DEL', key)
        server.ask(*(('RPUSH', key, 'mine') if kind == 'base' else ('SET', key, 'mine')))
        for settings in (SETTINGS, None):
            with pytest.raises(SchemaMismatch, match='another appname'):
                harness.connect().open(settings, create=True)

    @pytest.mark.parametrize(('schema', 'remedy'), [('7', 'install the newer jobsync here too'), ('2', 'use another appname')])
    def test_another_format(
        self, harness: RedisHarness, namespace: Namespace, server: RedisServer, schema: str, remedy: str
    ) -> None:
        """From the future or the past: refused with both versions, and with what to do."""
        server.ask('HSET', 'jobsync:{sync_}:state', 'schema', schema)
        for create in (True, False):
            with pytest.raises(SchemaMismatch, match=rf'format {schema}.*format 4: {remedy}'):
                harness.connect().open(SETTINGS, create=create)

    @pytest.mark.parametrize('schema', ['7', '2'])
    def test_another_format_under_an_open_handle(self, namespace: Namespace, server: RedisServer, schema: str) -> None:
        """A handle from before neither reads nor writes, whoever has brought the namespace to another format meanwhile."""
        ref, backend = namespace.lead(namespace.join('a')), namespace.backend
        server.ask('HSET', 'jobsync:{sync_}:state', 'schema', schema)
        before = server.ask('HGETALL', 'jobsync:{sync_}:nodes'), server.ask('HGET', 'jobsync:{sync_}:state', 'revision')
        calls: list[Callable[[], object]] = [
            lambda: namespace.beat(ref),
            lambda: namespace.join('b'),
            lambda: backend.append_claims(ref, ['x'], DAY),
            backend.snapshot,
            backend.read_assignment,
            backend.read_locks,
        ]
        for call in calls:
            with pytest.raises(SchemaMismatch, match=rf'format {schema}.*format 4'):
                call()
        assert before == (server.ask('HGETALL', 'jobsync:{sync_}:nodes'), server.ask('HGET', 'jobsync:{sync_}:state', 'revision'))

    def test_forgotten_scripts(self, namespace: Namespace, server: RedisServer) -> None:
        """They are sent again."""
        ref = namespace.join('a')
        server.ask('SCRIPT', 'FLUSH')
        assert namespace.beat(ref).heartbeat == 1


class TestKeys:
    """All keys of a namespace are in one slot, and scripts keep to what they are given."""

    def test_a_node_of_a_cluster(self, server: RedisServer) -> None:
        """Everything works on two nodes with half of the slots each, by the URL of either."""
        with cluster_of_two(server) as (one, two):
            slots = set()
            for namespace in ('a_', 'b_', 'c_', 'd_'):
                slots.add(slot_of(one, namespace) < 8192)
                for node in (one, two):
                    with closing(connect(node.url(), BackendOptions(namespace))) as backend:
                        everything(backend)
                        revision = backend.snapshot().revision.number
                        waiting = Waiting(backend, revision)
                        backend.edit_locks(LockEdit(put=(LockRequest(f'{node.port}', ('a',), 'me'),)))
                        assert waiting.answer() > revision
            assert slots == {True, False}

    def test_a_cluster_whose_nodes_know_no_names(self, server: RedisServer) -> None:
        """A redirection without a host leads to another port of the host that the client has reached."""
        with cluster_of_two(server) as (one, two):
            names = {slot_of(one, name) < 8192: name for name in ('a_', 'b_', 'c_', 'd_')}
            for node, other in ((one, names[False]), (two, names[True])):
                node.ask('CONFIG', 'SET', 'cluster-preferred-endpoint-type', 'unknown-endpoint')
                with closing(connect(node.url(), BackendOptions(other))) as backend:
                    everything(backend)

    def test_a_cluster_whose_nodes_are_to_announce_names_and_have_none(self, server: RedisServer) -> None:
        """The error says what to set, and not that a host with the name '?' is unknown."""
        with cluster_of_two(server) as (one, _):
            name = next(name for name in ('a_', 'b_', 'c_', 'd_') if slot_of(one, name) >= 8192)
            one.ask('CONFIG', 'SET', 'cluster-preferred-endpoint-type', 'hostname')
            with closing(connect(one.url(), BackendOptions(name))) as backend:
                with pytest.raises(BackendUnavailable, match=r'announces no name .*cluster-announce-hostname'):
                    backend.snapshot()
                one.ask('CONFIG', 'SET', 'cluster-preferred-endpoint-type', 'ip')
                everything(backend)

    def test_a_node_that_has_left_the_cluster(self, server: RedisServer) -> None:
        """A client that had been sent there turns to the node in its URL again."""
        with cluster_of_two(server) as (one, two):
            name = next(name for name in ('a_', 'b_', 'c_', 'd_') if slot_of(one, name) >= 8192)
            with closing(connect(one.url(), BackendOptions(name))) as backend:
                backend.open(SETTINGS, create=True)
                before = backend.snapshot().revision
                move_slot(str(slot_of(one, name)), two, one)
                one.ask('CONFIG', 'SET', 'cluster-require-full-coverage', 'no')
                two.ask('CLUSTER', 'RESET')
                eventually(functools.partial(is_whole, one))
                with pytest.raises(BackendUnavailable, match='CLUSTERDOWN'):
                    backend.snapshot()
                assert backend.snapshot().revision == before

    def test_a_node_of_the_cluster_that_is_gone(self, server: RedisServer) -> None:
        """The node in the URL knows which other one has its slots by now."""
        with closing(connect(server.url(), BackendOptions())) as backend:
            connections = backend._namespace.pool  # type: ignore[attr-defined]
            connections._moved = ('127.0.0.1', free_port())
            with pytest.raises(BackendUnavailable):
                connections.command(Deadline(60.0), 'PING')
            assert connections.command(Deadline(60.0), 'PING') == b'PONG'

    def test_another_thread_opens_the_backend_amid_a_check(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was read before that is checked once more."""
        with closing(connect(server.url(), BackendOptions())) as backend:
            backend.open(SETTINGS, create=True)
            connections, checks = backend._namespace.pool, list[str]()  # type: ignore[attr-defined]

            def check(name: str, _: object) -> None:
                checks.append(name)
                if len(checks) == 1:
                    connections.check_again()

            connections.check_again()
            monkeypatch.setattr(connections, '_check', check)
            for _ in range(3):
                backend.snapshot()
            assert len(checks) == 2

    def test_another_thread_finds_that_a_node_of_the_cluster_is_gone(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It forgets the node between two steps of a call, which ends as in any outage."""
        moved = [('127.0.0.1', free_port())]

        class Forgetting(RedisPool):
            @property
            def _moved(self) -> tuple[str, int] | None:
                return moved.pop() if moved else None

            @_moved.setter
            def _moved(self, _: object) -> None:
                pass

        with closing(connect(server.url(), BackendOptions())) as backend:
            connections = backend._namespace.pool  # type: ignore[attr-defined]
            monkeypatch.setattr(connections, '__class__', Forgetting)
            with pytest.raises(BackendUnavailable):
                connections.command(Deadline(60.0), 'PING')
            assert connections.command(Deadline(60.0), 'PING') == b'PONG'

    def test_a_subscription_at_a_node_that_has_left_the_cluster(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a silence the client subscribes where the namespace is announced now."""
        monkeypatch.setattr(listening, 'SILENT_SEC', 0.5)
        with cluster_of_two(server) as (one, two):
            name = next(name for name in ('a_', 'b_', 'c_', 'd_') if slot_of(one, name) >= 8192)
            with closing(connect(one.url(), BackendOptions(name, op_timeout_sec=1.0))) as backend:
                backend.open(SETTINGS, create=True)
                backend.wait(0, 0.0)
                move_slot(str(slot_of(one, name)), two, one)
                one.ask('CONFIG', 'SET', 'cluster-require-full-coverage', 'no')
                left = two.ask('CLUSTER', 'MYID')
                two.ask('CLUSTER', 'RESET', 'HARD')
                one.ask('CLUSTER', 'FORGET', left)
                eventually(functools.partial(is_whole, one))
                with pytest.raises(BackendUnavailable, match='CLUSTERDOWN'):
                    backend.snapshot()
                for number in range(1, 3):
                    waiting = Waiting(backend, number - 1)
                    backend.edit_locks(LockEdit(put=(LockRequest(f'{number}', ('a',), 'me'),)))
                    assert waiting.answer() == number
                    monkeypatch.setattr(listening, 'SILENT_SEC', 1000.0)  # from now on it is announced

    def test_scripts_touch_their_keys_only(self, harness: RedisHarness, server: RedisServer) -> None:
        """Whatever a script reads or writes has been named as one of its keys."""
        with socket.create_connection(('127.0.0.1', server.port)) as spy, spy.makefile('rb') as lines:
            spy.sendall(b'AUTH ' + b'"' + server.password.replace('\\', '\\\\').encode() + b'"\r\nMONITOR\r\n')
            assert [lines.readline(), lines.readline()] == [b'+OK\r\n'] * 2
            everything(harness.connect())
            server.ask('ECHO', 'the end')
            given: set[str] = set()
            touched = 0
            while 'the end' not in (line := lines.readline().decode(errors='replace')):
                words = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
                if words[0].upper() in ('EVALSHA', 'EVAL'):
                    given = set(words[3 : 3 + int(words[2])])
                elif re.search(r'\[\d+ lua\]', line) and words[0].upper() not in ('INFO', 'TIME', 'PUBLISH'):
                    keys = words[1:] if words[0].upper() == 'DEL' else words[1:2]
                    assert set(keys) <= given, line
                    touched += 1
        assert touched > 100


class TestLog:
    """The log of the assignment is folded into its base now and then."""

    def test_many_commits_of_two_handles(self, harness: RedisHarness, namespace: Namespace, server: RedisServer) -> None:
        """No row is lost, the log stays short, and a reader who is a little behind has a difference."""
        other = Namespace(harness.connect())
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),))
        longest = 0
        for round_ in range(MOST_ENTRIES + 3):
            theirs = other.commit(leader, TokenGroup([round_ % TOKENS], f'n{round_}'))
            namespace.commit(leader, TokenGroup([(round_ + 1) % TOKENS], None, home=f'n{round_}'))
            changes = other.backend.read_assignment(theirs)
            assert changes.base == theirs
            assert [list(group.tokens) for group in changes.groups] == [[(round_ + 1) % TOKENS]]
            longest = max(longest, int(server.ask('LLEN', 'jobsync:{sync_}:log')))
            assert namespace.row(round_ % TOKENS).owner == f'n{round_}'
        assert longest == MOST_ENTRIES
        assert namespace.pins()[TOKENS + 1].owner == 'a'

    def test_what_becomes_of_the_log_is_no_failure_of_the_commit(
        self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, server: RedisServer
    ) -> None:
        """A commit whose folding fails is written and says so; the next one folds."""
        leader = namespace.leader()
        with monkeypatch.context() as patch:
            patch.setattr(RedisAssignment, '_fold', Mock(side_effect=BackendUnavailable('away')))
            for round_ in range(MOST_ENTRIES + 5):
                namespace.commit(leader, TokenGroup([1], f'n{round_}'))
        assert namespace.row(1).owner == f'n{round_}'
        assert int(server.ask('LLEN', 'jobsync:{sync_}:log')) == MOST_ENTRIES + 5
        namespace.commit(leader, TokenGroup([1], 'b'))
        assert int(server.ask('LLEN', 'jobsync:{sync_}:log')) == MOST_ENTRIES // 2

    def test_the_size_of_the_log_is_counted(self, namespace: Namespace, server: RedisServer) -> None:
        """After commits, and after a fold, it is the size of the entries that are left: by it the next fold is due or not."""
        leader = namespace.leader()
        for round_ in range(MOST_ENTRIES + 5):
            namespace.commit(leader, TokenGroup([1], f'n{round_}'))
        assert int(server.ask('LLEN', 'jobsync:{sync_}:log')) < MOST_ENTRIES
        size_of_all = "local n = 0 for _, e in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do n = n + #e end return n"
        size = int(server.ask('EVAL', size_of_all, '1', 'jobsync:{sync_}:log'))
        assert int(server.ask('HGET', 'jobsync:{sync_}:state', 'log_size')) == size > 0

    def test_pins_are_read_if_a_commit_has_changed_any(self, namespace: Namespace, server: RedisServer) -> None:
        """A version without a change of pins leaves them at the version that has made the last one."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),))
        pinned = server.ask('HGET', 'jobsync:{sync_}:state', 'pins')
        namespace.commit(leader, TokenGroup([1], 'b'))
        assert server.ask('HGET', 'jobsync:{sync_}:state', 'pins') == pinned
        namespace.commit(leader, unpinned=frozenset({TOKENS + 1}))
        assert server.ask('HGET', 'jobsync:{sync_}:state', 'pins') != pinned

    def test_a_fold_that_comes_second(self, harness: RedisHarness, namespace: Namespace) -> None:
        """Two handles fold at once: the second one's base is not taken, and nothing is lost."""
        other = harness.connect()
        assert isinstance(other, RedisBackend)
        leader = namespace.leader()
        for round_ in range(MOST_ENTRIES):
            namespace.commit(leader, TokenGroup([round_ % TOKENS], f'n{round_}'))
        run = other._assignment._run

        def late(name: str, *arguments: Any, **named: Any) -> object:
            if name == 'compact':
                namespace.commit(leader, TokenGroup([0], 'last'))
            return run(name, *arguments, **named)

        with patch.object(other._assignment, '_run', late):
            other._assignment._fold(Deadline(100.0))
        assert namespace.row(0).owner == 'last'
        assert namespace.row((MOST_ENTRIES - 1) % TOKENS).owner == f'n{MOST_ENTRIES - 1}'


class TestSizes:
    """What one call carries, far beyond what any cluster asks of it."""

    @pytest.mark.parametrize('count', [20_000, pytest.param(100_000, marks=pytest.mark.full)])
    def test_much_at_once(self, harness: RedisHarness, namespace: Namespace, count: int) -> None:
        """One commit has ten thousand members and so many pins; a heartbeat holds ten thousand tokens."""
        leader = namespace.leader()
        members = {f'node {number}': Member(f'run {number}', 15.0) for number in range(10_000)}
        pins = tuple(
            Pin(TOKENS + number, f'task {number}', f'node {number % 10_000}', pattern='n%') for number in range(1, count + 1)
        )
        namespace.commit(leader, members=members, pins=pins, moved=1)
        with closing(harness.connect()) as other:
            changes = other.read_assignment()
        assert changes.members == members
        assert len(changes.pins) == len(pins)
        namespace.commit(leader, members=dict.fromkeys(members), unpinned=frozenset(pin.id for pin in pins))
        assert (namespace.assignment().members, namespace.pins()) == ({}, {})
        namespace.beat(leader, holding=range(10_000))
        assert namespace.node('leader').holding == frozenset(range(10_000))


class TestConnections:
    """How many, for how long, and what becomes of them."""

    def test_an_idle_backend_holds_two(self, harness: RedisHarness, server: RedisServer) -> None:
        """One for calls and one that listens, whatever went on before."""
        backend = connect(server.url(query='client_name=idle'), BackendOptions())
        waiting = beat_and_wait(backend)
        eventually(lambda: clients(server, 'idle') == 2)
        backend.close()
        waiting.join(100)
        eventually(lambda: clients(server, 'idle') == 0)

    def test_a_restart_is_survived(self, harness: RedisHarness, namespace: Namespace) -> None:
        """After a kill of the server the same handle goes on, at its first call, and waits again."""
        ref = namespace.join('a')
        namespace.backend.wait(0, 1.0)
        harness.restart()
        assert namespace.beat(ref).heartbeat == 1
        revision = namespace.revision.number
        waiting = Waiting(namespace.backend, revision)
        namespace.join('b')
        assert waiting.answer() == revision + 1

    def test_what_a_cut_listener_missed(self, harness: RedisHarness, namespace: Namespace, server: RedisServer) -> None:
        """What is announced while a listener is cut off is lost, and is found when it is back."""
        other = Namespace(harness.connect())
        revision = namespace.revision.number
        waiting = Waiting(namespace.backend, revision)
        eventually(lambda: 'jobsync:{sync_}:0:revision' in server.ask('PUBSUB', 'CHANNELS'))
        server.ask('CLIENT', 'KILL', 'TYPE', 'pubsub')
        other.join('b')
        assert waiting.answer() == revision + 1

    @pytest.mark.parametrize('announced', ['999999', '9' * 10_000, '-1', 'x', ''])
    def test_what_others_announce(self, harness: RedisHarness, namespace: Namespace, server: RedisServer, announced: str) -> None:
        """A revision that is announced by somebody else is no revision, and hides none."""
        other = Namespace(harness.connect())
        revision = other.revision.number
        waiting = Waiting(namespace.backend, revision)
        eventually(lambda: int(server.ask('PUBLISH', 'jobsync:{sync_}:0:revision', announced)) > 0)
        other.join('b')
        assert waiting.answer() == revision + 1

    def test_a_listener_knocks_now_and_then(
        self, harness: RedisHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the server is down it is not asked without pause; when it is back it is found."""
        from jobsync.backends.redis.pool import RedisPool

        knocks: list[int] = []
        connect_again = RedisPool.connect

        def knock(link: RedisPool, deadline: Deadline) -> object:
            knocks.append(1)
            return connect_again(link, deadline)

        monkeypatch.setattr(RedisPool, 'connect', knock)
        monkeypatch.setattr('jobsync.backends._common.backoff.FIRST_SEC', 0.2)
        namespace.join('a')
        revision = namespace.revision.number
        namespace.backend.wait(0, 1.0)
        harness.server.kill()
        try:
            assert namespace.backend.wait(revision, 1.0) == revision
            assert 1 <= len(knocks) <= 6  # after 0.1, 0.2, 0.4 and 0.8 s at the earliest, and at first
        finally:
            harness.server.start()
        waiting = Waiting(namespace.backend, revision)
        Namespace(harness.connect()).join('b')
        assert waiting.answer() == revision + 1

    def test_a_deaf_server_costs_the_time_for_the_call(self, harness: RedisHarness) -> None:
        """A server that is stopped with its connections open answers nothing, on old connections or on new ones."""
        ref, namespace = Namespace(harness.connect()).join('a'), Namespace(harness.connect(op_timeout_sec=0.5))

        def beats() -> bool:
            try:
                return namespace.beat(ref).heartbeat >= 1
            except BackendUnavailable:
                return False

        eventually(beats)
        harness.stop()
        try:
            for _ in range(3):
                with pytest.raises(BackendUnavailable):
                    namespace.beat(ref)
        finally:
            harness.start()
        eventually(beats)

    @pytest.mark.filterwarnings('ignore::DeprecationWarning')
    def test_a_forked_child_uses_nothing_of_its_parents(self, harness: RedisHarness, namespace: Namespace) -> None:
        """Both go on after a fork, each on connections of its own."""
        go_on_after_a_fork(namespace)
        revision = namespace.revision.number
        waiting = Waiting(namespace.backend, revision)
        namespace.join('another')
        assert waiting.answer() > revision

    def test_one_script_for_each_heartbeat(self, namespace: Namespace, server: RedisServer) -> None:
        """A heartbeat is one command to the server."""
        ref = namespace.join('a')

        def calls() -> int:
            found = re.findall(r'cmdstat_eval(?:sha)?:calls=(\d+)', server.ask('INFO', 'commandstats'))
            return sum(map(int, found))

        namespace.beat(ref)
        before = calls()
        for _ in range(10):
            namespace.beat(ref)
        assert calls() - before == 10

    def test_a_demoted_master(self, namespace: Namespace, server: RedisServer) -> None:
        """A server that has become a replica is no store to write to, and is one again when it is back."""
        ref = namespace.join('a')
        server.ask('REPLICAOF', '127.0.0.1', str(free_port()))
        try:
            for call in (lambda: namespace.beat(ref), namespace.backend.snapshot, namespace.backend.read_assignment):
                with pytest.raises(BackendUnavailable):
                    call()
        finally:
            server.ask('REPLICAOF', 'NO', 'ONE')
        assert namespace.snapshot().store != namespace.timeline.store

    def test_a_heartbeat_after_close(self, namespace: Namespace) -> None:
        """A closed handle opens no connection again."""
        ref = namespace.join('a')
        namespace.backend.close()
        with pytest.raises(BackendUnavailable, match='closed'):
            namespace.backend.heartbeat(ref, INITIAL, frozenset())


class TestClock:
    """The server's clock, which no test can set."""

    def test_one_that_was_set_back(self, namespace: Namespace, server: RedisServer) -> None:
        """Each node that registers has a later ``created_on`` than the one before: the leader knows by it which is newer."""
        ahead = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        server.ask('HSET', 'jobsync:{sync_}:state', 'last_created', str(int(ahead.timestamp() * 1e6)))
        names = ['b', 'a']
        for name in names:
            namespace.join(name)
        first, second = (namespace.node(name).created_on for name in names)
        assert ahead - dt.timedelta(seconds=1) < first < second


class TestPurge:
    """How long one portion of a purge keeps all other clients waiting."""

    def test_a_portion_ends_early_where_reading_takes_long(self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
        """It reads less than requested, and the next portions read the rest: all that may go is deleted, and nothing else."""
        ref = namespace.join('a')
        done = [f'done {number}' for number in range(110)]
        namespace.claim(ref, 'open', *done)
        namespace.audit('a', *done)
        own = script('purge')
        source = own.source.replace('LONG, STEP = 0.008, 100', 'LONG, STEP = 0, 50')
        assert source != own.source
        quick = attrs.evolve(own, source=source, digest=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
        monkeypatch.setattr(redis_namespace, 'script', lambda name: quick if name == 'purge' else script(name))
        later, after, portions = namespace.snapshot().now + dt.timedelta(hours=1), '', list[int]()
        while not portions or after:
            purged = namespace.backend.purge(HistoryKind.CLAIM, later, 1000, after)
            after = purged.resume
            portions.append(purged.deleted)
        assert len(portions) == 3
        assert sum(portions) == len(done)
        assert [claim.item for claim in namespace.claims()] == ['open']


class TestHistory:
    """What a reading of the history costs the server, which answers no other client meanwhile."""

    def audit(self, namespace: Namespace, count: int, date: dt.date) -> None:
        """Complete so many tasks."""
        for start in range(0, count, 1000):
            namespace.audit('a', *(f'task {number}' for number in range(start, min(start + 1000, count))), date=date)

    def calls(self, harness: RedisHarness, command: str) -> int:
        """How often a command was given since the last reset."""
        found = re.search(rf'cmdstat_{command}:calls=(\d+)', harness.server.ask('INFO', 'commandstats'))
        return int(found[1]) if found else 0

    def test_the_newest_of_a_date(self, namespace: Namespace, harness: RedisHarness) -> None:
        """The newest of a date are read from the newest of all, a thousand at a time, and not all of the date."""
        self.audit(namespace, 4000, DAY)
        harness.server.ask('CONFIG', 'RESETSTAT')
        assert len(namespace.audits(date=DAY, limit=256)) == 256
        assert (self.calls(harness, 'zrevrange'), self.calls(harness, 'zrangebylex')) == (1, 0)

    def test_behind_those_of_another_date(self, namespace: Namespace) -> None:
        """All that are wanted are found, however many of another date are newer."""
        namespace.audit('a', 'x', 'y', 'z', date=DAY)
        assert len(namespace.audits(date=DAY, limit=2)) == 2
        self.audit(namespace, 12_000, DAY + dt.timedelta(days=1))
        for limit in (1, 2, 100, 1000):
            assert len(namespace.audits(date=DAY, limit=limit)) == min(limit, 3)

    def test_before_and_after_those_of_another_date(self, namespace: Namespace) -> None:
        """The older one of two is found too, where a thousand of another date are between them."""
        namespace.audit('a', 'old', date=DAY)
        self.audit(namespace, 1500, DAY + dt.timedelta(days=1))
        namespace.audit('a', 'new', date=DAY)
        assert [audit.item for audit in namespace.audits(date=DAY, limit=2)] == ['new', 'old']

    def test_incomplete_of_a_date(self, namespace: Namespace, harness: RedisHarness) -> None:
        """The few claims that are open are read without those of all that is complete."""
        ref = namespace.join('a')
        namespace.claim(ref, 'open')
        namespace.claim(ref, 'open', date=DAY + dt.timedelta(days=1))
        harness.server.ask('CONFIG', 'RESETSTAT')
        assert [claim.date for claim in namespace.backend.incomplete(DAY, dt.timedelta(0))] == [DAY]
        assert self.calls(harness, 'zrangebylex') == 0

    def test_many_incomplete_of_a_date(self, namespace: Namespace) -> None:
        """More open claims than are read at first are found all the same, and none of another date or of complete work."""
        ref, count = namespace.join('a'), 10_500
        for start in range(0, count, 1500):
            namespace.claim(ref, *(f'task {number}' for number in range(start, start + 1500)))
        namespace.claim(ref, 'x', date=DAY + dt.timedelta(days=1))
        namespace.backend.append_audits('a', ['task 7'], DAY)
        assert len(namespace.backend.incomplete(DAY, dt.timedelta(0))) == count - 1

    def test_an_item_of_any_date(self, namespace: Namespace, harness: RedisHarness) -> None:
        """The records of an item are looked up date by date, and no others are read."""
        dates = [DAY + dt.timedelta(days=days) for days in (0, 1, 400)]
        for date in dates:
            self.audit(namespace, 100, date)
        harness.server.ask('ZADD', 'jobsync:{sync_}:audits_by_date', '0', 'by a person')
        harness.server.ask('CONFIG', 'RESETSTAT')
        assert {audit.date for audit in namespace.audits(item='task 7')} == set(dates)
        assert namespace.audits(item='task') == []
        assert self.calls(harness, 'zrevrange') == 0
