"""The cost of a cluster in which nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

import attrs

from jobsync import plugins
from jobsync.backend import BackendOptions, Settings
from jobsync.errors import JobsyncError
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.processes.child import ChildProcess, child_processes, request_all
from jobsync_bench.proxy import CountingProxy, Traffic, address_of
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']

_NODES = 3
_FOLLOWER, _LEADER = 'follower', 'leader'


def start_proxies(bench: Bench, stack: ExitStack) -> Sequence[CountingProxy]:
    """Start a proxy for each node, or none if the store cannot be reached through a proxy."""
    url = bench.store.url
    if address_of(url) is None:
        return []
    made = [stack.enter_context(CountingProxy(url)) for _ in range(_NODES)]
    try:
        with closing(plugins.connect(made[0].url, BackendOptions(bench.store.namespace()))) as backend:
            backend.open(Settings(1, 'xxh3', 1), create=True)
    except JobsyncError as error:
        bench.say(f'bytes are not counted: the store cannot be reached through a proxy ({error})')
        return []
    return made


@contextmanager
def nodes(bench: Bench, proxies: Sequence[CountingProxy]) -> Iterator[list[ChildProcess]]:
    """Start nodes with default settings, and yield them when all have entered."""
    namespace = bench.store.namespace()
    urls = [proxy.url for proxy in proxies] or [bench.store.url] * _NODES
    orders = ({'node': f'node-{number}', 'url': url, 'namespace': namespace, 'nodes': _NODES} for number, url in enumerate(urls))
    with child_processes('idler', orders) as processes:
        yield processes


@attrs.frozen
class Cost:
    """The cost of a node, so far or between two readings."""

    calls: float
    readings: float
    cpu_sec: float
    bytes: float
    turns: float

    def since(self, earlier: Cost) -> Cost:
        """Return the difference to an earlier cost."""
        return Cost(*(now - then for now, then in zip(attrs.astuple(self), attrs.astuple(earlier), strict=True)))


def cost_of(reported: Mapping[str, float], traffic: Traffic) -> Cost:
    """Combine the figures of a process with the traffic of its proxy."""
    return Cost(reported['calls'], reported['readings'], reported['cpu'], traffic.sent + traffic.received, traffic.turns)


def measure(bench: Bench, stack: ExitStack) -> None:
    """Start a cluster, leave it idle, and record the cost of each node."""
    settle_sec, measure_sec = (4.0, 10.0) if bench.quick else (10.0, 60.0)
    proxies = start_proxies(bench, stack)
    processes = stack.enter_context(nodes(bench, proxies))

    def traffic() -> list[Traffic]:
        return [proxy.traffic() for proxy in proxies] or [Traffic()] * len(processes)

    def costs() -> list[Cost]:
        return [cost_of(*pair) for pair in zip(request_all(processes, 'cost'), traffic(), strict=True)]

    bench.pause(settle_sec)
    before, start = costs(), time.monotonic()
    bench.pause(measure_sec)
    connections = [float(each.most_connections) for each in traffic()]
    memory = [reported['memory'] for reported in request_all(processes, 'cost')]
    minutes = (time.monotonic() - start) / 60
    spent = [now.since(then) for now, then in zip(costs(), before, strict=True)]
    leads = request_all(processes, 'leads')
    for case, leader in ((_FOLLOWER, False), (_LEADER, True)):
        who = [number for number, each in enumerate(leads) if each is leader]
        bench.record('calls', case, [spent[number].calls / minutes for number in who])
        bench.record('readings', case, [spent[number].readings / minutes for number in who])
        bench.record('cpu', case, [100 * spent[number].cpu_sec / (60 * minutes) for number in who])
        bench.record('memory', case, [memory[number] for number in who])
        if proxies:
            bench.record('bytes', case, [spent[number].bytes / minutes for number in who])
            bench.record('turns', case, [spent[number].turns / minutes for number in who])
            bench.record('connections', case, [connections[number] for number in who])


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""

    def others() -> None:
        for figure in ('bytes', 'turns', 'connections', 'cpu', 'memory'):
            for case in (_FOLLOWER, _LEADER):
                bench.record_baselines(figure, case)

    with bench.alongside(others), ExitStack() as stack:
        measure(bench, stack)


_SERVED = ('postgresql', 'redis', 'etcd')

SCENARIO = Scenario(
    name='idle',
    title='A cluster in which nothing happens',
    means="""
        The constant load of each worker on the store and on its machine, with or without work. Three nodes with default
        settings, one process each, are left idle.
    """,
    bounds="""
        To be found dead within 15 seconds, a node has to send heartbeats more often: one every five seconds is twelve a
        minute. The leader and the five nodes next in line read a snapshot as often. Connections: one for calls, and one that
        waits for change hints where the store pushes them. On etcd most of the CPU belongs to gRPC: of 69 ms a minute in the
        process of a leader, the threads of gRPC took 29, the wait for hints, which gRPC interrupts five times a second, 9,
        and the calls themselves 28. After each call the four threads of gRPC's pool look for more work about fifteen times, at
        growing intervals from 15 ms to 3 s; no option changes that. Without the wait for hints nine tenths would remain.
        A processor that has been idle may take several times as long for the same: on a virtual machine with two processors,
        each of three nodes on etcd took 0.3 % of a core while other programs kept both busy, and 1.4 to 1.8 % while none did.
    """,
    figures=(
        Figure('calls', Unit.CALLS_A_MINUTE, 'Calls of the backend. The wait for change hints sends nothing and is not counted.'),
        Figure('readings', Unit.CALLS_A_MINUTE, 'Calls that read the assignment: none while it does not change.'),
        Figure('turns', Unit.A_MINUTE, 'Messages to the store that follow an answer: the round trips that a node waits for.'),
        Figure('bytes', Unit.BYTES_A_MINUTE, 'Bytes to the store and back, counted by a proxy.'),
        Figure('connections', Unit.COUNT, 'The most connections that were open at one time.'),
        Figure('cpu', Unit.PERCENT_OF_A_CORE, 'CPU of the whole process.'),
        Figure('memory', Unit.MEGABYTES, 'Resident memory beyond that after all imports.'),
    ),
    play=play,
    needs=Needs.PROCESSES,
    at_once=4,
    targets=(
        Target('idle follower: calls a minute', Pick('calls', case=_FOLLOWER, statistic='most'), at_most=26),
        Target('idle leader: calls a minute', Pick('calls', case=_LEADER, statistic='most'), at_most=26),
        Target('idle: connections of a node', Pick('connections', statistic='most'), at_most=2),
        Target('idle: CPU of a node', Pick('cpu', stores=_SERVED, statistic='most'), at_most=0.1),
        Target('idle: memory above the imports', Pick('memory', statistic='most'), at_most=10),
    ),
)
