"""Portions of a purge on SQLite: the oldest rows, by the index of their times."""

from __future__ import annotations

import sqlalchemy as sa

from jobsync.backends.sql import state as states
from jobsync.backends.sql.portions import OldRows, Portion
from jobsync.backends.sql.store import SqlTransaction

__all__ = ['portion']


def portion(tx: SqlTransaction, old: OldRows) -> Portion:
    """See ``SqlStore.portion``. Rows of one time follow each other by their rowid, as they do in the index."""
    states.read(tx)
    rowid = sa.literal_column(f'{old.table.name}.rowid', sa.Integer)
    made = sa.type_coerce(old.made, sa.String)
    query = sa.select(rowid.label('rowid'), made.label('made'), old.may_go.label('may_go')).where(old.made < old.before)
    if old.after:
        time, _, number = old.after.rpartition(' ')
        query = query.where(made >= time, sa.or_(made > time, rowid > int(number)))
    found = tx.execute(query.order_by(old.made, rowid).limit(old.limit)).all()
    old_ids = [row.rowid for row in found if row.may_go]
    rows = rowid.in_(old_ids) if old_ids else None
    is_full = len(found) == old.limit
    return Portion(rows, f'{found[-1].made} {found[-1].rowid}' if is_full else '')
