"""The assignment in etcd: a record of the whole, and records of what changed since, of which a node reads those it lacks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

import pytest
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer

from jobsync.backend import Assignment
from jobsync.backends.etcd import chunked_log
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.testing.conformance.namespace import Namespace, content
from jobsync.testing.conformance.readings import random_commit

pytestmark = pytest.mark.etcd


@pytest.fixture
def namespace(etcd_server: EtcdServer) -> Iterator[Namespace]:
    harness = EtcdHarness(etcd_server)
    yield Namespace(harness.connect())
    harness.close()


@pytest.mark.parametrize(('most', 'least_whole'), [(6, 100_000), (32, 600), (32, 0), (1, 0)])
def test_a_node_that_is_a_few_versions_behind_reads_what_it_lacks(
    namespace: Namespace, most: int, least_whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole is written anew now and then. If all had to read it then, a commit would cost a large cluster seconds of CPU."""
    monkeypatch.setattr(chunked_log, 'MOST_CHANGES', most)
    monkeypatch.setattr(chunked_log, 'LEAST_WHOLE', least_whole)
    backend, leader, random = namespace.backend, namespace.leader(), Random(most)
    assert isinstance(backend, EtcdBackend)
    history, firsts = [namespace.assignment()], list[object]()
    for _ in range(70):
        random_commit(namespace, leader, random)
        history.append(namespace.assignment())
        log = backend.store.read_state(time.monotonic() + 600.0).state.assignment
        firsts.append(log.entries[0])
        assert len(log.entries) <= most + 1 + (most == 1)
        kept = list(backend.store.range(backend.store.keys.tokens, 0, time.monotonic() + 600.0))
        assert {key for key, _ in kept} == {key for entry in log.entries for key in entry.keys(backend.store.keys.tokens)}
        before = random.choice(history[-2 * most :])
        changes = backend.read_assignment(before.version)
        assert content(before.apply(changes)) == content(history[-1])
        if least_whole == 100_000:
            for behind in history[-1 - max(1, most // 2) :]:
                assert backend.read_assignment(behind.version).base == behind.version
    assert len(set(firsts)) > 3
    assert content(Assignment.empty(history[0].total_tokens).apply(backend.read_assignment())) == content(history[-1])
