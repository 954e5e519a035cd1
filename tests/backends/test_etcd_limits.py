"""What does not fit into one request of etcd, or into its space."""

from __future__ import annotations

import datetime as dt
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import attrs
import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.servers import EtcdServer
from tests.support.timings import FAST, TOKENS

from jobsync import CoordinationConfig, Job
from jobsync._core.assignment import Plan, TokenGroup
from jobsync._core.records import INITIAL, Eviction, Member, NodeRef, Pin, Registration, Settings
from jobsync.backend import BackendOptions
from jobsync.backends.etcd import from_client, requests
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.chunked_log import LARGEST, ChunkedLog, LogEntry
from jobsync.backends.etcd.driver import etcd3
from jobsync.backends.etcd.node_record import NodeRecord
from jobsync.backends.etcd.plugin import connect
from jobsync.errors import BackendUnavailable
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import SETTINGS

pytestmark = pytest.mark.etcd

DAY = dt.date(2026, 3, 2)
NODES, PINS, POOL = 10_000, 100_000, 1_000_000
DEADLINE_SEC = 120.0


def test_a_size_without_validators() -> None:
    """A record whose size nobody can have written is refused, also where the program disables the validators of attrs."""
    with attrs.validators.disabled(), pytest.raises(ValueError, match='no records have the sizes'):
        ChunkedLog((LogEntry(1, 1, LARGEST + 1),))


@pytest.fixture
def harness(etcd_server: EtcdServer) -> Iterator[EtcdHarness]:
    """All of the server for each test."""
    harness = EtcdHarness(etcd_server)
    yield harness
    harness.close()


@pytest.fixture
def namespace(harness: EtcdHarness) -> Namespace:
    """With the largest pool."""
    return Namespace(harness.connect(), Settings(POOL, 'xxh3'))


def add_nodes(namespace: Namespace, count: int) -> list[NodeRef]:
    """Put the records of many nodes, as if they had registered."""
    assert isinstance(namespace.backend, EtcdBackend)
    store, now, refs = namespace.backend.store, dt.datetime.now(dt.UTC), []
    for start in range(0, count, 100):
        puts = []
        for number in range(start, start + 100):
            ref = NodeRef(f'worker-{number:05}.example', f'run-{number}')
            created_on = now + dt.timedelta(microseconds=number)
            node = Registration(ref, 15.0, host='worker.example', pid=number).record(created_on, now, None)
            puts.append(requests.put(store.keys.node(ref.name), NodeRecord(node, now, now).encoded()))
            refs.append(ref)
        store.connection.write('KV.Txn', requests.when((), puts), time.monotonic() + 60)
    return refs


