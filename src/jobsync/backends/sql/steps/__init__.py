"""The steps of ``migrations``, and how one runs its statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobsync.backends.sql.store import SqlTransaction

__all__ = ['run']


def run(tx: SqlTransaction, statements: Mapping[str, Sequence[str]]) -> None:
    """Run the statements of the store's dialect, with the prefix of its tables in the place of ``{p}``."""
    for statement in statements[tx.store.info.name]:
        if statement.strip():
            text = statement.replace('{p}', tx.tables.namespace)
            tx.execute_text(text.replace('%', '%%') if tx.store.info.name == 'postgresql' else text)
