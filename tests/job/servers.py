"""Servers that the table of stores needs: started at the first use, one for each process of the tests."""

from __future__ import annotations

import atexit
import functools
import itertools

from jobsync.testing.servers import RedisServer

DATABASES = 10_000

_databases = itertools.count(1)


@functools.cache
def redis_server() -> RedisServer:
    """With a database for each test."""
    server = RedisServer(options=['--databases', str(DATABASES)])
    atexit.register(server.close)
    return server


def empty_redis() -> str:
    """The URL of a database that is empty."""
    server = redis_server()
    return server.url(next(_databases) % DATABASES, 'durable=yes')
