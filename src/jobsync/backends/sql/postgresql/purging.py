"""Portions of a purge on PostgreSQL: some pages after each other, which needs no index and touches nothing else of the table."""

from __future__ import annotations

import sqlalchemy as sa

from jobsync.backends.sql import state as states
from jobsync.backends.sql.portions import OldRows, Portion
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['portion']

ROWS_OF_A_PAGE = 128
"""About how many claims or audits a page holds."""

PAGES = "SELECT pg_relation_size('{table}'::regclass) / current_setting('block_size')::bigint"


def portion(tx: SqlTransaction, old: OldRows) -> Portion:
    """See ``SqlStore.portion``. PostgreSQL 13 reads the whole table for one portion, later versions only its pages.

    A purge reads the pages of before its first portion. One that read those that are appended meanwhile might never end.
    """
    tx.hold(tx.tables.state)
    states.read(tx)
    name = old.table.name
    first, pages = map(int, old.after.split()) if old.after else (0, tx.execute_text(PAGES.format(table=name)).scalar_one())
    if first >= pages:
        return Portion(None, '')
    end = first + max(1, old.limit // ROWS_OF_A_PAGE)
    rows = sa.literal_column(f"{name}.ctid >= '({first},0)' AND {name}.ctid < '({end},0)'", sa.Boolean)
    return Portion(rows, f'{end} {pages}' if end < pages else '')
