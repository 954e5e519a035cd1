"""Namespaces that an older jobsync left in Redis and in etcd: as their keys were read then, opened and used by this one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.harnesses.redis import RedisHarness
from tests.support.servers import EtcdServer, RedisServer

from jobsync.backend import HistoryKind, NodeState, Rebalance, Settings
from jobsync.backends.etcd.driver import etcd3
from jobsync.errors import SchemaMismatch
from jobsync.testing import Harness, Namespace
from jobsync.testing.conformance.namespace import DAY

SCHEMAS = Path(__file__).parent / 'schemas'
SETTINGS = Settings(24, 'xxh3')


def plain(text: str) -> bytes:
    return base64.b64decode(text)


def put_redis(url: str, edit: dict[str, Any]) -> None:
    """Write the keys of the dump."""
    client = redis.Redis.from_url(url.partition('?')[0])
    for key, (kind, content) in edit.items():
        if kind == 'hash':
            client.hset(key, mapping={plain(field): plain(value) for field, value in content.items()})
        elif kind == 'zset':
            client.zadd(key, {plain(member): score for member, score in content.items()})
        else:
            client.rpush(key, *map(plain, content))
    client.close()


def put_etcd(url: str, found: dict[str, str]) -> None:
    """Write the keys of the dump."""
    host, _, port = url.removeprefix('etcd://').strip('/').rpartition(':')
    client = etcd3.client(host=host, port=int(port))
    for key, value in found.items():
        client.put(plain(key), plain(value))
    client.close()


@pytest.fixture(params=[pytest.param('redis', marks=pytest.mark.redis), pytest.param('etcd', marks=pytest.mark.etcd)])
def old(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A store with the dump of its kind: two nodes that have left, tokens, pins, locks and history."""
    harness: RedisHarness | EtcdHarness
    if request.param == 'redis':
        server: RedisServer = request.getfixturevalue('redis_of_many')
        harness = RedisHarness(server)
        put_redis(harness.url, json.loads((SCHEMAS / 'version-3-redis.json').read_text()))
    else:
        etcd: EtcdServer = request.getfixturevalue('etcd_server')
        harness = EtcdHarness(etcd)
        put_etcd(etcd.emptied(), json.loads((SCHEMAS / 'version-4-etcd.json').read_text()))
    yield harness
    harness.close()


def test_everything_is_still_there(old: Harness) -> None:
    """Nodes, tokens, pins, locks and history, with the defaults of what there was not."""
    backend = old.connect()
    assert backend.open(SETTINGS, create=True).settings == SETTINGS
    namespace = Namespace(backend, SETTINGS)
    assert {name: node.state for name, node in namespace.nodes().items()} == {'a': NodeState.LEFT, 'b': NodeState.LEFT}
    assert {(node.settings, node.stalled) for node in namespace.nodes().values()} == {('{}', False)}
    assignment = namespace.assignment()
    assert [list(assignment.owned_by(name)) for name in 'ab'] == [list(range(12)), list(range(12, 24))]
    assert {pin.task_id: (pin.owner, pin.group) for pin in assignment.pins.values()} == {'p': ('a', ''), 'q': (None, '')}
    locks = namespace.locks()
    assert [(lock.patterns, lock.group, lock.cost) for lock in locks.values()] == [(('a%',), '', 1), (('none',), '', 1)]
    assert {claim.item for claim in namespace.claims()} == {'p', 'x'}
    assert [row.item for row in backend.history(HistoryKind.AUDIT) if not isinstance(row, Rebalance)] == ['p']
    assert [row.trigger_reason for row in namespace.rebalances()] == ['first distribution']


def test_it_goes_on_from_there(old: Harness) -> None:
    """A node registers, leads, commits and claims; locks are edited, items declared, and attempts counted."""
    backend = old.connect()
    opened = backend.open(SETTINGS, create=True)
    if backend.snapshot().store != opened.timeline.store:  # the dump came from another server
        backend.renew_timeline(opened.timeline, 0)
    namespace = Namespace(backend, SETTINGS)
    namespace.timeline = backend.snapshot().timeline
    leader = namespace.leader('c')
    namespace.lock('p', patterns=('c%',))
    namespace.lock('f1', group='feeds', cost=2.0)
    assert {lock.key: lock.cost for lock in backend.read_locks().locks} == {'p': 1, 'q': 1, 'feeds\0f1': 2.0}
    assert backend.append_claims(leader, ['p', 'y'], DAY, 0).completed == {'p'}
    assert {claim.item for claim in backend.incomplete(DAY, older_than=DAY - DAY)} == {'x', 'y'}
    again = old.connect()
    assert again.open(SETTINGS, create=False).settings == SETTINGS
    assert [node.name for node in again.snapshot().nodes if node.state is NodeState.JOINED] == ['c']


@pytest.mark.redis
def test_an_older_node_at_work_is_not_disturbed(redis_of_many: RedisServer) -> None:
    """On Redis a node of the older version would read nothing of this one's records, so it has to stop first."""
    harness = RedisHarness(redis_of_many)
    backend = harness.connect()
    Namespace(backend, SETTINGS).join('a')
    client = redis.Redis.from_url(harness.url.partition('?')[0])
    client.hset('jobsync:{sync_}:state', 'schema', '3')
    client.close()
    with pytest.raises(SchemaMismatch, match=r'format 3.*stop all nodes of the older version.*killed stays registered'):
        harness.connect().open(SETTINGS, create=True)
    harness.close()
