"""An empty store of each kind for the time of a block, with a server of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.support.stores import KINDS

__all__ = ['STORES', 'fresh']

STORES = ('postgresql', 'redis', 'etcd', 'sqlite')


def fresh(kind: str) -> AbstractContextManager[str]:
    """Yield the URL of a new store."""
    return KINDS[kind].fresh()
