"""Namespaces of the format before this one, and of a later one: who only looks or steers changes nothing in them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
from tests.backends.test_older_formats import SETTINGS, put_etcd, put_redis
from tests.backends.test_sql_migrations import postgresql, sqlite
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.redis import RedisHarness
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync import Cluster
from jobsync.backends.etcd.driver import etcd3
from jobsync.errors import SchemaMismatch
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import DAY

SCHEMAS = Path(__file__).parent / 'schemas'
TABLES = ('state', 'node', 'token', 'unowned', 'change', 'lock', 'claim', 'audit', 'rebalance')
STATE = b'jobsync/sync_/state'

CALLS: Mapping[str, Callable[[Cluster], object]] = {
    'status': Cluster.status,
    'nodes': Cluster.nodes,
    'hand_overs': Cluster.hand_overs,
    'locks': Cluster.locks,
    'items': Cluster.items,
    'tokens': Cluster.tokens,
    'owner_of': lambda cluster: cluster.owner_of('p'),
    'why': lambda cluster: cluster.why('p'),
    'plan': lambda cluster: cluster.plan(['c']),
    'claims': Cluster.claims,
    'audits': Cluster.audits,
    'incomplete': Cluster.incomplete,
    'quarantined': lambda cluster: cluster.quarantined(1),
    'rebalances': Cluster.rebalances,
    'history': Cluster.history,
    'history of a task': lambda cluster: cluster.history('p'),
    'add_lock': lambda cluster: cluster.add_lock('new', 'a%'),
    'clear_locks': Cluster.clear_locks,
    'release': lambda cluster: cluster.release(['x'], DAY),
    'drain': lambda cluster: cluster.drain('a', force=True),
    'undrain': lambda cluster: cluster.undrain('a'),
    'evict': lambda cluster: cluster.evict('a'),
    'purge by age': lambda cluster: cluster.purge(older_than=0),
    'purge': lambda cluster: cluster.purge(before=dt.datetime(9000, 1, 1, tzinfo=dt.UTC)),
}
"""All that ``Cluster`` reads and changes."""


@attrs.frozen
class Store:
    """A namespace in a store, and what may be done to it beside jobsync."""

    harness: SqliteHarness | PostgresqlHarness | RedisHarness | EtcdHarness

    def content(self) -> Any:
        """All that the store has of the namespace."""
        match self.harness:
            case RedisHarness():
                with closing(self._redis()) as client:
                    return {key: client.dump(key) for key in client.scan_iter()}
            case EtcdHarness():
                with self._etcd() as client:
                    return {found.key: value for value, found in client.get_all()}
            case harness:
                return {table: sorted(map(str, harness.query(f'SELECT * FROM sync_{table}'))) for table in TABLES}

    def set_format(self, change: int) -> None:
        """Have the namespace say that it is of another format."""
        match self.harness:
            case RedisHarness():
                with closing(self._redis()) as client:
                    client.hincrby('jobsync:{sync_}:state', 'schema', change)
            case EtcdHarness():
                with self._etcd() as client:
                    state = json.loads(client.get(STATE)[0])
                    client.put(STATE, json.dumps(state | {'schema_version': state['schema_version'] + change}))
            case harness:
                harness.execute(f'UPDATE sync_state SET schema_version = schema_version + {change}')

    def _redis(self) -> Any:
        return redis.Redis.from_url(self.harness.url.partition('?')[0])

    @contextmanager
    def _etcd(self) -> Iterator[Any]:
        client = etcd3.client(port=int(self.harness.url.rpartition(':')[2].strip('/')))
        try:
            yield client
        finally:
            client.close()


Made = Callable[[bool], Store]


@pytest.fixture(
    params=[
        'sqlite',
        pytest.param('postgresql', marks=pytest.mark.postgres),
        pytest.param('redis', marks=pytest.mark.redis),
        pytest.param('etcd', marks=pytest.mark.etcd),
    ]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    """Makes a store of a kind: empty, or with a namespace of the format before this one."""
    made: list[Store] = []

    def new(is_old: bool) -> Store:
        harness: Any
        match request.param:
            case 'sqlite':
                harness = sqlite(tmp_path, 3 * is_old)
            case 'postgresql':
                harness = postgresql(request.getfixturevalue('newest_postgres'), 3 * is_old)
            case 'redis':
                harness = RedisHarness(request.getfixturevalue('redis_of_many'))
                if is_old:
                    put_redis(harness.url, json.loads((SCHEMAS / 'version-3-redis.json').read_text()))
            case _:
                server = request.getfixturevalue('etcd_server')
                url, harness = server.emptied(), EtcdHarness(server)
                if is_old:
                    put_etcd(url, json.loads((SCHEMAS / 'version-4-etcd.json').read_text()))
        made.append(Store(harness))
        return made[-1]

    yield new
    for store in made:
        store.harness.close()


def newer(make: Made) -> Store:
    """A namespace in use, that says it is of the format after this one."""
    store = make(False)
    namespace = Namespace(store.harness.connect(), SETTINGS)
    leader = namespace.leader('a')
    namespace.backend.append_claims(leader, ['p', 'x'], DAY, 1)
    namespace.backend.append_audits('a', ['p'], DAY)
    namespace.lock('p')
    store.set_format(+1)
    return store


def refusals(store: Store) -> dict[str, str]:
    """What each call says that is refused, by its name. Each is made as by a command: by a handle of its own."""
    found = {}
    for name, call in CALLS.items():
        with Cluster(store.harness.url, op_timeout_sec=120, bulk_timeout_sec=300) as cluster:
            try:
                call(cluster)
            except SchemaMismatch as error:
                found[name] = str(error)
    return found


def test_an_older_one_is_not_changed_from_outside(make: Made) -> None:
    """Looking and steering is refused, with what to do, and every record is as its workers have left it."""
    store = make(True)
    before = store.content()
    found = refusals(store)
    assert found.keys() == CALLS.keys()
    assert {
        name for name, words in found.items() if not ('without skip_db_init' in words or 'not skip_db_init' in words)
    } == set()
    assert {name for name, words in found.items() if 'to look or steer' not in words} == set()
    assert store.content() == before


def test_a_newer_one_is_not_changed_from_outside(make: Made) -> None:
    """The same of a command that is older than the workers: it is to be replaced."""
    store = newer(make)
    before = store.content()
    found = refusals(store)
    assert found.keys() == CALLS.keys()
    assert {name for name, words in found.items() if 'install' not in words} == set()
    assert {name for name, words in found.items() if 'appname' in words} == set()
    assert store.content() == before


def test_a_handle_that_read_before_changes_nothing_after(make: Made) -> None:
    """As of a page or a ``status --watch`` that outlives the upgrade of the workers."""
    store = make(False)
    namespace = Namespace(store.harness.connect(), SETTINGS)
    namespace.leader('a')
    namespace.lock('p')
    with Cluster(store.harness.url, op_timeout_sec=120, bulk_timeout_sec=300) as cluster:
        assert cluster.status()['leader'] == 'a'
        store.set_format(+1)
        before = store.content()
        for name, call in CALLS.items():
            if name != 'purge':  # of nothing
                with pytest.raises(SchemaMismatch):
                    call(cluster)
        assert store.content() == before


def test_a_worker_that_makes_no_tables_does_not_upgrade(make: Made) -> None:
    """With ``skip_db_init`` it is refused, and every record is as it was."""
    store = make(True)
    before = store.content()
    with pytest.raises(SchemaMismatch, match='skip_db_init'):
        store.harness.connect().open(SETTINGS, create=False)
    assert store.content() == before


def test_an_upgrade_keeps_the_timeline(make: Made) -> None:
    """The first worker that makes tables upgrades the namespace at once, for all: nothing begins anew."""
    store = make(True)
    opened = store.harness.connect().open(SETTINGS, create=True)
    assert store.harness.connect().open(None, create=False) == opened
    with Cluster(store.harness.url, op_timeout_sec=120, bulk_timeout_sec=300) as cluster:
        assert {row['name'] for row in cluster.nodes()} == {'a', 'b'}
        assert {lock['task_id'] for lock in cluster.locks()} >= {'p', 'q'}
    assert opened.timeline.generation == 0
