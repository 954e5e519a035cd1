"""The way from one version of the schema to the next, whatever the versions are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backends.sql import migrations
from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.store import SqlTransaction
from jobsync.errors import SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

OLD = SCHEMA_VERSION - 1


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def old(harness: SqliteHarness) -> SqliteHarness:
    """A namespace whose schema is a version behind."""
    Namespace(harness.connect()).join('a')
    harness.execute(f'UPDATE sync_state SET schema_version = {OLD}')
    return harness


def test_an_older_schema_is_migrated(old: SqliteHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """``open`` runs the steps between the versions, once, and the records stay."""
    steps: list[int] = []

    def step(tx: SqlTransaction) -> None:
        steps.append(0)
        tx.connection.exec_driver_sql('CREATE TABLE extra (x)')

    monkeypatch.setattr(migrations, 'STEPS', {OLD: step})
    for _ in range(2):
        backend = old.connect()
        backend.open(SETTINGS, create=True)
        assert [node.name for node in backend.snapshot().nodes] == ['a']
    assert steps == [0]
    assert old.query('SELECT schema_version FROM sync_state') == [(SCHEMA_VERSION,)]


def test_a_step_that_fails_leaves_the_old_schema(old: SqliteHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way or nothing."""

    def step(tx: SqlTransaction) -> None:
        tx.connection.exec_driver_sql('CREATE TABLE extra (x)')
        tx.connection.exec_driver_sql('SELECT x FROM absent')

    monkeypatch.setattr(migrations, 'STEPS', {OLD: step})
    with pytest.raises(SchemaMismatch):
        old.connect().open(SETTINGS, create=True)
    assert old.query("SELECT name FROM sqlite_master WHERE name = 'extra'") == []
    assert old.query('SELECT schema_version FROM sync_state') == [(OLD,)]


def test_skip_db_init_does_not_migrate(old: SqliteHarness) -> None:
    """It says which versions are meant and who migrates."""
    with pytest.raises(SchemaMismatch, match=f'version {OLD}.*needs version {SCHEMA_VERSION}.*skip_db_init'):
        old.connect().open(SETTINGS, create=False)


def test_no_way_from_there(old: SqliteHarness) -> None:
    """A version without a step is refused."""
    old.execute('UPDATE sync_state SET schema_version = 0')
    with pytest.raises(SchemaMismatch, match='no way from schema version 0'):
        old.connect().open(SETTINGS, create=True)
