"""Tables of PostgreSQL whose rows an operator's ALTER TABLE writes anew while nodes read, or that lose rows past the triggers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.backend import Backend, BackendOptions, HistoryKind, TokenGroup
from jobsync.backends.sql.postgresql.plugin import connect
from jobsync.testing.conformance.namespace import DAY, SETTINGS, Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def not_lost(backend: Backend) -> int:
    """How many attempts at one item are not lost."""
    return 1 - len(backend.lost_attempts(DAY))


READINGS: dict[str, tuple[str, Callable[[Backend], int]]] = {
    'nodes': ('node', lambda backend: len(backend.snapshot().nodes)),
    'tokens': ('token', lambda backend: sum(len(group.tokens) for group in backend.read_assignment().groups)),
    'locks': ('lock', lambda backend: len(backend.read_locks().locks)),
    'claims': ('claim', lambda backend: len(backend.history(HistoryKind.CLAIM))),
    'audits': ('audit', lambda backend: len(backend.history(HistoryKind.AUDIT))),
    'attempts': ('node', not_lost),
    'settings': ('state', lambda backend: backend.open(SETTINGS, create=True).settings.total_tokens),
    'old claims': ('state', lambda backend: 1 - backend.purge(HistoryKind.CLAIM, LONG_AGO, 10).deleted),
}
"""By what is read: the table that is written anew, and how much a reading finds."""


@pytest.mark.parametrize('what', READINGS)
def test_a_reading_that_waits_for_a_rewrite(harness: PostgresqlHarness, what: str) -> None:
    """It finds all rows: an empty table would be one whose rows were deleted."""
    table, read = READINGS[what]
    namespace = Namespace(harness.connect())
    ref = namespace.leader('a')
    namespace.commit(ref, TokenGroup(range(24), 'a'))
    namespace.lock('x')
    namespace.claim(ref, 'done')
    namespace.audit('a', 'done')
    namespace.attempt(ref, 'begun')
    expected = read(namespace.backend)
    assert expected > 0
    name = f'{harness.schema}.sync_{table}'
    waits = f"SELECT count(*) FROM pg_locks WHERE relation = '{name}'::regclass AND NOT granted"
    with psycopg.connect(harness.server.url(socket_only=True)) as operator, ThreadPoolExecutor(1) as pool:
        # Another value for each row: so each is written anew.
        operator.execute(f'ALTER TABLE {name} ADD COLUMN extra float8 DEFAULT random()')
        reading = pool.submit(read, namespace.backend)
        wait_until(lambda: harness.server.psql(waits) == ['1'], 'the reading waits')
        operator.commit()
        assert reading.result(60) == expected


def test_a_reading_gives_way_to_locks_of_several_tables(harness: PostgresqlHarness) -> None:
    """An operator who drops or alters several tables is not ended for a deadlock with what nodes read meanwhile."""
    url = f'{harness.server.url()}?options=-csearch_path%3D{harness.schema}%20-cdeadlock_timeout%3D10min'
    Namespace(harness.connect()).join('a')
    lock = f'LOCK TABLE {harness.schema}.{{}} IN ACCESS EXCLUSIVE MODE'
    waits = f"SELECT count(*) FROM pg_locks WHERE relation = '{harness.schema}.sync_audit'::regclass AND NOT granted"
    with (
        closing(connect(url, BackendOptions())) as backend,
        psycopg.connect(harness.server.url(socket_only=True)) as operator,
        ThreadPoolExecutor(1) as pool,
    ):
        operator.execute("SET deadlock_timeout = '20s'")
        operator.execute(lock.format('sync_audit'))
        reading = pool.submit(backend.history, HistoryKind.AUDIT)
        wait_until(lambda: harness.server.psql(waits) == ['1'], 'the reading waits')
        operator.execute(lock.format('sync_state'))
        operator.commit()
        assert list(reading.result(60)) == []


def test_a_difference_whose_rows_are_gone(harness: PostgresqlHarness) -> None:
    """Everything is read in its place: a node that missed a hand-over would go on with the token as its new owner does."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader('a')
    known = namespace.commit(leader, TokenGroup(range(24), 'a'))
    namespace.commit(leader, TokenGroup([1], 'b'))
    # What a crash leaves of a table that was made UNLOGGED, and pg_restore --disable-triggers of one that it has cleared.
    harness.server.psql(f'SET session_replication_role = replica; DELETE FROM {harness.schema}.sync_change')
    changes = namespace.backend.read_assignment(known)
    assert changes.base is None
    assert {token: group.owner for group in changes.groups for token in group.tokens} == {**dict.fromkeys(range(24), 'a'), 1: 'b'}
    # What is written from then on is a difference again.
    known = namespace.backend.read_assignment().version
    namespace.commit(leader, TokenGroup([3], 'b'))
    assert [[*group.tokens] for group in namespace.backend.read_assignment(known).groups] == [[3]]
