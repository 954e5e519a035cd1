"""Version 2 to 3: unreadable values are refused, nodes say whether they may lead, and ``state`` keeps the longest timeout.

Rows that cannot be read are repaired first, or deleted: no node of version 2 could work with them.
"""

# ruff: noqa: S608 - the names are our own

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from jobsync.backends.sql.schema import conditions
from jobsync.backends.sql.steps import run
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['sound_rows']

REPAIRS: Mapping[str, Mapping[str, str]] = {
    'weight': {'postgresql': '1', 'sqlite': '1'},
    'timeout_sec': {'postgresql': '15', 'sqlite': '15'},
    'created_on': {'postgresql': 'clock_timestamp()', 'sqlite': "strftime('%Y-%m-%d %H:%M:%f', 'now')"},
    'last_heartbeat': {'postgresql': 'NULL', 'sqlite': 'NULL'},
    'created_at': {'postgresql': 'NULL', 'sqlite': 'NULL'},
    'expires_at': {
        'postgresql': "CASE WHEN expires_at > now() THEN timestamptz 'infinity' ELSE '0001-01-02 00:00:00+00' END",
        'sqlite': 'NULL',
    },
    'patterns': {'postgresql': 'json_build_array(node_pattern)::text', 'sqlite': 'json_array(node_pattern)'},
}
"""What the columns of nodes and locks get in the place of an unreadable value. Rows unreadable in another column are deleted."""

POSTGRESQL = """
ALTER TABLE {p}node ADD COLUMN candidate BOOLEAN NOT NULL DEFAULT true;
ALTER TABLE {p}node ALTER candidate DROP DEFAULT;
ALTER TABLE {p}state ADD COLUMN longest_timeout_sec DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE {p}state ALTER longest_timeout_sec DROP DEFAULT;
ALTER TABLE {p}change DROP COLUMN size;
"""
SQLITE = """
ALTER TABLE {p}state ADD COLUMN longest_timeout_sec FLOAT NOT NULL DEFAULT 0;
"""
LONGEST = 'UPDATE {p}state SET longest_timeout_sec = coalesce((SELECT max(timeout_sec) FROM {p}node), 0);\n'


def sound_rows(tx: SqlTransaction) -> None:
    """Run the step."""
    tables = tx.tables
    if tx.dialect.name == 'postgresql':
        run(tx, POSTGRESQL)
        for table in (tables.node, tables.lock):
            repair(tx, table)
            add_conditions(tx, table, '')
        for table in (tables.rebalance, tables.claim, tables.audit):
            # A history may have very many rows: readings leave out those that cannot be read.
            add_conditions(tx, table, ' NOT VALID')
    else:
        run(tx, SQLITE)
        for table in (tables.node, tables.lock):
            make_again(tx, table, REPAIRS)
        for table in (tables.token, tables.unowned, tables.change, tables.rebalance, tables.claim, tables.audit):
            make_again(tx, table, {})
    run(tx, LONGEST)


def repair(tx: SqlTransaction, table: sa.Table) -> None:
    """Repair or delete the rows of a PostgreSQL table that do not meet its conditions."""
    for column, condition in conditions(table, 'postgresql').items():
        if column in REPAIRS:
            run(tx, f'UPDATE {table.name} SET {column} = {REPAIRS[column]["postgresql"]} WHERE NOT ({condition});\n')
        else:
            run(tx, f'DELETE FROM {table.name} WHERE NOT ({condition});\n')


def add_conditions(tx: SqlTransaction, table: sa.Table, option: str) -> None:
    """Add a PostgreSQL table's conditions to it."""
    for column, condition in conditions(table, 'postgresql').items():
        run(tx, f'ALTER TABLE {table.name} ADD CONSTRAINT {column}_is_sound CHECK ({condition}){option};\n')


def make_again(tx: SqlTransaction, table: sa.Table, repairs: Mapping[str, Mapping[str, str]]) -> None:
    """Make a SQLite table again, because conditions cannot be added to it, with the rows that meet them once repaired."""
    old, sound = f'{table.name}_of_2', conditions(table, 'sqlite')
    values = {column.name: column.name for column in table.columns}
    kept = ['1']
    for column, condition in sound.items():
        if column == 'candidate':
            values[column] = '1'
        elif column in repairs:
            values[column] = f'CASE WHEN {condition} THEN {column} ELSE {repairs[column]["sqlite"]} END'
        else:
            kept.append(f'({condition})')
    run(tx, f'ALTER TABLE {table.name} RENAME TO {old};\n')
    for index in table.indexes:
        run(tx, f'DROP INDEX {index.name};\n')
    table.create(tx.connection, checkfirst=False)
    rows = f'SELECT {", ".join(values.values())} FROM {old} WHERE {" AND ".join(kept)}'
    run(tx, f'INSERT INTO {table.name} ({", ".join(values)}) {rows};\nDROP TABLE {old};\n')
