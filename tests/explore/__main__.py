"""``python -m tests.explore``: visit every state of small clusters of the core's own code, and look for two owners.

Without arguments it explores the large worlds, ten million states in all; with the names of worlds, these. With ``--broken`` it
takes away one rule after the other, searches for the shortest way to two owners, and rewrites
``docs/reference/counterexamples.md``.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.explore.catalogue import LARGE, RULES, WORLDS
from tests.explore.counterexamples import read, search_all, write
from tests.explore.timeline import explored


def main() -> int:
    """Run the command; return its status: 1 if anything was found."""
    parser = argparse.ArgumentParser(
        'python -m tests.explore', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('names', nargs='*', help='worlds, or rules with --broken; default: the large worlds, or all rules')
    parser.add_argument('--list', action='store_true', help='list the worlds')
    parser.add_argument('--broken', action='store_true', help='take away each rule, and rewrite the page of counterexamples')
    parser.add_argument('--states', type=int, help='stop a world after so many states (default: its own number)')
    parser.add_argument('--seconds', type=float, help='stop a world after so many seconds of computing')
    parser.add_argument(
        '--continue-every',
        type=int,
        default=1,
        help='run a fair continuation from one state in so many (default: each); 0: from none',
    )
    parser.add_argument('--processes', type=int, default=2)
    options = parser.parse_args()
    if options.list:
        for world in WORLDS.values():
            print(f'{world.name:<24}{world.says}')
        return 0
    known = {rule.__name__ for rule in RULES} if options.broken else WORLDS.keys()
    if unknown := set(options.names) - known:
        parser.error(f'not known: {", ".join(sorted(unknown))}')
    with ProcessPoolExecutor(options.processes, max_tasks_per_child=1) as pool:
        if options.broken:
            return _break(pool, options)
        return _explore(pool, options)


def _break(pool: ProcessPoolExecutor, options: argparse.Namespace) -> int:
    rules = [rule for rule in RULES if not options.names or rule.__name__ in options.names]
    status = 0
    for name, way in search_all(pool, rules, options.states):
        if isinstance(way, int):
            status = 1
            print(f'{name}: nothing in {way:,} states', flush=True)
        else:
            print(f'{name}: {len(way.steps)} steps, {way.states:,} states', flush=True)
            write({**read(), name: way})
    return status


def _explore(pool: ProcessPoolExecutor, options: argparse.Namespace) -> int:
    task = partial(explored, most=options.states, seconds=options.seconds, continue_every=options.continue_every)
    begun, states, status = time.monotonic(), 0, 0
    print(f'{"world":<22}{"states":>12}{"steps":>12}{"depth":>7}{"continued":>11}{"CPU s":>8}{"states/s":>10}  all of it')
    for found, lines in pool.map(task, options.names or LARGE):
        rate = found.states / max(found.seconds, 1e-9)
        print(
            f'{found.world:<22}{found.states:>12,}{found.steps:>12,}{found.depth:>7}{found.continued:>11,}'
            f'{found.seconds:>8.0f}{rate:>10,.0f}  {"yes" if found.is_complete else "no"}',
            flush=True,
        )
        states += found.states
        if found.problem:
            status = 1
            print('\n'.join([f'{found.world}: {found.problem}', *lines]))
    print(f'{states:,} distinct states in {time.monotonic() - begun:.0f} s')
    return status


if __name__ == '__main__':
    raise SystemExit(main())
