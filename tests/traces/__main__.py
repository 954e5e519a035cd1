"""``python -m tests.traces --traces 1000``: compare recorded traces, and mutated ones, with the specification's actions."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.traces.breaks import BREAKS
from tests.traces.simulated import simulated
from tests.traces.trial import Trial, refusal, tried


def main() -> int:
    """Run the command; return its status: 1 if a trace was refused, or a mutated one accepted."""
    parser = argparse.ArgumentParser('python -m tests.traces', description=__doc__)
    parser.add_argument('--traces', type=int, default=1000, help='so many, and as many mutated ones (default %(default)s)')
    parser.add_argument('--first', type=int, default=0, help='the first seed (default %(default)s)')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--keep', type=Path, help='write each trace that is not judged as it should be into this folder')
    parser.add_argument('--broken', choices=list(BREAKS), help='break a rule, and show the first trace that is refused')
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    if options.broken:
        return show_break(options.broken, range(options.first, options.first + options.traces))
    begun, trials = time.monotonic(), []
    with ProcessPoolExecutor(options.processes) as pool:
        for trial in pool.map(tried, range(options.first, options.first + options.traces), chunksize=4):
            trials.append(trial)
            if not trial.is_right:
                print(f'seed {trial.seed}: {trial.refusal or f"{trial.mutation} was accepted"}', flush=True)
                if options.keep:
                    trial.keep(options.keep)
    show(trials, time.monotonic() - begun)
    return int(not all(trial.is_right for trial in trials))


def show_break(name: str, seeds: range) -> int:
    """Print which seed shows a break; return the status: 1 if one does."""
    with BREAKS[name]():
        for seed in seeds:
            if refused := refusal(simulated(seed)):
                print(f'seed {seed}: {refused}')
                return 1
    print(f'{name}: every trace was accepted')
    return 0


def show(trials: list[Trial], seconds: float) -> None:
    """Print how many traces were accepted and refused."""
    accepted, refused = (
        sum(not trial.refusal for trial in trials),
        Counter(trial.mutation for trial in trials if trial.is_refused),
    )
    made = Counter(trial.mutation for trial in trials)
    events = sum(trial.events for trial in trials)
    print(f'{accepted:,} of {len(trials):,} traces accepted, {events:,} events; {seconds:.0f} s')
    print(f'{sum(refused.values()):,} of {len(trials):,} mutated traces refused:')
    for name, count in sorted(made.items()):
        print(f'  {name:<28}{refused[name]:>6} of {count}')


if __name__ == '__main__':
    raise SystemExit(main())
