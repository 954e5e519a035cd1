"""Items on every store: how exact the shares are, what a join and a leave move, and whether an item is ever owned by two nodes.

    python -m benchmarks.items                          # 20 items on 10 nodes, on each store
    python -m benchmarks.items --stores redis --rounds 5

The nodes are threads of one process, so that all can be called within microseconds: *owned twice* counts the moments at which one
node answered True for an item before and after another node did.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import Any

import attrs
from tests.support.stores import KINDS

from jobsync import CoordinationConfig, Job

__all__ = ['Outcome', 'run', 'wait_for']

GROUP = 'feeds'
TIMINGS: Mapping[str, Any] = {'heartbeat_interval_sec': 2, 'heartbeat_timeout_sec': 15, 'rebalance_delay_sec': 0.2}
_PATIENCE_SEC = 120.0


@attrs.frozen
class Outcome:
    """What one store showed."""

    shares: Sequence[int]
    """How many items each node had, once they were shared out; rising."""
    joins: Sequence[int]
    """How many items each join moved."""
    leaves: Sequence[int]
    """How many items each leave moved."""
    join_secs: Sequence[float]
    """The time of each join from its beginning to exact shares on all nodes."""
    owned_twice: int
    looks: int
    """How often all nodes were called for all items."""


class Watch:
    """Calls all nodes for all items, again and again, on a thread of its own."""

    def __init__(self, jobs: Sequence[Job], items: Sequence[str]) -> None:
        self._jobs, self._items, self._over = jobs, items, Event()
        self.twice = self.looks = 0

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            jobs = list(self._jobs)
            self.looks += 1
            for item in self._items:
                first = next((job for job in jobs if job.can_claim_task(item)), None)
                others = [job for job in jobs if job is not first and job.can_claim_task(item)]
                # t=0  a answers True   t=1  b answers True   t=2  a answers True: so both owned the item at t=1
                self.twice += bool(first is not None and others and first.can_claim_task(item))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch for the time of the block."""
        thread = Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def owners(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the node of each item that is in a node's share."""
    return {item: job.node_name for job in list(jobs) for item in job.items(GROUP)}


def settled(jobs: Sequence[Job], items: Sequence[str]) -> Mapping[str, str]:
    """Wait until the shares are exact, and return the owners."""

    def is_exact() -> bool:
        sizes = Counter(owners(jobs).values())
        counts = [sizes[job.node_name] for job in jobs]
        return sum(counts) == len(items) and max(counts) - min(counts) <= 1

    wait_for(is_exact, f'{len(items)} items on {len(jobs)} nodes are not shared out')
    return owners(jobs)


def wait_for(condition: Callable[[], bool], complaint: str) -> None:
    """Wait until a condition holds; ``TimeoutError`` after two minutes."""
    until = time.monotonic() + _PATIENCE_SEC
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(complaint)
        time.sleep(0.005)


def run(url: str, items: int = 20, nodes: int = 10, rounds: int = 3, namespace: str | None = None) -> Outcome:
    """Share out items on a store, and let a node join and leave so many times."""
    ids = [f'feed-{number}' for number in range(items)]
    jobs: list[Job] = []
    joins: list[int] = []
    leaves: list[int] = []
    seconds: list[float] = []

    def job(number: int) -> Job:
        config = CoordinationConfig(backend=url, appname=namespace, minimum_nodes=1, **TIMINGS)
        return Job(f'node-{number:02}', coordination_config=config, lock_provider=lambda job: job.declare_items(GROUP, ids))

    with ExitStack() as stack:
        jobs.extend(stack.enter_context(job(number)) for number in range(nodes))
        before = settled(jobs, ids)
        shares = sorted(Counter(before.values()).values())
        watch = Watch(jobs, ids)
        with watch.running():
            for number in range(nodes, nodes + rounds):
                started = time.monotonic()
                with job(number) as newcomer:
                    jobs.append(newcomer)
                    after = settled(jobs, ids)
                    seconds.append(time.monotonic() - started)
                    joins.append(sum(before[item] != after[item] for item in ids))
                    jobs.remove(newcomer)
                before = settled(jobs, ids)
                leaves.append(sum(before[item] != after[item] for item in ids))
    return Outcome(shares, joins, leaves, seconds, watch.twice, watch.looks)


def main() -> None:
    """Print a row for each store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--stores', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument('--items', type=int, default=20)
    parser.add_argument('--nodes', type=int, default=10)
    parser.add_argument('--rounds', type=int, default=3)
    chosen = parser.parse_args()
    for name in chosen.stores:
        with KINDS[name].fresh() as url:
            found = run(url, chosen.items, chosen.nodes, chosen.rounds)
        print(
            f'{name}: shares {found.shares[0]} to {found.shares[-1]}, a join moves {list(found.joins)} '
            f'in at most {max(found.join_secs):.1f} s, a leave {list(found.leaves)}, '
            f'owned twice {found.owned_twice} in {found.looks} looks'
        )


if __name__ == '__main__':
    main()
