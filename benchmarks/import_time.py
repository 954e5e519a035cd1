"""CPU time of ``import jobsync``, and what it is spent on.

    python benchmarks/import_time.py [--runs 15] [--module jobsync] [--from-ms 2]

Prints the median over several fresh interpreters, and the tree of imports that took longer than ``--from-ms``. The target is
under 0.15 s; the exit status is 1 if the median is above it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys

TARGET_SEC = 0.15
_MEASURE = 'import time; t = time.process_time(); import {module}; print(time.process_time() - t)'
_LINE = re.compile(r'import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)')


def cpu_times(module: str, runs: int) -> list[float]:
    """Seconds of CPU of the import alone, each in an interpreter of its own. The first run, which may compile, is left out."""
    command = [sys.executable, '-c', _MEASURE.format(module=module)]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs + 1)]
    return times[1:]


def heavy_imports(module: str, from_ms: float) -> list[str]:
    """The imports that took ``from_ms`` or longer with all they import, as an indented tree, outermost first."""
    command = [sys.executable, '-X', 'importtime', '-c', f'import {module}']
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    tree: list[str] = []
    for line in reversed(report.splitlines()):  # Python reports a module after all that it imports
        found = _LINE.match(line)
        if found is None:
            continue
        took_ms, indent, name = int(found[2]) / 1000, found[3], found[4]
        if tree and not indent:
            break
        if (tree or name == module) and took_ms >= from_ms:
            tree.append(f'{took_ms:8.1f} ms  {indent}{name}')
    return tree


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--runs', type=int, default=15)
    parser.add_argument('--module', default='jobsync')
    parser.add_argument('--from-ms', type=float, default=2.0)
    options = parser.parse_args()
    times = cpu_times(options.module, options.runs)
    median = statistics.median(times)
    print(f'import {options.module}: {median:.3f} s of CPU (median of {len(times)}; {min(times):.3f} to {max(times):.3f})')
    print(f'target: under {TARGET_SEC} s: {"met" if median < TARGET_SEC else "MISSED"}')
    print('wall clock with all they import, slower under -X importtime:')
    print('\n'.join(heavy_imports(options.module, options.from_ms)))
    return 0 if median < TARGET_SEC else 1


if __name__ == '__main__':
    sys.exit(main())
