"""``etcd://`` and ``etcds://``: how the backend is found, without importing etcd3, gRPC or protobuf.

``etcd://user:password@host1:2379,host2:2379`` names the servers of one cluster, tried in turn. User and password may be left
out, and so may a port, which is 2379 then. Everything is encrypted with ``etcds://``, or if one of these options is given:
``ca`` (a file with the certificates to trust; without it those that gRPC brings), ``cert`` and ``key`` (files: the client's
certificate), ``server_name`` (the name in the server's certificate, if not the host). Characters such as ``@ : / ? % #`` in a
user or password are written as ``%40`` and so on.

Operators may read the nodes' records with ``etcdctl get --prefix jobsync/sync_/node/``, and must not edit them. etcd has no
clock, so the store's time is the median of the nodes' clocks; no decision about ownership depends on it.
"""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['connect', 'jobsync_backend']


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL, without connecting."""
    from jobsync.backends.etcd.backend import connect as connect_etcd

    return connect_etcd(url, options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Describe the backend for ``etcd://`` and ``etcds://``."""
    return BackendPlugin(
        name='etcd',
        schemes=('etcd', 'etcds'),
        connect=connect,
        examples=('etcd://localhost',),
        drivers=('etcd3', 'grpcio', 'protobuf'),
        summary='an etcd cluster, for nodes on any number of hosts',
    )
