"""An encrypted front of a server that speaks plainly, as stunnel or a load balancer would be."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

__all__ = ['TlsFront']


class TlsFront:
    """Takes TLS on ``port`` of the loopback, by a folder's certificate ``server``, and hands on what comes to a plain port."""

    def __init__(
        self,
        certificates: Path,
        target: int,
        *,
        knows_clients: bool,
        is_asked_first: bool = False,
        address: tuple[str, int] = ('127.0.0.1', 0),
    ) -> None:
        """``is_asked_first``: the client asks in plain text whether TLS is to be had, as PostgreSQL's do."""
        self._is_asked_first = is_asked_first
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / 'server.pem', certificates / 'server.key')
        if knows_clients:
            self._context.load_verify_locations(certificates / 'ca.pem')
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._target = target
        self._listener = socket.create_server(address)
        self.port: int = self._listener.getsockname()[1]
        self.served = 0
        """Connections that were accepted with all that belongs to TLS."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._is_asked_first:
                plain.recv(8, socket.MSG_WAITALL)
                plain.sendall(b'S')
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as client:
            self.served += 1
            with socket.create_connection(('127.0.0.1', self._target)) as server:
                threading.Thread(target=pump, args=(server, client), daemon=True).start()
                pump(client, server)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Everything from one to the other, and the end of it."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
