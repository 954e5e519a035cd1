"""An HTTP server in a thread of its own."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette

from jobsync._threads import start
from jobsync.config import checks
from jobsync.errors import JobsyncError

__all__ = ['Server']

_START_SEC = 30.0


class Server:
    """A server that runs beside the program, until ``close`` or the end of the program.

    Args:
        app: The application.
        port: The port; 0 takes a free one.
        host: The address to listen on. Nothing is encrypted, and no login is needed.

    Raises:
        ConfigError: An argument is not allowed.
        JobsyncError: The server cannot listen there.
    """

    def __init__(self, app: Starlette, port: int, host: str = '127.0.0.1') -> None:
        self._app = app
        checks.port.of('port', port)
        checks.host.of('host', host)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level='warning',
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws='none',
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name='jobsync-web', daemon=True)
        if not start(lambda: self._thread):
            raise JobsyncError('no thread can be started for the server: the process has too many threads or too little memory')
        deadline = time.monotonic() + _START_SEC
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise JobsyncError(f'cannot listen on {host}:{port}: is the port in use, or the address none of this machine?')
            time.sleep(0.01)
        self._port: int = self._server.servers[0].sockets[0].getsockname()[1]

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that it cannot listen, which it has logged
            return

    @property
    def port(self) -> int:
        """The port on which the server listens, or did."""
        return self._port

    def wait(self) -> None:
        """Wait until the server has ended. An interrupt ends the wait."""
        while self._thread.is_alive():
            self._thread.join(1)

    def close(self) -> None:
        """Stop the server."""
        self._app.state.feed.end()
        self._server.should_exit = True
        self._thread.join(_START_SEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
