"""Which namespaces a database is said to have after a table was dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.harnesses.sql import SqlHarness

from jobsync import Cluster
from jobsync.backends.sql.schema import tables_for
from jobsync.cli.common import absence
from jobsync.errors import SchemaMismatch
from jobsync.testing import Namespace

TABLES = sorted(tables_for('sync_').names().values())


@pytest.mark.parametrize('lost', TABLES)
def test_a_namespace_that_has_lost_a_table_is_there(namespace: Namespace, harness: SqlHarness, lost: str) -> None:
    """No table that is dropped makes an operator check the URL and the name: the namespace is listed, as are the others."""
    backend: Any = harness.connect(namespace='other_')
    Namespace(backend)
    names: Callable[[int], list[str]] = backend.read_namespaces
    assert names(9) == ['other_', 'sync_']
    harness.execute(f'DROP TABLE {lost}')
    assert names(9) == ['other_', 'sync_']
    cluster = Cluster(harness.connect(), 'sync_')
    with pytest.raises(SchemaMismatch, match=lost):
        cluster.status()
    assert absence(cluster) == ''


def test_tables_of_other_programs_are_no_namespace(namespace: Namespace, harness: SqlHarness) -> None:
    """A table or two whose names end as those of a namespace are none: many a program has a state and a token."""
    backend: Any = harness.connect()
    harness.execute(
        *(f'CREATE TABLE {name} (id INTEGER)' for name in ('a_state', 'a_token', 'b_unowned', 'b_node', 'd_rebalance'))
    )
    assert backend.read_namespaces(9) == ['sync_']
