"""Redis that goes back in time: restarts, replicas, sentinels, and real jobs while it happens. Never two owners."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
from tests.backends.redis_jobs import Cluster
from tests.backends.relay import Relay, relayed
from tests.backends.test_redis_server import cluster_of_two, move_slot, slot_of
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import RedisServer, SentinelServer, free_port
from tests.support.waiting import eventually

from jobsync._core.records import Snapshot
from jobsync._event_log import event_log
from jobsync.backend import Backend, BackendOptions, LockEdit, LockRequest
from jobsync.backends.redis import pool
from jobsync.backends.redis.backend import RedisBackend
from jobsync.backends.redis.connection import Deadline, opened
from jobsync.backends.redis.plugin import connect
from jobsync.backends.redis.server import read_info
from jobsync.errors import BackendUnavailable, ConfigError, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = pytest.mark.redis


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def harness(server: RedisServer) -> Iterator[RedisHarness]:
    harness = RedisHarness(server)
    yield harness
    harness.close()


def replica_of(master: RedisServer) -> RedisServer:
    """A replica that has everything."""
    replica = RedisServer(master.program, durable=master.is_durable, replica_of=master)
    eventually(lambda: replica.is_synchronised)
    return replica


@attrs.frozen
class Masters:
    """A master with a namespace, another server that is to take its place, and the sentinel that names the master."""

    former: RedisServer
    promoted: RedisServer
    sentinel: SentinelServer
    namespace: Namespace

    def promote(self) -> None:
        """Have the sentinel name the other server, once it knows none."""
        self.sentinel.ask('SENTINEL', 'MONITOR', self.sentinel.service, '127.0.0.1', str(self.promoted.port), '1')


@pytest.fixture
def masters(server: RedisServer) -> Iterator[Masters]:
    with (
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        closing(SentinelServer(former)) as sentinel,
        closing(connect(sentinel.url(), BackendOptions())) as backend,
    ):
        yield Masters(former, promoted, sentinel, Namespace(backend))


def is_the_same(namespace: Namespace) -> bool:
    """Whether snapshot and heartbeat of a new node tell the store that the timeline was made on."""
    snapshot = namespace.snapshot()
    return snapshot.store == snapshot.timeline.store


class TestIdentity:
    """What shows that another store answers, and what does not."""

    def test_a_first_replica(self, server: RedisServer) -> None:
        """The server takes a new replication id when its first replica arrives, and is the same server."""
        with closing(RedisServer(server.program)) as alone, closing(RedisHarness(alone)) as harness:
            namespace = Namespace(harness.connect())
            before = alone.ask('INFO', 'replication').partition('master_replid:')[2][:40]
            with closing(replica_of(alone)):
                assert alone.ask('INFO', 'replication').partition('master_replid:')[2][:40] != before
                assert is_the_same(namespace)
            assert is_the_same(namespace)

    def test_a_first_replica_after_a_restart(self, server: RedisServer) -> None:
        """The timeline that was begun after the restart is of the process that answers since then."""
        with (
            closing(RedisServer(server.program)) as alone,
            closing(RedisHarness(alone)) as harness,
            closing(connect(alone.url(), BackendOptions())) as backend,
        ):
            namespace = Namespace(backend)
            harness.restart()
            assert not is_the_same(namespace)
            namespace.renew_timeline()
            with closing(replica_of(alone)):
                assert is_the_same(namespace)

    def test_a_restart_of_a_durable_server(self, harness: RedisHarness) -> None:
        """It has everything, so it is the same, again and again, and after its log was rewritten."""
        namespace = Namespace(harness.connect())
        for _ in range(2):
            harness.server.ask('BGREWRITEAOF')
            eventually(lambda: 'aof_rewrite_in_progress:0' in harness.server.ask('INFO', 'persistence'))
            harness.restart()
            assert is_the_same(namespace)

    def test_a_restart_of_a_durable_server_that_others_see_first(self, harness: RedisHarness, server: RedisServer) -> None:
        """It is the same for its nodes, also if a command has looked or edited before, by a URL without ``durable``."""
        namespace = Namespace(harness.connect())
        with closing(connect(server.url(), BackendOptions())) as other:
            harness.restart()
            assert other.snapshot().store != namespace.timeline.store
            other.edit_locks(LockEdit(put=(LockRequest('task', ('%',), 'operator'),)))
            assert is_the_same(namespace)

    def test_a_restart_of_any_other_server(self, harness: RedisHarness, server: RedisServer) -> None:
        """Without ``durable`` it may have lost something, even if it has not."""
        with closing(connect(server.url(), BackendOptions())) as backend:
            namespace = Namespace(backend)
            namespace.join('a')
            harness.restart()
            assert not is_the_same(namespace)
            assert 'a' in namespace.nodes()

    def test_a_promoted_replica_that_restarts(self, harness: RedisHarness, server: RedisServer) -> None:
        """Once it has been seen that another server answers, its restart does not hide it."""
        namespace = Namespace(harness.connect())
        harness.fail_over()
        assert not is_the_same(namespace)
        harness.restart()
        assert not is_the_same(namespace)

    def test_a_promoted_replica_that_others_see_first(self, harness: RedisHarness, server: RedisServer) -> None:
        """Its restart does not hide it from its nodes if only a command has looked before, by a URL without ``durable``."""
        namespace = Namespace(harness.connect())
        harness.fail_over()
        with closing(connect(server.url(), BackendOptions())) as other:
            assert other.snapshot().store != namespace.timeline.store
        harness.restart()
        assert not is_the_same(namespace)

    def test_a_copy_without_its_log(self, harness: RedisHarness, server: RedisServer) -> None:
        """A server that is started again without the log that made it durable is another."""
        namespace = Namespace(harness.connect())
        server.ask('SAVE')
        server.ask('CONFIG', 'SET', 'appendonly', 'no')
        server.is_durable = False
        try:
            harness.restart()
            assert not is_the_same(namespace)
        finally:
            server.is_durable = True
            server.ask('CONFIG', 'SET', 'appendonly', 'yes')
            server.ask('CONFIG', 'SET', 'appendfsync', 'always')
            eventually(lambda: 'aof_rewrite_in_progress:0' in server.ask('INFO', 'persistence'))

    def test_an_older_copy_of_its_log(self, harness: RedisHarness, server: RedisServer) -> None:
        """A durable server that is started again on an older copy of its files shows it by its position, and by that alone."""
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')
        known = namespace.beat(ref)
        shutil.copytree(server.folder / 'appendonlydir', server.folder / 'copy')
        last = namespace.beat(ref)
        server.kill()
        shutil.rmtree(server.folder / 'appendonlydir')
        (server.folder / 'copy').rename(server.folder / 'appendonlydir')
        server.start()
        now = namespace.snapshot()
        assert (now.store, now.timeline, now.revision) == (last.store, last.timeline, last.revision)
        assert known.position is not None
        assert last.position is not None
        assert now.position == known.position < last.position

    def test_a_position_never_falls(self, harness: RedisHarness, server: RedisServer) -> None:
        """It counts the writes of the namespace, through restarts, replicas that come and go, and a renewal."""
        namespace = Namespace(harness.connect())
        ref = namespace.join('a')
        positions = [namespace.beat(ref).position]
        with closing(replica_of(server)):
            positions.append(namespace.beat(ref).position)
        harness.restart()
        positions.append(namespace.beat(ref).position)
        namespace.backend.renew_timeline(namespace.timeline, 0)
        positions.append(namespace.snapshot().position)
        assert positions == list(range(2, 6))


class TestSentinel:
    """A service whose master the sentinels name."""

    def test_a_fail_over(self, server: RedisServer) -> None:
        """When the master dies the same handle finds the next one, which shows itself as another store; waiting goes on."""
        with (
            closing(RedisServer(server.program)) as master,
            closing(replica_of(master)) as replica,
            closing(SentinelServer(master)) as sentinel,
            closing(connect(sentinel.url(), BackendOptions())) as backend,
        ):
            namespace = Namespace(backend)
            ref = namespace.join('a')
            eventually(lambda: replica.ask('HLEN', 'jobsync:{sync_}:nodes') == '1')
            eventually(lambda: replica.port == slave_port(sentinel))
            master.kill()

            def beats() -> bool:
                try:
                    pulse = namespace.beat(ref)
                except BackendUnavailable:
                    return False
                return pulse.store != pulse.timeline.store

            eventually(beats)
            revision = namespace.revision.number
            answers: list[int] = []
            waiting = threading.Thread(target=lambda: answers.append(backend.wait(revision, 100.0)))
            waiting.start()
            backend.renew_timeline(namespace.timeline, 0)
            waiting.join(100)
            assert answers == [revision + 1]
            assert replica.ask('HGET', 'jobsync:{sync_}:state', 'generation') == '1'

    def test_a_master_that_has_lost_its_replicas(self, masters: Masters) -> None:
        """It refuses writes, and stays a master where it is cut off from the sentinels: the next call asks them for another."""
        namespace, sentinel = masters.namespace, masters.sentinel
        masters.former.ask('CONFIG', 'SET', 'min-replicas-to-write', '1')
        sentinel.ask('SENTINEL', 'REMOVE', sentinel.service)
        masters.promote()
        with pytest.raises(BackendUnavailable, match='NOREPLICAS'):
            namespace.join('a')
        with pytest.raises(SchemaMismatch, match='no namespace'):
            namespace.join('a')

    def test_a_master_that_was_replaced(self, masters: Masters) -> None:
        """A heartbeat goes to the master of now, though the former one would take it; if no sentinel answers, where it went."""
        namespace, sentinel = masters.namespace, masters.sentinel
        ref = namespace.join('a')
        sentinel.pause()
        assert namespace.beat(ref).heartbeat == 1
        sentinel.resume()
        sentinel.ask('SENTINEL', 'REMOVE', sentinel.service)
        assert namespace.beat(ref).heartbeat == 2
        masters.promote()
        with pytest.raises(SchemaMismatch, match='no namespace'):
            namespace.beat(ref)

    def test_a_master_that_was_replaced_and_sentinels_that_are_far_away(self, masters: Masters) -> None:
        """To ask one takes a few round trips. While a heartbeat did not wait for that, it went to the former master."""
        sentinel = masters.sentinel
        with relayed(sentinel.port) as relay:
            url = sentinel.url().replace(f'127.0.0.1:{sentinel.port}', f'127.0.0.1:{relay.port}')
            with closing(connect(url, BackendOptions(op_timeout_sec=60.0))) as backend:
                namespace = Namespace(backend)
                ref = namespace.join('a')
                sentinel.ask('SENTINEL', 'REMOVE', sentinel.service)
                masters.promote()
                relay.delay_sec = 0.3
                with pytest.raises(SchemaMismatch, match='no namespace'):
                    namespace.beat(ref)

    def test_a_sentinel_that_refuses_its_user(self, masters: Masters) -> None:
        """The next one is asked before a heartbeat, which would go to the former master, and by a node that enters."""
        sentinel = masters.sentinel
        with closing(SentinelServer(masters.former)) as refusing:
            url = refusing.url().replace(address := f'127.0.0.1:{refusing.port}', f'{address},127.0.0.1:{sentinel.port}')
            with closing(connect(url, BackendOptions())) as backend:
                namespace = Namespace(backend)
                ref = namespace.join('a')
                refusing.ask('ACL', 'SETUSER', 'default', '-sentinel')
                sentinel.ask('SENTINEL', 'REMOVE', sentinel.service)
                masters.promote()
                with pytest.raises(SchemaMismatch, match='no namespace'):
                    namespace.beat(ref)
                backend.open(SETTINGS, create=True)
            sentinel.kill()
            for said, setting in (('no permissions', '-sentinel'), ('sentinel_password', '>another')):
                refusing.ask('ACL', 'SETUSER', 'default', setting)
                with closing(connect(url, BackendOptions())) as backend, pytest.raises(ConfigError, match=said):
                    backend.open(SETTINGS, create=True)

    def test_sentinels_that_do_not_answer(self, server: RedisServer) -> None:
        """One is enough; none is an outage; one that does not know the service is a mistake."""
        with closing(RedisServer(server.program)) as master, closing(SentinelServer(master)) as sentinel:
            url = sentinel.url()
            address = f'127.0.0.1:{sentinel.port}'
            with closing(connect(url.replace(address, f'127.0.0.1:{free_port()},{address}'), BackendOptions())) as backend:
                backend.open(SETTINGS, create=True)
            with pytest.raises(ConfigError, match='no sentinel knows'):
                connect(url.replace('service', 'nothing'), BackendOptions()).open(SETTINGS, create=True)
            with pytest.raises(BackendUnavailable):
                connect(url.replace(address, f'127.0.0.1:{free_port()}'), BackendOptions()).open(SETTINGS, create=True)

    @pytest.mark.parametrize('careful', [False, True])
    def test_a_master_that_may_be_cut_off(self, server: RedisServer, caplog: pytest.LogCaptureFixture, careful: bool) -> None:
        """A warning says so, unless it stops writing without its replicas."""
        options = ['--min-replicas-to-write', '1', '--min-replicas-max-lag', '5'] if careful else []
        with (
            closing(RedisServer(server.program, options=options)) as master,
            closing(replica_of(master)),
            closing(SentinelServer(master)) as sentinel,
            closing(connect(sentinel.url(), BackendOptions())) as backend,
        ):
            backend.open(SETTINGS, create=True)
        assert event_log.flush(120)
        assert [record.levelname for record in caplog.records if 'cut off' in record.message] == ['WARNING'] * (not careful)

    def test_durable_is_for_one_server(self) -> None:
        """Replicas are asynchronous, so a service is never declared durable."""
        with pytest.raises(ConfigError, match='durable'):
            connect('redis+sentinel://h/name?durable=yes', BackendOptions())


def slave_port(sentinel: SentinelServer) -> int:
    """The port of the replica that a sentinel has found."""
    told = sentinel.ask('SENTINEL', 'REPLICAS', sentinel.service).split('\n')
    return int(told[told.index('port') + 1]) if 'port' in told else 0


class TestJobs:
    """Real jobs on a server that goes back in time or forgets everything."""

    def test_a_flushed_server(self, harness: RedisHarness, server: RedisServer) -> None:
        """Everything is lost under jobs at work."""
        with Cluster(server.url(), 'abc') as cluster:
            cluster.survives(lambda: flush(server))

    def test_a_restart_that_forgets(self, forgetful_redis_server: RedisServer) -> None:
        """A server without persistence is restarted."""
        server = forgetful_redis_server
        server.ask('FLUSHALL')

        def restart() -> None:
            server.kill()
            server.start()

        with Cluster(server.url(15), 'abc') as cluster:  # whoever is left of another test opens that in the first database
            cluster.survives(restart)

    def test_a_stale_replica(self, harness: RedisHarness, server: RedisServer) -> None:
        """A replica is promoted that knows nothing of the last node, nor of what moved when it joined."""
        with closing(replica_of(server)) as replica, Cluster(server.url(), 'ab') as cluster:
            eventually(lambda: cluster.is_shared_out)
            eventually(lambda: replica.is_synchronised)
            replica.ask('REPLICAOF', '127.0.0.1', str(free_port()))
            cluster.add('c')
            eventually(lambda: cluster.is_shared_out)
            assert replica.ask('HLEN', 'jobsync:{sync_}:nodes') == '2'

            def fail_over() -> None:
                replica.promote()
                server.change_places(replica)

            cluster.survives(fail_over)

    def test_a_restart_of_a_durable_server(self, harness: RedisHarness, server: RedisServer) -> None:
        """Nobody loses anything: the same tokens, the same timeline."""
        with Cluster(harness.url, 'abc') as cluster:
            eventually(lambda: cluster.is_shared_out)
            handle = harness.connect()
            before = handle.snapshot()
            harness.restart()
            eventually(lambda: beaten_since(handle, before))
            after = handle.snapshot()
            assert (after.timeline, after.version) == (before.timeline, before.version)
            assert cluster.is_shared_out
            assert cluster.watch.clashes == []


def flush(server: RedisServer) -> None:
    """Lose everything."""
    server.ask('FLUSHALL')


def beaten_since(handle: Backend, before: Snapshot) -> bool:
    """Whether every node has had another heartbeat."""
    try:
        now = {node.name: node.beat for node in handle.snapshot().nodes}
    except BackendUnavailable:
        return False
    return all(now[node.name][0] == node.incarnation and now[node.name][1] > node.heartbeat for node in before.nodes)


class Name:
    """The host ``one.example``, whose name leads to one server of this machine, and then to another."""

    def __init__(self) -> None:
        self.leads_to: RedisServer | Relay | None = None
        self._find = socket.getaddrinfo

    def find(self, host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        """Find the addresses of a host, as ``socket.getaddrinfo`` does."""
        if host == 'one.example':
            assert self.leads_to is not None
            host, port = '127.0.0.1', self.leads_to.port
        return list(self._find(host, port, *rest, **options))

    def url(self, server: RedisServer) -> str:
        """Lead to a server, and return its URL with this name."""
        self.leads_to = server
        return server.url().replace('127.0.0.1', 'one.example')


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Name:
    """A name that leads to no server yet."""
    found = Name()
    monkeypatch.setattr(socket, 'getaddrinfo', found.find)
    return found


def test_a_name_that_leads_elsewhere_meanwhile(server: RedisServer, name: Name) -> None:
    """As after a failover by DNS: while the former master runs on, a node that connects anew is refused at the promoted one."""
    with (
        closing(RedisServer(server.program)) as former,
        closing(replica_of(former)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        eventually(lambda: promoted.is_synchronised)
        promoted.promote()
        name.leads_to = promoted
        former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        there = [f'127.0.0.1:{each.port}' for each in (promoted, former)]
        with pytest.raises(ConfigError, match=f'{there[0]} and {there[1]} both accept writes'):
            namespace.beat(ref)
        former.kill()
        assert namespace.beat(ref).store != namespace.timeline.store


def test_a_new_master_that_does_not_say_what_it_is(server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails as in any outage, and the next one compares the two masters all the same."""
    read, failures = read_info, [redis.TimeoutError('no answer')]

    def read_late(call: functools.partial[Any]) -> Mapping[str, str]:
        if call.args[0].host == 'one.example' and name.leads_to is promoted and failures:
            call.args[0].disconnect()  # as redis-py does when an answer is late
            raise failures.pop()
        return read(call)

    with closing(RedisServer(server.program)) as former, closing(RedisServer(server.program)) as promoted:
        monkeypatch.setattr('jobsync.backends.redis.pool.read_info', read_late)
        with closing(connect(name.url(former), BackendOptions())) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            name.leads_to = promoted
            former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
            with pytest.raises(BackendUnavailable, match='no answer'):
                namespace.beat(ref)
            with pytest.raises(ConfigError, match='both accept writes'):
                namespace.beat(ref)


