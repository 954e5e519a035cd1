"""Baselines of the idle scenario: the peer's nodes, measured for a minute, each through a counting proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from benchmarks.baselines.offering import Offer, Slots, admitted, postgres_of
from benchmarks.libraries.catalogue import service
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.peer import url_of
from benchmarks.libraries.process import LibraryProcess
from jobsync_bench.bench import Party
from jobsync_bench.proxy import CountingProxy, address_of

__all__ = ['OFFERS']

_ROLES = ('peer0', 'peer1', 'peer2')
_WAIT_ON_ENTER = 5
_ENTER_SEC, _SETTLE_SEC, _MEASURE_SEC = 120.0, 10.0, 60.0
Costs = dict[tuple[str, str], float]
"""The highest number of all nodes, by figure and case."""


@contextmanager
def measured(slots: Slots) -> Iterator[Costs]:
    """Yield the cost of each kind of node."""
    bench = slots.bench
    python_of('peer')
    server = postgres_of(bench)
    assert server is not None
    admitted(server, *_ROLES)
    with ExitStack() as stack:
        proxies = [stack.enter_context(CountingProxy(url_of(server.port, role))) for role in _ROLES]

        def start(number: int) -> LibraryProcess:
            address = address_of(proxies[number].url)
            assert address is not None
            return service('peer idle').start(port=address[1], role=_ROLES[number], wait_on_enter=_WAIT_ON_ENTER)

        # The first by itself, for the peer's nodes do not stand a common start.
        nodes = [stack.enter_context(start(0))]
        with ThreadPoolExecutor() as pool:
            nodes += [stack.enter_context(node) for node in pool.map(start, range(1, len(_ROLES)))]
        deadline = time.monotonic() + _ENTER_SEC
        while not all(node.run('tokens') for node in nodes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the peer's nodes have no tokens after {_ENTER_SEC:.0f} s")
            bench.pause(0.5)
        bench.pause(_SETTLE_SEC)
        before, start_sec = [proxy.traffic() for proxy in proxies], time.monotonic()
        cpu = [node.run('cpu') for node in nodes]
        bench.pause(_MEASURE_SEC)
        minutes = (time.monotonic() - start_sec) / 60
        after = [proxy.traffic() for proxy in proxies]
        costs: Costs = {}
        for node, was, now, used in zip(nodes, before, after, cpu, strict=True):
            case = 'leader' if node.run('leads') else 'follower'
            figures = {
                'bytes': (now.sent + now.received - was.sent - was.received) / minutes,
                'turns': (now.turns - was.turns) / minutes,
                'connections': float(now.most_connections),
                'cpu': 100 * (node.run('cpu') - used) / minutes / 60,
                'memory': node.run('mb'),
            }
            for figure, value in figures.items():
                costs[figure, case] = max(costs.get((figure, case), 0.0), value)
    yield costs


def peer(figure: str) -> Offer:
    """Offer the peer's nodes at one figure, in a full run on PostgreSQL."""

    def offer(slots: Slots, case: str) -> Mapping[str, Party]:
        if slots.bench.quick or postgres_of(slots.bench) is None:
            return {}
        costs = slots.have('peer', '', lambda: measured(slots))
        value = costs.get((figure, case))
        return {} if value is None else {'peer': Party(lambda: value)}

    return offer


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {
    ('idle', figure): (peer(figure),) for figure in ('bytes', 'turns', 'connections', 'cpu', 'memory')
}
