"""Steps from an older schema to the present one.

A step brings the tables of one version to the next, inside the transaction that also records the new version, so a crash
leaves the old schema whole. It may assume nothing but the version it is made for: write it against names of tables and
columns, not against ``schema``, which will have moved on. Triggers are taken away before the steps and made anew after them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import select, update

from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.steps.owned_rows import owned_rows
from jobsync.backends.sql.steps.sound_rows import sound_rows
from jobsync.backends.sql.store import SqlTransaction
from jobsync.errors import SchemaMismatch

__all__ = ['STEPS', 'migrate', 'version']

STEPS: Mapping[int, Callable[[SqlTransaction], None]] = {1: owned_rows, 2: sound_rows}
"""By the version that a step starts from. Version 1 is the first."""


def version(tx: SqlTransaction) -> int:
    """The schema's version; ``SchemaMismatch`` if the namespace's state is gone."""
    found: int | None = tx.execute(select(tx.tables.state.c.schema_version)).scalar_one_or_none()
    if found is None:
        raise SchemaMismatch(f'{tx.tables.state.name} is empty: drop the tables of this namespace, and open it anew')
    return found


def migrate(tx: SqlTransaction) -> None:
    """Bring the tables to ``SCHEMA_VERSION``, from whatever version another process may have left them at."""
    found = version(tx)
    if found >= SCHEMA_VERSION:
        return
    tx.store.unwatch(tx)
    for number in range(found, SCHEMA_VERSION):
        if number not in STEPS:
            raise SchemaMismatch(f'there is no way from schema version {number} to {SCHEMA_VERSION}; use another appname')
        STEPS[number](tx)
        tx.execute(update(tx.tables.state).values(schema_version=number + 1))
    tx.store.watch(tx)
