"""The rows of the history that one portion of a purge deletes."""

from __future__ import annotations

import datetime as dt

import attrs
import sqlalchemy as sa

__all__ = ['OldRows', 'Portion']


@attrs.frozen
class OldRows:
    """What a portion is to contain."""

    table: sa.Table
    may_go: sa.ColumnElement[bool]
    """Whether a row of the table may be deleted once it is old."""
    before: dt.datetime
    limit: int
    after: str

    @property
    def made(self) -> sa.Column[dt.datetime]:
        """Return the column that says when a row was made."""
        return self.table.c['triggered_at' if 'triggered_at' in self.table.c else 'created_on']


@attrs.frozen
class Portion:
    """Some rows of a table."""

    rows: sa.ColumnElement[bool] | None
    """Whether a row is one of them. None: there is nothing to delete."""
    resume: str
    """See ``Purged.resume``."""
