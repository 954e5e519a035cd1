"""Column types for moments and days, which SQLite stores as text and PostgreSQL in types of its own."""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ['BigId', 'Day', 'Spoilt', 'UtcDateTime', 'moment_as_text']

BigId = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
"""The type of ids. SQLite's row ids must be declared INTEGER."""


@attrs.frozen
class Spoilt:
    """A stored value that Python cannot represent, in the place of the value."""

    value: object


def moment_as_text(moment: dt.datetime) -> str:
    """Return a moment as SQLite's columns contain it: UTC, ``YYYY-MM-DD HH:MM:SS.ffffff``."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(' ', 'microseconds')


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A moment, always with a timezone in Python.

    SQLite has no type for moments. The text of ``moment_as_text`` sorts as time does, and SQLite's own date functions
    understand it. An operator's shorter text (``datetime('now')``) is read as well.
    """

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        """Return text on SQLite, ``timestamptz`` elsewhere."""
        return dialect.type_descriptor(sa.Text() if dialect.name == 'sqlite' else sa.DateTime(timezone=True))

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> Any:
        """Convert a moment for the store."""
        return value if value is None or dialect.name != 'sqlite' else moment_as_text(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 - prescribed
        """Convert a stored moment; ``Spoilt`` if Python has no such moment."""
        if value is None:
            return None
        try:
            moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
            return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        except (AttributeError, OverflowError, ValueError):
            return Spoilt(value)


class Day(TypeDecorator[dt.date]):
    """A day. On SQLite: text, ``YYYY-MM-DD``."""

    impl = sa.Date
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        """Return text on SQLite, ``date`` elsewhere."""
        return dialect.type_descriptor(sa.Text() if dialect.name == 'sqlite' else sa.Date())

    def process_bind_param(self, value: dt.date | None, dialect: sa.Dialect) -> Any:
        """Convert a day for the store."""
        return value if value is None or dialect.name != 'sqlite' else value.isoformat()

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 - prescribed
        """Convert a stored day; ``Spoilt`` if Python has no such day."""
        try:
            return dt.date.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            return Spoilt(value)
