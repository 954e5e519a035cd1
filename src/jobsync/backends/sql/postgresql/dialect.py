"""PostgreSQL's expressions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from jobsync.backends.sql.dialect import Dialect, joined_numbers, parameter
from jobsync.backends.sql.types import UtcDateTime

__all__ = ['PostgresqlDialect']

IDENTITY = """((SELECT system_identifier FROM pg_control_system()) || ':' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
 || ':' || (SELECT oid FROM pg_database WHERE datname = current_database()) || ':' || '{state}'::regclass::oid)"""
"""The cluster, its timeline (a promoted standby begins another), the database (a copy under its name is another) and the table
(a restored dump makes another)."""


class PostgresqlDialect(Dialect):
    """See ``Dialect``. A ``listed`` value is a PostgreSQL array as text."""

    name = 'postgresql'
    is_upsert_slow = True
    writes_in_with = True
    first_key = 1
    longest_id = 1800
    """A row of an index has 2,704 bytes at most: an id, the name of a node or a group (200 characters), and a date."""

    def insert(self, table: sa.Table) -> Any:
        return postgresql.insert(table)

    def identity(self) -> sa.ColumnElement[str]:
        return sa.literal_column(IDENTITY.format(state=self.tables.state.name), sa.String)

    def position(self) -> sa.ColumnElement[Any]:
        """Return the end of the write-ahead log on disk; a crash loses what the server has only inserted into the log."""
        return sa.literal_column("(pg_current_wal_flush_lsn() - '0/0')::bigint", sa.BigInteger)

    def clock(self) -> sa.ColumnElement[Any]:
        """Return the server's time, or that of the transaction's beginning if the clock has been set back since.

        By it ``is_written_here`` finds out whether a heartbeat has written its row.
        """
        return sa.func.greatest(sa.func.clock_timestamp(), sa.func.transaction_timestamp(), type_=UtcDateTime)

    def is_written_here(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """See ``Dialect.is_written_here``: this transaction has made the version of the row, with a new time."""
        ours = f'{table.name}.xmin = pg_current_xact_id_if_assigned()::xid'
        # To the second, for an operator may have made the column one of whole seconds.
        new = f"{table.name}.last_heartbeat >= date_trunc('second', transaction_timestamp())"
        return sa.literal_column(f'{ours} AND {new}', sa.Boolean)

    def moment(self, moment: dt.datetime) -> str:
        """See ``Dialect.moment``. The text has its distance from UTC: without one it would be local time of the session."""
        return moment.isoformat()

    def listed(self, values: Iterable[Any]) -> str:
        """See ``Dialect.listed``. Made in a third of the time that the driver takes for a list."""
        rest = iter(values)
        first = next(rest, None)
        if not isinstance(first, str):
            return '{' + ('' if first is None else joined_numbers(chain((first,), rest))) + '}'
        texts = [first, *rest]
        together = ''.join(texts)
        if '"' in together or '\\' in together:
            texts = [text.replace('\\', '\\\\').replace('"', '\\"') for text in texts]
        return '{"' + '","'.join(texts) + '"}'

    def elements(self, values: str | sa.ColumnElement[str], type_: TypeEngine[Any]) -> sa.FromClause:
        array = sa.cast(parameter(values), sa.ARRAY(type_))
        return sa.func.unnest(array).table_valued('value', with_ordinality='key').render_derived().lateral()

    def among(self, column: sa.ColumnElement[Any], values: str | sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        array: sa.ColumnElement[Any] = sa.cast(parameter(values), sa.ARRAY(column.type))
        if isinstance(values, str):
            # Hidden in a subquery. The planner takes long over an array that it sees, and may choose to read the whole table.
            array = sa.func.array(sa.select(sa.func.unnest(array)).scalar_subquery())
        return column == sa.func.any(array)

    def rows(self, name: str, types: Mapping[str, TypeEngine[Any]]) -> sa.FromClause:
        rows = sa.func.json_to_recordset(sa.cast(parameter(name), postgresql.JSON))
        return rows.table_valued(*(sa.column(key, type_) for key, type_ in types.items())).render_derived(with_types=True)

    def joined(self, texts: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        return sa.func.string_agg(texts, sa.literal_column("','"))

    def patched(self, text: sa.ColumnElement[str], changes: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        patched = sa.cast(text, postgresql.JSONB).concat(sa.cast(changes, postgresql.JSONB))
        return sa.cast(sa.func.jsonb_strip_nulls(patched), sa.Text)
