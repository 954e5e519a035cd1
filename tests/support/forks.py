"""Programs of tests that begin as forks of a process which has imported what they need: to import takes longer than most of them.

``python -m tests.support.forks FD`` is that process: it takes orders from a socket. A fork runs a module as ``python -m`` would,
to the end of the interpreter. Between it and the server stands a process that waits for its end and reports the status.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

__all__ = ['ForkedProcess', 'are_preferred', 'prefer', 'run', 'start']

ROOT = Path(__file__).parents[2]
MODULES = (
    'jobsync.aio',
    'jobsync.backends.etcd.backend',
    'jobsync.backends.redis.backend',
    'jobsync.backends.sql.postgresql.store',
    'jobsync.backends.sql.sqlite.store',
    'jobsync.database',
    'jobsync.fencing',
    'jobsync.testing.worker_log',
    'tests.support.timings',
    'tests.traces.recorder',
)
"""What the programs import, without the programs themselves."""
_NUMBER = 4
"""Bytes of a process id and of a status."""
_ORDER = 2**17
"""Bytes that an order may have."""
_is_preferred = False


def prefer(value: bool) -> None:
    """Set whether programs begin as forks; otherwise each is started anew."""
    global _is_preferred
    _is_preferred = value


def are_preferred() -> bool:
    """Return whether programs begin as forks."""
    return _is_preferred


class ForkedProcess:
    """What ``subprocess.Popen`` is for a process that was started anew, as far as tests use it."""

    def __init__(self, status: int, stdin: IO[Any] | None, stdout: IO[Any] | None, stderr: IO[Any] | None) -> None:
        self._status, self.stdin, self.stdout, self.stderr = status, stdin, stdout, stderr
        self.returncode: int | None = None
        self.pid = int.from_bytes(os.read(status, _NUMBER), 'big')

    def poll(self) -> int | None:
        """Return the status, or None as long as the process runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the status when the process has ended."""
        if self.returncode is None:
            poll = select.poll()  # select() takes no descriptor above 1023
            poll.register(self._status, select.POLLIN)
            if not poll.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int.from_bytes(os.read(self._status, _NUMBER), 'big', signed=True)
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process has not ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # its end has not been reported yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    module: str, arguments: Sequence[str] = (), *, reads: bool = False, text: bool = False, stderr: IO[bytes] | None = None
) -> ForkedProcess:
    """Run a module in a process with pipes to its standard output and errors, and to its input if it ``reads``.

    Errors go to ``stderr`` instead, if that is a file, and then the output is that of this process.
    """
    ends: list[int] = []
    streams: list[IO[Any] | None] = [None, None, None]
    theirs = [os.open(os.devnull, os.O_RDONLY), os.dup(1), os.dup(2) if stderr is None else os.dup(stderr.fileno())]
    for number in ([0] if reads else []) + ([1, 2] if stderr is None else []):
        os.close(theirs[number])
        ends[:] = os.pipe()
        theirs[number], ours = ends if number == 0 else ends[::-1]
        mode = 'w' if number == 0 else 'r'
        streams[number] = os.fdopen(ours, mode if text else mode + 'b')
    status, reports = os.pipe()
    order = json.dumps([module, list(arguments), dict(os.environ)]).encode()
    socket.send_fds(_server(), [order], [*theirs, reports])
    for each in (*theirs, reports):
        os.close(each)
    return ForkedProcess(status, *streams)


def run(module: str, arguments: Sequence[str], given: str) -> tuple[int, str]:
    """Run a module to its end with a text as its input; return the status and the output with the errors after it."""
    process = start(module, arguments, reads=True, text=True)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(given)
    with ThreadPoolExecutor(2) as pool:
        output = '\n'.join(pool.map(_read, (process.stdout, process.stderr)))
    return process.wait(), output


def _read(stream: IO[str] | None) -> str:
    assert stream is not None
    with stream:
        return stream.read()


@functools.cache
def _server() -> socket.socket:
    """Start the server; return the end of the socket that takes orders."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, '-m', 'tests.support.forks', str(theirs.fileno())]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(orders: socket.socket) -> list[Any] | None:
    """Fork for each order. Returns the order in the fork, and None in the server at the end of all orders."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what waits for a fork ends unnoticed
    while True:
        order, fds, *_ = socket.recv_fds(orders, _ORDER, 4)
        if not order:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            _report_end(fds.pop(), fds)
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
                os.close(fd)
            found: list[Any] = json.loads(order)
            return found
        for fd in fds:
            os.close(fd)


def _report_end(reports: int, fds: Sequence[int]) -> None:
    """Fork once more: returns in the fork, and else reports its id, waits for its end and reports its status."""
    if child := os.fork():
        for fd in fds:
            os.close(fd)
        os.write(reports, child.to_bytes(_NUMBER, 'big'))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(BrokenPipeError):
            os.write(reports, status.to_bytes(_NUMBER, 'big', signed=True))
        os._exit(0)
    os.close(reports)


def main() -> None:
    """Import the modules and serve; in a fork, be the program that was ordered."""
    for module in MODULES:
        import_module(module)
    order = _serve(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        name, arguments, environment = order
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        sys.argv[1:] = arguments
        sys.orig_argv[:] = [sys.executable, '-m', name, *arguments]
        runpy.run_module(name, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
