"""From two nodes to five hundred on one store."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from typing import Any

from jobsync import plugins
from jobsync.backend import BackendOptions, LockEdit, LockRequest
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Side, Unit
from jobsync_bench.processes.child import ChildProcess, child_processes, request_all
from jobsync_bench.proxy import CountingProxy, address_of
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.scenarios.events import LIMIT
from jobsync_bench.targets import Pick, Target

__all__ = ['FIGURES', 'NETWORKED', 'PROCESSES', 'SCENARIO', 'case_of', 'grow']

PROCESSES = 12
"""How many processes share the nodes."""
NETWORKED = ('postgresql', 'redis', 'etcd')
_TOKENS = 10_000
_DETAILED = 500
"""From so many nodes on, what a growth costs is recorded call by call."""
_INTERVAL_SEC = 5.0
"""The interval of heartbeats. All nodes send them at about the same time, so a part of an interval has all of them or none."""


def case_of(nodes: int) -> str:
    """Return the case of a number of nodes."""
    return f'{nodes} nodes'


def settle(hosts: Sequence[ChildProcess], nodes: int, limit_sec: float = 180.0) -> None:
    """Wait until every node has its share. Raises ``TimeoutError`` if that takes longer."""
    start = time.monotonic()
    while (settled := sum(request_all(hosts, 'settled'))) < nodes:
        if time.monotonic() > start + limit_sec:
            raise TimeoutError(f'{settled} of {nodes} nodes have their share after {limit_sec:.0f} s')
        time.sleep(0.1)


def enter(bench: Bench, hosts: Sequence[ChildProcess], here: int, nodes: int, limit_sec: float = 180.0) -> None:
    """Let a cluster grow at once, and record what that takes until every node has its share.

    The limit is the CPU of all nodes and of the store, spread over the processors of this machine. The first node, which leads,
    has a process of its own, as real nodes have: among a hundred others in one interpreter its calls would wait for theirs.
    """
    case, start = f'{here} to {nodes} nodes', time.monotonic()
    request_all(hosts, 'cost')
    before = cpu_so_far(bench, hosts)
    first, *others = hosts
    if here == 0:
        first.request('enter', 0, 1)
        settle(hosts, 1)
        here = 1
    for number, host in enumerate(others):
        host.send('enter', *(here + (nodes - here) * part // len(others) for part in (number, number + 1)))
    for host in others:
        host.receive()
    failure: TimeoutError | None = None
    try:
        settle(hosts, nodes, limit_sec)
    except TimeoutError as error:  # what the machine does not carry needs a profile
        failure = error
    took = time.monotonic() - start
    used = cpu_since(before, cpu_so_far(bench, hosts))
    costs = request_all(hosts, 'cost')
    leader = sum((Counter(cost['leader']) for cost in costs), Counter[str]())
    for who, seconds in used.items():
        bench.record('growth, CPU', f'{case}: {who}', [seconds], at=nodes)
    bench.record('growth, plans', case, [float(leader['commit'])], at=nodes)
    if nodes >= _DETAILED and (failure is not None or nodes % _DETAILED == 0):
        for call, times, cpu in calls_by_kind(costs, used['nodes']):
            if times is not None:
                bench.record('growth, calls', f'{case}: {call}', [times])
            bench.record('growth, CPU of calls', f'{case}: {call}', [cpu])
    if failure is not None:
        raise failure
    bench.record('settled', case, [took], at=nodes)
    bench.record('settled', case, [(used['nodes'] + used['store']) / (os.cpu_count() or 1)], who=LIMIT, side=Side.FLOOR, at=nodes)


def calls_by_kind(costs: Sequence[Mapping[str, Any]], used: float) -> Iterator[tuple[str, float | None, float]]:
    """Yield each kind of call, how often all nodes made it, and its CPU seconds; and what the nodes ``used`` besides."""
    leader, calls, cpu = (sum((Counter(cost[of]) for cost in costs), Counter[str]()) for of in ('leader', 'follower', 'cpu'))
    for call, times in sorted((calls + leader).items()):
        yield call, float(times), cpu[call] / 1e9
    yield 'the nodes besides', None, used - cpu.total() / 1e9


def cpu_so_far(bench: Bench, hosts: Sequence[ChildProcess]) -> dict[str, float]:
    """Return the CPU seconds of all nodes, of the leader among them (with its name), and of the store so far."""
    store = bench.store.cpu_seconds
    leaders: list[dict[str, float]] = request_all(hosts, 'leader_cpu')
    return {
        'nodes': sum(request_all(hosts, 'cpu')),
        **{f'leader {name}': seconds for each in leaders for name, seconds in each.items()},
        'store': store() if store else 0.0,
    }


def cpu_since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what was used between two readings: of the leader only if one node has led at both."""
    return {who.partition(' ')[0]: seconds - before[who] for who, seconds in after.items() if who in before}


