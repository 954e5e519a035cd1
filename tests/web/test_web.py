"""Health, API and page over HTTP: what each answers, and that nothing there changes anything or opens a door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest
from starlette.testclient import TestClient

from jobsync import AsyncJob, Cluster, CoordinationConfig, Job, JobsyncError
from jobsync.backend import TokenGroup
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import TOKENS
from jobsync.web import allowed_hosts, cluster_app
from jobsync.web.view import ClusterView

LOCAL = 'http://127.0.0.1'


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def namespace(store: MemoryStore) -> Namespace:
    """A leader that owns every other token."""
    namespace = Namespace(MemoryBackend(store))
    namespace.commit(namespace.leader('a'), TokenGroup(range(0, TOKENS, 2), 'a'), moved=TOKENS // 2)
    return namespace


@pytest.fixture
def client(store: MemoryStore) -> Iterator[TestClient]:
    with TestClient(cluster_app(lambda: Cluster(MemoryBackend(store))), base_url=LOCAL) as client:
        yield client


def test_the_api_has_what_cluster_has(client: TestClient, namespace: Namespace) -> None:
    """State, locks, items, incomplete work and the explanation of a task, as JSON."""
    state = client.get('/api/state').json()
    assert state['status']['leader'] == 'a'
    assert [node['name'] for node in state['nodes']] == ['a']
    assert [count for count, _ in state['map']] == [1] * TOKENS
    namespace.lock('x', patterns=('gpu-%',))
    assert [lock['task_id'] for lock in client.get('/api/locks').json()] == ['x']
    assert client.get('/api/items').json() == client.get('/api/incomplete').json() == []
    assert client.get('/api/why/a/b').json()['task'] == 'a/b'


def test_an_error_is_json_too(client: TestClient) -> None:
    """A namespace that does not exist is told as an error; a question that cannot be answered has status 400."""
    assert 'SchemaMismatch' in client.get('/api/state').json()['error']
    assert client.get('/health/ready').status_code == 503
    assert client.get('/health/live').status_code == 200
    answer = client.get('/api/why/x')
    assert (answer.status_code, list(answer.json())) == (400, ['error'])


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    """The page, its script and its style come from the server, and the headers forbid everything else."""
    for path, kind in (('/', 'text/html'), ('/page.js', 'text/javascript'), ('/page.css', 'text/css')):
        answer = client.get(path)
        assert answer.headers['content-type'].startswith(kind)
        assert '://' not in answer.text
        policy = answer.headers['content-security-policy']
        assert "default-src 'none'" in policy
        assert 'unsafe' not in policy
        assert answer.headers['x-content-type-options'] == 'nosniff'


def test_nothing_can_be_changed(client: TestClient, namespace: Namespace) -> None:
    """No path takes anything but GET, and reading all of them changes no record."""
    routes = [route.path for route in client.app.routes]  # type: ignore[attr-defined]
    with namespace.unchanged():
        for path in routes:
            for method in ('POST', 'PUT', 'PATCH', 'DELETE'):
                assert client.request(method, path.replace('{task:path}', 'x')).status_code == 405
            if path != '/api/events':
                client.get(path.replace('{task:path}', 'x'))


def test_another_name_is_refused(store: MemoryStore) -> None:
    """A page of another site whose name leads to this machine reads nothing; a server for the network takes any name."""
    local = TestClient(cluster_app(lambda: Cluster(MemoryBackend(store))), base_url='http://evil.example')
    assert local.get('/health/live').status_code == 400
    hosts = allowed_hosts('0.0.0.0')  # noqa: S104 - nothing listens
    anywhere = TestClient(cluster_app(lambda: Cluster(MemoryBackend(store)), hosts), base_url='http://pod-7.local')
    assert anywhere.get('/health/live').status_code == 200
    assert allowed_hosts('0.0.0.0', ['ops.example']) == ['ops.example']  # noqa: S104


def test_many_readers_cost_one(store: MemoryStore, namespace: Namespace) -> None:
    """Ten readings within a second are one reading of the store."""
    calls: list[int] = []

    def connect() -> Cluster:
        calls.append(1)
        return Cluster(MemoryBackend(store))

    view = ClusterView(connect)
    first = view.state()
    assert all(view.state() is first for _ in range(9))
    assert calls == [1]
    view.close()


def config(store: MemoryStore) -> CoordinationConfig:
    return CoordinationConfig(backend=MemoryBackend(store), minimum_nodes=1, total_tokens=100)


def read(port: int, path: str) -> tuple[int, bytes]:
    answer = httpx2.get(f'{LOCAL}:{port}{path}', timeout=60)
    return answer.status_code, answer.content


def test_a_worker_answers_before_it_enters(store: MemoryStore) -> None:
    """Alive from the start, ready in the block, and not ready after it; the page shows its cluster."""
    job = Job('w1', coordination_config=config(store))
    with job.serve(0) as server:
        assert read(server.port, '/health/live')[0] == 200
        assert read(server.port, '/health/ready')[0] == 503
        with job:
            status, body = read(server.port, '/health/ready')
            assert (status, json.loads(body)['token_count']) == (200, 100)
            assert json.loads(read(server.port, '/api/state')[1])['status']['leader'] == 'w1'
            assert b'python_info' in read(server.port, '/metrics')[1]
        assert read(server.port, '/health/ready')[0] == 503


def test_events_bring_each_change(store: MemoryStore) -> None:
    """A browser is sent the state at once, and again when it has changed."""
    job = Job('w1', coordination_config=config(store))
    with job.serve(0) as server, job, httpx2.stream('GET', f'{LOCAL}:{server.port}/api/events', timeout=60) as stream:
        states = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith('data:'))
        assert next(states)['status']['nodes'] == 1
        job.register_task_lock('x', 'gpu-%')
        assert next(state for state in states if state['status']['locks'])['status']['locks'] == 1


def test_an_async_job_serves_too(store: MemoryStore) -> None:
    """The same method, without awaiting."""

    async def check() -> int:
        job = AsyncJob('w1', coordination_config=config(store))
        server = job.serve(0)
        try:
            async with job:
                return (await asyncio.to_thread(read, server.port, '/health/ready'))[0]
        finally:
            server.close()

    assert asyncio.run(check()) == 200


def test_a_port_in_use_is_an_error(store: MemoryStore) -> None:
    """The caller is told at once, and the program goes on."""
    job = Job('w1', coordination_config=config(store))
    with job.serve(0) as server, pytest.raises(JobsyncError, match='in use'):
        job.serve(server.port)
