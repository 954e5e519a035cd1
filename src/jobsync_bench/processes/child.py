"""Child processes of a scenario: started, used by requests, and ended with the scenario, whether or not it fails."""

# ruff: noqa: S603 - interpreters that run modules of this project

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ['ChildProcess', 'LineProcess', 'child_processes', 'request_all']

_LIMIT_SEC = 300.0
"""A process that has not answered after this time is killed."""
_ENDING_SEC = 60.0
"""A process that has not left after this time is killed."""


class LineProcess:
    """A process that answers lines of its input with lines of its output. The end of the block ends the process."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        limit_sec: float | None = None,
    ) -> None:
        """Start the process in a folder. ``name`` is for errors; a process that has not answered for ``limit_sec`` is killed."""
        self._name, self._limit_sec = name, limit_sec
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,  # Ctrl-C goes to the starting process alone, which ends this one
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def write_line(self, line: str) -> None:
        """Write a line of input. Raises ``RuntimeError`` if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(self._failure()) from None

    def read_line(self) -> str:
        """Return the next line of output. Raises ``RuntimeError`` if the process has ended."""
        assert self._process.stdout is not None
        limit = threading.Timer(self._limit_sec or 0.0, self._process.kill)
        if self._limit_sec is not None:
            limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        if not line:
            raise RuntimeError(self._failure())
        return line

    def _failure(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors='replace').strip()
        last = words.splitlines()[-1] if words else 'no output'
        return f'a process of {self._name} ended with status {status}: {last}\n{words[-3000:]}'

    def close_input(self) -> None:
        """Close the input, on which the process leaves. Does not wait."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Wait until the process has left, unless the block failed, and kill it if it has not."""
        try:
            self.close_input()
            if error is None:
                self._process.wait(_ENDING_SEC)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._errors.close()


class ChildProcess(LineProcess):
    """A process that runs a module of ``jobsync_bench.processes``, and serves requests in JSON."""

    def __init__(self, module: str, order: Mapping[str, object]) -> None:
        """Start the process. The first ``receive`` waits until it is ready."""
        # -P: nothing is imported from the working directory.
        super().__init__(module, [sys.executable, '-P', '-m', f'jobsync_bench.processes.{module}'], limit_sec=_LIMIT_SEC)
        with suppress(RuntimeError):  # if the process has ended already, ``receive`` raises
            # Not as an argument: its URL may hold a password, and all users of a machine see arguments.
            self.write_line(json.dumps(order))

    def send(self, verb: str, *arguments: object) -> None:
        """Send a request without waiting for the reply."""
        self.write_line(json.dumps([verb, *arguments]))

    def receive(self) -> Any:
        """Return the reply to the oldest open request; the first call returns None when the process is ready.

        Raises ``RuntimeError`` if the process has ended.
        """
        return json.loads(self.read_line())

    def request(self, verb: str, *arguments: object) -> Any:
        """Send a request and return the reply."""
        self.send(verb, *arguments)
        return self.receive()


@contextmanager
def child_processes(module: str, orders: Iterable[Mapping[str, object]]) -> Iterator[list[ChildProcess]]:
    """Start one process for each order, and yield them when all are ready."""
    with ExitStack() as stack:
        processes = [stack.enter_context(ChildProcess(module, order)) for order in orders]
        for process in processes:
            process.receive()
        yield processes
        # All of them at once: each may take some time to leave.
        for process in processes:
            process.close_input()


def request_all(processes: Sequence[ChildProcess], verb: str, *arguments: object) -> list[Any]:
    """Send one request to all processes at the same time, and return their replies."""
    for process in processes:
        process.send(verb, *arguments)
    return [process.receive() for process in processes]
