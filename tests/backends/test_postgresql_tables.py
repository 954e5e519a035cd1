"""Tables that are not what they were made as: without a log, or in the shadow of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness, connect_to
from tests.support.servers import PostgresServer

from jobsync.errors import ConfigError
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = pytest.mark.postgres


@pytest.fixture
def harness(newest_postgres: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(newest_postgres)
    yield harness
    harness.close()


@pytest.mark.parametrize('table', ['state', 'node', 'token', 'unowned', 'change', 'lock', 'claim'])
def test_a_table_without_a_log(harness: PostgresqlHarness, table: str) -> None:
    """A crash empties it, past every trigger: whoever connects then is refused, as a node that works is until it is mended."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('a')
    harness.execute(f'ALTER TABLE sync_{table} SET UNLOGGED')
    harness.end_sessions()
    with pytest.raises(ConfigError, match=f'sync_{table} is UNLOGGED.*SET LOGGED'):
        namespace.beat(ref)
    with pytest.raises(ConfigError, match='stop all nodes'):
        harness.connect().open(SETTINGS, create=True)
    harness.execute(f'ALTER TABLE sync_{table} SET LOGGED')
    assert namespace.beat(ref).heartbeat == 1


def test_a_table_in_the_shadow_of_another(harness: PostgresqlHarness) -> None:
    """A copy of one table, earlier in the search path, is not read beside the other tables."""
    Namespace(harness.connect())
    shade = f'{harness.schema}_shade'
    harness.execute(f'CREATE SCHEMA {shade}', f'CREATE TABLE {shade}.sync_token AS SELECT * FROM sync_token')
    try:
        url = harness.url.replace(harness.schema, f'{shade},{harness.schema}')
        with pytest.raises(ConfigError, match=rf'several schemas: .*{harness.schema}\.sync_state, {shade}\.sync_token'):
            connect_to(url, 'sync_').open(SETTINGS, create=True)
    finally:
        harness.execute(f'DROP SCHEMA {shade} CASCADE')
