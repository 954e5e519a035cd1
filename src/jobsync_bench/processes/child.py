"""Processes that take part in a scenario: started, asked, and ended with it, whatever happens."""

# ruff: noqa: S603 - this very interpreter

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

__all__ = ['ChildProcess', 'child_processes', 'request_all']

_LIMIT_SEC = 300.0
"""A member that has not answered after this is killed."""
_ENDING_SEC = 20.0


class ChildProcess:
    """A process that runs a module of ``jobsync_bench.processes``. Leaving the block ends it."""

    def __init__(self, module: str, order: Mapping[str, object]) -> None:
        """Start it; ``hear`` waits until it is ready."""
        self.module = module
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        # A session of its own: a Ctrl-C is for the one who started it, who ends it.
        self._process = subprocess.Popen(
            # -P: nothing is imported from the working directory.
            [sys.executable, '-P', '-m', f'jobsync_bench.processes.{module}'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        with suppress(RuntimeError):  # if it has ended already, whoever hears it is told
            self._write(order)  # not as an argument: its URL may hold a password, and all users of a machine see arguments

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def send(self, verb: str, *arguments: object) -> None:
        """Begin something."""
        self._write([verb, *arguments])

    def _write(self, what: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(self._obituary()) from None

    def receive(self) -> Any:
        """What it answers to what it was told first, or that it is ready. Raises ``RuntimeError`` if it has ended."""
        assert self._process.stdout is not None
        limit = threading.Timer(_LIMIT_SEC, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        if not line:
            raise RuntimeError(self._obituary())
        return json.loads(line)

    def request(self, verb: str, *arguments: object) -> Any:
        """Have something done, and the answer."""
        self.send(verb, *arguments)
        return self.receive()

    def _obituary(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors='replace').strip()
        last = words.splitlines()[-1] if words else 'it said nothing'
        return f'a process of {self.module} ended with status {status}: {last}\n{words[-3000:]}'

    def __enter__(self) -> Self:
        return self

    def dismiss(self) -> None:
        """Let it leave in good order; does not wait."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Wait until it has left, unless something went wrong, and see that it is gone."""
        try:
            self.dismiss()
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


@contextmanager
def child_processes(module: str, orders: Iterable[Mapping[str, object]]) -> Iterator[list[ChildProcess]]:
    """One process for each order, all of them ready."""
    with ExitStack() as stack:
        members = [stack.enter_context(ChildProcess(module, order)) for order in orders]
        for member in members:
            member.receive()
        yield members
        # All of them at once: each may take a while to leave.
        for member in members:
            member.dismiss()


def request_all(members: Sequence[ChildProcess], verb: str, *arguments: object) -> list[Any]:
    """Have the same thing done by all at the same time, and their answers."""
    for member in members:
        member.send(verb, *arguments)
    return [member.receive() for member in members]
