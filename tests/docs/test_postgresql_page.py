"""The rights that the page on PostgreSQL grants are enough, and so is what it says of the URL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.docs.pages import DOCS, blocks

from jobsync import ConfigError, CoordinationConfig, Job
from jobsync.testing.servers import PostgresServer

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
    roles, grant = SQL
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
