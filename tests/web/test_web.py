"""Health, API and page over HTTP: what each answers, and that nothing there changes anything or opens a door."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import httpx2
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from tests.job.waiting import wait_until
from tests.support.servers import RedisServer
from tests.web.conftest import TOKEN

from jobsync import AsyncJob, BackendUnavailable, Cluster, ConfigError, CoordinationConfig, Job, JobsyncError, plugins
from jobsync._core.records import ACTIONS, DRAINED
from jobsync._threads import start
from jobsync.backend import BackendOptions, LockEdit, Pin, TokenGroup
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.cli.commands import cli
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import TOKENS
from jobsync.web import allowed_hosts, cluster_app, job_app
from jobsync.web.gauges import CLUSTER_GAUGES

LOCAL = 'http://127.0.0.1'
ALLOWED = {'Authorization': f'Bearer {TOKEN}'}
STEERING = ('/api/drain', '/api/undrain', '/api/evict', '/api/release', '/api/locks/add', '/api/locks/clear')
FILES = (
    '/',
    '/main.js',
    '/feed.js',
    '/dom.js',
    '/map.js',
    '/nodes.js',
    '/history.js',
    '/lists.js',
    '/task.js',
    '/steer.js',
    '/page.css',
    '/icon.svg',
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def namespace(store: MemoryStore) -> Namespace:
    """A leader that owns every other token."""
    namespace = Namespace(MemoryBackend(store))
    namespace.commit(namespace.leader('a'), TokenGroup(range(0, TOKENS, 2), 'a'), moved=TOKENS // 2)
    return namespace


def client_of(store: MemoryStore, token: str | None = None) -> TestClient:
    return TestClient(cluster_app(lambda: Cluster(MemoryBackend(store)), token=token), base_url=LOCAL)


@pytest.fixture
def client(store: MemoryStore) -> Iterator[TestClient]:
    with client_of(store) as client:
        yield client


@pytest.fixture
def steered(store: MemoryStore) -> Iterator[TestClient]:
    with client_of(store, TOKEN) as client:
        yield client


def test_the_api_has_what_cluster_has(client: TestClient, namespace: Namespace) -> None:
    """State, nodes, locks, items, incomplete work and the explanation of a task, as JSON."""
    namespace.lock('x', 'y', patterns=('gpu-%',), reason='needs a card')
    namespace.lock('row-1', 'row-2', group='rows')
    namespace.commit(namespace.snapshot().leadership.node, pins=(Pin(TOKENS + 1, 'x', None, pattern='gpu-%'),))  # type: ignore[arg-type]
    state = client.get('/api/state').json()
    assert (state['status']['leader'], state['status']['locks'], state['health']['level']) == ('a', 2, 'bad')
    assert (state['nodes']['a']['tokens'], state['nodes']['a']['is_leader']) == (TOKENS // 2, True)
    assert state['beats']['a'] <= state['now'] + 0.01  # it is rounded
    assert state['rebalances'][0]['tokens_moved'] == TOKENS // 2
    assert state['items'] == {'total': 1, 'unplaced': 2, 'rows': [{'group': 'rows', 'items': 2, 'unplaced': 2, 'owners': 0}]}
    assert state['about']['appname'] == 'sync_'
    assert [row['name'] for row in client.get('/api/nodes').json()] == ['a']
    assert client.get('/api/nodes', params={'name': 'b'}).json() == []
    assert client.get('/api/incomplete').json() == {'total': 0, 'rows': []}
    assert client.get('/api/why', params={'task': '../a b%2F'}).json()['task'] == '../a b%2F'
    namespace.backend.append_audits('a', ['x'], dt.date(2026, 3, 2))
    assert client.get('/api/why?task=x&date=2026-03-02').json()['is_complete'] is True
    assert client.get('/api/why?task=x&date=2026-03-03').json()['is_complete'] is False
    refused = client.get('/api/why?task=x&date=02/03/2026')
    assert (refused.status_code, 'must be such as 2026-03-02' in refused.json()['error']) == (400, True)


def test_long_lists_come_in_pages(client: TestClient, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and items are found by a text, counted in full, and sent a page at a time."""
    namespace.lock(*(f'task-{number}' for number in range(50)), patterns=('gpu-%',))
    namespace.lock('other', patterns=('cpu-%',), reason='Needs Little')
    namespace.lock(*(f'row-{number}' for number in range(5)), group='rows')
    page = client.get('/api/locks', params={'offset': 40, 'limit': 5}).json()
    assert (page['total'], [lock['task_id'] for lock in page['rows']]) == (51, [f'task-{number}' for number in range(40, 45)])
    for words in ('needs little', 'NEEDS LITTLE'):
        assert [row['task_id'] for row in client.get('/api/locks', params={'q': words}).json()['rows']] == ['other']
    assert client.get('/api/locks?unmatched=1').json()['total'] == 0
    found = client.get('/api/items', params={'group': 'rows', 'limit': 2, 'q': 'ROW'}).json()
    assert (found['total'], [item['item'] for item in found['rows']]) == (5, ['row-0', 'row-1'])
    assert client.get('/api/items?group=other').json()['total'] == 0
    monkeypatch.setattr('jobsync.web.app._MOST_ROWS', 50)
    found = client.get('/api/locks?limit=5000').json()
    assert (found['total'], len(found['rows'])) == (51, 50)
    assert {client.get(f'/api/{wrong}').status_code for wrong in ('locks?offset=-1', 'locks?limit=-1', 'items?limit=many')} == {
        400
    }


