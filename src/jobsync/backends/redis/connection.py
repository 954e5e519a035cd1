"""One connection, and calls over it that end in time."""

from __future__ import annotations

import select
import time
from typing import Any

from redis.connection import AbstractConnection

from jobsync.errors import BackendUnavailable

__all__ = ['Deadline', 'close', 'exchange', 'is_stale', 'opened']


class Deadline:
    """When a call must have ended."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; ``BackendUnavailable`` if there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise BackendUnavailable('no answer from the server within the time for this call')
        return left


def opened(kind: type[AbstractConnection], parameters: dict[str, Any], deadline: Deadline) -> AbstractConnection:
    """A new connection, greetings exchanged."""
    left = deadline.left
    connection: Any = kind(
        **{'client_name': 'jobsync', 'protocol': 2, **parameters}, socket_timeout=left, socket_connect_timeout=left
    )
    connection.connect()
    return connection  # type: ignore[no-any-return]


def close(connection: Any) -> None:
    """Close a connection, if it is not closed yet."""
    connection.disconnect()


def exchange(connection: AbstractConnection, deadline: Deadline, *words: object) -> Any:
    """Send a command and read its answer."""
    # redis-py has one timeout for all of a connection's calls; its socket takes another for each.
    socket = connection._sock
    assert socket is not None
    socket.settimeout(deadline.left)
    connection.send_command(*words, check_health=False)
    socket.settimeout(deadline.left)
    return connection.read_response()


def is_stale(connection: AbstractConnection) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    socket = connection._sock
    if socket is None:
        return True
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))
