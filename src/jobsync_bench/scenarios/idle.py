"""What a cluster costs in which nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

import attrs

from jobsync import plugins
from jobsync._core.records import Settings
from jobsync.backend import BackendOptions
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


def relays(bench: Bench, stack: ExitStack) -> Sequence[CountingProxy]:
    """One for each node, if the store is one that can be reached through them."""
    url = bench.store.url
    if address_of(url) is None:
        return []
    made = [stack.enter_context(CountingProxy(url)) for _ in range(_NODES)]
    try:
        with closing(plugins.connect(made[0].url, BackendOptions(bench.store.namespace()))) as backend:
            backend.open(Settings(1, 'xxh3', 1), create=True)
    except JobsyncError as error:
        bench.say(f'bytes are not counted: the store cannot be reached through a relay ({error})')
        return []
    return made


@contextmanager
def nodes(bench: Bench, found: Sequence[CountingProxy]) -> Iterator[list[ChildProcess]]:
    """Nodes with default settings, all of them entered."""
    namespace = bench.store.namespace()
    urls = [relay.url for relay in found] or [bench.store.url] * _NODES
    orders = ({'node': f'node-{number}', 'url': url, 'namespace': namespace, 'nodes': _NODES} for number, url in enumerate(urls))
    with child_processes('idler', orders) as members:
        yield members


@attrs.frozen
class Cost:
    """What a node has cost so far, or in between."""

    calls: float
    readings: float
    cpu_sec: float
    bytes: float
    turns: float

    def since(self, earlier: Cost) -> Cost:
        """What has come to it."""
        return Cost(*(now - then for now, then in zip(attrs.astuple(self), attrs.astuple(earlier), strict=True)))


def cost_of(told: Mapping[str, float], passed: Traffic) -> Cost:
    """What a member tells of itself, and a relay of it."""
    return Cost(told['calls'], told['readings'], told['cpu'], passed.sent + passed.received, passed.turns)


def measure(bench: Bench, stack: ExitStack) -> None:
    """Have a cluster, leave it alone, and note what each node costs."""
    settle_sec, measure_sec = (4.0, 20.0) if bench.quick else (10.0, 60.0)
    found = relays(bench, stack)
    members = stack.enter_context(nodes(bench, found))

    def traffic() -> list[Traffic]:
        return [relay.traffic() for relay in found] or [Traffic()] * len(members)

    def costs() -> list[Cost]:
        return [cost_of(*pair) for pair in zip(request_all(members, 'cost'), traffic(), strict=True)]

    bench.pause(settle_sec)
    before, start = costs(), time.monotonic()
    bench.pause(measure_sec)
    connections = [float(each.most_connections) for each in traffic()]
    memory = [told['memory'] for told in request_all(members, 'cost')]
    minutes = (time.monotonic() - start) / 60
    spent = [now.since(then) for now, then in zip(costs(), before, strict=True)]
    leads = request_all(members, 'leads')
    for case, leader in ((_FOLLOWER, False), (_LEADER, True)):
        who = [number for number, each in enumerate(leads) if each is leader]
        bench.record('calls', case, [spent[number].calls / minutes for number in who])
        bench.record('readings', case, [spent[number].readings / minutes for number in who])
        bench.record('cpu', case, [100 * spent[number].cpu_sec / (60 * minutes) for number in who])
        bench.record('memory', case, [memory[number] for number in who])
        if found:
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
        What the store and the machines bear day and night for each worker, whether there is work or not. Three nodes with default
        settings, a process each, are left alone.
    """,
    bounds="""
        A node that is to be found dead within 15 seconds has to give a sign of life more often than that: one call every five
        seconds is twelve a minute. The leader looks at the others' signs as often. Connections: one for calls, and one that waits
        for news where the store pushes. On etcd most of the CPU is gRPC's: of 69 ms a minute in the process of a leader, its own
        threads took 29, and the wait for news, which gRPC interrupts five times a second, 9; the calls themselves took 28.
    """,
    figures=(
        Figure('calls', Unit.CALLS_A_MINUTE, 'Calls of the backend; waiting for news sends nothing and is not counted.'),
        Figure('readings', Unit.CALLS_A_MINUTE, 'Those of them that read the assignment: none while it stands.'),
        Figure('turns', Unit.A_MINUTE, 'Messages to the store that follow an answer: the round trips a node waits for.'),
        Figure('bytes', Unit.BYTES_A_MINUTE, 'Bytes to the store and back, as a relay between them counts them.'),
        Figure('connections', Unit.COUNT, 'The most connections that were open at one time.'),
        Figure('cpu', Unit.PERCENT_OF_A_CORE, 'CPU of the whole process.'),
        Figure('memory', Unit.MEGABYTES, 'Resident memory beyond what it was when everything had been imported.'),
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
