"""An empty store of each kind, for as long as a script needs it: the servers are started, and end with the block."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from jobsync.testing.servers import EtcdServer, PostgresServer, RedisServer

__all__ = ['STORES', 'fresh']

STORES = ('postgresql', 'redis', 'etcd', 'sqlite')


@contextmanager
def fresh(kind: str) -> Iterator[str]:
    """The URL of a store that nobody else uses."""
    match kind:
        case 'postgresql':
            with closing(PostgresServer()) as postgres:
                yield postgres.url()
        case 'redis':
            with closing(RedisServer()) as redis:
                yield redis.url(0, 'durable=yes')
        case 'etcd':
            with closing(EtcdServer()) as etcd:
                yield etcd.url()
        case 'sqlite':
            with tempfile.TemporaryDirectory(prefix='jobsync-sqlite-') as folder:
                yield f'sqlite:///{folder}/jobs.db'
        case _:
            raise ValueError(kind)
