"""What only etcd has: its URL, users, TLS, endpoints, limits, compaction, watches, clients of the user's own, and forks."""

# ruff: noqa: D102 - helpers of the tests, and a password that guards nothing

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import http.client
import itertools
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import grpc
import pytest
from click.testing import CliRunner
from tests.backends.relay import relayed
from tests.job.waiting import wait_until
from tests.signals import AlarmError, Interruption
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer, free_port, start_members
from tests.support.starved_threads import without_first_thread
from tests.support.timings import PATIENT
from tests.support.waiting import eventually

from jobsync import CoordinationConfig, Job
from jobsync._cluster.reading import ClusterReader
from jobsync._core.assignment import TokenGroup
from jobsync._core.records import (
    INITIAL,
    Eviction,
    HistoryKind,
    LockEdit,
    LockFilter,
    LockReading,
    LockRequest,
    Registration,
    Settings,
)
from jobsync._event_log import event_log
from jobsync.backend import Backend, BackendOptions, Claim, Unclaimed
from jobsync.backends._common.backoff import Backoff
from jobsync.backends.etcd import channel, chunked_log, errors, forks, from_client, history, requests, watcher
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.connection import EtcdConnection
from jobsync.backends.etcd.driver import etcd3
from jobsync.backends.etcd.item_records import FIRST, place_of
from jobsync.backends.etcd.plugin import connect
from jobsync.backends.etcd.url import Login, cluster_of
from jobsync.backends.etcd.watcher import Watcher
from jobsync.cli.commands import cli
from jobsync.errors import BackendUnavailable, ConfigError, Conflict, Evicted, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace, purged

pytestmark = pytest.mark.etcd

PASSWORD = "p@ss:w/o?r#d% '\\&,ü"
WORKER = f'worker:{quote(PASSWORD, safe="")}'
DAY = dt.date(2026, 3, 2)
DEADLINE_SEC = 100


@pytest.fixture
def harness(etcd_server: EtcdServer) -> Iterator[EtcdHarness]:
    harness = EtcdHarness(etcd_server)
    yield harness
    harness.close()


def succeeds(call: Callable[[], object]) -> bool:
    """Make a call, and return whether the store was there."""
    with contextlib.suppress(BackendUnavailable):
        call()
        return True
    return False


def failure_of(call: Callable[[], object]) -> str:
    """Make a call that fails, and return what its error says."""
    with pytest.raises(BackendUnavailable) as caught:
        call()
    return str(caught.value)


def with_users(server: EtcdServer) -> EtcdServer:
    """Make users, of whom ``worker`` may do what the documentation asks for, and have everybody log in from now on."""
    server.ctl('user', 'add', 'root', '--new-user-password=root')
    server.ctl('user', 'grant-role', 'root', 'root')
    server.ctl('role', 'add', 'jobs')
    server.ctl('role', 'grant-permission', 'jobs', '--prefix=true', 'readwrite', 'jobsync/')
    server.ctl('user', 'add', 'worker', f'--new-user-password={PASSWORD}')
    server.ctl('user', 'grant-role', 'worker', 'jobs')
    server.ctl('user', 'add', 'stranger', '--new-user-password=stranger')
    server.ctl('auth', 'enable')
    return server


@pytest.fixture(scope='module')
def guarded() -> Iterator[EtcdServer]:
    """A server whose tokens end after a second."""
    server = EtcdServer('--auth-token-ttl=1')
    yield with_users(server)
    server.close()


@pytest.fixture
def guarded_url(guarded: EtcdServer) -> Iterator[str]:
    """The server is empty, and left empty."""
    yield guarded.url(WORKER)
    guarded.ctl('--user=root:root', 'del', '', '--prefix')


@pytest.fixture
def signing(tmp_path: Path) -> Iterator[EtcdServer]:
    """A server whose tokens are signed, and good until a user or a role changes."""
    key = tmp_path / 'signing.key'
    subprocess.run(['openssl', 'genrsa', '-out', key, '2048'], check=True, capture_output=True)
    server = EtcdServer(f'--auth-token=jwt,priv-key={key},sign-method=RS256,ttl=1h')
    yield with_users(server)
    server.close()


def change_roles(server: EtcdServer) -> None:
    server.ctl('--user=root:root', 'role', 'add', 'another')
    server.ctl('--user=root:root', 'role', 'delete', 'another')


def raw(backend: object) -> EtcdBackend:
    assert isinstance(backend, EtcdBackend)
    return backend


def keys_of(backend: object, prefix: bytes = b'') -> dict[bytes, bytes]:
    """What etcd holds of a namespace under a prefix."""
    store = raw(backend).store
    return dict(store.range(store.keys.root + prefix, 0, time.monotonic() + 60))


def end_watch(backend: object) -> None:
    """As soon as it is open."""
    watcher = raw(backend)._watcher
    eventually(lambda: watcher._stream)
    watcher._stream.cancel()


class Learner(EtcdServer):
    """A member that is to catch up with another one before it votes."""

    def __init__(self, voter: EtcdServer) -> None:
        self._voter = voter
        super().__init__()

    def prepare(self) -> None:
        """See ``ServerProcess``."""
        self._voter.ctl('member', 'add', 'late', '--learner', f'--peer-urls=http://127.0.0.1:{self.peer_port}')

    def _identity(self, peers: str) -> list[str]:
        cluster = f'only=http://127.0.0.1:{self._voter.peer_port},late={peers}'
        return [
            '--name=late',
            f'--initial-advertise-peer-urls={peers}',
            f'--initial-cluster={cluster}',
            '--initial-cluster-state=existing',
        ]

    def answers(self) -> bool:
        """See ``ServerProcess``: it refuses what ``etcdctl`` asks for."""
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', self.port)) == 0


