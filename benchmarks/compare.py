"""Processes of other interpreters that make runs, and what both sides need. Imports nothing but Python's own library.

A run that cannot be made in this interpreter (a rival's, in an environment of its own) is made by an ``Other``: a process that
makes one run for each line it reads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ['ROOT', 'Other', 'all_at_once', 'per_call', 'serve']

ROOT = Path(__file__).parent.parent


def per_call(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Return the CPU seconds per call of this thread, over one call for each of ``arguments``. The loop is included."""
    start = time.thread_time()
    for argument in arguments:
        call(argument)
    return (time.thread_time() - start) / len(arguments)


class Other:
    """A process of another interpreter: ``run(line)`` has it make one run and returns the number it answers.

    Where the answer is more than a number, ``ask`` returns it. ``send`` and ``answer`` are the two halves of ``ask``, for several
    processes at once.
    """

    def __init__(self, python: str, module: str, *arguments: str) -> None:
        """Run ``module`` with ``python -m``, and wait until it is ready. The module must call ``serve``."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in _end)
        # A session of its own: a Ctrl-C is for the one who started it, who ends it.
        self._process = subprocess.Popen(
            [python, '-m', module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            self.ready = self._line()
            """The line that the process wrote when it was ready."""
        except BaseException:
            self._end()
            raise

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            words = self._errors.read().decode(errors='replace').strip().splitlines()
            said = words[-1] if words else 'it said nothing'
            raise RuntimeError(f'{" ".join(map(str, self._process.args[1:3]))} ended with status {status}: {said}')  # type: ignore[index]
        return line.strip()

    def run(self, line: str) -> float:
        """Request one run, and return its number."""
        return float(self.ask(line))

    def ask(self, line: str) -> Any:
        """Request one run, and return its answer, any JSON value."""
        self.send(line)
        return self.answer()

    def send(self, line: str) -> None:
        """Request a run without waiting for the answer."""
        assert self._process.stdin
        self._process.stdin.write(line + '\n')
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the answer to the oldest open request."""
        return json.loads(self._line())

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Wait until the process has ended, unless the block failed, and kill it if it has not."""
        try:
            if error is None and self._process.poll() is None:
                self._process.communicate(timeout=60)
        finally:
            self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def all_at_once(others: Sequence[Other], lines: Iterable[str]) -> list[Any]:
    """Request a run in each of several processes at the same time, each with its own line, and return the answers."""
    for other, line in zip(others, lines, strict=True):
        other.send(line)
    return [other.answer() for other in others]


def serve(ready: str, run: Callable[[str], object]) -> None:
    """Serve an ``Other``: report that the process is ready, then make one run for each line of input."""
    print(ready, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(line.strip())), flush=True)
