"""SQLite's expressions."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from jobsync.backends.sql.dialect import Dialect, joined_numbers, parameter
from jobsync.backends.sql.schema import Tables
from jobsync.backends.sql.types import UtcDateTime, moment_as_text

__all__ = ['Here', 'SqliteDialect']

AS_WRITTEN = '????-??-?? ??:??:??.??????'
"""The form of ``moment_as_text``, as GLOB has it."""


class Here(threading.local):
    """What the present thread's transaction began with."""

    identity: str
    time: dt.datetime


class SqliteDialect(Dialect):
    """See ``Dialect``. A ``listed`` value is a JSON array."""

    name = 'sqlite'
    is_upsert_slow = False
    writes_in_with = False
    first_key = 0

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.here = Here()

    def insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table)

    def identity(self) -> sa.ColumnElement[str]:
        """Return the identity of the file that the transaction began on, which is compared again before it commits."""
        return sa.bindparam('identity_now', type_=sa.String, callable_=lambda: self.here.identity)

    def position(self) -> sa.ColumnElement[Any]:
        """Return null: a file has no position."""
        return sa.null()

    def clock(self) -> sa.ColumnElement[Any]:
        """Return the host's time at the beginning of the transaction."""
        return sa.bindparam('time_now', type_=UtcDateTime, callable_=lambda: self.here.time)

    def is_written_here(self, table: sa.Table) -> sa.ColumnElement[bool]:  # noqa: ARG002 - no other transaction writes meanwhile
        """See ``Dialect.is_written_here``: the UPDATE has written a row."""
        return sa.func.changes() > 0

    def moment(self, moment: dt.datetime) -> str:
        return moment_as_text(moment)

    def as_time(self, moments: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """See ``Dialect.as_time``. ``2026-01-01T10:00:00-05:00`` is read; as text it would sort by its letter and local time."""
        readable = sa.func.strftime('%Y-%m-%d %H:%M:%f000', moments, type_=UtcDateTime)  # to the millisecond
        return sa.case((moments.op('GLOB', is_comparison=True)(sa.literal(AS_WRITTEN, sa.Text)), moments), else_=readable)

    def listed(self, values: Iterable[Any]) -> str:
        rest = iter(values)
        first = next(rest, None)
        if not isinstance(first, str):
            return '[' + ('' if first is None else joined_numbers(chain((first,), rest))) + ']'
        return json.dumps([first, *rest])

    def elements(self, values: str | sa.ColumnElement[str], type_: TypeEngine[Any]) -> sa.FromClause:  # noqa: ARG002 - JSON has types
        return sa.func.json_each(parameter(values)).table_valued('key', 'value')

    def among(self, column: sa.ColumnElement[Any], values: str | sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return column.in_(sa.select(sa.func.json_each(parameter(values)).table_valued('value').c.value))

    def rows(self, name: str, types: Mapping[str, TypeEngine[Any]]) -> sa.FromClause:
        row = sa.func.json_each(parameter(name)).table_valued('value')
        columns = [sa.func.json_extract(row.c.value, f'$.{column}').label(column) for column in types]
        # A limit, though none, makes SQLite take the columns out of the JSON once, and not for each row this is joined with.
        return sa.select(*columns).select_from(row).limit(-1).subquery()

    def joined(self, texts: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        return sa.func.group_concat(texts, sa.literal_column("','"))

    def patched(self, text: sa.ColumnElement[str], changes: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        return sa.func.json_patch(text, changes)
