"""A column with the token of each row's task, so that a query reads the rows of one node and no others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

import attrs

from jobsync._core.hashing import tokenizer
from jobsync.config import CoordinationConfig, resolve
from jobsync.errors import ConfigError
from jobsync.task import key_of

__all__ = ['TokenColumn']

_BYTES = r"CAST(replace(CAST({} AS text), E'\\', E'\\\\') AS bytea)"
"""The bytes of a text. ``convert_to`` is not immutable, so no generated column may call it."""
_DIGESTS: Mapping[str, tuple[str, int]] = {
    'md5': ('md5(CAST({} AS text))', 4),
    'sha256': (f"encode(sha256({_BYTES}), 'hex')", 2),
    'double_sha256': (f"encode(sha256(sha256({_BYTES})), 'hex')", 2),
}
"""For each hash function that PostgreSQL can compute: the digest in hexadecimal, and how many parts of 32 bits count."""


@attrs.frozen
class TokenColumn:
    """A column with the hash token of each row's task, as a cluster with these settings computes it.

    The column has to be an integer, and belongs into an index. ``Job.where`` reads rows by it.
    """

    hash_function: str
    total_tokens: int

    def __attrs_post_init__(self) -> None:
        tokenizer(self.hash_function, self.total_tokens)

    @classmethod
    def of(cls, config: object) -> Self:
        """Return the column for a cluster.

        Args:
            config: A ``CoordinationConfig``, or a ``config`` as ``Job`` takes it.

        Raises:
            ConfigError: The configuration is not allowed.
        """
        given = config if isinstance(config, CoordinationConfig) else None
        resolved = resolve(None if given else config, given, os.environ)
        return cls(resolved.hash_function, resolved.total_tokens)

    @property
    def name(self) -> str:
        """The column's usual name, such as ``token_sha256_10000``.

        A cluster whose settings have changed does not find the column, instead of reading rows by tokens that hold no more.
        """
        return f'token_{self.hash_function}_{self.total_tokens}'

    def token(self, task_id: object) -> int:
        """Return the token to store in the row of a task.

        Args:
            task_id: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's.
        """
        return tokenizer(self.hash_function, self.total_tokens)(key_of(task_id))

    def expression(self, column: str) -> str:
        """Return the expression by which PostgreSQL, 11 or later, computes the token: for a generated column, or for an index.

        The database must be in UTF-8.

        Args:
            column: The column of ids: text, an integer, a uuid, or another type whose text is ``str(id)``.

        Raises:
            ConfigError: PostgreSQL cannot compute the hash function.
        """
        if self.hash_function not in _DIGESTS:
            raise ConfigError(
                f'hash_function is {self.hash_function!r}, which PostgreSQL cannot compute: store TokenColumn.token(id) in each '
                f'row, or choose {", ".join(_DIGESTS)} for a new cluster'
            )
        template, parts = _DIGESTS[self.hash_function]
        digest, remainder = template.format(column), ''
        for part in range(parts):
            # The remainder is below 2**30, so with 32 more bits there is no overflow.
            bits = f"CAST(CAST('x' || substr({digest}, {1 + 8 * part}, 8) AS bit(32)) AS bigint)"
            remainder = f'mod({f"{remainder} * 4294967296 + " if part else ""}{bits}, {self.total_tokens})'
        return f'CAST({remainder} AS integer)'