def test_an_error_is_json_too(client: TestClient) -> None:
    """A namespace that does not exist is an error in JSON; a probe is answered all the same, so that the page stays reachable."""
    answer = client.get('/api/state')
    assert (answer.status_code, list(answer.json())) == (503, ['error'])
    assert 'SchemaMismatch' in answer.json()['error']
    assert 'jobsync_cluster_up 0.0' in client.get('/metrics').text
    assert client.get('/health/ready').status_code == client.get('/health/live').status_code == 200
    answer = client.get('/api/why?task=x')
    assert (answer.status_code, list(answer.json())) == (400, ['error'])


def test_a_store_that_is_away_is_no_fault_of_the_request() -> None:
    """A program that asks may ask again."""
    cluster = Mock(why=Mock(side_effect=BackendUnavailable('away')))
    with TestClient(cluster_app(lambda: cluster), base_url=LOCAL) as client:
        answer = client.get('/api/why?task=x')
    assert (answer.status_code, answer.json()) == (503, {'error': 'away'})


def test_an_answer_of_the_server_itself_is_json() -> None:
    """That of a path or a method that there is not, and of an error that nothing has foreseen: the page reads it as JSON."""
    with TestClient(cluster_app(Mock(side_effect=KeyError)), base_url=LOCAL, raise_server_exceptions=False) as client:
        answers = client.get('/api/nosuch'), client.put('/api/state'), client.get('/api/why?task=x')
    assert [(answer.status_code, list(answer.json())) for answer in answers] == [(code, ['error']) for code in (404, 405, 500)]


def test_the_metrics_of_the_cluster(client: TestClient, namespace: Namespace) -> None:
    """What an observer reads is exposed for Prometheus, though no worker is scraped."""
    namespace.join('b')
    lines = client.get('/metrics').text.splitlines()
    assert {'jobsync_cluster_up 1.0', 'jobsync_cluster_nodes 2.0', f'jobsync_cluster_tokens_unowned {TOKENS / 2}'} <= set(lines)


