"""``etcd://`` and ``etcds://``: how the backend is found, without importing etcd3, gRPC or protobuf.

``etcd://user:password@host1:2379,host2:2379`` names the servers of one cluster, tried in turn; user and password may be left
out, and a port, which then is 2379. Everything is encrypted with ``etcds://``, or if one of these options is given: ``ca`` (a
file with the certificates to trust; without it those that gRPC brings), ``cert`` and ``key`` (files: who we are),
``server_name`` (what the server's certificate says, if not the host). Characters such as ``@ : / ? % #`` in a user or password
are written as ``%40`` and so on.

What the store holds is not for editing by hand, but for looking at: ``etcdctl get --prefix jobsync/sync_/node/``. etcd tells no
time, so the store's time is the median of the nodes' clocks; no decision about ownership goes by it.
"""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for a URL; nothing is reached yet."""
    from jobsync.backends.etcd.etcd_backend import connect as connect_etcd

    return connect_etcd(url, options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Answer to ``etcd://`` and ``etcds://``."""
    return BackendPlugin(
        name='etcd',
        schemes=('etcd', 'etcds'),
        connect=connect,
        examples=('etcd://localhost',),
        drivers=('etcd3', 'grpcio', 'protobuf'),
        summary='an etcd cluster, for nodes on any number of hosts',
    )
