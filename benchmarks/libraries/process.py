"""Processes of other interpreters that make runs of a library: the other side of ``benchmarks.libraries.serving``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jobsync_bench.processes.child import LineProcess

__all__ = ['ROOT', 'LibraryProcess', 'run_all']

ROOT = Path(__file__).parents[2]


class LibraryProcess(LineProcess):
    """A process of another interpreter that makes one run for each line: ``run`` returns the measured number.

    Where the answer is more than a number, ``ask`` returns it. ``send`` and ``answer`` are the two halves of ``ask``, for several
    processes at once.
    """

    def __init__(self, python: str, module: str, *arguments: str) -> None:
        """Run ``module`` with ``python -m``, and wait until it is ready. The module must call ``serve``."""
        # A PYTHONPATH would put what is installed here into the library's environment.
        environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        super().__init__(module, [python, '-m', module, *arguments], ROOT, environment)
        try:
            self.ready = self.read_line().strip()
            """The line that the process wrote when it was ready."""
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def run(self, line: str) -> float:
        """Request one run, and return its number."""
        return float(self.ask(line))

    def ask(self, line: str) -> Any:
        """Request one run, and return its answer, any JSON value."""
        self.send(line)
        return self.answer()

    def send(self, line: str) -> None:
        """Request a run without waiting for the answer."""
        self.write_line(line)

    def answer(self) -> Any:
        """Return the answer to the oldest open request."""
        return json.loads(self.read_line())


def run_all(processes: Sequence[LibraryProcess], lines: Iterable[str]) -> list[Any]:
    """Request a run in each of several processes at the same time, each with its own line, and return the answers."""
    for process, line in zip(processes, lines, strict=True):
        process.send(line)
    return [process.answer() for process in processes]
