"""What ``import jobsync`` costs."""

from __future__ import annotations

import subprocess
import sys

from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']

_TARGET_SEC = 0.15
_MEASURE = 'import time; t = time.process_time(); import {module}; print(time.process_time() - t)'


def cpu_times(module: str, runs: int) -> list[float]:
    """Seconds of CPU of the import alone, each in an interpreter of its own. The first run, which may compile, is left out."""
    command = [sys.executable, '-c', _MEASURE.format(module=module)]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs + 1)]
    return times[1:]


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for module in ('jobsync', 'attrs', 'tenacity'):
        bench.record('import', module, cpu_times(module, 5 if bench.quick else 15))


SCENARIO = Scenario(
    name='imports',
    title='import jobsync',
    means="""
        The cost of the import, which every process has once at its start: a command that runs for a second as well as a
        worker that runs for a month.
    """,
    bounds="""
        Python's own modules and four small libraries. The driver of a store is imported only when the store is used; that
        would take several times as long.
    """,
    figures=(Figure('import', Unit.SECONDS, 'CPU time of the import in a fresh interpreter.'),),
    play=play,
    needs=Needs.NOTHING,
    targets=(Target('import jobsync', Pick('import', case='jobsync'), at_most=_TARGET_SEC),),
)
