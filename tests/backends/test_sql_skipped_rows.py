"""Rows that a trigger of somebody's own leaves out without an error: what depends on them is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import TokenGroup
from jobsync.errors import SchemaMismatch
from jobsync.testing import Namespace

Sql = SqliteHarness | PostgresqlHarness


@pytest.fixture(params=['sqlite', pytest.param('postgresql', marks=pytest.mark.postgres)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sql]:
    """An empty store."""
    sqlite = request.param == 'sqlite'
    harness = SqliteHarness(tmp_path) if sqlite else PostgresqlHarness(request.getfixturevalue('newest_postgres'))
    yield harness
    harness.close()


def skip(harness: Sql, event: str, table: str) -> None:
    """Have a trigger skip rows; on PostgreSQL one that returns NEW, as it should for all but DELETE, where NEW is null."""
    if isinstance(harness, SqliteHarness):
        harness.execute(f'CREATE TRIGGER mine BEFORE {event} ON {table} BEGIN SELECT RAISE(IGNORE); END')
        return
    answer = 'NEW' if event == 'DELETE' else 'NULL'
    body = f'$$BEGIN RETURN {answer}; END$$'
    harness.execute(
        f'CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS {body}',
        f'CREATE TRIGGER mine BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION mine()',
    )


def test_a_node_whose_row_stays_is_not_evicted(harness: Sql) -> None:
    """Its next heartbeat would succeed: it would have a lease while others own its tokens."""
    namespace = Namespace(harness.connect())
    leader, ref = namespace.leader(), namespace.join('b')
    namespace.commit(leader, TokenGroup(range(9), 'b'))
    skip(harness, 'DELETE', 'sync_node')
    with namespace.refused(SchemaMismatch) as caught:
        namespace.evict(leader, ref)
    assert 'rows of sync_node are skipped' in str(caught.value)
    assert namespace.beat(ref).heartbeat == 1


@pytest.mark.parametrize('event', ['INSERT', 'UPDATE'])
def test_tokens_whose_rows_are_not_written_are_not_given_away(harness: Sql, event: str) -> None:
    """A node that reads what has changed would own them, and one that reads everything would not."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    namespace.commit(leader, TokenGroup(range(9), 'a'))
    skip(harness, event, 'sync_token')
    with namespace.refused(SchemaMismatch) as caught:
        namespace.commit(leader, TokenGroup(range(12) if event == 'INSERT' else range(9), 'b'))
    assert 'rows of sync_token are skipped' in str(caught.value)
