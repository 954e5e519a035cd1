"""What an observer costs: how long ``why`` takes in a large pool, and how often watching a cluster calls the store.

    python -m benchmarks.observer                        # a million tokens, 100 nodes, on each store
    python -m benchmarks.observer --stores postgresql --tokens 10000

``why`` is measured as an operator meets it, with a new connection each time; as a program that keeps its ``Cluster`` does; and as
the command, which starts Python.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from tests.support.stores import KINDS

from jobsync import Cluster, plugins
from jobsync._cluster import rows
from jobsync.backend import BackendOptions
from jobsync.testing import FaultyBackend
from jobsync_bench.leader_driver import LeaderDriver
from jobsync_bench.timing import seconds

__all__ = ['timed']

_TASK = 'invoice-4711'
_WATCH_SEC = 10.0


def timed(rounds: int, call: Callable[[], object]) -> float:
    """Return the median of the seconds that a call takes."""
    return median(seconds(call) for _ in range(rounds))


def anew(url: str, options: BackendOptions) -> None:
    """Connect, explain a task, and close."""
    with Cluster(url, options.namespace) as cluster:
        cluster.why(_TASK)


def command(url: str, options: BackendOptions) -> None:
    """Run the command, which exits with 3 where the task may not be done."""
    arguments = ['why', _TASK, '--backend', url, '--appname', options.namespace]
    subprocess.run([sys.executable, '-m', 'jobsync.cli.main', *arguments], capture_output=True, check=False)


def watched(url: str, options: BackendOptions) -> float:
    """Return the calls in a second of an observer that reads once a second: ``status --watch --every 1``."""
    backend = FaultyBackend(plugins.connect(url, options))
    cluster = Cluster(backend)
    cluster.status()
    backend.calls.clear()
    begins = time.monotonic()
    while time.monotonic() < begins + _WATCH_SEC:
        reading = cluster._reader.read()
        rows.status(reading)
        rows.node_rows(reading)
        time.sleep(1)
    backend.close()
    return len(backend.calls) / (time.monotonic() - begins)


def main() -> None:
    """Print a row for each store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--stores', nargs='+', choices=KINDS, default=[name for name in KINDS if name != 'memory'])
    parser.add_argument('--tokens', type=int, default=1_000_000)
    parser.add_argument('--nodes', type=int, default=100)
    parser.add_argument('--rounds', type=int, default=9)
    chosen = parser.parse_args()
    for name in chosen.stores:
        with KINDS[name].fresh() as url:
            print(f'{name}, {chosen.tokens} tokens, {chosen.nodes} nodes: {measured(url, chosen)}')


def measured(url: str, chosen: argparse.Namespace) -> str:
    """Return the figures of one store."""
    options = BackendOptions('watched_', bulk_timeout_sec=600)
    driver = LeaderDriver(url, options.namespace, chosen.tokens, chosen.nodes)
    with Cluster(url, options.namespace) as cluster:
        kept = timed(chosen.rounds, lambda: cluster.why(_TASK))
        whole = timed(1, cluster.status)
    new = timed(chosen.rounds, lambda: anew(url, options))
    cli = timed(chosen.rounds, lambda: command(url, options))
    calls = watched(url, options)
    driver.backend.close()
    return (
        f'why {1000 * new:.0f} ms with a new connection, {1000 * kept:.0f} ms without, {1000 * cli:.0f} ms as a command; '
        f'the whole assignment {1000 * whole:.0f} ms; watching {calls:.1f} calls a second'
    )


if __name__ == '__main__':
    main()
