"""A watch that etcd refuses, as after a change of users or rights under a running node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer
from tests.support.timings import DEADLINE_SEC

from jobsync._event_log import event_log
from jobsync.backends._common.backoff import Backoff
from jobsync.backends.etcd.connection import EtcdConnection
from jobsync.backends.etcd.errors import Refused, not_let_in
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
