"""Steps from an older schema to the present one.

A step brings the tables of one version to the next, inside the transaction that also records the new version. So a crash leaves
the old schema whole. Triggers are dropped before the steps and created again after them.

The last step, ``add_missing``, renders tables, columns and conditions from ``schema``, so that they are stated once. A change of
``schema`` after a release needs a new last step, and, in place of ``add_missing`` before it, statements of what ``schema`` was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from jobsync.backends.sql import state as states
from jobsync.backends.sql.schema import IDENTIFIED, ROOMY, SCHEMA_VERSION, conditions
from jobsync.backends.sql.store import SqlStore, SqlTransaction
from jobsync.errors import SchemaMismatch

__all__ = ['STEPS', 'migrate', 'version']


GRANT = """
DO $body$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT a.privilege_type AS may, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role
        FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        WHERE c.oid = '{old}'::regclass AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON {new} TO %s', one.may, one.role);
    END LOOP;
END
$body$"""
"""A role with rights on the table of locks gets the same rights on that of items, which belongs to the role that migrates."""


def add_missing(tx: SqlTransaction) -> None:
    """Add the tables and columns that ``schema`` has and the database has not, and room. New columns begin with their default."""
    inspector = sa.inspect(tx.connection)
    for table in tx.tables.metadata.sorted_tables:
        if not inspector.has_table(table.name):
            table.create(tx.connection, checkfirst=False)
            if table is tx.tables.item and tx.dialect.name == 'postgresql':
                run(tx, GRANT.format(old=tx.tables.lock.name, new=table.name))
            continue
        present = {column['name'] for column in inspector.get_columns(table.name)}
        sound = conditions(table, tx.dialect.name)
        for column in table.columns:
            if column.name not in present:
                ddl = str(CreateColumn(column).compile(dialect=tx.connection.dialect))
                if column.name in sound:
                    ddl += f' CONSTRAINT {column.name}_is_sound CHECK ({sound[column.name]})'
                run(tx, f'ALTER TABLE {table.name} ADD COLUMN {ddl}')
    if tx.dialect.name == 'postgresql':
        run(tx, ROOMY.format(table=tx.tables.token.name))
        run(tx, IDENTIFIED.format(table=tx.tables.change.name))


def run(tx: SqlTransaction, statement: str) -> None:
    """Run a statement without parameters."""
    tx.execute_text(statement.replace('%', '%%') if tx.dialect.name == 'postgresql' else statement)


STEPS: Mapping[int, Callable[[SqlTransaction], None]] = {3: add_missing}
"""By the version that a step starts from. Versions 1 and 2 were those of unpublished states."""


def version(tx: SqlTransaction) -> int:
    """Return the schema's version; ``SchemaMismatch`` if the namespace's state is gone."""
    found: object = tx.execute(sa.select(tx.tables.state.c.schema_version)).scalar_one_or_none()
    if found is None:
        raise SchemaMismatch(
            f'{tx.tables.state.name} is empty: stop all nodes, drop the tables of this namespace, and start one, which makes them'
        )
    if not isinstance(found, int):
        raise states.unreadable(f'schema_version is {found!r}')
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
