"""The name of this host."""

from __future__ import annotations

import socket

__all__ = ['host_name']


def host_name() -> str:
    """Return the name of this host as text that any store can record: a kernel takes any bytes for a name."""
    return socket.gethostname().encode(errors='replace').decode()
