"""A rolling restart under load: tasks done twice, missed tasks, moved tokens, and the time that tokens are without an owner.

    python -m benchmarks.rolling --fast
    python -m benchmarks.rolling --store redis --workers 10
    python -m benchmarks.rolling --backend sqlite:////tmp/rolling.db --fast
    python -m benchmarks.rolling --flap --fast

Ten workers, each a process with ``handle_signals=True``, do the tasks that come every second; then each of them is replaced, the
oldest, which leads, always first. With ``--flap`` a node that joins and leaves every second joins five of them instead.
Without ``--store`` or ``--backend`` all stores take their turns; their servers are started, and stopped afterwards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from tests.support.stores import KINDS

from benchmarks.places import DEFAULT
from benchmarks.rolling_cluster import RollingCluster
from benchmarks.rolling_scenes import SCENES, RollingOutcome, flap
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

TOKENS = 240
FAST: dict[str, Any] = {
    'heartbeat_interval_sec': 0.5,
    'heartbeat_timeout_sec': 5,
    'rebalance_check_interval_sec': 1,
    'dead_node_check_interval_sec': 1,
    'token_refresh_initial_interval_sec': 1,
    'token_refresh_steady_interval_sec': 1,
}
_COLUMNS = (
    'store', 'scenario', 'tasks', 'worked by two', 'owned by two', 'missed', 'twice', 'moved x pool',
    'gap s', 'median gap s', 'stop s', 'stop to entry s', 'commits', 'faults',
)  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def row(store: str, scene: str, outcome: RollingOutcome) -> list[object]:
    figures = outcome.figures
    return [
        store, scene, figures.tasks, figures.worked_by_two, figures.owned_by_two, len(figures.missed), figures.twice,
        f'{outcome.moved:.2f}', f'{figures.gap_sec:.2f}', f'{figures.median_gap_sec:.2f}', f'{outcome.stop_sec:.2f}',
        f'{outcome.back_sec:.2f}', outcome.commits, len(outcome.faults),
    ]  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--backend', help='the URL of a store that is not in use; its history grows')
    parser.add_argument('--store', choices=DEFAULT, action='append', help='start this one only; may be given again')
    parser.add_argument('--scene', choices=list(SCENES), action='append', help='this one only; may be given again')
    parser.add_argument('--flap', action='store_true', help='a node that joins and leaves, in place of the restarts')
    parser.add_argument('--seconds', type=float, default=30, help='how long it does')
    parser.add_argument('--workers', type=int, help='10, or 5 with --flap')
    parser.add_argument('--tasks', type=int, default=30, help='tasks a second')
    parser.add_argument(
        '--between', type=float, default=1, help='seconds from the entry of a successor to the SIGTERM of its predecessor'
    )
    parser.add_argument('--open', type=float, default=30, help='seconds that a task has: more than a restart takes')
    parser.add_argument('--fast', action='store_true', help='short intervals')
    options = parser.parse_args(arguments)
    scenes: dict[str, Callable[[RollingCluster], RollingOutcome]] = {}
    workers = options.workers or (5 if options.flap else 10)
    common = {'total_tokens': TOKENS, 'minimum_nodes': workers, **(FAST if options.fast else {})}
    settings: dict[str, dict[str, Any]] = {}
    if options.flap:
        scenes['flap'] = partial(flap, workers=workers, seconds=options.seconds, say=say)
        settings['flap'] = {}
    for name in options.scene or ([] if options.flap else SCENES):
        scene = SCENES[name]
        scenes[name] = partial(scene.play, workers=workers, between_sec=options.between, say=say)
        settings[name] = scene.settings
    rows = []
    for kind in ['given'] if options.backend else options.store or DEFAULT:
        for number, (name, play) in enumerate(scenes.items()):
            with nullcontext(options.backend) if options.backend else KINDS[kind].fresh() as url:
                place = {'backend': url, 'appname': f'roll{number}_'}
                say(f'{kind}: {name}')
                with RollingCluster({**common, **settings[name], **place}, options.tasks, options.open) as cluster:
                    outcome = play(cluster)
            rows.append(row(kind, name, outcome))
            for fault in (*outcome.faults, *(f'missed: {task}' for task in outcome.figures.missed[:10])):
                say(f'{kind}: {name}: {fault}')
    print(Machine.here(), table(_COLUMNS, [[str(cell) for cell in line] for line in rows]), sep='\n\n')
    sys.exit(any(int(str(cell)) for line in rows for cell in (line[3], line[4], line[5])))


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