def measure(bench: Bench, hosts: Sequence[ChildProcess], nodes: int, seconds: float) -> None:
    """Record the cost of the nodes while nothing happens."""
    used = bench.store.cpu_seconds
    request_all(hosts, 'cost')
    before, start = used() if used else 0.0, time.monotonic()
    bench.pause(seconds)
    took = time.monotonic() - start
    busy = used() - before if used else None
    costs: list[dict[str, Any]] = request_all(hosts, 'cost')
    if lost := sum(cost['lost'] for cost in costs):
        raise RuntimeError(f'{lost} of {nodes} nodes have lost their place meanwhile')
    calls = {who: sum((Counter(cost[who]) for cost in costs), Counter()) for who in ('follower', 'leader')}
    case = case_of(nodes)
    bench.record('all calls', case, [(calls['follower'].total() + calls['leader'].total()) / took], at=nodes)
    bench.record('calls of a follower', case, [60 * calls['follower'].total() / took / (nodes - 1)], at=nodes)
    bench.record('calls of the leader', case, [60 * calls['leader'].total() / took], at=nodes)
    bench.record('heartbeat', case, [took for cost in costs for took in cost['heartbeats']], at=nodes)
    if busy is not None:
        bench.record('store', case, [100 * busy / took], at=nodes)


def one_more(bench: Bench, hosts: Sequence[ChildProcess], namespace: str, nodes: int) -> None:
    """Let one node join, and record the bytes that each of the others reads then."""
    with ExitStack() as stack:
        proxy = stack.enter_context(CountingProxy(bench.store.url))
        backend = stack.enter_context(closing(plugins.connect(proxy.url, BackendOptions(namespace))))
        version = backend.read_assignment().version
        hosts[-1].request('enter', nodes, nodes + 1)
        settle(hosts, nodes + 1)
        before = proxy.traffic()
        backend.read_assignment(version)
        after = proxy.traffic()
    moved = after.sent + after.received - before.sent - before.received
    bench.record('reading', case_of(nodes), [float(moved)], at=nodes)


def move_tasks(
    bench: Bench, hosts: Sequence[ChildProcess], namespace: str, nodes: int, moves: int, every_sec: float = 1.0
) -> None:
    """Move a task from one node to another now and then, and record how quickly, and at which cost, heartbeats go on."""
    case = case_of(nodes)
    with closing(plugins.connect(bench.store.url, BackendOptions(namespace))) as backend:
        request_all(hosts, 'cost')
        before, start = cpu_so_far(bench, hosts), time.monotonic()
        for move in range(moves):
            owner = f'node-{move * (nodes - 1) // moves:04}'
            backend.edit_locks(LockEdit(put=(LockRequest('moved', (owner,), 'bench'),)))
            time.sleep(max(0.0, start + (move + 1) * every_sec - time.monotonic()))
        took = time.monotonic() - start
        used = cpu_since(before, cpu_so_far(bench, hosts))
        costs = request_all(hosts, 'cost')
    bench.record('versions', case, [sum(cost['leader'].get('commit', 0) for cost in costs) / took], at=nodes)
    bench.record('heartbeat, changes', case, [took for cost in costs for took in cost['heartbeats']], at=nodes)
    if 'leader' in used:
        bench.record('leader, changes', case, [100 * used['leader'] / took], at=nodes)
    bench.record('nodes, changes', case, [100 * used['nodes'] / took], at=nodes)
    if bench.store.cpu_seconds is not None:
        bench.record('store, changes', case, [100 * used['store'] / took], at=nodes)
    if nodes >= _DETAILED:
        for call, times, cpu in calls_by_kind(costs, used['nodes']):
            if times is not None:
                bench.record('calls, changes', f'{case}: {call}', [times / took])
            bench.record('CPU of calls, changes', f'{case}: {call}', [100 * cpu / took])


def grow(
    bench: Bench,
    sizes: Sequence[int],
    processes: int,
    intervals: int,
    moves: int,
    every_sec: float = 1.0,
    at_once: int = 500,
    pause_sec: float = 0.0,
    limit_sec: float = 180.0,
) -> None:
    """Let a cluster grow to each of these sizes, by so many nodes at once. Measure it, also while a task moves some times.

    The more processes share the nodes, the less do threads of one interpreter wait for each other: real nodes have one each.
    """
    namespace = bench.store.namespace()
    orders = [{'url': bench.store.url, 'namespace': namespace, 'tokens': _TOKENS}] * processes
    with child_processes('host', orders) as hosts:
        here = 0
        for nodes in sizes:
            # Few nodes are idle, so several stores are measured at once; hundreds are as busy as the machine.
            with bench.alone() if nodes >= _DETAILED else nullcontext():
                while here < nodes:
                    first, here = here, min(here + at_once, nodes)
                    with bench.alone():
                        enter(bench, hosts, first, here, limit_sec)
                    bench.pause(pause_sec)
                bench.pause((1 if bench.quick else 2) * _INTERVAL_SEC)
                measure(bench, hosts, nodes, intervals * _INTERVAL_SEC)
                if nodes > 2:
                    move_tasks(bench, hosts, namespace, nodes, moves, every_sec)
                if address_of(bench.store.url) is not None:
                    one_more(bench, hosts, namespace, here)
                    here += 1


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    if bench.quick:
        grow(bench, (2, 40), processes=2, intervals=1, moves=3)
    else:
        grow(bench, (2, 50, 500), PROCESSES, intervals=3, moves=15)


