"""A way to a server that can go silent, as when a machine or a line between is gone without a word."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

__all__ = ['Relay', 'relayed']


class Relay:
    """Forwards connections to a port of the loopback. Those that fell silent stay open; new ones are forwarded as before.

    Each part of an answer waits for ``delay_sec``.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._era = 0
        self._left: int | None = None
        self.delay_sec = 0.0
        self.fell_silent = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self, after: int = 0) -> None:
        """Forward nothing more on the connections there are, once that many bytes have come from the server."""
        self._left = after
        if not after:
            self._fall_silent()

    def close(self) -> None:
        """End all connections."""
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _fall_silent(self) -> None:
        self._era, self._left = self._era + 1, None
        self.fell_silent.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(('127.0.0.1', self._to))
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._forward, args=(source, target, source is server, self._era), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, target: socket.socket, counts: bool, era: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counts:
                    time.sleep(self.delay_sec)
                if counts and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self._fall_silent()
                if era == self._era:
                    target.sendall(data)
            if era == self._era:
                target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relayed(port: int) -> Iterator[Relay]:
    """A relay to a port, for a while."""
    relay = Relay(port)
    try:
        yield relay
    finally:
        relay.close()
