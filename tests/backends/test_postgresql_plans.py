"""How PostgreSQL carries out the statements that every worker repeats: by an index, however long the history is."""

from __future__ import annotations

import datetime as dt
from contextlib import closing

import pytest
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer

from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.history import PLAINLY, parameters
from jobsync.backends.sql.nodes import run_of
from jobsync.backends.sql.store import Mode, SqlTransaction
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.postgres

DAY = dt.date(2026, 3, 2)
AUDITS = 50_000


@pytest.mark.parametrize('is_analyzed', [False, True])
def test_claims_of_completed_items_read_no_other_audits(postgres_server: PostgresServer, is_analyzed: bool) -> None:
    """A thousand items are looked up among all audits of the date, whether or not the server has statistics of the table."""
    with closing(PostgresqlHarness(postgres_server)) as harness:
        namespace = Namespace(harness.connect())
        ref, backend = namespace.join('a'), namespace.backend
        harness.query(
            'INSERT INTO sync_audit (item, date, node, created_on) '
            f"SELECT 'task-' || number, '{DAY}', 'a', now() FROM generate_series(1, {AUDITS}) AS number"
        )
        if is_analyzed:
            harness.query('ANALYZE sync_audit')
        names = sorted(f'task-{number}' for number in range(AUDITS - 500, AUDITS + 500))
        read = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relid = 'sync_audit'::regclass"

        def claim(tx: SqlTransaction) -> tuple[int, int]:
            found = tx.execute(PLAINLY.put_and_find, {**parameters(tx, ref.name, names, DAY), **run_of(ref)}).all()
            return len([row for row in found if row[0] is not None]), tx.execute_text(read).scalar_one()

        assert isinstance(backend, SqlBackend)
        assert backend.store.run(Mode.WRITE, 100.0, claim) == (501, 0)
