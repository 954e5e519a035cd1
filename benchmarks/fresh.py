"""An empty store of each kind, for as long as a script needs it: the servers are started, and end with the block."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.support.stores import KINDS

__all__ = ['STORES', 'fresh']

STORES = ('postgresql', 'redis', 'etcd', 'sqlite')


def fresh(kind: str) -> AbstractContextManager[str]:
    """The URL of a store that nobody else uses."""
    return KINDS[kind].fresh()
