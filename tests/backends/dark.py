"""A relay whose peers go without a word: not even their kernels answer, as when a host loses its power or a cable is cut."""

from __future__ import annotations

import ctypes
import socket
import struct

from jobsync_bench.proxy import CountingProxy

__all__ = ['DarkRelay']

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP_ALL = struct.pack('HBBI', 0x06, 0, 0, 0)
"""The one instruction of a packet filter that lets nothing through: return 0."""


class DarkRelay(CountingProxy):
    """Hands all on until it is told to fall silent. Only on Linux."""

    def go_dark(self) -> None:
        """From now on nothing that is sent here is taken, nor acknowledged, nor refused."""
        program = ctypes.create_string_buffer(DROP_ALL)
        option = struct.pack('HP', 1, ctypes.addressof(program))
        with self._lock:
            for end in (self._listener, *self._open):
                end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)

    def light_up(self) -> None:
        """Take new connections again; those that were there stay as they are."""
        self._listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
