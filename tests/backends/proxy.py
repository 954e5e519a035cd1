"""A TCP proxy that goes silent, as a host that is gone without a word: connections stay open and nothing comes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

__all__ = ['SilentProxy']


class SilentProxy:
    """Forwards to a port of the loopback, until it is told to be silent."""

    def __init__(self, port: int) -> None:
        self.target = port
        """Where new connections lead to."""
        self._front = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._front.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._front, selectors.EVENT_READ)
        self._others: dict[socket.socket, socket.socket] = {}
        self._silent: set[socket.socket] = set()
        self._left: int | None = None
        self.is_silent_for_all = False
        self._ends, self._end = socket.socketpair()
        self._selector.register(self._ends, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fall_silent(self, *, for_all: bool, after_bytes: int = 0) -> None:
        """Forward nothing more on the connections there are, or on any, once so many bytes of answers have passed."""
        with self._lock:
            self.is_silent_for_all = for_all
            self._left = after_bytes
            if after_bytes == 0:
                self._silence()

    def speak(self) -> None:
        """Forward again on connections that are new."""
        with self._lock:
            self.is_silent_for_all, self._left = False, None

    def close(self) -> None:
        """End."""
        self._end.close()
        self._thread.join(100)

    def _silence(self) -> None:
        self._silent.update(self._others)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ends:
                    for each in (self._front, self._ends, *self._others):
                        each.close()
                    return
                # An end that goes in the middle says so when it is read next.
                with self._lock, contextlib.suppress(OSError):
                    self._serve(key.fileobj)  # type: ignore[arg-type]

    def _serve(self, sock: socket.socket) -> None:
        if sock is self._front:
            near, far = self._front.accept()[0], socket.create_connection(('127.0.0.1', self.target))
            for one, other in ((near, far), (far, near)):
                self._others[one] = other
                self._selector.register(one, selectors.EVENT_READ)
            if self.is_silent_for_all and self._left == 0:
                self._silent.update((near, far))
            return
        try:
            data = sock.recv(65536)
        except ConnectionError:
            data = b''
        other = self._others[sock]
        if not data:
            self._selector.unregister(sock)
            if sock not in self._silent:
                other.shutdown(socket.SHUT_WR)
            return
        is_answer = other.getsockname()[1] == self.port
        if self._left is not None and is_answer and sock not in self._silent and self._left > 0:
            data, self._left = data[: self._left], max(0, self._left - len(data))
            other.sendall(data)
            if self._left == 0:
                self._silence()
        elif sock not in self._silent:
            other.sendall(data)
