"""Announcements: the server's queue of them, which all its databases share, and a setting that switches triggers off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from psycopg.errors import ProgramLimitExceeded
from tests.support.harnesses.postgresql import PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer
from tests.support.servers.postgres import find_postgres

from jobsync._core.records import LockEdit, LockRequest
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.postgres


class ShortQueue(PostgresServer):
    """A server whose queue is half a megabyte long."""

    settings = ('max_notify_queue_pages=64',)  # PostgreSQL 17; before, the queue has 8 GB


@pytest.fixture
def harness() -> Iterator[PostgresqlHarness]:
    server = ShortQueue(next(programs for version, programs in find_postgres().items() if version >= 17))
    harness = PostgresqlHarness(server)
    yield harness
    harness.close()
    server.close()


def fill_queue(url: str) -> None:
    """Announce until the server refuses it."""
    with psycopg.connect(url, autocommit=True) as other, pytest.raises(ProgramLimitExceeded):
        while True:
            other.execute("SELECT pg_notify('other', repeat('x', 7000) || random())")


def test_a_full_queue_costs_announcements_only(harness: PostgresqlHarness) -> None:
    """Nodes join, commit and leave while a session that listens leaves a transaction open; then changes are announced again."""
    namespace = Namespace(harness.connect())
    ref = namespace.leader('a')
    url = harness.server.url(socket_only=True)
    with psycopg.connect(url) as listening:
        listening.execute('LISTEN other')
        listening.commit()
        listening.execute('SELECT 1')
        fill_queue(url)
        joined = namespace.join('b')
        namespace.commit(ref)
        namespace.lock('x')
        namespace.backend.deregister(joined)
    revision = namespace.snapshot().revision.number
    namespace.join('c')
    assert namespace.backend.wait(revision, 60) > revision


def test_a_role_whose_triggers_are_off(newest_postgres: PostgresServer) -> None:
    """Its changes are announced all the same."""
    harness = PostgresqlHarness(newest_postgres)
    namespace = Namespace(harness.connect())
    namespace.join('a')
    revision = namespace.snapshot().revision.number
    url = harness.url.replace('?options=', '?options=-csession_replication_role%3Dreplica%20')
    with ThreadPoolExecutor(1) as pool, closing(connect_to(url, 'sync_')) as replica:
        waiting = pool.submit(namespace.backend.wait, revision, 5)
        time.sleep(0.5)  # until it listens
        replica.edit_locks(LockEdit(put=(LockRequest('x', ('a',), 'me'),)))
        assert waiting.result() > revision
    harness.close()
