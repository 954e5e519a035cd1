"""``redis://``: the backend's plugin, which imports no driver before ``connect``.

The URLs, what ``durable=yes`` declares, and how to run the server are on the page "Redis and Valkey" (``docs/operate/redis.md``).
"""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL."""
    from jobsync.backends.redis.backend import connect as connect_redis

    return connect_redis(url, options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Describe the backend for ``redis://`` and its other schemes."""
    return BackendPlugin(
        name='redis',
        schemes=('redis', 'rediss', 'unix', 'redis+sentinel', 'rediss+sentinel'),
        connect=connect,
        examples=('redis://localhost/0', 'redis://localhost/0?durable=yes'),
        drivers=('redis',),
        summary='a Redis or Valkey server, alone or behind Sentinel, for nodes on any number of hosts',
    )
