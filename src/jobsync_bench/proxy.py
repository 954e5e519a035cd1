"""A TCP proxy between a node and its store, which counts the bytes and the round trips of any protocol."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import attrs

__all__ = ['CountingProxy', 'Traffic', 'address_of']

_CHUNK = 1 << 16


def address_of(url: str) -> tuple[str, int] | None:
    """Return the host and the port of a URL; None if it does not have exactly one of each."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, port) if host and port and 'sentinel' not in parts.scheme else None


@attrs.define
class Traffic:
    """The traffic through a proxy so far."""

    connections: int = 0
    """Connections that are open now."""
    most_connections: int = 0
    """The most connections that were open at one time, since the last call of ``traffic``."""
    sent: int = 0
    """Bytes to the store."""
    received: int = 0
    """Bytes from the store."""
    turns: int = 0
    """How often the node sent after the store, or first. These are round trips if the node waits for each answer."""


class CountingProxy:
    """Listens on the loopback and passes all traffic to one store. The end of the block ends the proxy."""

    def __init__(self, url: str) -> None:
        """``url`` must have an address (``address_of``)."""
        address = address_of(url)
        assert address is not None, url
        self._address, self._url = address, url
        self._listener = socket.create_server(('127.0.0.1', 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._traffic = Traffic()
        threading.Thread(target=self._accept, name='jobsync-proxy', daemon=True).start()

    @property
    def url(self) -> str:
        """The store's URL with the address of the proxy."""
        parts = urlsplit(self._url)
        user, at, _ = parts.netloc.rpartition('@')
        port = self._listener.getsockname()[1]
        return urlunsplit(parts._replace(netloc=f'{user}{at}127.0.0.1:{port}'))

    def traffic(self) -> Traffic:
        """Return the traffic so far, and reset ``most_connections``."""
        with self._lock:
            traffic = attrs.evolve(self._traffic)
            self._traffic.most_connections = self._traffic.connections
            return traffic

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                store = socket.create_connection(self._address, timeout=10)
            except OSError:
                client.close()
                continue
            store.settimeout(None)
            for end in (client, store):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client, store)
            with self._lock:
                self._open |= {client, store}
                self._traffic.connections += 1
                self._traffic.most_connections = max(self._traffic.most_connections, self._traffic.connections)
            connection.start()

    def count(self, sent: int, received: int, turn: bool) -> None:
        """Add bytes and a turn to the traffic."""
        with self._lock:
            self._traffic.sent += sent
            self._traffic.received += received
            self._traffic.turns += turn

    def closed(self, *ends: socket.socket) -> None:
        """Record the end of a connection."""
        with self._lock:
            self._open -= set(ends)
            self._traffic.connections -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts: closing alone does not
        self._listener.close()
        with self._lock:
            ends = list(self._open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Connection:
    """The two directions of one connection, with one thread each."""

    def __init__(self, proxy: CountingProxy, client: socket.socket, store: socket.socket) -> None:
        self._proxy, self._client, self._store = proxy, client, store
        self._last: socket.socket | None = None
        self._running = 2
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the threads of both directions."""
        for ends in ((self._client, self._store), (self._store, self._client)):
            threading.Thread(target=self._pump, args=ends, name='jobsync-proxy', daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                is_up = source is self._client
                turn, self._last = is_up and self._last is not source, source
                self._proxy.count(len(data) if is_up else 0, 0 if is_up else len(data), turn)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._running -= 1
            over = not self._running
        if over:
            self._client.close()
            self._store.close()
            self._proxy.closed(self._client, self._store)