class TestRequests:
    """128 operations and comparisons, and 1.5 MiB."""

    def test_ten_thousand_nodes_and_a_hundred_thousand_pins(self, namespace: Namespace, etcd_server: EtcdServer) -> None:
        """All are read at one moment, and written by one commit, also over a client of the user's with gRPC's own limit."""
        leader, refs = namespace.leader(), add_nodes(namespace, NODES)
        members = {ref.name: Member(ref.incarnation, 15.0) for ref in refs}
        pins = tuple(
            Pin(POOL + n, f'a task with a name of some length {n}', refs[n % NODES].name, version=1) for n in range(PINS)
        )
        client = etcd3.client(port=etcd_server.port)
        backend = from_client(client)
        assert [node.ref for node in backend.snapshot().nodes if node.ref != leader] == refs
        version = backend.commit(leader, Plan('test', members=members, pins=pins, moved=PINS), namespace.guard())
        found = namespace.backend.read_assignment()
        assert (found.version, len(found.members), len(found.pins)) == (version, NODES, PINS)
        assert found.pins == pins
        client.close()

    def test_ten_thousand_nodes_die(self, namespace: Namespace) -> None:
        """A commit removes as many as are declared, wherever they stand among those that live."""
        leader, refs = namespace.leader(), add_nodes(namespace, NODES)
        most = namespace.backend.info.max_removals
        dead = refs[:: NODES // most]
        plan = Plan('test', evictions=tuple(Eviction(ref, 0) for ref in dead[:most]))
        namespace.backend.commit(leader, plan, namespace.guard())
        left = {node.ref for node in namespace.snapshot().nodes}
        assert left == {leader, *refs} - set(dead[:most])

    def test_a_node_that_holds_very_many(self, namespace: Namespace) -> None:
        """Half of a million tokens, at random, go into its record."""
        ref = namespace.join('a')
        held = frozenset(number for number, byte in enumerate(os.urandom(POOL)) if byte & 1)
        assert namespace.backend.heartbeat(ref, INITIAL, held).heartbeat == 1
        assert namespace.node('a').holding == held
        assert namespace.beat(ref).heartbeat == 2

    def test_answers_too_large_for_a_client_of_the_users(self, namespace: Namespace, etcd_server: EtcdServer) -> None:
        """Nodes' records that exceed four megabytes together are read in several answers, at one moment."""
        client = etcd3.client(port=etcd_server.port)
        for name in 'abcdefghijklmnopqrst':
            namespace.join(name, replaces=frozenset(os.urandom(16).hex() for _ in range(8_000)))
        snapshot = from_client(client).snapshot()
        assert len(snapshot.nodes) == 20
        assert all(len(node.replaces) == 8_000 for node in snapshot.nodes)
        client.close()

    def test_records_that_fill_every_answer(self, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forty megabytes in the place of nodes' records are read in pieces, and reported in few words."""
        leader = namespace.leader()
        assert isinstance(namespace.backend, EtcdBackend)
        store = namespace.backend.store
        for number in range(30):
            put = requests.put(store.keys.node(f'forged {number}'), b'{"name": "' + b'x' * 1_350_000 + b'"}')
            store.connection.write('KV.Txn', requests.when((), [put]), time.monotonic() + 60)
        read, sizes = store.connection.read, list[int]()

        def measured(method: str, request: Any, deadline: float) -> Any:
            answer = read(method, request, deadline)
            sizes.append(answer.ByteSize())
            return answer

        monkeypatch.setattr(store.connection, 'read', measured)
        snapshot = namespace.snapshot()
        assert [node.ref for node in snapshot.nodes] == [leader]
        assert len(snapshot.unreadable) == 30
        assert max(sizes) <= 32 << 20
        assert all(len(report.problem) < 500 for report in snapshot.unreadable)

    def test_a_large_commit_amid_edits(self, namespace: Namespace, harness: EtcdHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        """What goes ahead of a commit is written once, however often others change the state before the commit counts."""
        leader, other = namespace.leader(), Namespace(harness.connect(), namespace.settings)
        assert isinstance(namespace.backend, EtcdBackend)
        store, written = namespace.backend.store, list[int]()
        put_ahead, write = store.put_ahead, store.connection.write

        def once(chunks: Sequence[tuple[bytes, bytes]], deadline: float) -> None:
            written.append(len(chunks))
            put_ahead(chunks, deadline)

        def after_an_edit(method: str, request: Any, deadline: float) -> Any:
            if request.compare and len(other.locks()) < 5:
                other.lock(f'task {len(other.locks())}')
            return write(method, request, deadline)

        monkeypatch.setattr(store, 'put_ahead', once)
        monkeypatch.setattr(store.connection, 'write', after_an_edit)
        tokens = sorted(random.Random(7).sample(range(POOL), POOL // 2))
        plan = Plan('test', groups=tuple(TokenGroup(tokens[start::50], f'n{start}', version=1) for start in range(50)))
        namespace.backend.commit(leader, plan, namespace.guard())
        assert len(written) == 1
        assert len(other.locks()) == 5
        found = {group.owner: len(group.tokens) for group in other.backend.read_assignment().groups}
        assert found == {f'n{start}': POOL // 100 for start in range(50)}

    def test_what_is_too_large_all_the_same(self, namespace: Namespace) -> None:
        """The server refuses it, which is told as an outage is: no node fails for it; the next call is answered."""
        leader, refs = namespace.leader(), add_nodes(namespace, 200)
        before = namespace.snapshot()
        plan = Plan('test', evictions=tuple(Eviction(ref, 0) for ref in refs))
        with pytest.raises(BackendUnavailable, match='too many operations'):
            namespace.backend.commit(leader, plan, namespace.guard())
        replaces = frozenset(f'run-{number:064}' for number in range(50_000))
        with pytest.raises(BackendUnavailable, match='larger than max'):
            namespace.join('x', replaces=replaces)
        assert namespace.snapshot().nodes == before.nodes


def test_a_server_that_takes_smaller_requests() -> None:
    """The error names the option that limits requests, not the space, of which there is enough."""
    with closing(EtcdServer('--max-request-bytes=20000')) as server, closing(connect(server.url(), BackendOptions())) as backend:
        backend.open(SETTINGS, create=True)
        for size, said in ((1_200_000, 'larger than max'), (100_000, 'request is too large')):
            with pytest.raises(BackendUnavailable, match=f'{said}.*--max-request-bytes') as caught:
                backend.append_audits('a', [random.Random(7).randbytes(size).hex()], DAY)
            assert '--quota-backend-bytes' not in str(caught.value)


def test_a_server_that_takes_fewer_operations() -> None:
    """The error names the option that limits them, of which an audit takes four."""
    with closing(EtcdServer('--max-txn-ops=3')) as server, closing(connect(server.url(), BackendOptions())) as backend:
        backend.open(SETTINGS, create=True)
        with pytest.raises(BackendUnavailable, match=r'too many operations.*--max-txn-ops'):
            backend.append_audits('a', ['x'], DAY)


class TestSpace:
    """A server whose space is used up: the alarm that ends all writing, until an operator disarms it."""

    def test_nothing_moves(self) -> None:
        """For longer than a heartbeat timeout the server answers readings and refuses writes; then all go on as they were."""
        server = EtcdServer('--quota-backend-bytes=4000000')
        with ExitStack() as stack:
            stack.callback(server.close)
            backend = stack.enter_context(closing(connect(server.url(), BackendOptions())))
            config = CoordinationConfig(backend=server.url(), **FAST)
            jobs = [stack.enter_context(Job(name, coordination_config=config)) for name in 'abc']
            wait_until(lambda: len(frozenset().union(*(job.my_tokens for job in jobs))) == TOKENS, 'all is owned', DEADLINE_SEC)
            wait_until(lambda: all(job.my_tokens for job in jobs), 'all have tokens', DEADLINE_SEC)
            before, owned = backend.snapshot(), [job.my_tokens for job in jobs]
            with pytest.raises(BackendUnavailable, match=r'space exceeded.*defragment'):
                for _ in range(1000):
                    backend.append_audits('a', [os.urandom(100_000).hex()], DAY)
            wait_until(lambda: not any(job.my_tokens for job in jobs), 'no lease is left', DEADLINE_SEC)
            over = time.monotonic() + 2 * FAST['heartbeat_timeout_sec']
            wait_until(lambda: time.monotonic() > over, 'everybody could be taken for dead', DEADLINE_SEC)
            during = backend.snapshot()
            assert {node.ref for node in during.nodes} == {node.ref for node in before.nodes}
            with pytest.raises(BackendUnavailable):
                backend.append_audits('a', ['x'], DAY)
            server.ctl('del', '--prefix', 'jobsync/sync_/history/audit/')
            server.ctl('compact', str(backend.snapshot().position))
            server.ctl('defrag', '--command-timeout=60s')
            server.ctl('alarm', 'disarm')
            wait_until(lambda: [job.my_tokens for job in jobs] == owned, 'each has its tokens again', DEADLINE_SEC)
            after = backend.snapshot()
            assert {node.ref for node in after.nodes} == {node.ref for node in before.nodes}
            assert after.timeline == before.timeline
