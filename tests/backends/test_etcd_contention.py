"""Several writers of one key in etcd, and several threads of one handle."""

from __future__ import annotations

import contextlib
import time

import pytest
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer

from jobsync._random import RANDOM
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.nodes import EtcdNodes
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import EtcdWrite
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.etcd


def test_a_writer_that_pauses_reads_what_has_changed_meanwhile(etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one writes without a pause. What was read before the pause would be out of date at each attempt."""
    with contextlib.closing(EtcdHarness(etcd_server)) as harness:
        backend = Namespace(harness.connect()).backend
        assert isinstance(backend, EtcdBackend)
        key, deadline = b'jobsync/sync_/nothing', time.monotonic() + 600.0
        numbers = iter(range(1000))
        read = list[bytes | None]()

        def hurry(*_: float) -> float:
            backend.store.connection.write('KV.Put', put(b'%d' % next(numbers)), deadline)
            return 0.0

        def put(value: bytes) -> object:
            return requests.put(key, value).request_put

        def decide(reading: KeyReading) -> EtcdWrite[str] | str:
            read.append(reading.values.get(key))
            if len(read) <= 2:
                hurry()
            assert len(read) < 10, f'each attempt loses: {read}'
            return EtcdWrite([reading.same(key)], [requests.put(key, b'mine')], 'done')

        monkeypatch.setattr(RANDOM, 'uniform', hurry)
        assert backend.store.change([requests.get(key)], decide, deadline)[0] == 'done'
        assert read == [None, b'0', b'2']


def test_a_heartbeat_brings_the_leader_that_it_has_read(etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread of the handle, whose heartbeat was sent before the leader changed, notes the former leader meanwhile."""
    with contextlib.closing(EtcdHarness(etcd_server)) as harness:
        namespace = Namespace(harness.connect())
        follower = namespace.join('follower')
        former, leader = namespace.leader('former'), namespace.leader('leader')
        namespace.beat(leader)
        monkeypatch.setattr(EtcdNodes, '_leader', property(lambda _: former.name, lambda *_: None), raising=False)
        pulse = namespace.beat(follower)
        assert (pulse.leadership.node, pulse.leader_heartbeat) == (leader, 1)
