"""A cluster of etcd servers as the store.

The backend is made from a URL (see ``plugin``), or from a client of the user's:
``CoordinationConfig(backend=jobsync.backends.etcd.from_client(client))``. ``etcd3`` is the package python-etcd3, which cannot
be imported by itself beside a protobuf of today.
"""

from __future__ import annotations

from typing import Any

from jobsync.backend import Backend, BackendOptions

__all__ = ['etcd3', 'from_client']


def __getattr__(name: str) -> Any:
    if name != 'etcd3':  # imported only when it is wanted: gRPC takes long
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from jobsync.backends.etcd.driver import etcd3

    return etcd3


def from_client(client: Any, options: BackendOptions | None = None) -> Backend:
    """Return a backend on a ready client.

    gRPC's own limit of 4 MiB for an answer suffices.

    Args:
        client: python-etcd3's client, or another one with a gRPC ``channel``. Its ``metadata`` may hold a token, which is sent
            and never renewed. ``close`` leaves the client open.
        options: The namespace and the timeouts.

    Returns:
        The backend, which belongs to this process: a forked child makes client and backend anew.

    Raises:
        ConfigError: The client has no channel.
    """
    from jobsync.backends.etcd.backend import on_client

    return on_client(client, options or BackendOptions())
