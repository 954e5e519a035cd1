"""Lines between a worker and a server that delay, hold, lose, halve, throttle, refuse and reset what passes over them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

__all__ = ['Line', 'Lines']

T = TypeVar('T')
_CHUNK = 1 << 16


@attrs.define(eq=False)
class Line:
    """A port of the loopback that leads to another one. What is set here holds for its connections from now on."""

    port: int
    target: int
    """The port to which new connections lead."""
    delay_sec: float = 0.0
    """Seconds that each chunk waits."""
    bytes_per_sec: float = 0.0
    """The bandwidth of each connection, 0 for no limit."""
    holds_requests: bool = False
    """Whether what the worker sends waits, as packets on a line that is cut and will be mended."""
    holds_answers: bool = False
    refuses: bool = False
    """Whether new connections are refused."""
    dark_after: int | None = None
    """How many further bytes of answers pass before every connection there is goes silent for good."""
    generation: int = 0
    """Connections of an earlier generation are silent: open, and nothing passes."""
    connections: set[asyncio.StreamWriter] = attrs.field(factory=set)

    def lose(self) -> None:
        """Let every connection there is go silent for good, without an end."""
        self.generation += 1
        self.dark_after = None

    def heal(self) -> None:
        """Let everything pass again. Connections that were lost stay lost."""
        self.delay_sec = self.bytes_per_sec = 0.0
        self.holds_requests = self.holds_answers = self.refuses = False
        self.dark_after = None


class Lines:
    """All lines of a run, served by one thread. The end of the block ends them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name='fault lines', daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        """What serves each connection that a worker has opened."""

    def new(self, target: int) -> Line:
        """Return a new line to a port."""
        return self._do(lambda: self._open(target))

    def reset(self, line: Line) -> None:
        """End every connection with a reset."""

        async def abort() -> None:
            for writer in list(line.connections):
                sock = writer.get_extra_info('socket')
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                writer.transport.abort()

        self._do(abort)

    def close(self) -> None:
        """End all lines."""

        async def steps() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        async def end() -> None:
            # A connection that was accepted is in ``_connections`` a few steps of the loop later, unless its server is closed by
            # then. A task that is cancelled before its first step runs no ``finally``. What is aborted closes in the next step.
            for sock in (sock for server in self._servers for sock in server.sockets):
                self._loop.remove_reader(sock.fileno())
            await steps()
            for server in self._servers:
                server.close()
            connections, self._connections = self._connections, {}
            for writer, task in connections.items():
                task.cancel()
                writer.transport.abort()
            await asyncio.gather(*connections.values(), return_exceptions=True)
            await steps()

        self._do(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def _do(self, work: Callable[[], object]) -> T:  # type: ignore[type-var]
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(300)  # type: ignore[arg-type]

    async def _open(self, target: int) -> Line:
        line = Line(0, target)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with contextlib.suppress(OSError):
                    await self._serve(line, reader, writer)
            finally:
                writer.transport.abort()
                self._connections.pop(writer, None)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections[writer] = self._loop.create_task(serve(reader, writer))

        server = await asyncio.start_server(accept, '127.0.0.1', 0)
        self._servers.append(server)
        line.port = server.sockets[0].getsockname()[1]
        return line

    async def _serve(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line.refuses:
            return
        far_reader, far_writer = await asyncio.open_connection('127.0.0.1', line.target)
        ends, generation = {writer, far_writer}, line.generation
        line.connections |= ends
        try:
            await asyncio.gather(
                self._pump(line, generation, reader, far_writer, is_answer=False),
                self._pump(line, generation, far_reader, writer, is_answer=True),
            )
        finally:
            line.connections -= ends
            far_writer.transport.abort()

    async def _pump(
        self, line: Line, generation: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                if line.delay_sec:
                    await asyncio.sleep(line.delay_sec)
                if line.bytes_per_sec:
                    await asyncio.sleep(len(data) / line.bytes_per_sec)
                while line.holds_answers if is_answer else line.holds_requests:
                    await asyncio.sleep(0.02)
                if is_answer and line.dark_after is not None:
                    line.dark_after -= len(data)
                    if line.dark_after < 0:
                        line.lose()
                if line.generation == generation:
                    writer.write(data)
                    await writer.drain()
        if line.generation != generation:
            return  # nobody learns that the other end has gone
        if writer.can_write_eof():
            writer.write_eof()
