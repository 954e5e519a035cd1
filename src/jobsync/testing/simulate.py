"""``python -m jobsync.testing.simulate --seeds 0:1000``: simulate many clusters and say whether everything held."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from jobsync.testing.simulation import Outcome, World, WorldConfig

__all__ = ['main']


def _run(config: WorldConfig, seed: int) -> Outcome:
    return World(seed, config).run()


def _seeds(text: str) -> range:
    first, colon, last = text.partition(':')
    try:
        return range(int(first), int(last)) if colon else range(int(first), int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a seed nor FIRST:END') from None


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds; print a line, and for each seed that failed what happened. Returns the exit status."""
    parser = argparse.ArgumentParser(prog='python -m jobsync.testing.simulate', description=__doc__)
    parser.add_argument('--seeds', type=_seeds, default=range(100), metavar='FIRST:END', help='which seeds (default 0:100)')
    parser.add_argument('--nodes', type=int, default=WorldConfig().nodes, help='names in use (default %(default)s)')
    parser.add_argument('--tokens', type=int, default=WorldConfig().tokens, help='size of the pool (default %(default)s)')
    parser.add_argument(
        '--hidden-rollbacks', action='store_true', help='the store goes back in time without a sign in its identity'
    )
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1, help='how many at once (default %(default)s)')
    parser.add_argument('--history', type=int, default=60, help='lines of history to show for a failed seed')
    options = parser.parse_args(arguments)
    if options.nodes < 1 or options.tokens < 1 or options.processes < 1:
        parser.error('--nodes, --tokens and --processes must be at least 1')
    config = WorldConfig(nodes=options.nodes, tokens=options.tokens, hidden_rollbacks=options.hidden_rollbacks)
    started, violated, broken, unsettled = time.monotonic(), 0, 0, 0
    with ProcessPoolExecutor(options.processes) as pool:
        for number, outcome in enumerate(pool.map(partial(_run, config), options.seeds, chunksize=4), 1):
            violated += bool(outcome.violations)
            broken += bool(outcome.broken)
            unsettled += bool(outcome.unsettled)
            if not outcome.is_good:
                _explain(outcome, options.history)
            if sys.stderr.isatty():
                print(f'\r{number} of {len(options.seeds)} seeds', end='', file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print('\r', end='', file=sys.stderr)
    seconds = time.monotonic() - started
    told = f'{violated} with two owners, {broken} with a fence or an announcement broken, {unsettled} not settled'
    print(f'{len(options.seeds)} seeds, {told}, {seconds:.0f} s')
    return 1 if violated or broken or unsettled else 0


def _explain(outcome: Outcome, lines: int) -> None:
    print(f'\nseed {outcome.seed}: {len(outcome.violations)} violations, {len(outcome.broken)} fences or announcements broken')
    if outcome.violations or outcome.broken:
        print(*outcome.violations[:5], *outcome.broken[:5], sep='\n')
        marks = ('VIOLATION', 'BROKEN')
        first = next((i for i, line in enumerate(outcome.history) if any(m in line for m in marks)), len(outcome.history))
        print(*outcome.history[max(0, first - lines) : first + 3], sep='\n')
    if outcome.unsettled:
        print(*outcome.unsettled[:8], sep='\n')
        print(*outcome.history[-lines:], sep='\n')


if __name__ == '__main__':
    sys.exit(main())
