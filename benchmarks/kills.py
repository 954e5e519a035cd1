"""SIGKILL until every token has an owner again, at default timings: followers, leaders, and both at once.

    python -m benchmarks.kills --runs 30
    python -m benchmarks.kills --runs 30 --off 1 --store postgresql

Four workers call ``can_claim_task`` for a thousand tasks, again and again, and log the answers. Each run kills one of them, the
leader, or both, and waits until every token has one owner and all shares are even; then others join. The kinds come in turns.
``--off`` adds runs with ``known_death=False``, in which the timeout of 15 s decides. Times come from the workers' logs, by the
clock that all processes of a host share, and are up to 0.05 s too long.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice

from benchmarks.places import DEFAULT, places
from jobsync_bench.bench import BenchStore
from jobsync_bench.churn import ChurnCluster, ChurnOutcome
from jobsync_bench.figures import Summary
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

KINDS = ('follower', 'leader', 'both')
COLUMNS = ('store', 'known', 'killed', 'kills', 'median', 'p99', 'most', 'owned twice')
_NODES = 4


def kills(store: BenchStore, runs: int, is_known: bool) -> dict[str, list[ChurnOutcome]]:
    """Return the outcomes of so many kills, by kind."""
    outcomes: dict[str, list[ChurnOutcome]] = {kind: [] for kind in KINDS}
    place = {'backend': store.url, 'appname': store.namespace(), 'known_death': is_known}
    with ChurnCluster(place) as cluster:
        cluster.form(_NODES)
        events = {'follower': cluster.kill_follower, 'leader': cluster.kill_leader, 'both': cluster.kill_both}
        for kind in islice(cycle(KINDS), runs):
            outcomes[kind].append(events[kind]())
            for _ in range(2 if kind == 'both' else 1):
                cluster.join()
    return outcomes


def rows(store: str, is_known: bool, outcomes: dict[str, list[ChurnOutcome]]) -> list[list[str]]:
    """Return the rows of the report: one for each kind, and one for all."""
    made = []
    for kind, these in {**outcomes, 'all': [each for some in outcomes.values() for each in some]}.items():
        if these:
            summary = Summary.of([each.settled_sec for each in these])
            times = (summary.median, summary.p99, summary.most)
            doubles = sum(each.doubles for each in these)
            made.append(
                [store, 'yes' if is_known else 'no', kind, str(len(these)), *(f'{time:.3f} s' for time in times), str(doubles)]
            )
    return made


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=DEFAULT, action='append', help='this one only; may be given again')
    parser.add_argument('--runs', type=int, default=30, help='kills on each store')
    parser.add_argument('--off', type=int, default=3, help='kills on each store with known_death=False')
    options = parser.parse_args(arguments)
    found: list[list[str]] = []
    for place in places(options.store or DEFAULT):
        with place.open() as store:
            for runs, is_known in ((options.runs, True), (options.off, False)):
                found += rows(place.name, is_known, kills(store, runs, is_known)) if runs else []
        print(table(COLUMNS, found), file=sys.stderr, flush=True)
    print(Machine.here(), table(COLUMNS, found), sep='\n\n')


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
