"""The command: many seeds, or one with its trace."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.scheduled.breaks import BREAKS
from tests.scheduled.run import run
from tests.scheduled.world import Outcome

__all__ = ['main']


def _seeds(text: str) -> range:
    first, _, end = text.partition(':')
    return range(int(first), int(end or int(first) + 1))


def _run(taken_out: str | None, aims_at: str, holds_threads: bool, is_verbose: bool, seed: int) -> Outcome:
    return run(seed, taken_out, aims_at=aims_at, holds_threads=holds_threads, is_verbose=is_verbose)


def main() -> int:
    """Run the seeds, print what each of them has found, and a summary; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m tests.scheduled', description=main.__doc__)
    parser.add_argument('--seeds', type=_seeds, default=range(20), metavar='FIRST:END', help='seeds to run (default 0:20)')
    parser.add_argument('--without', choices=sorted(BREAKS), help='a mend to take out of the code; ends at the first finding')
    parser.add_argument('--aim', default='', metavar='FUNCTION', help='hold processes in functions of this name, and for long')
    parser.add_argument('--threads', action='store_true', help='with --aim: hold the thread alone, and not its process')
    parser.add_argument('--trace', type=int, default=60, metavar='LINES', help='lines of the trace to show (default 60)')
    parser.add_argument('--turns', action='store_true', help='have each turn of a thread in the trace')
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    started, figures, bad, count = time.monotonic(), Counter[str](), 0, 0
    work = partial(_run, options.without, options.aim, options.threads, options.turns)
    with ProcessPoolExecutor(options.processes) as pool:
        results = pool.map(work, options.seeds) if options.processes > 1 else map(work, options.seeds)
        for outcome in results:
            count += 1
            figures.update(outcome.figures)
            if outcome.findings or len(options.seeds) == 1:
                print(*outcome.trace[-options.trace :], sep='\n')
            if outcome.findings:
                bad += 1
                print(f'seed {outcome.seed}:', *outcome.findings[:5], sep='\n  ', flush=True)
                if options.without:
                    pool.shutdown(cancel_futures=True)
                    break
    shown = ', '.join(f'{number:,} {name}' for name, number in sorted(figures.items()))
    print(f'{count} seeds, {bad} with findings; {shown}; {time.monotonic() - started:.0f} s')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