def test_a_socket_whose_link_leads_elsewhere_meanwhile(server: RedisServer, tmp_path: Path) -> None:
    """A node is refused at another master there while the former one runs on, and served once that has ended."""
    link = tmp_path / 'link'
    with closing(RedisServer(server.program)) as former, closing(RedisServer(server.program)) as promoted:
        link.symlink_to(former.socket)
        url = former.url(socket_only=True).replace(str(former.socket), str(link))
        with closing(connect(url, BackendOptions())) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            link.unlink()
            link.symlink_to(promoted.socket)
            former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
            with pytest.raises(ConfigError, match=f'{promoted.socket} and {former.socket} both accept writes'):
                namespace.beat(ref)
            former.kill()
            with pytest.raises(SchemaMismatch):
                namespace.beat(ref)


def test_a_former_address_at_which_another_protocol_is_spoken(server: RedisServer, name: Name) -> None:
    """A node is served, though what answers there (here a server of chats) begins as Redis does with a number."""
    with (
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        name.leads_to = promoted
        former.kill()
        with socket.create_server(('127.0.0.1', former.port)) as chats:

            def greet() -> None:
                client, _ = chats.accept()
                with client:
                    client.sendall(b':chats.example NOTICE * :hello\r\n')
                    client.recv(65536)

            thread = threading.Thread(target=greet, daemon=True)
            thread.start()
            with pytest.raises(SchemaMismatch):
                namespace.beat(ref)
            thread.join(600)


def test_a_name_that_leads_to_a_replica_before_that_is_promoted(server: RedisServer, name: Name) -> None:
    """A node that has connected to it meanwhile is refused there once it is a master, while the former one runs on."""
    with (
        closing(RedisServer(server.program)) as former,
        closing(replica_of(former)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        eventually(lambda: promoted.is_synchronised)
        name.leads_to = promoted
        former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        with pytest.raises(BackendUnavailable, match='READONLY'):
            namespace.beat(ref)
        promoted.promote()
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)


def test_no_time_left_to_reach_a_former_master(server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails as in any outage, and the next one compares the two masters all the same."""
    read, late = read_info, [True]

    def read_late(call: functools.partial[Any]) -> Mapping[str, str]:
        info = read(call)
        if call.args[0].host == 'one.example' and name.leads_to is promoted and late:
            call.args[1]._at -= 1000.0
            late.clear()
        return info

    with closing(RedisServer(server.program)) as former, closing(RedisServer(server.program)) as promoted:
        monkeypatch.setattr('jobsync.backends.redis.pool.read_info', read_late)
        with closing(connect(name.url(former), BackendOptions())) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            name.leads_to = promoted
            former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
            with pytest.raises(BackendUnavailable, match='within the time for this call'):
                namespace.beat(ref)
            with pytest.raises(ConfigError, match='both accept writes'):
                namespace.beat(ref)


def fails_meanwhile(
    server: RedisServer, name: Name, serve: Callable[[socket.socket], None], said: str, options: BackendOptions
) -> None:
    """A call at the promoted master fails while ``serve`` serves the node as the former one, and is refused after that."""
    with (
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        closing(connect(name.url(former), options)) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        name.leads_to = promoted
        former.kill()
        listening = socket.create_server(('127.0.0.1', former.port))

        def serve_once() -> None:
            with closing(listening), listening.accept()[0] as client:
                serve(client)

        thread = threading.Thread(target=serve_once, daemon=True)
        thread.start()
        with pytest.raises(BackendUnavailable, match=f'not known yet whether 127.0.0.1:{former.port} accepts .*{said}'):
            namespace.beat(ref)
        thread.join(600)
        former.start()
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)


@pytest.mark.parametrize('said', ['LOADING Redis is loading the dataset in memory', 'BUSY Redis is busy running a script.'])
def test_a_former_master_that_does_not_serve_yet(server: RedisServer, name: Name, said: str) -> None:
    """As while it starts, or is busy."""

    def answer(command: bytes) -> bytes:
        if b'INFO' in command and not said.startswith('BUSY'):
            return b'$25\r\nrole:master\r\nrun_id:123\r\n\r\n'
        return f'-{said}\r\n'.encode() if b'INFO' in command or b'HGET' in command else b'+OK\r\n'

    def serve(client: socket.socket) -> None:
        while command := client.recv(65536):
            client.sendall(answer(command))

    fails_meanwhile(server, name, serve, said[:4], BackendOptions())


@pytest.mark.parametrize('last', [b'INFO', b'HGET'])
def test_a_former_master_whose_answer_is_lost(server: RedisServer, name: Name, last: bytes) -> None:
    """It has just let the node in, so it is there."""

    def serve(client: socket.socket) -> None:
        while last not in (command := client.recv(65536)):
            client.sendall(b'$13\r\nrole:master\r\n\r\n' if b'INFO' in command else b'+OK\r\n')

    fails_meanwhile(server, name, serve, 'closed', BackendOptions())


def test_a_slow_former_master_and_a_short_wait(server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait connects first, and gives it as much time as any call does. So the two masters are compared."""
    reached_in = list[float]()

    def opened_in(*args: Any) -> Any:
        reached_in.extend(args[3:])
        return opened(*args)

    monkeypatch.setattr(pool, 'opened', opened_in)
    with (
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        relayed(former.port) as slow,
        closing(connect(name.url(former), BackendOptions(op_timeout_sec=600.0))) as backend,
    ):
        name.leads_to = slow
        namespace = Namespace(backend)
        ref = namespace.join('a')
        name.leads_to, slow.delay_sec = promoted, 1.0
        former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        backend.wait(0, 0.1)
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)
        assert min(reached_in) > 200.0  # a lost packet is sent again after a second


def test_a_former_master_in_the_first_seconds_of_a_script(
    server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing, for longer than the half of a call, until it says that it is busy."""

    def serve(client: socket.socket) -> None:
        threading.Event().wait(3.0)
        client.sendall(b'-BUSY Redis is busy running a script.\r\n')
        client.recv(65536)

    monkeypatch.setattr(pool, 'BUSY_SEC', 600.0)
    fails_meanwhile(server, name, serve, 'BUSY', BackendOptions(op_timeout_sec=5.0))


def test_the_time_to_reach_a_former_master_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is for the one address that is reached, however many the name has."""
    find, times = socket.getaddrinfo, list[float]()

    def find_many(host: str, *rest: Any, **options: Any) -> list[Any]:
        found = list(find('127.0.0.1' if host == 'one.example' else host, *rest, **options))
        return found * 100 if host == 'one.example' else found

    monkeypatch.setattr(socket, 'getaddrinfo', find_many)
    monkeypatch.setattr(pool._NamedConnection, 'connect', lambda self: times.append(self.socket_connect_timeout))
    opened(pool._NamedConnection, {'host': 'one.example', 'port': 1, 'place': '127.0.0.1'}, Deadline(1000), 600)
    assert times == [600]


def test_another_node_of_a_cluster_that_is_full(server: RedisServer, name: Name) -> None:
    """The name has the addresses of all nodes. A call at one of them does not wait until the node of before takes clients."""
    with cluster_of_two(server) as (one, two):
        url = name.url(one)
        namespace_name = next(each for each in ('a_', 'b_', 'c_', 'd_') if slot_of(one, each) < 8192)
        with closing(connect(url, BackendOptions(namespace_name))) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            name.leads_to = two
            move_slot(str(slot_of(one, namespace_name)), one, two)
            one.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
            with one.session() as ask:
                ask('CONFIG', 'SET', 'maxclients', '1')
                assert namespace.beat(ref).heartbeat == 1


def test_no_file_left_to_reach_a_former_master_with(server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails as in any outage, and the next one compares the two masters all the same."""
    failures = list[OSError]()

    class Limited(socket.socket):
        def connect(self, address: Any) -> None:
            if address == ('127.0.0.1', former.port) and failures:
                raise failures.pop()
            super().connect(address)

    with (
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        name.leads_to = promoted
        former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        monkeypatch.setattr(socket, 'socket', Limited)
        failures.append(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        with pytest.raises(BackendUnavailable, match='Too many open files'):
            namespace.beat(ref)
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)


@pytest.mark.parametrize('is_under_way', [False, True])
def test_a_connection_to_a_replica_that_is_promoted(
    server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch, is_under_way: bool
) -> None:
    """It is not used on, for a later call or the one under way: the node is refused while the former master runs."""

    def read_and_promote(call: Callable[..., Any]) -> Mapping[str, str]:
        info = read_info(call)
        if info['role'] == 'slave':
            promoted.promote()
        return info

    with (
        closing(RedisServer(server.program)) as former,
        closing(replica_of(former)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        eventually(lambda: promoted.is_synchronised)
        name.leads_to = promoted
        former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        if is_under_way:
            monkeypatch.setattr(pool, 'read_info', read_and_promote)
            with pytest.raises(BackendUnavailable, match='READONLY'):
                namespace.beat(ref)
        else:
            backend.wait(0, 1)
            promoted.promote()
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)


def test_a_connection_that_is_left_at_a_former_master(server: RedisServer, name: Name) -> None:
    """A call is under way there while another one turns to the new master. The connection is not used on."""
    with (
        closing(RedisServer(server.program)) as former,
        closing(replica_of(former)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        assert isinstance(backend, RedisBackend)
        connections, namespace = backend._namespace.pool, Namespace(backend)
        ref = namespace.join('a')
        eventually(lambda: promoted.is_synchronised)
        first = connections._taken()
        assert first is not None
        promoted.promote()
        former.ask('REPLICAOF', '127.0.0.1', str(promoted.port))
        name.leads_to = promoted
        second = connections.connect(Deadline(600))
        connections._keep(first)
        connections._keep(second)
        former.ask('REPLICAOF', 'NO', 'ONE')
        namespace.beat(ref)
        (used,) = connections._idle
        assert used._sock is not None
        assert used._sock.getpeername()[1] == promoted.port


def test_another_thread_turns_to_a_new_master_meanwhile(server: RedisServer, name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to the former master was compared before that. Once both accept writes, it is not used on."""
    with (
        closing(RedisServer(server.program)) as first,
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        closing(connect(name.url(first), BackendOptions())) as backend,
    ):
        assert isinstance(backend, RedisBackend)
        connections, namespace = backend._namespace.pool, Namespace(backend)
        ref = namespace.join('a')
        for each in (former, promoted):  # copies
            with closing(connect(each.url(), BackendOptions())) as copy:
                Namespace(copy)
        first.kill()
        name.leads_to, promotions, read_former = former, iter([promoted]), connections._read_former

        def and_turn_to_the_other(*arguments: Any) -> Any:
            found = read_former(*arguments)
            for each in promotions:
                former.ask('REPLICAOF', '127.0.0.1', str(each.port))
                name.leads_to = each
                connections._keep(connections.connect(Deadline(600)))
                former.ask('REPLICAOF', 'NO', 'ONE')
            return found

        monkeypatch.setattr(connections, '_read_former', and_turn_to_the_other)
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)
        assert next(promotions, None) is None


def test_a_former_master_that_takes_no_more_clients(server: RedisServer, name: Name) -> None:
    """A call at the promoted one fails as in any outage while the former one serves the clients that it has."""
    with (
        closing(RedisServer(server.program)) as former,
        closing(RedisServer(server.program)) as promoted,
        closing(connect(name.url(former), BackendOptions())) as backend,
    ):
        namespace = Namespace(backend)
        ref = namespace.join('a')
        name.leads_to = promoted
        former.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        with former.session() as ask:
            ask('CONFIG', 'SET', 'maxclients', '1')
            with pytest.raises(BackendUnavailable, match=f'not known yet whether 127.0.0.1:{former.port} accepts .*max number'):
                namespace.beat(ref)
            assert ask('CONFIG', 'SET', 'maxclients', '100') == 'OK'
        with pytest.raises(ConfigError, match='both accept writes'):
            namespace.beat(ref)