class TestUrl:
    """Which servers a URL names, and that it tells no secret."""

    @pytest.mark.parametrize(
        'rest',
        [
            '',
            'u:secret@',
            'u:secret@h:port',
            'u:secret@h:0',
            'u:secret@h:99999',
            'u:secret@h1,,h2',
            'u:secret@h/path',
            'u:secret@h#x',
            'u:sec%ffret@h',
            'user@h',
            ':secret@h',
            'h:2379:secret',
            'u:secret@h?cert=secret',
            'u:secret@h?password=secret',
            'u:secret@h?ca=secret&ca=secret',
            'u:secret@h?ca',
        ],
    )
    def test_bad_urls_are_refused_without_their_secrets(self, rest: str) -> None:
        """The message says how to write a URL, and quotes nothing of this one."""
        with pytest.raises(ConfigError, match='etcd://user') as caught:
            connect(f'etcd://{rest}', BackendOptions())
        assert 'secret' not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """Is told by the option's name and its own."""
        with pytest.raises(ConfigError, match=r"ca='.*nowhere\.pem'.*No such file"):
            connect(f'etcds://h?ca={tmp_path}/nowhere.pem', BackendOptions())

    @pytest.mark.parametrize(
        ('variable', 'value', 'expected'), [('http_proxy', 'http://127.0.0.1:{}', 1), ('https_proxy', '', 0)]
    )
    def test_a_proxy_between(self, variable: str, value: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a server is not reached, and the environment has a proxy for gRPC, the error names the variable."""
        for each in errors.PROXIES:
            monkeypatch.delenv(each, raising=False)
        monkeypatch.setenv(variable, value.format(free_port()))
        options = BackendOptions(op_timeout_sec=1.0)
        address = f'etcd://127.0.0.1:{free_port()}'
        with closing(connect(address, options)) as backend, pytest.raises(BackendUnavailable) as caught:
            backend.open(SETTINGS, create=False)
        assert str(caught.value).count(f'the environment has {variable}, and gRPC connects by way of that proxy') == expected

    def test_nothing_is_reached_by_connect(self) -> None:
        """A URL of servers that do not exist is as good as any, and so is closing what was never used."""
        connect('etcd://h1,h2:1,[::1]:2379,10.0.0.1', BackendOptions()).close()

    @pytest.mark.parametrize('namespace', ['', 'a/b', 'a b', 'ä', 'a-b', '../x'])
    def test_a_namespace_is_checked(self, namespace: str) -> None:
        """As on the other stores: letters, digits and underscores."""
        with pytest.raises(ConfigError, match='letters, digits and underscores'):
            connect('etcd://h', BackendOptions(namespace))

    def test_case_alone_tells_no_namespaces_apart(self, harness: EtcdHarness) -> None:
        """As on the other stores."""
        Namespace(harness.connect('App_')).join('a')
        assert list(Namespace(harness.connect('aPP_')).nodes()) == ['a']

    @pytest.mark.parametrize('zone', ['%25eth0', '%eth0', '%254'])
    def test_an_address_on_one_link(self, zone: str) -> None:
        """Its zone is the name or the number of an interface."""
        (endpoint,) = cluster_of(f'etcd://[fe80::1{zone}]:1').endpoints
        assert endpoint == f'[fe80::1{zone.replace("%25", "%")}]:1'

    def test_the_servers_show(self) -> None:
        """In the repr, in their order, with their ports; user and password do not."""
        backend = connect('etcd://user:secret@h1,h2:1', BackendOptions('app_'))
        assert repr(backend) == '<EtcdBackend etcd h1:2379,h2:1 app_>'


class TestEndpoints:
    """Several servers, of which one answers."""

    def test_the_next_is_asked(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """One where nobody listens, and one that says nothing, cost no more than a part of the time."""
        with socket.socket() as silent:
            silent.bind(('127.0.0.1', 0))
            silent.listen()
            hosts = f'127.0.0.1:{free_port()},127.0.0.1:{silent.getsockname()[1]},{etcd_server.endpoint}'
            with closing(connect(f'etcd://{hosts}', BackendOptions(op_timeout_sec=6.0))) as backend:
                namespace = Namespace(backend)
                assert namespace.beat(namespace.join('a')).heartbeat == 1

    def test_another_takes_over(self) -> None:
        """When the member that was spoken to stops, the next call, or the one after it, is answered by another."""
        members = start_members()
        try:
            url = f'etcd://{",".join(member.endpoint for member in members)}'
            with closing(connect(url, BackendOptions(**PATIENT))) as patient:
                before = Namespace(patient).snapshot().store
            with closing(connect(url, BackendOptions(op_timeout_sec=2.0))) as backend:
                wait_until(lambda: succeeds(backend.snapshot), 'the first member answers')
                members[0].pause()
                wait_until(lambda: succeeds(backend.snapshot), 'another member answers')
                assert backend.snapshot().store == before
        finally:
            for member in members:
                member.close()

    def test_most_members_are_away(self) -> None:
        """The error of the one that is left names the cause: this one runs, and answers what needs no majority."""
        members = start_members()
        try:
            for member in members[1:]:
                member.kill()
            with closing(connect(f'etcd://{members[0].endpoint}', BackendOptions(op_timeout_sec=2.0))) as backend:
                assert re.search('most members of the cluster .*etcdctl endpoint status', failure_of(backend.snapshot))
        finally:
            for member in members:
                member.close()

    def test_a_learner(self) -> None:
        """The error says what such a member is, and the two ways out."""
        with closing(EtcdServer()) as voter, closing(Learner(voter)) as learner:
            with closing(connect(learner.url(), BackendOptions(op_timeout_sec=2.0))) as backend:
                assert re.search('is a learner.*etcdctl member promote', failure_of(backend.snapshot))
            with closing(connect(f'etcd://{learner.endpoint},{voter.endpoint}', BackendOptions(**PATIENT))) as backend:
                Namespace(backend)

    def test_the_end_of_a_call_whose_connection_is_given_up(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """Its error says why: another call over that connection had no answer, and closed it."""
        said: list[str] = []
        with closing(connect(etcd_server.url(), BackendOptions(**PATIENT))) as backend:
            backend.open(SETTINGS, create=True)
            connection = raw(backend).store.connection

            def is_said() -> bool:
                call = threading.Thread(target=lambda: said.append(failure_of(backend.snapshot)))
                call.start()
                while call.is_alive():
                    connection.hang_up()
                    call.join(0.01)
                return 'given up, since another call over it had no answer' in said[-1]

            etcd_server.pause()
            try:
                wait_until(is_said, 'a call is cut off while it waits for the answer')
            finally:
                etcd_server.resume()

    def test_servers_of_two_clusters(self, harness: EtcdHarness, etcd_server: EtcdServer) -> None:
        """They are refused, whichever comes first: nodes that reach one each would both own all tokens."""
        other = EtcdServer()
        try:
            for first, second in ((other, etcd_server), (etcd_server, other)):
                said = f'{first.endpoint} of .*, {second.endpoint} of .*one cluster only'
                with (
                    closing(connect(f'etcd://{first.endpoint},{second.endpoint}', BackendOptions(**PATIENT))) as backend,
                    pytest.raises(ConfigError, match=said),
                ):
                    backend.open(SETTINGS, create=True)
        finally:
            other.close()

    def test_another_cluster_in_the_place_of_one(self, harness: EtcdHarness) -> None:
        """Servers that all belong to another cluster than before are that cluster, as after a restore."""
        server = EtcdServer()
        try:
            with closing(connect(f'etcd://127.0.0.1:{free_port()},{server.endpoint}', BackendOptions(**PATIENT))) as backend:
                before = Namespace(backend).snapshot().store
                server.restore()
                wait_until(lambda: succeeds(backend.snapshot), 'it answers')
                assert backend.snapshot().store != before
        finally:
            server.close()

    def test_none_answers(self) -> None:
        """The error names the server, and comes at once where nobody listens."""
        port = free_port()
        with closing(connect(f'etcd://u:secret@127.0.0.1:{port}', BackendOptions())) as backend:
            with pytest.raises(BackendUnavailable, match=f'127.0.0.1:{port}') as caught:
                backend.open(SETTINGS, create=True)
            assert 'secret' not in f'{caught.value} {caught.value.__cause__!r}'


class TestSilence:
    """A connection that leads nowhere any more, though nothing says so."""

    @pytest.fixture(autouse=True)
    def no_keepalive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """GRPC's pings would end such a connection too, only later."""
        monkeypatch.setitem(channel.CHANNEL_OPTIONS, 'grpc.keepalive_time_ms', 3_600_000)

    def test_a_bulk_reading_goes_on(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """Amid a long reading nothing comes any more: long before its own deadline it goes on over another connection."""
        namespace = Namespace(harness.connect())
        for number in range(40):
            namespace.backend.append_audits('a', [os.urandom(50_000).hex() + str(number)], DAY)
        with relayed(etcd_server.port) as relay:
            options = BackendOptions(op_timeout_sec=2.0, bulk_timeout_sec=3600.0)
            with closing(connect(f'etcd://127.0.0.1:{relay.port}', options)) as backend:
                backend.open(SETTINGS, create=True)
                relay.silence(after=1_000_000)
                found: list[int] = []
                reading = threading.Thread(target=lambda: found.append(len(backend.history(HistoryKind.AUDIT))))
                reading.start()
                assert relay.fell_silent.wait(DEADLINE_SEC)
                reading.join(DEADLINE_SEC)
                assert found == [40]

    def test_a_bulk_reading_over_a_slow_line(self, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer that is too large to come within the time for one request is asked for in parts."""
        namespace, read = Namespace(harness.connect()), EtcdConnection.read
        for number in range(3):
            namespace.backend.append_audits('a', [os.urandom(300_000).hex() + str(number)], DAY)
        asked = []

        def slow(self: EtcdConnection, method: str, request: Any, deadline: float) -> Any:
            answer = read(self, method, request, deadline)
            asked.append(len(answer.kvs) if method == 'KV.Range' else 0)
            if asked[-1] > 1:
                raise errors.Late('not all of it came in time')
            return answer

        monkeypatch.setattr(EtcdConnection, 'read', slow)
        assert len(namespace.backend.history(HistoryKind.AUDIT)) == 3
        assert max(asked) > 1

    def test_a_server_that_hangs(self, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """If not even the smallest question is answered, no smaller page is asked for."""
        namespace = Namespace(harness.connect())
        asked = Mock(side_effect=errors.Late('no answer'))
        monkeypatch.setattr(channel.EtcdChannel, 'call', asked)
        with pytest.raises(BackendUnavailable):
            namespace.snapshot()
        assert asked.call_count == 2  # the last one is the smallest question

    @pytest.mark.parametrize(
        ('within_sec', 'others_are_answered', 'is_given_up'), [(600.0, False, True), (600.0, True, False), (0.3, False, False)]
    )
    def test_a_connection_is_given_up(self, within_sec: float, others_are_answered: bool, is_given_up: bool) -> None:
        """After one long call, if nothing came meanwhile: what is answered goes on beside a call that takes too long."""
        client, of, late = Mock(), channel.EtcdChannel('server', Mock()), grpc.RpcError()
        late.code, late.details = lambda: grpc.StatusCode.DEADLINE_EXCEEDED, lambda: 'Deadline Exceeded'

        def answer_others(*_: Any, **__: Any) -> None:
            if others_are_answered:
                of._answered = time.monotonic()
            raise late

        of._client, of._calls = client, {'KV.Range': answer_others}
        with pytest.raises(errors.Late):
            of.call('KV.Range', None, time.monotonic() + within_sec)
        assert client.close.called is is_given_up

    def test_two_calls_give_one_connection_up(self) -> None:
        """The second one ends no call over the connection that is made in its place."""
        new, late = Mock(), grpc.RpcError()
        of = channel.EtcdChannel('server', lambda: new)
        late.code, late.details = lambda: grpc.StatusCode.DEADLINE_EXCEEDED, lambda: 'Deadline Exceeded'
        others = iter(['another call'])

        def answer(*_: Any, **__: Any) -> None:
            for _each in others:
                with pytest.raises(errors.Late):
                    of.call('KV.Range', None, time.monotonic() + 600.0)
                of._method('KV.Range')
            raise late

        of._client, of._calls = old, _ = Mock(), {'KV.Range': answer}
        with pytest.raises(errors.Late):
            of.call('KV.Range', None, time.monotonic() + 600.0)
        assert (old.close.call_count, new.close.call_count) == (1, 0)

    def test_another_thread_forgets_the_token(self) -> None:
        """Between two steps of a call: that is sent with the token which was there, or logs in."""
        tokens = ['token']

        class Forgetting(channel.EtcdChannel):
            @property
            def _token(self) -> str:
                return tokens.pop() if tokens else ''

            @_token.setter
            def _token(self, token: str) -> None:
                pass

        of = Forgetting('server', Mock(), Login('user', 'password'))
        assert of._logged_in(time.monotonic() + 600.0) == 'token'

    def test_a_node_goes_on(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """One call is lost; heartbeats and the watch go on over a new connection."""
        with relayed(etcd_server.port) as relay:
            options = BackendOptions(op_timeout_sec=2.0)
            with closing(connect(f'etcd://127.0.0.1:{relay.port}', options)) as backend:
                namespace, other = Namespace(backend), Namespace(harness.connect())
                ref = namespace.join('a')
                assert backend.wait(0, DEADLINE_SEC) == 1
                relay.silence()
                with pytest.raises(BackendUnavailable):
                    namespace.beat(ref)
                assert namespace.beat(ref).heartbeat in (1, 2)
                other.join('b')
                assert backend.wait(1, DEADLINE_SEC) == 2

    def test_a_server_that_is_far_away(self, etcd_server: EtcdServer) -> None:
        """A connection may take as long as half of a call, and not only a second."""
        with relayed(etcd_server.port) as relay:
            relay.delay_sec = 1.2
            with closing(connect(f'etcd://127.0.0.1:{relay.port}', BackendOptions(op_timeout_sec=DEADLINE_SEC))) as backend:
                assert isinstance(backend, EtcdBackend)
                backend.store.connection.proven(backend.store.soon())


class TestUsers:
    """A server that wants to know who asks."""

    def test_a_password_of_any_characters(self, guarded_url: str, caplog: pytest.LogCaptureFixture) -> None:
        """It reaches the server as it is, and shows nowhere; a role for the keys ``jobsync/`` suffices for everything."""
        caplog.set_level(logging.DEBUG)
        with closing(connect(guarded_url, BackendOptions())) as backend:
            namespace = Namespace(backend)
            leader = namespace.leader()
            namespace.lock('x')
            namespace.commit(leader, TokenGroup(range(9), 'a'), moved=9)
            backend.append_claims(leader, ['x'], DAY)
            backend.append_audits('leader', ['x'], DAY)
            assert backend.wait(0, DEADLINE_SEC) > 0
            namespace.state()
            assert [purged(backend, kind, dt.datetime.now(dt.UTC)) for kind in HistoryKind] == [1, 1, 1]
            shown = f'{backend!r} {vars(backend)!r} {caplog.text}'
        for secret in (PASSWORD, quote(PASSWORD, safe='')):
            assert secret not in shown

    def test_a_token_that_has_expired_is_renewed(self, guarded_url: str) -> None:
        """Neither a reading nor a heartbeat notices, and the heartbeat counts once."""
        with closing(connect(guarded_url, BackendOptions())) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            for count in (1, 2):
                token = self.expired(backend)
                assert namespace.beat(ref).heartbeat == count
                assert token != self.token(backend)
            self.expired(backend)
            assert namespace.node('a').heartbeat == 2

    def token(self, backend: object) -> str:
        return raw(backend).store.connection.proven(time.monotonic() + 60)._token

    def expired(self, backend: object) -> str:
        """Wait until the server does not take the present token any more."""
        connection, token = raw(backend).store.connection, self.token(backend)
        link = connection.proven(time.monotonic() + 60)
        login, link._login = link._login, None

        def is_refused() -> bool:
            with contextlib.suppress(ConfigError):
                connection.read('KV.Txn', requests.when((), [requests.get(b'jobsync/x')]), time.monotonic() + 60)
                time.sleep(1.5)  # each use of a token lengthens its life
                return False
            return True

        eventually(is_refused)
        link._login = login
        return token

    def test_a_watch_goes_on(self, guarded_url: str) -> None:
        """It outlives the token it began with, and one that begins with an expired token begins again."""
        with (
            closing(connect(guarded_url, BackendOptions())) as backend,
            closing(connect(guarded_url, BackendOptions())) as other,
        ):
            namespace = Namespace(other)
            assert backend.wait(-1, DEADLINE_SEC) == 0
            self.expired(backend)
            for number in (1, 2):
                end_watch(backend)
                namespace.join(f'n{number}')
                assert backend.wait(number - 1, DEADLINE_SEC) >= number

    def test_changed_roles_are_survived(self, signing: EtcdServer) -> None:
        """A change of users or roles makes signed tokens stale. Readings go on; a heartbeat does, or at once after an error."""
        with closing(connect(signing.url(WORKER), BackendOptions())) as backend:
            namespace = Namespace(backend)
            ref = namespace.join('a')
            change_roles(signing)
            assert namespace.node('a').heartbeat == 0
            change_roles(signing)
            if not is_there(lambda: namespace.beat(ref)):
                namespace.beat(ref)
            assert namespace.node('a').heartbeat == 1

    @pytest.mark.parametrize('user', ['', 'worker:wrongsecret', 'nobody:wrongsecret', 'stranger:stranger'])
    def test_whoever_may_not(self, guarded: EtcdServer, user: str) -> None:
        """No login, a wrong one and one without rights are told as a matter of configuration, without the password."""
        with closing(connect(guarded.url(user), BackendOptions())) as backend:
            with pytest.raises(ConfigError, match=guarded.endpoint) as caught:
                backend.open(SETTINGS, create=True)
            assert 'wrongsecret' not in f'{caught.value} {caught.value.__cause__!r}'

    def test_a_server_without_users(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """A login is ignored while nobody has to log in."""
        with closing(connect(etcd_server.url('any:thing'), BackendOptions())) as backend:
            assert backend.open(SETTINGS, create=True).settings == SETTINGS


@pytest.fixture(scope='module')
def encrypted(certificates: Path) -> Iterator[EtcdServer]:
    """A server that speaks TLS, knows its clients by their certificates, and wants a password besides."""
    server = EtcdServer('--client-cert-auth', certificates=certificates)
    server.ctl('user', 'add', 'root', f'--new-user-password={PASSWORD}')
    server.ctl('user', 'grant-role', 'root', 'root')
    server.ctl('auth', 'enable')
    yield server
    server.close()


class TestTls:
    """An encrypted connection."""

    def options(self, folder: Path) -> str:
        return f'ca={folder}/ca.pem&cert={folder}/client.pem&key={folder}/client.key'

    @pytest.mark.parametrize('scheme', ['etcd', 'etcds'])
    @pytest.mark.parametrize('more', ['', '&server_name=etcd.example'])
    def test_with_certificates_and_password(self, encrypted: EtcdServer, certificates: Path, scheme: str, more: str) -> None:
        """Files that are named make a connection encrypted under either scheme; the login goes through it."""
        user = f'root:{quote(PASSWORD, safe="")}'
        url = f'{encrypted.url(user).replace("etcds", scheme)}?{self.options(certificates)}{more}'
        with closing(connect(url, BackendOptions())) as backend:
            namespace = Namespace(backend)
            namespace.join(f'{scheme}{more}')
            assert backend.wait(0, DEADLINE_SEC) > 0

    @pytest.mark.parametrize('options', ['', '?ca={}/other.pem', '?ca={}/ca.pem', '?ca={0}/ca.pem&server_name=other.example'])
    def test_without_the_right_ones(self, encrypted: EtcdServer, certificates: Path, options: str) -> None:
        """A server that cannot prove who it is, or to whom we cannot, is as good as away."""
        url = encrypted.url() + options.format(certificates)
        with closing(connect(url, BackendOptions(op_timeout_sec=2.0))) as backend, pytest.raises(BackendUnavailable):
            backend.open(SETTINGS, create=True)

    @pytest.mark.parametrize(
        ('options', 'hint'),
        [
            ('ca={0}/ca.pem', "give the client's certificate as cert and key"),
            ('ca={0}/ca.pem&cert={0}/server.pem&key={0}/client.key', 'cert and key are a pair'),
            ('ca={0}/ca.key&cert={0}/client.pem&key={0}/client.key', 'files in PEM'),
        ],
    )
    def test_what_is_said_of_the_wrong_ones(self, encrypted: EtcdServer, certificates: Path, options: str, hint: str) -> None:
        """By itself gRPC names neither the files nor what is wrong with them."""
        url = f'{encrypted.url()}?{options.format(certificates)}'

        def is_said() -> bool:
            with pytest.raises(BackendUnavailable) as caught:
                backend.open(SETTINGS, create=True)
            return hint in str(caught.value)

        with closing(connect(url, BackendOptions())) as backend:
            eventually(is_said)

    @pytest.mark.parametrize('name', ['ca', 'cert', 'key'])
    def test_a_file_that_is_empty(self, certificates: Path, tmp_path: Path, name: str) -> None:
        """It is refused, and while it is being written the one before counts: gRPC would end the process, or trust others."""
        files = {'ca': 'ca.pem', 'cert': 'client.pem', 'key': 'client.key'}
        for file in files.values():
            shutil.copy(certificates / file, tmp_path / file)
        url = f'etcds://localhost?{self.options(tmp_path)}'
        tls = cluster_of(url).tls
        assert tls is not None
        before = tls.read()
        (tmp_path / files[name]).write_bytes(b'')
        assert tls.read() == before
        with pytest.raises(ConfigError, match=f'{name}=.*: the file is empty'):
            cluster_of(url)

    def test_files_that_are_replaced(self, encrypted: EtcdServer, certificates: Path, tmp_path: Path) -> None:
        """A worker goes on with renewed certificates, and with what it has where it may not read the files any more."""
        for name, source in (('ca.pem', 'other.pem'), ('client.pem', 'client.pem'), ('client.key', 'client.key')):
            shutil.copy(certificates / source, tmp_path / name)
        url = f'{encrypted.url("root:" + quote(PASSWORD, safe=""))}?{self.options(tmp_path)}'
        with closing(connect(url, BackendOptions())) as backend:
            assert not succeeds(lambda: backend.open(SETTINGS, create=True))
            shutil.copy(certificates / 'ca.pem', tmp_path / 'ca.pem')
            eventually(lambda: succeeds(lambda: backend.open(SETTINGS, create=True)))
            shutil.rmtree(tmp_path)
            raw(backend).store.connection.hang_up()
            assert succeeds(lambda: backend.open(SETTINGS, create=True))


class TestContent:
    """What is in the keys."""

    def test_values_and_leftovers(self, harness: EtcdHarness) -> None:
        """No value exceeds 256 KiB, and only what the state names is kept, whatever was left behind by a writer that lost."""
        backend = harness.connect()
        namespace = Namespace(backend, Settings(100_000, 'xxh3'))
        leader = namespace.leader()
        connection, prefix = raw(backend).store.connection, raw(backend).store.keys.tokens
        left = requests.put(prefix + b'0000000000000001-0000000000000001/000000', b'left behind')
        connection.write('KV.Txn', requests.when((), [left]), time.monotonic() + 60)
        for step in range(40):
            groups = [TokenGroup(range(start, 100_000, 50 + step), f'n{start}') for start in range(50 + step)]
            namespace.commit(leader, *groups)
        values = keys_of(backend)
        assert max(map(len, values.values())) <= 256 * 1024
        state = raw(backend).store.read_state(time.monotonic() + 60).state
        named = {key for entry in state.assignment.entries for key in entry.keys(prefix)}
        assert keys_of(backend, b'token/').keys() == named
        assert len(state.assignment.entries) < 40
        fresh = Namespace(harness.connect(), Settings(100_000, 'xxh3'))
        assert fresh.assignment().owner == namespace.assignment().owner

    def test_locks_are_written_anew_now_and_then(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """After many edits only what the state names is kept, and another handle reads the same."""
        for number in range(80):
            namespace.lock(f'task {number % 50}', patterns=(f'p{number}',))
        state = (
            raw(namespace.backend)
            .store.read([requests.get(raw(namespace.backend).store.keys.state)], time.monotonic() + 60)
            .state
        )
        named = {key for entry in state.locks.entries for key in entry.keys(raw(namespace.backend).store.keys.locks)}
        assert keys_of(namespace.backend, b'lock/').keys() == named
        assert len(state.locks.entries) <= 33
        assert Namespace(harness.connect()).locks() == namespace.locks()
        assert len(namespace.locks()) == 50

    def test_a_part_that_was_deleted(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A node that has to read it begins a new timeline, rather than search for it without end or take it for nothing."""
        leader = namespace.leader()
        known = namespace.commit(leader, TokenGroup(range(9), 'a'))
        namespace.backend.read_assignment()
        harness.server.ctl('del', '--prefix', 'jobsync/sync_/token/')
        assert namespace.backend.read_assignment(known).groups == ()
        check_new_timeline(harness, namespace, 'deleted manually')
        with pytest.raises(Evicted):
            namespace.beat(leader)

    def test_a_part_that_was_deleted_is_found_by_a_command(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A command that shows the cluster leaves it as it is: nodes that have read the part go on until one has to read it."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'a'))
        harness.server.ctl('del', '--prefix', 'jobsync/sync_/token/')
        with pytest.raises(BackendUnavailable, match='manually, so that the next node'):
            ClusterReader(harness.connect()).read()
        namespace.beat(leader)
        assert namespace.snapshot().timeline == namespace.timeline
        check_new_timeline(harness, namespace, 'deleted manually')

    def test_a_part_that_was_deleted_before_the_whole_is_written(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The leader that is to write the whole anew begins a new timeline: else it could never commit again."""
        monkeypatch.setattr('jobsync.backends.etcd.chunked_log.MOST_CHANGES', 1)
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'a'))
        plan, guard, before = namespace.plan(TokenGroup([1], 'b')), namespace.guard(), namespace.snapshot().timeline
        harness.server.ctl('del', '--prefix', 'jobsync/sync_/token/')
        with pytest.raises(BackendUnavailable, match='deleted manually, so that a new timeline begins'):
            namespace.backend.commit(leader, plan, guard)
        assert namespace.snapshot().timeline.generation == before.generation + 1

    def test_a_state_of_another_format(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A state from before or after this format is refused with both versions; what is no state at all is refused too."""
        state = keys_of(namespace.backend)[b'jobsync/sync_/state'].decode()
        for value, message in (
            (state.replace('"schema_version":5', '"schema_version":7'), r'version 7.*needs version 5.*install the newer'),
            (state.replace('"schema_version":5', '"schema_version":3'), r'version 3.*needs version 5.*another appname'),
            ('nonsense', 'another program'),
        ):
            harness.server.ctl('put', 'jobsync/sync_/state', value)
            for create in (True, False):
                with pytest.raises(SchemaMismatch, match=message):
                    harness.connect().open(SETTINGS, create=create)

    @pytest.mark.parametrize(
        ('field', 'value'),
        [('longest_timeout_sec', 1e299), ('longest_timeout_sec', -1), ('last_created', '9999-12-31T23:59:59.999999+00:00')],
    )
    def test_a_state_that_no_node_can_go_on_from(
        self, harness: EtcdHarness, namespace: Namespace, field: str, value: object
    ) -> None:
        """A timeout that no node has, which all would wait for, or a time that none follows; put back, all goes on."""
        ref, before = namespace.join('a'), keys_of(namespace.backend)[b'jobsync/sync_/state'].decode()
        harness.server.ctl('put', 'jobsync/sync_/state', json.dumps(json.loads(before) | {field: value}))
        for call in (namespace.snapshot, lambda: namespace.beat(ref), lambda: namespace.join('b')):
            with pytest.raises(SchemaMismatch, match=f'cannot be read .*{field}'):
                call()
        harness.server.ctl('put', 'jobsync/sync_/state', before)
        assert [node.ref for node in namespace.snapshot().nodes] == [ref]

    @pytest.mark.parametrize('field', ['timeout_sec', 'weight'])
    def test_a_node_with_more_than_any_has(self, harness: EtcdHarness, namespace: Namespace, field: str) -> None:
        """Its record is left out: the tokens of a node that dies would wait for its timeout."""
        leader, ref = namespace.leader(), namespace.join('a')
        form = json.loads(keys_of(namespace.backend)[b'jobsync/sync_/node/a'])
        form['node'][field] = 1e9
        harness.server.ctl('put', 'jobsync/sync_/node/a', json.dumps(form))
        (report,) = namespace.snapshot().unreadable
        assert f'{field}=1000000000.0' in report.problem
        assert [node.ref for node in namespace.snapshot().nodes] == [leader]
        with pytest.raises(Evicted):
            namespace.beat(ref)

    def test_what_is_appended_again_costs_no_space(self, namespace: Namespace) -> None:
        """A claim that is repeated takes the place of the one before it."""
        ref = namespace.join('a')
        for _ in range(5):
            namespace.backend.append_claims(ref, ['x', 'y'], DAY)
            namespace.backend.append_audits('a', ['x', 'y'], DAY)
        assert len(keys_of(namespace.backend, b'history/claim/')) == len(keys_of(namespace.backend, b'history/audit/')) == 1

    def test_the_claims_of_an_item_are_read_without_those_of_all_others(
        self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each tick of a schedule is a claim, and reads its own; claims with others, and of an older jobsync, are found too."""
        ref, backend = namespace.join('a'), raw(namespace.backend)
        for number in range(60):
            backend.append_claims(ref, [f'tick {number}'], DAY)
            backend.append_audits('a', [f'tick {number}'], DAY)
        backend.append_claims(ref, ['x', 'tick 7'], DAY)
        place = b'jobsync/sync_/history/claim/2026-03-02/'
        (key,) = [each for each in keys_of(backend, b'history/claim/') if each.startswith(place + place_of('tick 8'))]
        older = place + key.removeprefix(place + place_of('tick 8'))
        value, soon = keys_of(backend, b'history/claim/')[key], time.monotonic() + DEADLINE_SEC
        backend.store.connection.write('KV.Txn', requests.when((), [requests.delete(key), requests.put(older, value)]), soon)
        read = list[bytes]()
        pages = backend.store._pages

        def counted(*args: Any, **options: Any) -> Iterator[Any]:
            for answer in pages(*args, **options):
                read.extend(found.key for found in answer.kvs)
                yield answer

        monkeypatch.setattr(backend.store, '_pages', counted)
        for number, rows in ((7, 1), (8, 1), (9, 1), (60, 0)):
            found = backend.history(HistoryKind.CLAIM, date=DAY, item=f'tick {number}')
            assert [isinstance(row, Claim) and row.item for row in found] == [f'tick {number}'] * rows
            assert len(backend.history(HistoryKind.AUDIT, date=DAY, item=f'tick {number}')) == rows
        assert len(read) < 20
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now + dt.timedelta(hours=1)) == 60

    def test_an_audit_may_follow_a_purge(self, namespace: Namespace) -> None:
        """What was purged in part can be recorded again under what it was recorded with before."""
        namespace.backend.append_claims(namespace.join('a'), ['y'], DAY)
        namespace.backend.append_audits('a', ['x', 'y'], DAY)
        assert namespace.purge(HistoryKind.AUDIT, namespace.snapshot().now + dt.timedelta(hours=1)) == 1
        assert [audit.item for audit in namespace.audits()] == ['y']
        namespace.backend.append_audits('a', ['x', 'y'], DAY)
        assert sorted(audit.item for audit in namespace.audits()) == ['x', 'y']

    def test_the_log_of_attempts_is_purged_with_the_claims(self, namespace: Namespace) -> None:
        """A record goes once none of its items is incomplete, in portions as well; the mark of an incomplete one stays."""
        ref = namespace.join('a')
        for number in range(6):
            namespace.backend.append_claims(ref, [f'done {number}'], DAY, 3)
        namespace.backend.append_claims(ref, ['done', 'open'], DAY, 3)
        namespace.backend.append_audits('a', ['done', *(f'done {number}' for number in range(6))], DAY)
        later = namespace.snapshot().now + dt.timedelta(hours=1)
        assert len(keys_of(namespace.backend, b'history/attempt/')) == 7
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now - dt.timedelta(hours=1), limit=2) == 0
        assert len(keys_of(namespace.backend, b'history/attempt/')) == 7
        assert namespace.purge(HistoryKind.CLAIM, later, limit=2) == 7
        assert len(keys_of(namespace.backend, b'history/attempt/')) == 1

    def test_the_other_history_of_a_date_is_read_in_portions(self, namespace: Namespace) -> None:
        """A portion of one claim reads few audits, although two purges take turns on one handle."""
        ref = namespace.join('a')
        namespace.backend.append_claims(ref, ['7-42', 'open'], DAY)
        for number in range(12):
            namespace.backend.append_audits('a', [f'{number}-{item}' for item in range(100)], DAY)
        later, ends = namespace.snapshot().now + dt.timedelta(hours=1), {HistoryKind.CLAIM: '', HistoryKind.AUDIT: ''}
        deleted, portions, open_kinds = dict.fromkeys(ends, 0), 0, list(ends)
        while open_kinds:
            for kind in list(open_kinds):
                portion = namespace.backend.purge(kind, later, 10, ends[kind])
                deleted[kind] += portion.deleted
                ends[kind] = portion.resume
                portions += kind is HistoryKind.CLAIM
                if not portion.resume:
                    open_kinds.remove(kind)
        assert deleted[HistoryKind.CLAIM] == 1
        assert portions >= 12
        assert [claim.item for claim in namespace.claims()] == ['open']

    def test_a_large_append_is_there_whole(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """Items that fill several requests are recorded in one step, purged in part, and purged."""
        ref, items = namespace.join('a'), [f'{number:05}' + os.urandom(300).hex() for number in range(6_000)]
        namespace.backend.append_claims(ref, items, DAY)
        assert len(keys_of(namespace.backend, b'history/claim/')) > 4
        namespace.backend.append_audits('a', items[::2], DAY)
        assert [claim.item for claim in namespace.backend.incomplete(DAY, dt.timedelta(0))] == items[1::2]
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now) == 3_000
        assert sorted(claim.item for claim in namespace.claims()) == items[1::2]
        namespace.backend.append_audits('a', items, DAY)
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now) == 3_000
        assert keys_of(namespace.backend, b'history/claim/') == {}

    def test_a_purge_amid_a_large_append(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is appended again while a purge deletes what was appended before is there, whole."""
        items = [f'{number:05}' + os.urandom(300).hex() for number in range(6_000)]
        namespace.backend.append_audits('a', items, DAY)
        store, other, later = (
            raw(namespace.backend).store,
            harness.connect(),
            namespace.backend.snapshot().now + dt.timedelta(hours=1),
        )
        put_ahead, counts = store.put_ahead, list[int]()

        def and_purge(chunks: Any, deadline: float) -> None:
            put_ahead(chunks, deadline)
            counts.append(purged(other, HistoryKind.AUDIT, later))

        monkeypatch.setattr(store, 'put_ahead', and_purge)
        namespace.backend.append_audits('a', items, DAY)
        assert counts == [6_000]
        assert sorted(audit.item for audit in namespace.audits()) == items

    def test_a_large_claim_that_loses_leaves_nothing_behind(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again after other items were completed, and writes each of its records once: no purge finds pieces."""
        monkeypatch.setattr(chunked_log, 'CHUNK', 100)
        ref, other, items = namespace.join('a'), harness.connect(), [os.urandom(50).hex() for _ in range(9)]
        namespace.backend.append_claims(ref, ['x'], DAY, 0)
        other.append_audits('b', ['y'], DAY)
        assert namespace.backend.append_claims(ref, items, DAY, 0) == Unclaimed(frozenset())
        for trail in (b'history/claim/', b'history/attempt/'):
            keys = keys_of(namespace.backend, trail)
            assert len({key[:-7] for key in keys}) == len([key for key in keys if key.endswith(FIRST)]) == 2

    def test_a_snapshot_of_several_answers(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is of one moment, whatever is written between two of them."""
        for name in 'ab':
            namespace.join(name)
        before, backend, names = namespace.snapshot(), harness.connect(), iter('c')
        connection = raw(backend).store.connection
        read = connection.read

        def one_by_one(method: str, request: Any, deadline: float) -> Any:
            if request.limit > 1:
                raise errors.TooLarge('the answer')
            answer = read(method, request, deadline)
            for name in names:
                namespace.join(name)
            return answer

        monkeypatch.setattr(connection, 'read', one_by_one)
        found = backend.snapshot()
        assert (found.revision, len(found.nodes)) == (before.revision, 2)

    def test_a_large_completion_that_others_read_half_way(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Most of it was written before their last reading: what is new by the next one is read as a whole."""
        monkeypatch.setattr(chunked_log, 'CHUNK', 100)
        ref, items, other = namespace.join('a'), [os.urandom(50).hex() for _ in range(9)], harness.connect()
        store = raw(namespace.backend).store
        put_ahead = store.put_ahead

        def and_let_others_read(*args: Any) -> None:
            put_ahead(*args)
            harness.connect().append_audits('c', ['x'], DAY)
            assert other.append_claims(ref, ['x'], DAY) == Unclaimed(frozenset({'x'}))

        monkeypatch.setattr(store, 'put_ahead', and_let_others_read)
        namespace.backend.append_audits('b', items, DAY)
        assert other.append_claims(ref, items[:1], DAY) == Unclaimed(frozenset(items[:1]))

    def test_attempts_that_are_forgotten(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """They are those before, whatever the names of the records: none of them counts for who reads all records later."""
        ref, items = namespace.join('a'), [f'item {number}' for number in range(10)]
        for item in items:
            namespace.backend.append_claims(ref, [item], DAY, 0)
            namespace.backend.forget_attempts([item], DAY)
        namespace.backend.append_claims(ref, ['open'], DAY, 0)
        namespace.backend.deregister(ref)
        assert harness.connect().lost_attempts(DAY) == {'open': 1}

    def test_a_claim_amid_completions_of_other_nodes(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each of them has it read what is complete, so it leaves out what was completed meanwhile; in the end it is recorded."""
        backend, ref, other = namespace.backend, namespace.join('a'), harness.connect()
        connection, numbers = raw(backend).store.connection, itertools.count()
        write = connection.write

        def after_a_completion(method: str, request: Any, deadline: float) -> Any:
            if (number := next(numbers)) < 2 * history.MOST_ATTEMPTS:
                other.append_audits('b', ['x' if number == 2 else f'item {number}'], DAY)
            return write(method, request, deadline)

        monkeypatch.setattr(connection, 'write', after_a_completion)
        assert backend.append_claims(ref, ['x', 'y'], DAY) == Unclaimed(frozenset({'x'}))
        assert next(numbers) == history.MOST_ATTEMPTS + 1
        assert [claim.item for claim in namespace.claims()] == ['y']

    def test_claims_of_two_dates_at_once(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A claim begins, and another thread claims at another date meanwhile: what is completed is found all the same."""
        monkeypatch.setattr(history, 'MOST_DATES', 1)
        backend, ref = namespace.backend, namespace.join('a')
        backend.append_claims(ref, ['w'], DAY)
        harness.connect().append_audits('b', ['x'], DAY)
        store, other_day = raw(backend).store, iter([DAY + dt.timedelta(days=1)])
        remembered = store.remembered

        def and_claim(key: bytes) -> Any:
            for day in other_day:
                backend.append_claims(ref, ['x'], day)
            return remembered(key)

        monkeypatch.setattr(store, 'remembered', and_claim)
        assert backend.append_claims(ref, ['x'], DAY) == Unclaimed(frozenset({'x'}))

    @pytest.mark.parametrize('tolerated', [None, 0])
    def test_claims_of_two_dates_in_turn(
        self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, tolerated: int | None
    ) -> None:
        """As where a job that runs past midnight has a schedule: what is complete at a date is read once, not for each claim."""
        backend, ref, days = namespace.backend, namespace.join('a'), [DAY, DAY + dt.timedelta(days=1)]
        for day in days:
            backend.append_audits('b', ['x'], day)
            backend.append_claims(ref, ['x', 'y'], day, tolerated)
        read = Mock()
        monkeypatch.setattr(raw(backend).store.connection, 'read', read)
        for day in days:
            assert backend.append_claims(ref, ['x', 'z'], day, tolerated) == Unclaimed(frozenset({'x'}))
            backend.append_audits('a', ['z'], day)
            assert backend.append_claims(ref, ['x', 'z', 'w'], day, tolerated) == Unclaimed(frozenset({'x', 'z'}))
        read.assert_not_called()

    @pytest.mark.parametrize('is_claim', [False, True], ids=['reading', 'claim'])
    def test_an_attempt_that_ends_while_it_is_read(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, is_claim: bool
    ) -> None:
        """Completions and nodes are read as of one moment: a run that completes its item and leaves has lost nothing."""
        run, ref, reader = namespace.join('a'), namespace.join('b'), harness.connect()
        namespace.backend.append_claims(run, ['x'], DAY, 0)
        store, has_left = raw(reader).store, list[bool]()
        read_cluster = store.read_cluster

        def and_leave(*args: Any) -> Any:
            if not has_left:
                has_left.append(True)
                namespace.backend.append_audits('a', ['x'], DAY)
                namespace.backend.deregister(run)
            return read_cluster(*args)

        monkeypatch.setattr(store, 'read_cluster', and_leave)
        if is_claim:
            assert reader.append_claims(ref, ['x'], DAY, 0) == Unclaimed(frozenset({'x'}))
        else:
            assert reader.lost_attempts(DAY) == {}
        assert has_left

    def test_a_claim_that_counts_no_attempts_between(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """Attempts that were forgotten count no more, though a claim that counts none has read that first."""
        dead, ref, backend = namespace.join('dead'), namespace.join('a'), namespace.backend
        backend.append_claims(dead, ['x'], DAY, 0)
        backend.deregister(dead)
        assert backend.append_claims(ref, ['x', 'y'], DAY, 0) == Unclaimed(frozenset(), {'x': 1})
        harness.connect().forget_attempts(['x'], DAY)
        assert backend.append_claims(ref, ['z'], DAY) == Unclaimed(frozenset())
        assert backend.append_claims(ref, ['x', 'y'], DAY, 0) == Unclaimed(frozenset())

    def test_another_thread_reads_an_attempt_of_a_newcomer(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Threads share what was read: with an attempt come the nodes of that moment, not those of an earlier one."""
        ref, reader = namespace.join('a'), harness.connect()
        store, newcomers = raw(reader).store, iter(['n'])
        items_since = store.items_since

        def and_claim(*args: Any) -> Any:
            found = items_since(*args)
            for name in newcomers:
                namespace.backend.append_claims(namespace.join(name), ['x'], DAY, 0)
                assert reader.append_claims(ref, ['y'], DAY, 0) == Unclaimed(frozenset())
            return found

        monkeypatch.setattr(store, 'items_since', and_claim)
        assert reader.append_claims(ref, ['x'], DAY, 0) == Unclaimed(frozenset()), 'the newcomer lives'
        assert next(newcomers, None) is None


WORK: dict[str, Callable[[bytes], bytes]] = {
    'nonsense': lambda value: b'\xff',
    'no compression': lambda value: value.partition(b'\n')[0] + b'\nnonsense',
    'a part of it': lambda value: value[:-3],
    'a bomb': lambda value: value.partition(b'\n')[0] + b'\n' + zlib.compress(b'[' + b' ' * 60_000_000 + b'"x"]', 9),
    'no list': lambda value: value.partition(b'\n')[0] + b'\n' + zlib.compress(b'"abc"'),
    'numbers': lambda value: value.partition(b'\n')[0] + b'\n' + zlib.compress(b'[1]'),
    'deep': lambda value: value.partition(b'\n')[0] + b'\n' + zlib.compress(b'[' * 200_000),
    'no node': lambda value: value.replace(b'"a"', b'null'),
    'no time': lambda value: value.replace(b'"at":"', b'"at":"+1000'),
    'no timezone': lambda value: value.replace(b'+00:00', b''),
    'another field': lambda value: b'{"chunks":0,' + value[1:],
}
"""What may become of a record of claims or audits, and is no such record any more."""


class TestSpoilt:
    """Records that jobsync did not write (rule R9); those of nodes and locks are in the conformance suite."""

    @pytest.mark.parametrize('way', WORK)
    def test_a_claim_or_an_audit(self, harness: EtcdHarness, namespace: Namespace, way: str) -> None:
        """It is left out of the trail and of what is incomplete, and a purge of what is around it leaves it alone."""
        ref = namespace.join('a')
        for item in 'xyz':
            namespace.backend.append_claims(ref, [item], DAY)
            namespace.backend.append_audits('a', [item], DAY)
        spoilt = [self.spoil(namespace, trail, way) for trail in (b'history/claim/', b'history/audit/')]
        assert len(namespace.claims()) == len(namespace.audits()) == 2
        assert len(namespace.backend.incomplete(None, dt.timedelta(0))) <= 1
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now) <= 2
        assert namespace.purge(HistoryKind.AUDIT, namespace.snapshot().now) == 2
        assert set(spoilt) <= keys_of(namespace.backend).keys()
        namespace.backend.append_audits('a', ['xyz'], DAY)
        assert [audit.item for audit in namespace.audits()] == ['xyz']

    def test_attempts(self, namespace: Namespace) -> None:
        """What jobsync did not write is left out: attempts are counted, and a purge goes on with what comes after it."""
        ref, backend = namespace.join('a'), namespace.backend
        backend.append_claims(ref, ['x'], DAY, 0)
        ((key, value),) = keys_of(backend, b'history/attempt/').items()
        put(namespace, b'jobsync/sync_/history/attempt/0', b'nonsense')
        put(namespace, key.rpartition(b'/')[0][:-1] + b'/000000', value.partition(b'\n')[0] + b'\n' + zlib.compress(b'[["x"]]'))
        backend.deregister(ref)
        assert backend.lost_attempts(DAY) == {'x': 1}
        assert backend.append_claims(namespace.join('b'), ['x'], DAY, 0) == Unclaimed(frozenset(), {'x': 1})
        backend.append_audits('a', ['x'], DAY)
        assert namespace.purge(HistoryKind.CLAIM, namespace.snapshot().now) == 1
        assert key not in keys_of(backend, b'history/attempt/')

    def test_a_name_of_a_namespace(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A key of another program under the same prefix keeps nobody from listing the namespaces."""
        put(namespace, b'jobsync/\xff/x', b'')
        assert raw(namespace.backend).read_namespaces(10)[0] == 'sync_'

    def test_a_rebalance(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """It is left out of the trail, and stays."""
        leader = namespace.leader()
        for count in range(1, 4):
            namespace.commit(leader, TokenGroup([1], f'n{count}'), moved=count)
        keys = sorted(keys_of(namespace.backend, b'history/rebalance/'))
        for value in (b'\xff', b'{}', b'{"triggered_at": "+10000-01-01"}'):
            put(namespace, keys[1], value)
            assert [rebalance.tokens_moved for rebalance in namespace.rebalances()] == [3, 1]
        assert namespace.purge(HistoryKind.REBALANCE, namespace.snapshot().now) == 2
        assert list(keys_of(namespace.backend, b'history/rebalance/')) == [keys[1]]

    def test_a_record_of_locks(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """The locks in it are left out, and reported; others are read and edited, and to remove all ends the report."""
        namespace.lock('x')
        (key,) = keys_of(namespace.backend, b'lock/')
        namespace.lock('y')
        for value in (b'nonsense', zlib.compress(b'{}'), zlib.compress(b' ' * 60_000_000, 9), None):
            put(namespace, key, value)
            backend = harness.connect()
            reading = backend.read_locks()
            assert [lock.task_id for lock in reading.locks] == ['y']
            assert [(report.kind, report.key) for report in reading.unreadable] == [('lock', '')]
            assert 'cannot be read' in reading.unreadable[0].problem
        other = Namespace(harness.connect())
        other.lock('z')
        assert set(other.locks()) == {'y', 'z'}
        other.backend.edit_locks(LockEdit(remove=LockFilter()))
        assert other.backend.read_locks() == LockReading(())

    @pytest.mark.parametrize(
        'content', [b'nonsense', lambda: zlib.compress(b'[[],[],[]'), lambda: zlib.compress(b'0' * 60_000_000, 9), b'']
    )
    def test_a_record_of_the_assignment(
        self, harness: EtcdHarness, namespace: Namespace, content: bytes | Callable[[], bytes]
    ) -> None:
        """Without it no node knows what is whose: a new timeline begins, and the error says why."""
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'a'))
        (key,) = keys_of(namespace.backend, b'token/')
        put(namespace, key, content if isinstance(content, bytes) else content())
        check_new_timeline(harness, namespace, 'cannot be read')

    def spoil(self, namespace: Namespace, trail: bytes, way: str) -> bytes:
        """Spoil the record between two others; its key."""
        values = keys_of(namespace.backend, trail)
        key = sorted(values)[1]
        put(namespace, key, WORK[way](values[key]))
        return key


def check_new_timeline(harness: EtcdHarness, namespace: Namespace, why: str) -> None:
    """Check that a complete reading begins a new timeline, and that the next one is well."""
    before, other = namespace.snapshot().timeline, harness.connect()
    with pytest.raises(BackendUnavailable, match=f'{why}.*, so that a new timeline begins'):
        other.read_assignment()
    assert (other.read_assignment().groups, other.snapshot().timeline.generation) == ((), before.generation + 1)


def put(namespace: Namespace, key: bytes, value: bytes | None) -> None:
    """As an operator might; None deletes."""
    operation = requests.delete(key) if value is None else requests.put(key, value)
    raw(namespace.backend).store.connection.write('KV.Txn', requests.when((), [operation]), time.monotonic() + 60)


class TestLimits:
    """128 operations in a transaction, and 1.5 MiB."""

    def test_as_many_die_as_one_commit_takes(self, namespace: Namespace) -> None:
        """All are evicted in one commit, and one that has beaten meanwhile is enough to refuse it."""
        leader = namespace.leader('n 50 leads')
        refs = [namespace.join(f'n {number}') for number in range(namespace.backend.info.max_removals)]
        snapshot = namespace.snapshot()
        evictions = tuple(Eviction(ref, 0) for ref in refs)
        plan, guard = namespace.plan(evictions=evictions), namespace.guard()
        other = Namespace(connect_like(namespace))
        other.beat(refs[70])
        with namespace.refused(Conflict):
            namespace.backend.commit(leader, plan, guard)
        assert len(snapshot.nodes) == len(refs) + 1
        namespace.beat(leader)
        evictions = tuple(Eviction(ref, int(ref == refs[70])) for ref in refs)
        namespace.backend.commit(leader, namespace.plan(evictions=evictions), namespace.guard())
        assert list(namespace.nodes()) == ['n 50 leads']

    def test_the_space_is_used_up(self) -> None:
        """The error says what an operator has to do; doctor notices that no write is accepted while the alarm is not disarmed."""
        server = EtcdServer('--quota-backend-bytes=1000000')
        try:
            with closing(connect(server.url(), BackendOptions())) as backend:
                backend.open(SETTINGS, create=True)
                fill = functools.partial(append_until_full, backend)
                with pytest.raises(BackendUnavailable, match=r'space exceeded.*defragment'):
                    fill()
                server.ctl('del', '--prefix', 'jobsync/sync_/history/')
                server.ctl('compact', str(backend.snapshot().position))
                server.ctl('defrag')
            result = CliRunner().invoke(cli, ['doctor', '--backend', server.url()])
            assert result.exit_code == 3
            assert re.search(r'bad +rights .* accepts no write.*space exceeded', result.stdout)
        finally:
            server.close()

    def test_the_members_differ(self) -> None:
        """While the alarm CORRUPT is on, the error of each write says what an operator has to do."""
        server = EtcdServer()
        try:
            with closing(connect(server.url(), BackendOptions(**PATIENT))) as backend:
                backend.open(SETTINGS, create=True)
                alarm = json.dumps({'action': 'ACTIVATE', 'memberID': '1', 'alarm': 'CORRUPT'})
                with closing(http.client.HTTPConnection('127.0.0.1', server.port, timeout=DEADLINE_SEC)) as connection:
                    connection.request('POST', '/v3/maintenance/alarm', alarm)
                    assert connection.getresponse().status == http.HTTPStatus.OK
                said = failure_of(lambda: backend.append_audits('a', ['task'], DAY))
                assert re.search('corrupt cluster; .*hashkv.*disarm the alarm', said)
        finally:
            server.close()


def append_until_full(backend: Backend) -> None:
    """Put a hundred large records."""
    for _ in range(100):
        backend.append_audits('a', [os.urandom(100_000).hex()], DAY)


def connect_like(namespace: Namespace) -> Any:
    """Another handle onto the same namespace."""
    endpoint = raw(namespace.backend)._shown.removeprefix('etcd ')
    return connect(f'etcd://{endpoint}', BackendOptions())


class TestCompaction:
    """Old revisions that go."""

    def compact(self, harness: EtcdHarness, namespace: Namespace) -> None:
        harness.server.ctl('compact', str(revision_of_keys(namespace)))

    def test_a_long_reading(self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
        """A trail whose revision is compacted while it is read is read anew."""
        from jobsync.backends.etcd import store

        monkeypatch.setattr(store, 'PAGE', 1)
        for number in range(3):
            namespace.backend.append_audits('a', [f'x{number}'], DAY)
        connection, compacted = raw(namespace.backend).store.connection, list[bool]()
        read = connection.read

        def and_compact(method: str, request: Any, deadline: float) -> Any:
            answer = read(method, request, deadline)
            if method == 'KV.Range' and not compacted:
                compacted.append(True)
                namespace.join('a')
                self.compact(harness, namespace)
            return answer

        monkeypatch.setattr(connection, 'read', and_compact)
        assert len(namespace.audits()) == 3
        assert compacted

    def test_old_versions_are_counted(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """Those that a compaction deletes are counted no more."""
        backend = raw(namespace.backend)
        for number in range(20):
            namespace.join(f'n{number}')
        before = backend.read_space()
        self.compact(harness, namespace)
        namespace.join('another')
        after = backend.read_space()
        assert before.versions >= 20
        assert (after.versions, after.is_trimmed) == (1, True)
        assert 500 < after.heartbeat_bytes < 5000

    def test_a_watch_that_was_away(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A change that happens, and is compacted, while no watch is open is noticed all the same."""
        backend = harness.connect()
        assert backend.wait(-1, DEADLINE_SEC) == 0
        end_watch(backend)
        for number in range(3):
            namespace.join(f'n{number}')
            self.compact(harness, namespace)
        assert backend.wait(2, DEADLINE_SEC) == 3


def revision_of_keys(namespace: Namespace) -> int:
    store = raw(namespace.backend).store
    return store.read_state(time.monotonic() + 60).at


class TestWatch:
    """Waiting for a change."""

    def test_it_begins_once_a_thread_can_be_started(self, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A first wait that finds no thread to be had is an error, and a later one wakes for changes."""
        backend = harness.connect()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', Mock(side_effect=RuntimeError("can't start new thread")))
            with pytest.raises(RuntimeError, match='start new thread'):
                backend.wait(-1, DEADLINE_SEC)
        assert backend.wait(-1, DEADLINE_SEC) == 0

    @pytest.mark.parametrize('step', ['start', 'run'])
    def test_it_begins_though_there_was_no_memory_for_its_thread(
        self, harness: EtcdHarness, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether the thread ends before or after it counts as started: no wait hangs, and a later one wakes for changes."""
        backend = harness.connect()
        monkeypatch.setattr(watcher, 'STARTING_SEC', 0.2)
        with without_first_thread('etcd-watch', step):
            with contextlib.suppress(RuntimeError):
                backend.wait(-1, 0.2)
            assert backend.wait(-1, DEADLINE_SEC) == 0

    def test_closing_waits_until_its_thread_is_out_of_grpc(self, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread that the end of the program stops there may keep a lock, for which the interpreter would wait for ever."""
        backend, drain, ended = harness.connect(), channel._drain, list[bool]()

        def slowly(answers: Any) -> None:
            time.sleep(0.2)
            drain(answers)
            ended.append(True)

        monkeypatch.setattr(channel, '_drain', slowly)
        monkeypatch.setattr(forks, 'CALLS_END_SEC', DEADLINE_SEC)
        backend.wait(-1, DEADLINE_SEC)
        eventually(lambda: raw(backend)._watcher._stream)
        backend.close()
        assert ended

    def test_an_unexpected_error_ends_no_watch(self, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is opened again: gRPC starts a thread for each, and raises when there can be no more of them."""
        backend, opened = harness.connect(), list[bool]()
        follow = Watcher._follow

        def without_a_thread(watcher: Watcher) -> bool:
            opened.append(True)
            if len(opened) == 1:
                raise RuntimeError("can't start new thread")
            return follow(watcher)

        monkeypatch.setattr(Watcher, '_follow', without_a_thread)
        assert backend.wait(-1, DEADLINE_SEC) == 0

    def test_an_unexpected_error_is_logged_at_a_falling_rate(
        self, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Of six failures in a row the first, the second and the fourth have a line; an outage has none, as calls report it."""
        backend, follow = harness.connect(), Watcher._follow
        errors = [RuntimeError("can't start new thread"), BackendUnavailable('away'), *[RuntimeError('again')] * 5]

        def failing(watcher: Watcher) -> bool:
            if errors:
                raise errors.pop(0)
            return follow(watcher)

        monkeypatch.setattr(Backoff, 'next_sec', lambda _: 0.01)
        monkeypatch.setattr(Watcher, '_follow', failing)
        assert backend.wait(-1, DEADLINE_SEC) == 0
        assert event_log.flush(DEADLINE_SEC)
        lines = [record for record in caplog.records if record.name == 'jobsync.backends.etcd']
        assert [str(record.exc_info[1]) for record in lines if record.exc_info] == ["can't start new thread", 'again', 'again']
        assert [record.getMessage()[-len('(failure 1 in a row)') :] for record in lines] == [
            f'(failure {count} in a row)' for count in (1, 2, 4)
        ]

    def test_it_is_opened_again(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """After a kill of the server the same handle wakes for changes as before."""
        backend = harness.connect()
        assert backend.wait(-1, DEADLINE_SEC) == 0
        harness.restart()
        eventually(lambda: joins(namespace, 'a'))
        assert backend.wait(0, DEADLINE_SEC) == 1
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(backend.wait(1, DEADLINE_SEC)))
        waiting.start()
        namespace.join('b')
        waiting.join(DEADLINE_SEC)
        assert answers == [2]

    def test_a_silent_connection_is_noticed_without_any_call(
        self, etcd_server: EtcdServer, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A handle that only waits opens its watch anew long before gRPC's own limit for the answer to a ping, a minute."""
        for option in [name for name in channel.CHANNEL_OPTIONS if re.search('keepalive_time_ms|_timeout_ms', name)]:
            monkeypatch.setitem(channel.CHANNEL_OPTIONS, option, 1000)
        with relayed(etcd_server.port) as relay, closing(connect(f'etcd://127.0.0.1:{relay.port}', BackendOptions())) as backend:
            other = Namespace(harness.connect())
            other.join('a')
            assert backend.wait(0, DEADLINE_SEC) == 1
            relay.silence()
            other.join('b')
            assert backend.wait(1, 45.0) == 2

    def test_nobody_is_busy_while_the_server_is_away(self) -> None:
        """Someone who listens in the server's place is asked a few times a second at most; ``close`` ends that at once."""
        server = EtcdServer()
        try:
            with closing(connect(server.url(), BackendOptions(op_timeout_sec=1.0))) as backend:
                backend.open(SETTINGS, create=True)
                assert backend.wait(-1, DEADLINE_SEC) == 0
                server.kill()
                with socket.create_server(('127.0.0.1', server.port)) as listener:
                    listener.settimeout(0.1)
                    attempts, end, used = 0, time.monotonic() + 4.0, time.process_time()
                    while time.monotonic() < end:
                        with contextlib.suppress(TimeoutError):
                            listener.accept()[0].close()
                            attempts += 1
                    assert 1 <= attempts <= 40
                    assert time.process_time() - used < 2.0
                answers: list[int] = []
                waiting = threading.Thread(target=lambda: answers.append(backend.wait(5, DEADLINE_SEC)))
                waiting.start()
                backend.close()
                waiting.join(DEADLINE_SEC / 2)
                assert answers == [5]
        finally:
            server.close()

    def test_its_thread_ends(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A closed handle leaves no thread behind."""
        backend = harness.connect()
        backend.wait(-1, DEADLINE_SEC)
        thread = raw(backend)._watcher._thread
        assert thread is not None
        backend.close()
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()


def joins(namespace: Namespace, name: str) -> bool:
    """Register a node; False if the server is not back yet."""
    with contextlib.suppress(BackendUnavailable):
        if name not in namespace.nodes():
            namespace.join(name)
        return True
    return False


class TestAnotherCluster:
    """The same content on another cluster, which a restored snapshot is."""

    def test_a_plan_from_the_one_is_not_for_the_other(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A commit that was planned from a reading of the old cluster is refused, though nothing else has changed."""
        leader = namespace.leader()
        plan, guard = namespace.plan(TokenGroup(range(9), 'a')), namespace.guard()
        harness.fail_over()
        eventually(lambda: is_there(lambda: namespace.beat(leader)))
        with pytest.raises(Conflict):
            namespace.backend.commit(leader, plan, guard)
        assert namespace.snapshot().version == guard.version

    def test_a_commit_that_is_the_first_to_meet_it(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """It is refused, or nobody knows: it never counts as done."""
        leader = namespace.leader()
        plan, guard = namespace.plan(TokenGroup(range(9), 'a')), namespace.guard()
        harness.fail_over()
        with pytest.raises((Conflict, BackendUnavailable)):
            namespace.backend.commit(leader, plan, guard)


def is_there(call: Callable[[], object]) -> bool:
    with contextlib.suppress(BackendUnavailable):
        call()
        return True
    return False


class TestClients:
    """A client of the user's own, and other definitions of etcd in the same process."""

    def test_a_ready_client(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """It is used, and left open: the user's watch and readings go on after ``close``."""
        client = etcd3.client(port=etcd_server.port)
        backend = from_client(client, BackendOptions('own_'))
        namespace = Namespace(backend)
        namespace.beat(namespace.join('a'))
        assert backend.wait(0, DEADLINE_SEC) == 1
        backend.close()
        with pytest.raises(BackendUnavailable, match='closed'):
            backend.snapshot()
        assert client.get('jobsync/own_/state')[0]
        client.close()

    def test_a_job_on_a_ready_client(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """A job takes the backend in place of a URL."""
        client = etcd3.client(port=etcd_server.port)
        config = CoordinationConfig(backend=from_client(client), total_tokens=10, minimum_nodes=1)
        with Job('a', coordination_config=config) as job:
            assert job.add_task(1)
        client.close()

    def test_a_client_that_has_logged_in(self, signing: EtcdServer) -> None:
        """Its token is sent; once that is stale the error says that it is a matter of the login."""
        client = etcd3.client(port=signing.port)
        request = etcd3.etcdrpc.AuthenticateRequest(name='worker', password=PASSWORD)
        client.metadata = (('token', etcd3.etcdrpc.AuthStub(client.channel).Authenticate(request).token),)
        with closing(from_client(client)) as backend:
            Namespace(backend).join('a')
            change_roles(signing)
            with pytest.raises((ConfigError, BackendUnavailable), match=r'auth.* is old'):
                backend.snapshot()
        client.close()

    @pytest.mark.parametrize('client', [object(), None, 'etcd://h'])
    def test_something_else(self, client: object) -> None:
        """What has no channel is refused by its type."""
        with pytest.raises(ConfigError, match=type(client).__name__):
            from_client(client)

    def test_answers_too_large_for_a_ready_client(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """A trail is read in smaller pieces where the channel has gRPC's own limit of 4 MiB."""
        client = etcd3.client(port=etcd_server.port)
        namespace = Namespace(from_client(client))
        for number in range(50):
            namespace.backend.append_audits('a', [os.urandom(100_000).hex() + str(number)], DAY)
        assert len(namespace.audits()) == 50
        client.close()

    def test_python_etcd3_works(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """The whole of its API, in the process of a backend: values, transactions, watches, leases, locks, members."""
        code = f"""
from jobsync.backends.etcd import etcd3
client = etcd3.client(port={etcd_server.port})
client.put('api/a', '1')
events, cancel = client.watch_prefix('api/')
assert client.transaction([client.transactions.value('api/a') == '1'], [client.transactions.put('api/a', '2')], [])[0]
assert next(events).value == b'2'
cancel()
lease = client.lease(30)
assert lease.remaining_ttl > 0
lease.revoke()
with client.lock('api') as lock:
    assert lock.is_acquired()
assert len(list(client.members)) == 1
print(client.status().version)
"""
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith('3.')

    @pytest.mark.parametrize('first', ['ours', 'theirs'])
    def test_other_definitions_beside_ours(self, etcd_server: EtcdServer, harness: EtcdHarness, first: str) -> None:
        """Another client's messages, under etcd's own names, can be loaded before and after ours."""
        theirs = """
from google.protobuf import descriptor_pb2, descriptor_pool
for name, package, message in (('kv.proto', 'mvccpb', 'KeyValue'), ('rpc.proto', 'etcdserverpb', 'RangeRequest')):
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax='proto3')
    file.message_type.add(name=message)
    descriptor_pool.Default().Add(file)
    descriptor_pool.Default().FindMessageTypeByName(f'{package}.{message}')
"""
        ours = f"""
import jobsync
from jobsync.backend import Backend, BackendOptions
from jobsync.backends.etcd.plugin import connect
from jobsync.backends.etcd.url import cluster_of
from jobsync.backends.etcd.watcher import Watcher
from jobsync._core.records import Settings
backend = connect({etcd_server.url()!r}, BackendOptions())
print(backend.open(Settings(5, 'md5'), create=True).settings.total_tokens)
backend.close()
"""
        code = ours + theirs if first == 'ours' else theirs + ours
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ('5\n', 0), done.stderr

    def test_the_plugin_imports_no_driver(self) -> None:
        """Whoever looks for a backend does not pay for gRPC."""
        code = 'import sys, jobsync.backends.etcd.plugin; print({"grpc", "etcd3", "google.protobuf"} & set(sys.modules))'
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        assert done.stdout == 'set()\n'


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
class TestForks:
    """A process that is forked while its threads are at work."""

    def test_both_go_on(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """Parent and child each on a connection of its own, waiting included, and no heartbeat is lost or doubled.

        A child finds nothing of gRPC running, which might crash it.
        """
        ref = namespace.join('parent')
        namespace.backend.wait(0, 1.0)
        done = threading.Event()
        beats = [0]

        def beat() -> None:
            while not done.is_set():
                namespace.beat(ref)
                beats[0] += 1

        def child(number: int) -> None:
            assert not forks.has_threads()
            namespace.beat(namespace.join(f'child {number}'))
            assert namespace.backend.wait(0, 5.0) > 0
            assert forks.has_threads()
            namespace.backend.close()

        beating = threading.Thread(target=beat)
        beating.start()
        try:
            for number in range(20):
                process = multiprocessing.get_context('fork').Process(target=child, args=(number,))
                process.start()
                process.join(DEADLINE_SEC)
                assert process.exitcode == 0
        finally:
            done.set()
            beating.join(DEADLINE_SEC)
        assert namespace.node('parent').heartbeat == beats[0]
        assert {name for name in namespace.nodes() if name.startswith('child')} == {f'child {number}' for number in range(20)}
        newest = namespace.revision.number
        namespace.join('afterwards')
        assert namespace.backend.wait(newest, DEADLINE_SEC) > newest

    def test_a_pool_is_forked_beside_another_librarys_channel(
        self, etcd_server: EtcdServer, harness: EtcdHarness, namespace: Namespace
    ) -> None:
        """As that of an exporter of OpenTelemetry's: calls are made between the forks, or the node would lose its lease."""
        client = etcd3.client(port=etcd_server.port)
        client.get('/')
        ref, done, beats = namespace.join('parent'), threading.Event(), [0]

        def beat() -> None:
            while not done.is_set():
                namespace.beat(ref)
                beats[0] += 1

        beating = threading.Thread(target=beat)
        beating.start()
        found, children = list[int](), list[int]()
        try:
            for _ in range(6):
                if not (child := os.fork()):
                    os._exit(0)
                children.append(child)
                found.append(beats[0])
        finally:
            done.set()
            beating.join(DEADLINE_SEC)
            client.close()
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        assert found[-1] > found[0]

    def test_a_handler_that_raises(self) -> None:
        """At whichever step of a call: no passage is left behind, which the next fork would wait for."""
        gate = forks.Gate()

        def call() -> None:
            with gate.passed():
                pass

        with Interruption() as points:
            call()
        for at in range(1, points.count + 1):
            with pytest.raises(AlarmError), Interruption(at):
                call()
            assert not gate._inside, f'interrupted at point {at} of {points.count}'

    def test_a_handler_that_raises_as_a_channel_is_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next call opens another one, and finds its method."""
        (opening,) = channel.channels_to(cluster_of('etcd://127.0.0.1:1'), 5.0)
        calls_on = channel.calls_on  # type: ignore[attr-defined]

        def interrupted(target: Any) -> Any:
            if threading.current_thread() is threading.main_thread():  # no handler runs in another one, such as that of a watch
                raise AlarmError
            return calls_on(target)

        with monkeypatch.context() as patched, pytest.raises(AlarmError):
            patched.setattr(channel, 'calls_on', interrupted)
            opening._method('KV.Range')
        assert callable(opening._method('KV.Range'))
        opening.close('closed')

    def test_a_handler_that_forks(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """Wherever it interrupts a call of its own thread, the fork comes about at once, and the call is answered.

        gRPC is left as it is then, and may send once more what the fork came across: were that a part of a call, the server would
        close the connection.
        """
        ref, forked = namespace.join('a'), []

        def handler(*_: object) -> None:
            if (pid := os.fork()) == 0:
                os._exit(0)
            forked.append(pid)

        before = signal.signal(signal.SIGUSR1, handler)
        started, beats = time.monotonic(), 0
        try:
            while len(forked) < 20:
                known = len(forked)
                threading.Timer(random.uniform(0.0, 0.003), os.kill, (os.getpid(), signal.SIGUSR1)).start()
                while len(forked) == known:
                    namespace.beat(ref)
                    beats += 1
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert time.monotonic() - started < 20 * forks.FORK_WAITS_SEC / 2
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert beats <= namespace.node('a').heartbeat <= beats + len(forked)

    def test_a_handler_that_forks_waits_until_all_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What gRPC has queued for a call under way is sent before the fork, or parent and child would both send it."""
        gate, states = forks.Gate(), [['S', 'R'], ['S', 'R'], ['S', 'S'], []]
        monkeypatch.setattr(forks, '_states', lambda: iter(states.pop(0)))
        with gate.passed():
            gate.shut()
        assert states == [[]]

    @pytest.mark.skipif(not forks.THREADS.is_dir(), reason='this system does not list threads')
    def test_a_thread_whose_name_is_cut_off(self) -> None:
        """In the middle of a character: the names of all threads are read before a fork, and an error would end its wait."""
        done, is_named = threading.Event(), threading.Event()

        def run() -> None:
            (forks.THREADS / str(threading.get_native_id()) / 'comm').write_bytes('jobsync-work-aä'.encode()[:15])
            is_named.set()
            done.wait(DEADLINE_SEC)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert is_named.wait(DEADLINE_SEC)
            forks.Gate().shut()
        finally:
            done.set()
            thread.join()

    def test_a_ready_client_stays_with_its_process(self, etcd_server: EtcdServer, harness: EtcdHarness) -> None:
        """In the child the backend says what to do; the parent goes on."""
        client = etcd3.client(port=etcd_server.port)
        backend = from_client(client)
        namespace = Namespace(backend)

        def child() -> None:
            with pytest.raises(BackendUnavailable, match='make both anew'):
                backend.snapshot()

        process = multiprocessing.get_context('fork').Process(target=child)
        process.start()
        process.join(DEADLINE_SEC)
        assert process.exitcode == 0
        namespace.join('a')
        client.close()


class TestOneOwner:
    """What the promise of one owner rests on in this backend."""

    def test_calls_carried_out_late(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A heartbeat and a commit whose records have moved on since they were prepared are not carried out as they are."""
        leader, other = namespace.leader(), namespace.join('b')
        store, keys = raw(namespace.backend).store, raw(namespace.backend).store.keys
        before = store.read_cluster(time.monotonic() + 60)
        namespace.beat(other)
        namespace.commit(leader)
        for key in (keys.state, keys.node('b')):
            late = requests.when([before.same(key)], [requests.put(key, b'late')])
            assert not store.connection.write('KV.Txn', late, time.monotonic() + 60).succeeded
        dead = requests.when([requests.unwritten(keys.node('b'), before.at)], [requests.delete(keys.node('b'))])
        assert not store.connection.write('KV.Txn', dead, time.monotonic() + 60).succeeded

    def test_a_remembered_record_is_not_believed(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A handle that registered a run notices at once that another has its name, at heartbeats and at claims."""
        ref = namespace.join('a')
        other = Namespace(harness.connect())
        other.join('a', replacing=(ref.incarnation, 0))
        with namespace.refused(Evicted):
            namespace.beat(ref)
        with namespace.refused(Evicted):
            namespace.backend.append_claims(ref, ['x'], DAY)

    def test_heartbeats_of_two_handles_are_counted_once_each(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """However the two alternate, each is told the count that it made."""
        ref, other = namespace.join('a'), Namespace(harness.connect())
        counts = [(namespace, other)[number % 3 == 0].beat(ref, INITIAL).heartbeat for number in range(12)]
        assert counts == list(range(1, 13))

    def test_a_claim_and_an_eviction(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A claim prepared before an eviction is refused after it."""
        leader, ref = namespace.leader(), namespace.join('a')
        other = Namespace(harness.connect())
        other.evict(leader, ref)
        with namespace.refused(Evicted):
            namespace.backend.append_claims(ref, ['x'], DAY)
        assert namespace.claims() == []

    def test_other_settings_arrive_with_a_node(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A node that joins while the settings are being replaced keeps them: the state has changed."""
        backend = harness.connect()
        store = raw(backend).store
        empty = store.read_cluster(time.monotonic() + 60)
        namespace.backend.register(Registration(namespace.ref('a'), 15.0), namespace.timeline, 0)
        write = raw(backend)._all_anew(empty, empty.state.renewed(empty.cluster))
        late = requests.when(write.compares, write.operations)
        assert not store.connection.write('KV.Txn', late, time.monotonic() + 60).succeeded
        assert list(namespace.nodes()) == ['a']

    def test_a_node_taken_for_dead_that_beats(
        self, harness: EtcdHarness, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Other settings do not replace those of a node that sends a heartbeat while they are being replaced."""
        ref, backend, others = namespace.join('a'), harness.connect(), Settings(7, 'md5')
        store = raw(backend).store
        read_cluster = store.read_cluster

        def and_beat(*arguments: Any) -> Any:
            reading = read_cluster(*arguments)
            if namespace.node('a').heartbeat == 0:
                namespace.beat(ref)
            return reading

        monkeypatch.setattr(store, 'read_cluster', and_beat)
        assert backend.open(others, True, [(ref.incarnation, 0)]).settings == SETTINGS
        assert backend.open(others, True, [(ref.incarnation, 1)]).settings == others

    def test_locks_edited_by_two(self, harness: EtcdHarness, namespace: Namespace) -> None:
        """A handle that remembers the locks edits them as they are now."""
        other = Namespace(harness.connect())
        for number in range(6):
            (namespace, other)[number % 2].lock(f'x{number}')
        other.backend.edit_locks(LockEdit(put=(LockRequest('x0', ('b',), 'me'),)))
        assert [lock.task_id for lock in namespace.backend.read_locks().locks] == [f'x{number}' for number in range(6)]
        assert namespace.locks()['x0'].patterns == ('b',)
        assert TOKENS
