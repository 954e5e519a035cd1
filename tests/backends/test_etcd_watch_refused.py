"""A watch that etcd refuses, as after a change of users or rights under a running node."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from tests.support.harnesses.etcd import EtcdHarness, connect_to
from tests.support.servers import EtcdServer, ServerProcess
from tests.support.servers.etcd import find_etcd
from tests.support.timings import DEADLINE_SEC

from jobsync import Cluster
from jobsync._event_log import event_log
from jobsync.backends._common.backoff import Backoff
from jobsync.backends.etcd.connection import EtcdConnection
from jobsync.backends.etcd.errors import Refused, not_let_in
from jobsync.cli.doctor import examine
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.etcd


@pytest.fixture
def harness(etcd_server: EtcdServer) -> Iterator[EtcdHarness]:
    """A namespace of its own on a server."""
    with closing(EtcdHarness(etcd_server)) as harness:
        yield harness


def test_a_refused_watch_has_no_traceback(
    harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node's own calls are refused as well, and its log says so in a line for each."""
    backend, read = harness.connect(), EtcdConnection.read
    Namespace(backend)
    refusals: list[Exception] = [
        not_let_in('etcdserver: user name is empty', 'host:2379'),
        Refused('etcd at host:2379 refuses this request (etcdserver: user name is empty)'),
        not_let_in('etcdserver: authentication failed', 'host:2379'),
    ]

    def refused(connection: EtcdConnection, *arguments: Any) -> Any:
        if refusals:
            raise refusals.pop(0)
        return read(connection, *arguments)

    monkeypatch.setattr(Backoff, 'next_sec', lambda _: 0.01)
    monkeypatch.setattr(EtcdConnection, 'read', refused)
    assert backend.wait(-1, DEADLINE_SEC) >= 0
    assert not refusals
    assert event_log.flush(DEADLINE_SEC)
    assert [record.getMessage() for record in caplog.records if record.name == 'jobsync.backends.etcd'] == []


class GrpcProxy(ServerProcess):
    """etcd's own proxy, which ends a watch whose stream of requests has ended."""

    name = 'grpc-proxy'

    def __init__(self, behind: EtcdServer) -> None:
        self._behind = behind
        super().__init__()

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        return [str(find_etcd()), 'grpc-proxy', 'start', f'--endpoints={self._behind.endpoint}', f'--listen-addr={self.here}']

    @property
    def here(self) -> str:
        """Host and port."""
        return f'127.0.0.1:{self.port}'

    def answers(self) -> bool:
        """See ``ServerProcess``."""
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', self.port)) == 0


def test_a_proxy_that_ends_each_watch(
    harness: EtcdHarness, etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Changes are polled, without the pauses that grow while a server is away; the log says so once, and why."""
    monkeypatch.setattr(Backoff, 'next_sec', lambda _: 3600.0)
    caplog.set_level('INFO')
    namespace = Namespace(harness.connect())
    with closing(GrpcProxy(etcd_server)) as proxy, closing(connect_to(f'etcd://{proxy.here}/', 'sync_')) as backend:
        for name in 'abcde':
            number = namespace.revision.number
            namespace.join(name)
            assert backend.wait(number, DEADLINE_SEC) > number
        assert 'a worker that has to poll says so in its log' in next(examine(Cluster(backend))).words
    assert event_log.flush(DEADLINE_SEC)
    (line,) = [record.getMessage() for record in caplog.records if record.name == 'jobsync.backends.etcd']
    assert line == f'etcd at {proxy.here} ends each watch (context canceled), as its grpc-proxy does: polling every 1 s instead'