def test_a_leader_that_has_left(client: TestClient, namespace: Namespace) -> None:
    """The record of the leadership still names it, and no node leads."""
    assert 'jobsync_cluster_leader 1.0' in client.get('/metrics').text
    namespace.backend.deregister(namespace.snapshot().leadership.node)  # type: ignore[arg-type]
    wait_until(lambda: 'jobsync_cluster_nodes 0.0' in client.get('/metrics').text, 'it is read')
    assert 'jobsync_cluster_leader 0.0' in client.get('/metrics').text


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    """The page, its scripts and its style come from the server, and the headers forbid everything else."""
    for path in FILES:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert '://' not in answer.text.replace('http://www.w3.org/2000/svg', ''), path
        assert not re.search(r"""["'`(]/\w""", answer.text), f'{path}: a proxy may serve the page under a path of its own'
        policy = answer.headers['content-security-policy']
        assert "default-src 'none'" in policy
        assert 'unsafe' not in policy
        assert answer.headers['x-content-type-options'] == 'nosniff'
        assert answer.headers['x-frame-options'] == 'DENY'
        assert answer.headers['cache-control'] == 'no-store'
    assert (
        client.get('/page.html').status_code == client.get('/../app.py').status_code == client.get('/app.py').status_code == 404
    )


def test_nothing_can_be_changed(client: TestClient, namespace: Namespace) -> None:
    """Without a token the server has no path that takes anything but GET, and reading all of them changes no record."""
    paths = [route.path for route in client.app.routes]  # type: ignore[attr-defined]
    assert not {*STEERING} & {*paths}
    with namespace.unchanged():
        for path in (*paths, *STEERING):
            for method in ('POST', 'PUT', 'PATCH', 'DELETE'):
                assert client.request(method, path, headers=ALLOWED).status_code in (404, 405)
            if path != '/api/events':
                client.get(path)


def test_what_is_changed_is_changed_with_the_token(steered: TestClient, namespace: Namespace, store: MemoryStore) -> None:
    """A node is drained and undrained, a task released and a lock cleared, in the name of who says so."""
    cluster, ghost = Cluster(MemoryBackend(store)), namespace.join('ghost')
    day = cluster.status()['now'].date() - dt.timedelta(days=3)
    namespace.attempt(ghost, 'deadly', date=day)
    namespace.backend.deregister(ghost)
    namespace.lock('x', 'y')
    namespace.join('b')

    def change(path: str, **values: Any) -> Any:
        answer = steered.post(path, json={'by': 'ann', **values}, headers=ALLOWED)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert change('/api/drain', node='a', reason='maintenance') == {'drained': 'a'}
    assert cluster.status()['drained'] == ['a']
    assert change('/api/undrain', node='a') == {'was_drained': True}
    assert change('/api/evict', node='b') == {'evicted': 'b', 'timeout_sec': 15.0}
    assert [node['name'] for node in cluster.nodes() if node['state'] == 'joined'] == ['a']
    assert change('/api/locks/clear', tasks=['x', 'z']) == {'removed': 1}
    assert [lock['task_id'] for lock in cluster.locks()] == ['y']
    assert change('/api/locks/add', task='z', patterns=['gpu-%', '%'], reason='a card', days=0.5) == {'locked': 'z'}
    (lock,) = (lock for lock in cluster.locks() if lock['task_id'] == 'z')
    assert (lock['patterns'], lock['reason'], lock['created_by']) == (['gpu-%', '%'], 'a card', 'ann')
    assert lock['expires_at'] is not None
    assert lock['expires_at'] - lock['created_at'] == dt.timedelta(days=0.5)
    assert change('/api/release', tasks=['deadly'], date=day.isoformat()) == {'released': 1}
    assert namespace.lost(date=day) == {}
    done = [(event['event'], event['by']) for event in steered.get('/api/history').json() if event['event'] != 'rebalance']
    assert done == [(action, 'ann') for action in ('release', 'lock', 'clear locks', 'evict', 'undrain', 'drain')]
    assert [event['event'] for event in steered.get('/api/history', params={'task': 'x'}).json()] == ['clear locks']
    assert steered.get('/api/history?limit=-1').status_code == 400


