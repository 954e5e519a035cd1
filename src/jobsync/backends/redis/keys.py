"""The names of a namespace's keys.

All have one hash tag, so that a Redis Cluster keeps them in one slot, and no namespace's begin like another's.
"""

from __future__ import annotations

import re

import attrs

from jobsync.errors import ConfigError

__all__ = ['RedisKeys']


@attrs.frozen
class RedisKeys:
    """The keys of one namespace."""

    namespace: str

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch('[A-Za-z0-9_]+', self.namespace):
            raise ConfigError(f'appname={self.namespace!r} cannot begin the names of keys: letters, digits and underscores can')

    def name(self, kind: str) -> str:
        """The key that holds a kind of records."""
        # As with tables, case alone tells no two namespaces apart.
        return f'jobsync:{{{self.namespace.lower()}}}:{kind}'

    def channel(self, db: int) -> str:
        """Where revisions are announced; a server's databases share their channels."""
        return self.name(f'{db}:revision')
