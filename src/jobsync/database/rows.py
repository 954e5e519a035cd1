"""The rows that a query returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['Rows']


@attrs.frozen
class Rows:
    """The rows of a query, in order. Iteration yields each as a mapping by column; no rows are false."""

    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...] = attrs.field(repr=False)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.values)

    def __len__(self) -> int:
        return len(self.values)

    def to_dict(self, orient: str = 'records') -> list[dict[str, Any]]:
        """Return the rows as mappings by column. The name is that of the method of data frames.

        Args:
            orient: ``'records'``, the only form of data frames that there is here.

        Raises:
            ConfigError: ``orient`` is another form.
        """
        if orient != 'records':
            raise ConfigError(f"orient is {safe_repr(orient)}: must be 'records'")
        return list(self)