BY_ANN = {'by': 'ann', 'node': 'b', 'tasks': ['x']}
REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    'no token': (401, {'json': BY_ANN}),
    'another token': (401, {'json': BY_ANN, 'headers': {'Authorization': f'Bearer {TOKEN}x'}}),
    'the token as a password': (401, {'json': BY_ANN, 'headers': {'Authorization': f'Basic {TOKEN}'}}),
    'the token in the address': (401, {'json': BY_ANN, 'params': {'token': TOKEN}}),
    'the token as a cookie': (401, {'json': BY_ANN, 'headers': {'Cookie': f'token={TOKEN}'}}),
    'a page of another site': (403, {'json': BY_ANN, 'headers': {**ALLOWED, 'Origin': 'https://evil.example'}}),
    'a page without a site': (403, {'json': BY_ANN, 'headers': {**ALLOWED, 'Origin': 'null'}}),
    'a form': (415, {'data': {'by': 'ann'}, 'headers': ALLOWED}),
    'no name': (400, {'json': {**BY_ANN, 'by': ' '}, 'headers': ALLOWED}),
    'a list': (400, {'json': ['ann'], 'headers': ALLOWED}),
    'no JSON': (400, {'content': b'{', 'headers': {**ALLOWED, 'Content-Type': 'application/json'}}),
    'too much': (
        400,
        {'content': json.dumps({**BY_ANN, 'more': 'x' * 1_000_000}), 'headers': {**ALLOWED, 'Content-Type': 'application/json'}},
    ),
    'wrong types': (400, {'json': {'by': 'ann', 'node': 7, 'tasks': [7]}, 'headers': ALLOWED}),
}


