"""``python -m jobsync.testing.simulate --seeds 0:1000``: simulate many clusters and report whether every promise held."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from jobsync.testing.simulation import Outcome, WorldConfig, run

__all__ = ['main']

_MOST_FINDINGS = 5


def _seeds(text: str) -> range:
    first, colon, last = text.partition(':')
    try:
        return range(int(first), int(last)) if colon else range(int(first), int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a seed nor FIRST:END') from None


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds, print the findings of each seed that breaks a promise, and a summary; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m jobsync.testing.simulate', description=__doc__)
    parser.add_argument('--seeds', type=_seeds, default=range(100), metavar='FIRST:END', help='seeds to run (default 0:100)')
    parser.add_argument('--nodes', type=int, default=WorldConfig().nodes, help='node names in use (default %(default)s)')
    parser.add_argument('--tokens', type=int, default=WorldConfig().tokens, help='size of the pool (default %(default)s)')
    parser.add_argument(
        '--hidden-rollbacks', action='store_true', help='let the store go back in time without a sign in its identity'
    )
    parser.add_argument(
        '--processes', type=int, default=os.cpu_count() or 1, help='seeds that run at the same time (default %(default)s)'
    )
    parser.add_argument('--history', type=int, default=60, help='lines of the history to show (default %(default)s)')
    options = parser.parse_args(arguments)
    if options.nodes < 1 or options.tokens < 1 or options.processes < 1:
        parser.error('--nodes, --tokens and --processes must be at least 1')
    config = WorldConfig(nodes=options.nodes, tokens=options.tokens, hidden_rollbacks=options.hidden_rollbacks)
    started, violated, broken, unsettled = time.monotonic(), 0, 0, 0
    promises: Counter[str] = Counter()
    with ProcessPoolExecutor(options.processes) as pool:
        for number, outcome in enumerate(pool.map(partial(run, config=config), options.seeds, chunksize=4), 1):
            violated += bool(outcome.violations)
            broken += bool(outcome.broken)
            unsettled += bool(outcome.unsettled)
            promises.update(outcome.promises)
            if not outcome.is_good:
                _explain(outcome, options)
            if sys.stderr.isatty():
                print(f'\r{number} of {len(options.seeds)} seeds', end='', file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print('\r', end='', file=sys.stderr)
    seconds = time.monotonic() - started
    figures = f'{violated} with two owners, {broken} with a fence or an announcement broken, {unsettled} not settled'
    which = ''.join(f', {promise} broken in {count}' for promise, count in sorted(promises.items()))
    print(f'{len(options.seeds)} seeds, {figures}{which}, {seconds:.0f} s')
    return 1 if promises else 0


def _explain(outcome: Outcome, options: argparse.Namespace) -> None:
    """Print which promise broke, the command that repeats the run, and its history."""
    again = f'python -m jobsync.testing.simulate --seeds {outcome.seed} --nodes {options.nodes} --tokens {options.tokens}'
    print(f'\nseed {outcome.seed} breaks {", ".join(outcome.promises)}. To repeat the run:')
    print(f'  {again}' + (' --hidden-rollbacks' if options.hidden_rollbacks else ''))
    for findings in (outcome.violations, outcome.broken, outcome.unsettled):
        print(*(f'  {finding}' for finding in findings[:_MOST_FINDINGS]), sep='\n', end='\n' if findings else '')
        if len(findings) > _MOST_FINDINGS:
            print(f'  and {len(findings) - _MOST_FINDINGS} more of this kind')
    print('history, with times in seconds:', *outcome.history[-options.history :], sep='\n')


if __name__ == '__main__':
    sys.exit(main())