_MANY, _TWO = case_of(500), case_of(2)

FIGURES = (
    Figure('all calls', Unit.CALLS_A_SECOND, 'Calls of the store, of all nodes together.', axis='nodes'),
    Figure('calls of a follower', Unit.CALLS_A_MINUTE, 'Calls of one follower.', axis='nodes'),
    Figure('calls of the leader', Unit.CALLS_A_MINUTE, 'Calls of the leader.', axis='nodes'),
    Figure('heartbeat', Unit.SECONDS, 'A heartbeat, from the call to its answer.', tail=True, axis='nodes'),
    Figure('store', Unit.PERCENT_OF_A_CORE, 'CPU of all processes of the store.', axis='nodes'),
    Figure('reading', Unit.BYTES, 'Bytes to the store and back when a node reads the changes after a join.', axis='nodes'),
    Figure('settled', Unit.SECONDS, 'From the beginning of a growth until every node, old and new, has its whole share.',
           axis='nodes'),
    Figure('growth, CPU', Unit.SECONDS, 'CPU meanwhile: of all nodes, of the leader among them, and of the store.'),
    Figure('growth, calls', Unit.COUNT, 'Calls of all nodes meanwhile.'),
    Figure('growth, CPU of calls', Unit.SECONDS, 'CPU of the nodes in these calls, without that of the store, and besides.'),
    Figure('growth, plans', Unit.COUNT, 'Plans that the leader commits meanwhile.', axis='nodes'),
    Figure('versions', Unit.PER_SECOND, 'Versions that the leader commits while tasks are moved: two for each.', axis='nodes'),
    Figure('heartbeat, changes', Unit.SECONDS, 'A heartbeat meanwhile, as above.', tail=True, axis='nodes'),
    Figure('leader, changes', Unit.PERCENT_OF_A_CORE, "CPU of the leader's threads meanwhile.", axis='nodes'),
    Figure('nodes, changes', Unit.PERCENT_OF_A_CORE, 'CPU of all nodes meanwhile.', axis='nodes'),
    Figure('store, changes', Unit.PERCENT_OF_A_CORE, 'CPU of all processes of the store meanwhile.', axis='nodes'),
    Figure('calls, changes', Unit.CALLS_A_SECOND, 'Calls of all nodes meanwhile.'),
    Figure('CPU of calls, changes', Unit.PERCENT_OF_A_CORE, 'CPU of the nodes in these calls, without the store, and besides.'),
)  # fmt: skip

SCENARIO = Scenario(
    name='growth',
    title='From two nodes to five hundred',
    means="""
        How many workers one store can serve, and the load on the store. The nodes are simulated: many of them share a
        process, and each makes the calls of a real node on the real store, with default settings.
    """,
    bounds="""
        One heartbeat of each node in five seconds. Only two other things grow with the number of nodes: the snapshot that the
        leader and the nodes next in line read once per heartbeat, and the tokens that a change of membership moves. The
        store's cost of connections is not simulated: real nodes hold two each. All nodes and the server share the processors of
        one machine, and real nodes have their own: "the limit" of a growth is the CPU of all of them, with every processor busy.
        Up to fifty nodes, which leave the machine idle, the stores are measured at once; five hundred are measured one store
        after the other.
    """,
    figures=FIGURES,
    play=play,
    needs=Needs.NETWORK,
    at_once=3,
    targets=(
        Target(
            '500 nodes: calls of a follower, times those at 2 nodes',
            Pick('calls of a follower', case=_MANY),
            at_most=1.1,
            against=Pick('calls of a follower', case=_TWO),
        ),
        Target(
            '500 nodes: bytes that a follower reads when one joins, times those at 2 nodes',
            Pick('reading', case=_MANY),
            at_most=1.0,
            against=Pick('reading', case=_TWO),
        ),
        Target(
            '500 nodes: heartbeats, the 99th percentile',
            Pick('heartbeat', case=_MANY, stores=NETWORKED, statistic='p99'),
            at_most=0.1,
        ),
        Target(
            '500 nodes, a task moves each second: heartbeats, the 99th percentile',
            Pick('heartbeat, changes', case=_MANY, stores=NETWORKED, statistic='p99'),
            at_most=0.1,
        ),
        Target(
            '500 nodes, a task moves each second: CPU of the leader',
            Pick('leader, changes', case=_MANY, stores=NETWORKED),
            at_most=50,
        ),
        *(
            Target(
                f'from 51 nodes to 500, until all have their shares: {store}',
                Pick('settled', case='51 to 500 nodes', stores=(store,)),
                at_most=most,
            )
            for store, most in (('postgresql', 8), ('redis', 4), ('etcd', 4))
        ),
    ),
)  # fmt: skip
