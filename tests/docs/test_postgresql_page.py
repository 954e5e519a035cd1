"""The rights that the page on PostgreSQL grants are enough, and so is what it says of the URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.docs.pages import DOCS, blocks
from tests.job.waiting import wait_until
from tests.support.observing import changes_nothing, observer, sees_what_there_is, something_to_see
from tests.support.servers import PostgresServer

import jobsync.database as db
from jobsync import ConfigError, CoordinationConfig, Job, plugins
from jobsync.backend import BackendOptions

pytestmark = pytest.mark.postgres

SQL = [block.text.replace('…', 'x') for block in blocks(DOCS / 'operate' / 'postgresql.md') if block.info == 'sql']


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    postgres_server.psql('CREATE DATABASE docs')
    yield postgres_server
    postgres_server.psql('DROP DATABASE docs WITH (FORCE)', 'DROP ROLE jobs_owner', 'DROP ROLE jobs_worker')


def config(server: PostgresServer, role: str) -> CoordinationConfig:
    return CoordinationConfig(backend=f'postgresql://{role}:x@127.0.0.1:{server.port}/docs', minimum_nodes=1)


def test_rights(server: PostgresServer) -> None:
    """The owner makes the tables; the worker, refused before its grant, then does all that a node does."""
    roles, grant, _ = SQL
    server.psql(*roles.strip().splitlines(), database='docs')
    with Job('setup', coordination_config=config(server, 'jobs_owner'), wait_on_enter=60) as job:
        assert job.am_i_leader()
    with pytest.raises(ConfigError, match='this user may not do what is needed: permission denied'):
        Job('worker', coordination_config=config(server, 'jobs_worker')).__enter__()
    server.psql(grant, database='docs')
    for skip in (False, True):
        with Job('worker', coordination_config=config(server, 'jobs_worker'), skip_db_init=skip) as job:
            job.register_task_lock('x', 'nobody')
            assert job.add_task(next(number for number in range(1000) if job.can_claim_task(number)))
            job.write_audit()
            assert len(job.get_audit()) == 1
            assert job.clear_all_locks() == 1
            assert job.get_incomplete_tasks(0) == []


def test_rights_are_exact(server: PostgresServer) -> None:
    """Two workers with what is granted hand tokens over and clean up; whatever is not granted is refused to them."""
    roles, grant, _ = SQL
    server.psql(*roles.strip().splitlines(), database='docs')
    with Job('setup', coordination_config=config(server, 'jobs_owner'), wait_on_enter=60):
        server.psql(grant, database='docs')
    worker = config(server, 'jobs_worker')
    with Job('a', coordination_config=worker, wait_on_enter=60) as a:
        with Job('b', coordination_config=worker, wait_on_enter=60) as b:
            b.register_task_lock('x', 'b')
            wait_until(lambda: b.can_claim_task('x'), 'b has the task that is locked to it')
            assert b.add_task('x')
        wait_until(lambda: len(a.my_tokens) >= worker.total_tokens and a.can_claim_task(1), 'a has all tokens again')
        cn = a._cn
        cleaned = ('node WHERE false', 'token WHERE false', 'lock', 'claim', 'audit', 'rebalance', 'change WHERE false')
        for statement in (*(f'DELETE FROM sync_{table}' for table in cleaned), 'UPDATE sync_node SET weight = weight'):
            db.execute(cn, statement)
        for statement in REFUSED:
            with pytest.raises(Exception, match=r'permission denied|must be owner'):
                db.execute(cn, statement)


def test_rights_to_look(server: PostgresServer) -> None:
    """A role that only looks sees all that there is, and changes nothing."""
    roles, _, watcher = SQL
    server.psql(*roles.strip().splitlines(), database='docs')
    owner = f'postgresql://jobs_owner:x@127.0.0.1:{server.port}/docs'
    with closing(plugins.connect(owner, BackendOptions('sync_'))) as backend:
        namespace = something_to_see(backend)
        server.psql(*filter(str.strip, watcher.split(';')), database='docs')
        with observer(owner.replace('jobs_owner', 'jobs_watcher')) as cluster, observer(owner) as own:
            sees_what_there_is(cluster, own)
            changes_nothing(cluster, namespace)
    server.psql('DROP OWNED BY jobs_watcher', 'DROP ROLE jobs_watcher', database='docs')


TABLES = ('node', 'token', 'unowned', 'change', 'lock', 'rebalance', 'claim', 'audit', 'state')
REFUSED = (
    *(f'TRUNCATE sync_{table}' for table in TABLES),
    *(f'DROP TABLE sync_{table}' for table in TABLES),
    *(f'ALTER TABLE sync_{table} ADD COLUMN more int' for table in TABLES),
    *(f'ALTER TABLE sync_{table} DISABLE TRIGGER USER' for table in TABLES),
    *(f'CREATE INDEX ON sync_{table} (ctid)' for table in TABLES),
    'INSERT INTO sync_state SELECT * FROM sync_state',
    'DELETE FROM sync_state',
    "UPDATE sync_audit SET node = 'x'",
    "UPDATE sync_rebalance SET leader_node = 'x'",
    "UPDATE sync_change SET owner = 'x'",
    'DROP FUNCTION sync_by_hand() CASCADE',
    'CREATE TABLE more (x int)',
    'CREATE SCHEMA more',
    'CREATE ROLE more',
    'ALTER SYSTEM SET fsync = off',
    'SELECT pg_reload_conf()',
)
