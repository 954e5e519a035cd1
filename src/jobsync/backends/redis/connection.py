"""One connection, and calls over it that end in time."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from redis.connection import AbstractConnection

from jobsync.errors import BackendUnavailable

__all__ = [
    'PARAMETERS',
    'Deadline',
    'HeldBack',
    'NoAnswer',
    'can_read',
    'close',
    'exchange',
    'is_stale',
    'keepalive_options',
    'opened',
]


PARAMETERS: dict[str, Any] = {'client_name': 'jobsync', 'protocol': 2}
"""Of each connection, unless the URL has others.

redis-py's objects for protocol 3 refer to themselves: the collector of garbage would call their ``__del__`` in any thread. What
a signal's handler raises there is lost, a ``sys.exit`` too.
"""
try:
    from redis.driver_info import DriverInfo
except ImportError:
    PARAMETERS |= {'lib_name': '', 'lib_version': ''}
else:
    PARAMETERS['driver_info'] = DriverInfo('', '')
"""What redis-py would say of itself to a server, with two more round trips for each connection: nothing."""


class NoAnswer(BackendUnavailable):
    """A server did not answer in time. The pool that made the call adds which one."""


class HeldBack(NoAnswer):
    """A server answers on other connections, and not on this one."""


class Deadline:
    """When a call must have ended, and how long it may receive nothing before its connection is suspected to be dead."""

    def __init__(self, seconds: float, silence_sec: float | None = None) -> None:
        self._at = time.monotonic() + seconds
        self.is_for_bulk = silence_sec is not None and silence_sec < seconds
        self.silence_sec = seconds if silence_sec is None else silence_sec

    @property
    def remaining(self) -> float:
        """Seconds left; 0 or less if the time is over."""
        return self._at - time.monotonic()

    @property
    def left(self) -> float:
        """Seconds left; ``BackendUnavailable`` if there are none."""
        left = self.remaining
        if left <= 0:
            raise NoAnswer('no answer from the server within the time for this call')
        return left


def opened(
    kind: type[AbstractConnection], parameters: dict[str, Any], deadline: Deadline, reach_sec: float = math.inf
) -> AbstractConnection:
    """Return a new connection, on which the user has logged in. ``reach_sec``: how long until the server accepts it."""
    left = deadline.left
    reach_sec = min(left, reach_sec) / _count_addresses(parameters)
    timeouts: dict[str, Any] = {'socket_timeout': left, 'socket_connect_timeout': reach_sec}
    if parameters.get('socket_keepalive'):
        timeouts['socket_keepalive_options'] = keepalive_options(deadline.silence_sec)
    connection: Any = kind(**{**PARAMETERS, **parameters, **timeouts})
    read = connection.read_response

    def read_in_time(*arguments: Any, **options: Any) -> Any:
        connection._sock.settimeout(max(deadline.remaining, 0.001))
        with _parsed():
            return read(*arguments, **options)

    # Up to five answers are read before a connection serves, and redis-py would wait for each as long as for all.
    connection.read_response = read_in_time
    try:
        connection.connect()
    finally:
        del connection.read_response
    return connection  # type: ignore[no-any-return]


@contextmanager
def _parsed() -> Iterator[None]:
    """Raise an error of redis-py's for a greeting of a server of another kind that begins as an answer with a number does."""
    try:
        yield
    except ValueError as error:
        raise redis.InvalidResponse(f'this is no answer of a Redis server: {error}') from error


def _count_addresses(parameters: dict[str, Any]) -> int:
    """Return how many addresses are tried, at least 1. redis-py gives each of them ``socket_connect_timeout``, in turn."""
    with suppress(OSError, KeyError):  # redis-py finds the same, and a socket has no host
        return len(socket.getaddrinfo(parameters.get('place', parameters['host']), parameters['port'], type=socket.SOCK_STREAM))
    return 1


def keepalive_options(silence_sec: float) -> dict[int, int]:
    """Return the TCP options by which the system, if it has them, ends a connection whose peer has been gone for this long."""
    probe_sec = max(1, math.floor(silence_sec / 3))
    wanted = {
        'TCP_KEEPIDLE': probe_sec,  # Linux
        'TCP_KEEPALIVE': probe_sec,  # macOS
        'TCP_KEEPINTVL': probe_sec,
        'TCP_KEEPCNT': 2,
        'TCP_USER_TIMEOUT': math.ceil(1000 * silence_sec),
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def close(connection: Any) -> None:
    """Close a connection. May be repeated."""
    connection.disconnect()


def exchange(
    connection: AbstractConnection, deadline: Deadline, *words: object, is_busy: Callable[[], bool] | None = None
) -> Any:
    """Send a command, and return its answer.

    If the answer is late, the server may be at work, or the answer lost with the connection. ``is_busy`` finds out on another
    connection: it returns whether a script is running, and raises if the server does not answer there either.
    """
    # redis-py has one timeout for all calls of a connection. The socket accepts another one for each call.
    sock = connection._sock
    assert sock is not None
    sock.settimeout(deadline.left)
    connection.send_command(*words, check_health=False)
    if is_busy is not None:
        while not can_read(sock, min(deadline.left, deadline.silence_sec / 2)):
            if not is_busy() and not can_read(sock, min(deadline.left, deadline.silence_sec / 2)):
                raise HeldBack('the server answers, but not on this connection')
    # This timeout is for each read of the socket: once an answer has begun, the server has done its work.
    sock.settimeout(min(deadline.left, deadline.silence_sec))
    with _parsed():
        return connection.read_response()


def can_read(sock: socket.socket, within_sec: float) -> bool:
    """Wait until a socket can be read, at most for this long; return whether it can."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(math.ceil(1000 * within_sec)))


def is_stale(connection: AbstractConnection) -> bool:
    """Return whether an idle connection can be read: no answer is due, so this is its end."""
    return connection._sock is None or can_read(connection._sock, 0)
