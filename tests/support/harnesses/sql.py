"""What the harnesses of the SQL databases have in common."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Any

from jobsync.testing import Harness

__all__ = ['SqlHarness']


class SqlHarness(Harness, abc.ABC):
    """An SQL database for one test, in which an operator deletes rows."""

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where jobs connect to it."""

    @abc.abstractmethod
    def execute(self, *statements: str) -> None:
        """Run SQL as an operator would."""

    @abc.abstractmethod
    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """What an operator sees."""

    def delete_node_row(self, namespace: str, name: str) -> None:
        """See ``Harness``."""
        self._delete(namespace + 'node', 'name', [f"'{name}'"])

    def delete_token_rows(self, namespace: str, tokens: Iterable[int]) -> None:
        """See ``Harness``."""
        self._delete(namespace + 'token', 'token_id', tokens)

    def delete_lock_rows(self, namespace: str, ids: Iterable[int]) -> None:
        """See ``Harness``."""
        for table in ('lock', 'item'):
            self._delete(namespace + table, 'id', ids)

    def _delete(self, table: str, key: str, values: Iterable[object]) -> None:
        self.execute(f'DELETE FROM {table} WHERE {key} IN ({", ".join(map(str, values))})')
