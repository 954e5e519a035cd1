"""``redis://``: how the backend is found, without importing redis-py.

What a URL says:

- ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` over TLS, ``unix://[user:password@]/path/to.sock[?db=N]``. A node
  of a Redis Cluster will do as well: all keys of a namespace are in one slot, and the node that has it is found.
- ``redis+sentinel://[user:password@]host[:port],host[:port]…/service[/db]``, ``rediss+sentinel://…``: the sentinels, and the name
  of the master they watch. User and password are the master's; the sentinels' own are ``sentinel_username`` and
  ``sentinel_password`` in the query.
- In the query: ``db``, ``client_name``, redis-py's ``ssl_…`` options, and ``durable``.
- Characters such as ``@ : / ? % #`` in a name or password are written as ``%40`` and so on.

``durable=yes`` declares that the server keeps whatever it acknowledged: one server with ``appendonly yes`` and ``appendfsync
always``, on a disk that survives, whose data nobody flushes while nodes are at work. ``open`` refuses a server that says
otherwise; one that does not let itself be asked (``CONFIG`` is often forbidden) is taken at the URL's word. Then a restart of the
server disturbs nobody. Without it, which is right for every other server, whatever has been restarted or promoted counts as
another store: the nodes let go of everything, register anew, and wait one heartbeat timeout before anything is owned again.

What jobsync asks of the server:

- Redis 6.2 or later, or Valkey. ``maxmemory-policy`` must not evict keys that have no expiry (``allkeys-…``): ``open`` refuses.
- Replicas are asynchronous. Where a master may be cut off while a replica is promoted, set ``min-replicas-to-write 1`` and a
  ``min-replicas-max-lag`` below both the sentinels' ``down-after-milliseconds`` and the heartbeat timeout: otherwise clients on
  the old master's side of the cut go on working there, and no store can tell.
- The keys are not to be edited by hand: there is nothing here that would notice.
- A user with rights of its own needs those that the page on operating Redis lists, command by command.
"""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for a URL."""
    from jobsync.backends.redis.backend import connect as connect_redis

    return connect_redis(url, options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Answer to ``redis://`` and its kin."""
    return BackendPlugin(
        name='redis',
        schemes=('redis', 'rediss', 'unix', 'redis+sentinel', 'rediss+sentinel'),
        connect=connect,
        examples=('redis://localhost/0', 'redis://localhost/0?durable=yes'),
        drivers=('redis',),
        summary='a Redis or Valkey server, alone or behind Sentinel, for nodes on any number of hosts',
    )
