"""What a cluster costs in which nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.bench.bench import Bench
from jobsync.bench.crew import Member, all_at_once, crew
from jobsync.bench.figures import Figure, Unit
from jobsync.bench.relay import Relay, address_of
from jobsync.bench.scenario import Needs, Scenario
from jobsync.bench.targets import Pick, Target
from jobsync.core.model import Settings
from jobsync.errors import JobsyncError

__all__ = ['SCENARIO']

_NODES = 3
_FOLLOWER, _LEADER = 'follower', 'leader'


def relays(bench: Bench, stack: ExitStack) -> Sequence[Relay]:
    """One for each node, if the store is one that can be reached through them."""
    url = bench.store.url
    if address_of(url) is None:
        return []
    made = [stack.enter_context(Relay(url)) for _ in range(_NODES)]
    try:
        with closing(plugins.connect(made[0].url, BackendOptions(bench.store.namespace()))) as backend:
            backend.open(Settings(1, 'xxh3', 1), create=True)
    except JobsyncError as error:
        bench.say(f'bytes are not counted: the store cannot be reached through a relay ({error})')
        return []
    return made


@contextmanager
def nodes(bench: Bench, found: Sequence[Relay]) -> Iterator[list[Member]]:
    """Nodes with default settings, all of them entered."""
    namespace = bench.store.namespace()
    urls = [relay.url for relay in found] or [bench.store.url] * _NODES
    orders = ({'node': f'node-{number}', 'url': url, 'namespace': namespace, 'nodes': _NODES} for number, url in enumerate(urls))
    with crew('idler', orders) as members:
        yield members


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    settle_sec, measure_sec = (4.0, 20.0) if bench.quick else (10.0, 60.0)
    with ExitStack() as stack:
        found = relays(bench, stack)
        members = stack.enter_context(nodes(bench, found))
        bench.pause(settle_sec)
        before, passed_before, start = all_at_once(members, 'cost'), [relay.passed() for relay in found], time.monotonic()
        bench.pause(measure_sec)
        after, passed_after = all_at_once(members, 'cost'), [relay.passed() for relay in found]
        minutes = (time.monotonic() - start) / 60
        roles = [_LEADER if leads else _FOLLOWER for leads in all_at_once(members, 'leads')]
    for case in (_FOLLOWER, _LEADER):
        who = [number for number, role in enumerate(roles) if role == case]

        def rates(what: str, who: list[int] = who) -> list[float]:
            return [(after[number][what] - before[number][what]) / minutes for number in who]

        bench.record('calls', case, rates('calls'))
        bench.record('readings', case, rates('readings'))
        bench.record('cpu', case, [100 * seconds / 60 for seconds in rates('cpu')])
        bench.record('memory', case, [after[number]['memory'] for number in who])
        if found:
            bytes_of = {number: passed_after[number].sent + passed_after[number].received for number in who}
            bytes_before = {number: passed_before[number].sent + passed_before[number].received for number in who}
            bench.record('bytes', case, [(bytes_of[number] - bytes_before[number]) / minutes for number in who])
            bench.record('turns', case, [(passed_after[each].turns - passed_before[each].turns) / minutes for each in who])
            bench.record('connections', case, [float(passed_after[number].most_connections) for number in who])
        for figure in ('bytes', 'turns', 'connections', 'cpu', 'memory'):
            bench.record_beside(figure, case)


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
        for news where the store pushes.
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
        Target('idle follower: calls a minute', Pick('calls', case=_FOLLOWER, statistic='most'), at_most=13),
        Target('idle leader: calls a minute', Pick('calls', case=_LEADER, statistic='most'), at_most=26),
        Target('idle: connections of a node', Pick('connections', statistic='most'), at_most=2),
        Target('idle: CPU of a node', Pick('cpu', stores=_SERVED, statistic='most'), at_most=0.1),
        Target('idle: memory above the imports', Pick('memory', statistic='most'), at_most=10),
    ),
)
