"""An HTTP server in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobsync._threads import start
from jobsync.config import checks
from jobsync.errors import JobsyncError

__all__ = ['Server']

_START_SEC = 30.0
_log = logging.getLogger('uvicorn.error')


class _QuietProtocol(H11Protocol):
    """HTTP without a line in the program's log for each request: a probe may come every second."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


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
        if _log.level == logging.NOTSET:  # the program has not said what uvicorn logs: not how this server starts
            _log.setLevel(logging.WARNING)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=_QuietProtocol,
            log_config=None,  # the loggers are those of the program, which uvicorn may run
            server_header=False,
            proxy_headers=False,
            ws='none',
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name='jobsync-web', daemon=True)
        try:
            self._port = self._start(f'{host}:{port}')
        except BaseException:
            # t=0  this thread waits for the server; a signal's handler raises, and the program goes on
            # t=1  the server listens: no object refers to it, and its port would be in use for as long as the process runs
            self._server.should_exit = True
            raise

    def _start(self, address: str) -> int:
        if not start(lambda: self._thread):
            raise JobsyncError('no thread can be started for the server: the process has too many threads or too little memory')
        deadline = time.monotonic() + _START_SEC
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise JobsyncError(f'cannot listen on {address}: is the port in use, or the address none of this machine?')
            time.sleep(0.01)
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

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
