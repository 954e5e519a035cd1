"""A cluster of etcd servers as the store.

By URL (see ``plugin``), or on a client of the user's own: ``CoordinationConfig(backend=jobsync.backends.etcd.backend(client))``.
"""

from __future__ import annotations

from typing import Any

from jobsync.backend import Backend, BackendOptions

__all__ = ['backend']


def backend(client: Any, options: BackendOptions | None = None) -> Backend:
    """A backend on a ready client: python-etcd3's, or any other with a ``channel`` of gRPC.

    Its channel is used, and its ``metadata``, where the client keeps its token. The client stays the caller's: ``close`` leaves
    it open, and a token that expires is not renewed, for the password is not known here. gRPC's own limit of
    4 MiB for an answer suffices. Raises ``ConfigError`` if the client has no channel.
    """
    from jobsync.backends.etcd.etcd_backend import on_client

    return on_client(client, options or BackendOptions())
