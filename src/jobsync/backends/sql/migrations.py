"""Steps from an older schema to the present one.

A step brings the tables of one version to the next, inside the transaction that also records the new version. So a crash leaves
the old schema whole. Triggers are dropped before the steps and created again after them.

The last step renders tables and conditions from ``schema``, so that they are stated once. A change of ``schema`` needs a new last
step that does so, and a copy, in the step before it, of what ``schema`` was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from jobsync.backends.sql.schema import SCHEMA_VERSION
from jobsync.backends.sql.steps.owned_rows import owned_rows
from jobsync.backends.sql.steps.sound_rows import sound_rows
from jobsync.backends.sql.store import SqlStore, SqlTransaction
from jobsync.errors import SchemaMismatch

__all__ = ['STEPS', 'migrate', 'version']

STEPS: Mapping[int, Callable[[SqlTransaction], None]] = {1: owned_rows, 2: sound_rows}
"""By the version that a step starts from. Version 1 is the first."""


def version(tx: SqlTransaction) -> int:
    """Return the schema's version; ``SchemaMismatch`` if the namespace's state is gone."""
    found: int | None = tx.execute(sa.select(tx.tables.state.c.schema_version)).scalar_one_or_none()
    if found is None:
        raise SchemaMismatch(f'{tx.tables.state.name} is empty: drop the tables of this namespace, and open it anew')
    return found


def migrate(store: SqlStore, tx: SqlTransaction) -> None:
    """Bring the tables to ``SCHEMA_VERSION``, from whatever version another process may have left them at."""
    found = version(tx)
    if found >= SCHEMA_VERSION:
        return
    store.unwatch(tx)
    for number in range(found, SCHEMA_VERSION):
        if number not in STEPS:
            raise SchemaMismatch(f'there is no way from schema version {number} to {SCHEMA_VERSION}; use another appname')
        STEPS[number](tx)
        tx.execute(sa.update(tx.tables.state).values(schema_version=number + 1))
    store.watch(tx)