def test_what_is_refused_changes_nothing(store: MemoryStore, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the token, from another site, or with arguments that are not allowed, each path refuses and no record changes."""
    sleep = AsyncMock()
    monkeypatch.setattr('jobsync.web.steering.asyncio', SimpleNamespace(sleep=sleep))
    namespace.lock('x')
    namespace.join('b')
    with client_of(store, TOKEN) as steered, namespace.unchanged():
        for path in STEERING:
            for why, (status, request) in REFUSED.items():
                answer = steered.post(path, **request)
                assert (answer.status_code, list(answer.json())) == (status, ['error']), f'{path}: {why}'
                assert sleep.await_count == (status == 401), f'{why}: what is tried in vain is slow'
                sleep.reset_mock()
            assert steered.get(path, headers=ALLOWED).status_code == 405
        assert steered.post('/api/release', json={**BY_ANN, 'date': 'today'}, headers=ALLOWED).status_code == 400
        for name, value in (
            ('days', '1'),
            ('days', -1),
            ('days', True),
            ('patterns', 'x'),
            ('patterns', []),
            ('patterns', ['']),
            ('task', ''),
        ):
            arguments: dict[str, object] = {'by': 'ann', 'task': 'x', 'patterns': ['a'], name: value}
            assert steered.post('/api/locks/add', json=arguments, headers=ALLOWED).status_code == 400, (name, value)
        for wrong in ({'node': ' a '}, {'node': 'a', 'force': 'false'}):
            assert steered.post('/api/drain', json={'by': 'ann', **wrong}, headers=ALLOWED).status_code == 400
    same = {**ALLOWED, 'Origin': LOCAL, 'Content-Type': 'application/json; charset=utf-8'}
    with client_of(store, TOKEN) as steered:
        assert steered.post('/api/drain', json=BY_ANN, headers=same).status_code == 200
        refused = steered.post('/api/drain', json=BY_ANN, headers={**same, 'Origin': 'https://ops.example'})
        assert 'a proxy in between must pass on the header Host' in refused.json()['error']


def test_a_run_that_has_joined_anew_is_not_evicted(steered: TestClient, namespace: Namespace) -> None:
    """Two operators confirm what they saw of one run, which is over with the first: the second says so, and the new run stays."""
    seen = namespace.join('b').incarnation
    sent: dict[str, Any] = {'json': {'by': 'ann', 'node': 'b', 'incarnation': seen}, 'headers': ALLOWED}
    assert steered.post('/api/evict', **sent).status_code == 200
    anew = namespace.join('b')
    second = steered.post('/api/evict', **sent)
    assert (second.status_code, 'joined anew' in second.json()['error']) == (400, True)
    assert namespace.nodes()['b'].incarnation == anew.incarnation != seen


def test_a_token_that_could_be_guessed_is_refused() -> None:
    """A token has at least sixteen characters, all of which a header can carry."""
    for token in ('', 'short', 'a' * 15, 'a' * 20 + 'ü', 'a b' * 10):
        with pytest.raises(ConfigError, match='token'):
            client_of(MemoryStore(), token)


def test_another_name_is_refused(store: MemoryStore) -> None:
    """A page of another site whose name leads to this machine reads nothing; a probe is answered, and so is the network."""
    local = TestClient(cluster_app(lambda: Cluster(MemoryBackend(store))), base_url='http://evil.example')
    refused = local.get('/'), local.get('/api/state'), local.get('/', headers={'Host': '[::1'})
    assert [(answer.status_code, list(answer.json())) for answer in refused] == [(400, ['error'])] * 3
    assert '--allow-host' in refused[0].json()['error']
    assert local.get('/health/live').status_code == local.get('/health/ready').status_code == 200
    for name in ('localhost:8787', 'LOCALHOST', '127.0.0.1', '[::1]:8787'):
        assert local.get('/', headers={'Host': name}).status_code == 200
    hosts = allowed_hosts('0.0.0.0')  # noqa: S104 - nothing listens
    anywhere = TestClient(cluster_app(lambda: Cluster(MemoryBackend(store)), hosts), base_url='http://pod-7.local')
    assert anywhere.get('/').status_code == 200
    assert allowed_hosts('0.0.0.0', ['ops.example']) == ['ops.example']  # noqa: S104 - nothing is bound to it
    assert allowed_hosts('::1') == allowed_hosts('localhost') == ['localhost', '127.0.0.1', '[::1]']


def test_under_a_path_another_name_is_refused_too(store: MemoryStore) -> None:
    """In another application only probes are open to any name, as without one, whatever the path is called."""
    app = cluster_app(lambda: Cluster(MemoryBackend(store)))
    for path in ('/jobsync', '/health'):
        for name, status in (('http://evil.example', 400), (LOCAL, 200)):
            client = TestClient(Starlette(routes=[Mount(path, app)]), base_url=name)
            assert [client.get(path + probe).status_code for probe in ('/health/live', '/health/ready')] == [200, 200]
            assert [client.get(path + shown).status_code for shown in ('/', '/main.js')] == [status] * 2


@pytest.mark.parametrize('name', ['', 'ops.example:8443', 'https://ops.example', 'ops*', '*.ops.example', '::1'])
def test_a_name_that_no_request_could_have_is_refused(name: str) -> None:
    """What is no name of a host would be allowed in vain, or have each request fail."""
    with pytest.raises(ConfigError, match=re.escape(f'allowed host is {name!r}')):
        allowed_hosts('127.0.0.1', [name])


def config(store: MemoryStore) -> CoordinationConfig:
    return CoordinationConfig(backend=MemoryBackend(store), minimum_nodes=1, total_tokens=100)


def read(port: int, path: str) -> tuple[int, bytes]:
    answer = httpx2.get(f'{LOCAL}:{port}{path}', timeout=120)
    return answer.status_code, answer.content


def test_a_worker_answers_before_it_enters(store: MemoryStore) -> None:
    """Alive, and with metrics, from the start; ready in the block, not before and not after it."""
    job = Job('w1', coordination_config=config(store))
    with job.serve(0) as server:
        assert read(server.port, '/health/live')[0] == 200
        assert read(server.port, '/health/ready') == (503, b'{"ready":false,"state":"outside","is_stalled":false}')
        assert json.loads(read(server.port, '/api/worker')[1])['node_name'] == 'w1'
        assert b'python_info' in read(server.port, '/metrics')[1]
        with job:
            assert read(server.port, '/health/ready') == (200, b'{"ready":true,"state":"member","is_stalled":false}')
            assert json.loads(read(server.port, '/api/worker')[1])['token_count'] == 100
            assert json.loads(read(server.port, '/api/state')[1])['status']['leader'] == 'w1'
        assert read(server.port, '/health/ready')[0] == 503


def test_a_worker_that_leaves_is_not_ready(store: MemoryStore) -> None:
    """No new work goes to a worker from the moment it is to leave, though its lease still holds and it lives."""

    class Leaving(Job):
        is_leaving = False

    with (
        Leaving('w1', coordination_config=config(store)) as job,
        TestClient(job_app(job, job._observed), base_url=LOCAL) as client,
    ):
        assert client.get('/health/ready').status_code == 200
        job.is_leaving = True
        assert (client.get('/health/ready').status_code, client.get('/health/live').status_code) == (503, 200)


def test_events_bring_each_change(store: MemoryStore) -> None:
    """A browser is sent the state at once, and what has changed later."""
    job = Job('w1', coordination_config=config(store))
    with job.serve(0) as server, job, httpx2.stream('GET', f'{LOCAL}:{server.port}/api/events', timeout=120) as stream:
        assert stream.headers['content-type'].startswith('text/event-stream')
        events = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith('data:'))
        assert next(events)['status']['nodes'] == 1
        job.register_task_lock('x', 'gpu-%')
        change = next(event for event in events if 'status' in event)
        assert change['status']['locks'] == 1
        assert 'about' not in change


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
    assert server.port > 0


def test_a_start_that_is_interrupted_leaves_the_port_free(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal's handler raises while the server starts ends the server: the program may serve there the next time."""
    job = Job('w1', coordination_config=config(store))
    with job.serve(0) as server:
        port = server.port

    def start_and_interrupt(make: Callable[[], threading.Thread]) -> bool:
        start(make)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr('jobsync.web.server.start', start_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            job.serve(port)
    wait_until(lambda: all(thread.name != 'jobsync-web' for thread in threading.enumerate()), 'the server has ended', 20)
    with job.serve(port) as server:
        assert read(server.port, '/health/live')[0] == 200


def test_the_loggers_of_uvicorn_are_the_programs(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """A program that uvicorn runs goes on logging its own requests, and nothing there is of the worker's."""
    error, access = logging.getLogger('uvicorn.error'), logging.getLogger('uvicorn.access')
    handler = logging.NullHandler()
    try:
        access.addHandler(handler)
        for logger in (error, access):
            logger.setLevel(logging.INFO)
        with Job('w1', coordination_config=config(store)).serve(0) as server:
            assert read(server.port, '/health/live')[0] == 200
            assert [logger.level for logger in (error, access)] == [logging.INFO] * 2
            assert (access.handlers, access.propagate) == ([handler], True)
        assert not [record for record in caplog.records if record.name == 'uvicorn.access']
    finally:
        access.removeHandler(handler)
        for logger in (error, access):
            logger.setLevel(logging.NOTSET)


def test_a_change_that_could_not_be_recorded(
    steered: TestClient, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the store goes away in the midst of it, the server's log alone has who has changed what: the history has nothing."""
    edit_locks = MemoryBackend.edit_locks

    def edit(backend: MemoryBackend, edit: LockEdit) -> int:
        if edit.group != DRAINED:
            raise BackendUnavailable('the store does not answer')
        return edit_locks(backend, edit)

    monkeypatch.setattr(MemoryBackend, 'edit_locks', edit)
    assert steered.post('/api/drain', json={**BY_ANN, 'force': True}, headers=ALLOWED).status_code == 503
    assert [lock.task_id for lock in namespace.backend.read_locks().locks] == ['b']
    assert [record.getMessage() for record in caplog.records if "/api/drain by 'ann' from" in record.getMessage()]


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    'drain': ('/api/drain', {'node': 'b'}),
    'undrain': ('/api/undrain', {'node': 'c'}),
    'evict': ('/api/evict', {'node': 'd'}),
    'release': ('/api/release', {'tasks': ['x']}),
    'lock': ('/api/locks/add', {'task': 'new', 'patterns': ['a']}),
    'clear locks': ('/api/locks/clear', {'tasks': ['old']}),
}
"""The request for each action, by its word in the history."""


@pytest.fixture(scope='module')
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.mark.parametrize('action', CHANGES)
@pytest.mark.parametrize(
    ('ends', 'said'),
    [
        (0, ' was not carried out: '),
        (1, ' may have been carried out, so see whether it was before you repeat it: '),
        (2, ' was carried out, and may be missing in the history, since recording it failed: '),
    ],
    ids=['before it', 'amid it', 'amid its record'],
)
def test_a_server_of_the_store_that_ends(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, action: str, ends: int, said: str
) -> None:
    """The page and the log say what was done, or may have been, and are right."""
    redis.ask('FLUSHALL')
    path, arguments = CHANGES[action]
    with closing(plugins.connect(redis.url(query='durable=yes'), BackendOptions())) as backend:
        namespace, cluster = Namespace(backend), Cluster(backend)
        for name in 'abcd':
            namespace.join(name, timeout_sec=3600.0)
        namespace.lock('old', patterns=('a',))
        cluster.drain('c', actor='ann')

        def state() -> tuple[object, ...]:
            nodes = [node['name'] for node in cluster.nodes() if node['state'] == 'joined']
            return cluster.status()['drained'], nodes, [lock['task_id'] for lock in cluster.locks()]

        before, calls = state(), itertools.count(1)

        def ending(name: str) -> None:
            method = getattr(backend, name)

            def call(*arguments: object) -> object:
                if next(calls) == ends:
                    redis.kill()
                return method(*arguments)

            monkeypatch.setattr(backend, name, call)

        for name in ('edit_locks', 'remove_node', 'forget_attempts'):
            ending(name)
        with TestClient(cluster_app(lambda: Cluster(backend), token=TOKEN), base_url=LOCAL) as client:
            if not ends:
                redis.kill()
            answer = client.post(path, json={'by': 'ann', **arguments}, headers=ALLOWED)
        redis.start()
        is_changed = state() != before
    assert answer.status_code == 503
    assert said in answer.json()['error']
    assert answer.json()['error'].startswith(action)
    (line,) = (record.getMessage() for record in caplog.records if record.name == 'jobsync.web')
    assert line.startswith(f"{path} by 'ann' from testclient failed: ")
    assert line.endswith(answer.json()['error'])
    assert is_changed is (ends == 2 and action != 'release')


def test_a_change_that_may_not_be_recorded(
    steered: TestClient, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the store refuses the record for good, the log has who has changed what too, and that the history has it not."""
    edit_locks = MemoryBackend.edit_locks

    def edit(backend: MemoryBackend, edit: LockEdit) -> int:
        if edit.group == ACTIONS:
            raise ConfigError('this user may not do it')
        return edit_locks(backend, edit)

    monkeypatch.setattr(MemoryBackend, 'edit_locks', edit)
    answer = steered.post('/api/drain', json={**BY_ANN, 'force': True}, headers=ALLOWED)
    said = 'drain was carried out, and is missing in the history, since recording it failed: this user may not do it'
    assert (answer.status_code, answer.json()) == (400, {'error': said})
    assert 'b' in namespace.locks()
    (line,) = (record.getMessage() for record in caplog.records if record.name == 'jobsync.web')
    assert line.startswith("/api/drain by 'ann' from testclient failed: ")
    assert line.endswith(said)


@pytest.mark.parametrize('given', [TOKEN, None], ids=['given', 'made'])
def test_the_command_serves_until_it_is_ended(tmp_path: Path, given: str | None) -> None:
    """The address has the token only if it was made; changes need it, given or made; SIGTERM ends the command well."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    with Job('w1', coordination_config=CoordinationConfig(backend=url, minimum_nodes=1, total_tokens=100)):
        pass
    settings = {name: value for name, value in os.environ.items() if name != 'JOBSYNC_WEB_TOKEN'}
    settings |= {'JOBSYNC_WEB_TOKEN': given} if given else {}
    command = [sys.executable, '-m', 'jobsync.cli.main', 'web', '--backend', url, '--port', '0', '--steer']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as process:
        assert process.stdout is not None
        address, _, made = process.stdout.readline().split()[0].partition('#token=')
        assert bool(made) is (given is None)
        assert httpx2.get(f'{address}health/live', timeout=120).status_code == 200
        body = {'by': 'ann', 'node': 'w1'}
        for token, status in ((given or made, 200), ('another token', 401)):
            headers = {'Authorization': f'Bearer {token}'}
            assert httpx2.post(f'{address}api/undrain', json=body, headers=headers, timeout=120).status_code == status
        process.terminate()
        _, log = process.communicate(timeout=120)
    assert process.returncode == 0
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.* jobsync.web: /api/undrain by 'ann' from", log, re.MULTILINE)


@pytest.mark.parametrize(('host', 'shown'), [('::', '[::]'), ('::1', 'localhost'), ('10.0.0.7', '10.0.0.7')])
def test_the_address_that_the_command_prints(monkeypatch: pytest.MonkeyPatch, host: str, shown: str) -> None:
    """A browser opens it: an address of IPv6 stands in brackets."""
    server = MagicMock()
    server.return_value.__enter__.return_value.port = 8787
    monkeypatch.setattr('jobsync.web.Server', server)
    monkeypatch.setattr('signal.signal', Mock())
    result = CliRunner().invoke(cli, ['web', '--backend', 'memory://address', '--host', host])
    assert result.stdout == f'http://{shown}:8787/ shows the cluster; Ctrl-C ends it\n'


def test_a_token_in_the_environment_allows_nothing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts the command without ``--steer`` wants a page that changes nothing."""
    server = MagicMock()
    server.return_value.__enter__.return_value.port = 8787
    monkeypatch.setattr('jobsync.web.Server', server)
    monkeypatch.setattr('signal.signal', Mock())
    for options, is_allowed in (((), False), (('--steer',), True)):
        CliRunner(env={'JOBSYNC_WEB_TOKEN': TOKEN}).invoke(cli, ['web', '--backend', 'memory://environment', *options])
        paths = {route.path for route in server.call_args[0][0].routes}
        assert paths.isdisjoint(STEERING) is not is_allowed


PAGE = Path(__file__).parents[2] / 'docs' / 'operate' / 'page.md'


def test_every_endpoint_and_metric_is_documented(store: MemoryStore) -> None:
    """The tables of the page on HTTP name each path of either server, and each metric of a cluster, and no other."""
    apps = (
        cluster_app(lambda: Cluster(MemoryBackend(store)), token=TOKEN),
        job_app(Job('w1'), lambda: Cluster(MemoryBackend(store))),
    )
    served = {route.path for app in apps for route in app.routes if isinstance(route, Route)} - set(FILES[1:])
    text = PAGE.read_text()
    named = re.findall(r'^\| `(?:POST )?(/[^`?]*)', text, re.MULTILINE)
    assert sorted(named) == sorted(served)
    assert re.findall(r'^\| `(jobsync_cluster_\w+)`', text, re.MULTILINE) == list(CLUSTER_GAUGES)
