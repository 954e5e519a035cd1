"""The steps of ``migrations``, and how one runs its statements."""

from __future__ import annotations

from jobsync.backends.sql.store import SqlTransaction

__all__ = ['run']


def run(tx: SqlTransaction, statements: str) -> None:
    """Run statements, each of which ends a line with its semicolon; ``{p}`` stands for the prefix of the tables."""
    for statement in statements.replace('{p}', tx.tables.namespace).split(';\n'):
        if statement.strip():
            tx.execute_text(statement.replace('%', '%%') if tx.dialect.name == 'postgresql' else statement)
