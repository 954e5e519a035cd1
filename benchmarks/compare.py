"""Measuring side by side: runs in turns, their medians, and a Markdown table. Imports nothing but Python's own library.

Absolute times of a shared machine mean little. So what is compared is run in turns, each round beginning with another one, and
ratios come first. A run that cannot be made in this interpreter (the peer's, in an environment of its own) is made by an
``Other``: a process that makes one run for each line it reads.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ['Other', 'all_at_once', 'in_turns', 'machine', 'markdown', 'per_call', 'ratio', 'serve']

ROOT = Path(__file__).parent.parent


def per_call(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Seconds of this thread's CPU for one call, over one for each of ``arguments``; the loop itself is counted in."""
    start = time.thread_time()
    for argument in arguments:
        call(argument)
    return (time.thread_time() - start) / len(arguments)


def in_turns(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each run returned, over ``rounds`` rounds in which each is run once."""
    results: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(runs[name]())
    return {name: statistics.median(times) for name, times in results.items()}


def machine() -> str:
    """What it was measured on, for the line above a table."""
    now = dt.datetime.now(dt.UTC)
    return f'{now:%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}'


def ratio(one: float | None, other: float | None) -> str:
    """How many times ``one`` is ``other``, for a cell; empty where either was not measured."""
    return '' if one is None or other is None else f'{one / other:.1f}'


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, legible as it is; cells after the first are set to the right. Columns without a cell are left out."""
    lines = [[str(cell) for cell in row] for row in (columns, *rows)]
    kept = [number for number, column in enumerate(zip(*lines, strict=True)) if any(column[1:])]
    lines = [[line[number] for number in kept] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ['-' * widths[0]] + ['-' * (width - 1) + ':' for width in widths[1:]]
    lines.insert(1, rule)
    return '\n'.join(f'| {" | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])} |' for line in lines)


class Other:
    """A process of another interpreter: ``run(line)`` has it make one run and returns the number it answers.

    Where the answer is more than a number, ``ask`` returns it. ``send`` and ``answer`` are the two halves of ``ask``, for several
    processes at once.
    """

    def __init__(self, python: str, module: str, *arguments: str) -> None:
        """``module`` is run with ``python -m`` and must ``serve``; waits until it is ready."""
        self._process = subprocess.Popen(
            [python, '-m', module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.ready = self._line()
        """What it said when it was ready."""

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise RuntimeError(f'{self._process.args!r} ended with status {self._process.returncode}')
        return line.strip()

    def run(self, line: str) -> float:
        """Have one run made."""
        return float(self.ask(line))

    def ask(self, line: str) -> Any:
        """Have one run made whose answer is anything that JSON can say."""
        self.send(line)
        return self.answer()

    def send(self, line: str) -> None:
        """Begin a run."""
        assert self._process.stdin
        self._process.stdin.write(line + '\n')
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the run that was begun answers, once it does."""
        return json.loads(self._line())

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.communicate(timeout=60)


def all_at_once(others: Sequence[Other], lines: Iterable[str]) -> list[Any]:
    """A run in each of several processes at the same time, each with its own line; their answers."""
    for other, line in zip(others, lines, strict=True):
        other.send(line)
    return [other.answer() for other in others]


def serve(ready: str, run: Callable[[str], object]) -> None:
    """The other side of ``Other``: say that all is ready, then make one run for each line of input."""
    print(ready, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(line.strip())), flush=True)
