"""What a cluster costs in which nothing happens: three nodes with default settings, each a process, and beside them the peer's.

    python -m benchmarks.idle
    python -m benchmarks.idle --peer-python /path/to/venv/bin/python
    python -m benchmarks.idle --backend sqlite:////tmp/idle.db

Without ``--backend`` a PostgreSQL server is started, whose log tells what each node sends and whose statistics tell what it
holds. Takes a minute and a half, and the peer's nodes half a minute more to enter. Figures of followers are those of the worse.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import attrs
from benchmarks.compare import Other, machine, markdown, ratio
from benchmarks.rivals.peer import admit

from jobsync.testing.servers import PostgresServer

_NODES = 3
_WAIT_ON_ENTER = '5'
_LOOK_SEC = 10.0
_SENT = re.compile(r'^(\w+) LOG:  (?:execute [^:]*|statement): (.*)', re.MULTILINE)


@attrs.frozen
class Cost:
    """One node's, over the time of the measurement; a minute's where it is a rate."""

    leads: bool
    cpu_percent: float
    mb: float
    calls: float | None = None
    """Of the backend, but ``wait``, which sends nothing."""
    readings: float | None = None
    """Of token rows."""
    sent: float | None = None
    """Messages to the server, each of which waits for an answer."""
    statements: float | None = None
    connections: float | None = None


def worst(costs: Sequence[Cost], *, leads: bool) -> Cost | None:
    """The highest of each figure."""
    rows = [attrs.astuple(cost) for cost in costs if cost.leads is leads]
    return Cost(*(max(column, key=lambda figure: figure or 0) for column in zip(*rows, strict=True))) if rows else None


class Watch:
    """What a server knows of its clients, told apart by the roles they log in with."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._held: Counter[str] = Counter()
        server.psql("ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_line_prefix = '%u '")
        server.psql('SELECT pg_reload_conf()')

    def look(self) -> None:
        """Count connections; the highest number is kept."""
        counted = "SELECT usename, count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY usename"
        for line in self._server.psql(counted):
            role, held = line.split('|')
            self._held[role] = max(self._held[role], int(held))

    def figures(self) -> dict[str, Counter[str]]:
        """By role, what was sent since the server started, and the connections seen."""
        sent: Counter[str] = Counter()
        statements: Counter[str] = Counter()
        for role, text in _SENT.findall((self._server.folder / 'log').read_text(errors='replace')):
            sent[role] += 1
            statements[role] += text.count('; ') + 1
        return {'sent': sent, 'statements': statements, 'connections': self._held}


def measure(nodes: Mapping[str, Other], watch: Watch | None, seconds: float) -> dict[str, Cost]:
    """What each node costs while nothing happens, by role."""

    def readings() -> dict[str, dict[str, float]]:
        figures = watch.figures() if watch else {}
        return {
            role: {what: node.run(what) for what in (('cpu', 'calls', 'readings') if role.startswith('ours') else ('cpu',))}
            | {what: figures[what][role] for what in ('sent', 'statements') if watch}
            for role, node in nodes.items()
        }

    before, start = readings(), time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        say(f'{elapsed:.0f} s of {seconds:.0f}')
        time.sleep(min(_LOOK_SEC, seconds - elapsed))
        if watch:
            watch.look()
    after, elapsed = readings(), time.monotonic() - start
    costs = {}
    for role, node in nodes.items():
        rates = {what: 60 * (after[role][what] - number) / elapsed for what, number in before[role].items()}
        costs[role] = Cost(
            leads=bool(node.run('leads')),
            cpu_percent=100 * rates.pop('cpu') / 60,
            mb=node.run('mb'),
            connections=watch.figures()['connections'][role] if watch else None,
            **rates,
        )
    return costs


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def enter(stack: ExitStack, start: Mapping[str, Sequence[str]]) -> dict[str, Other]:
    """Start nodes and wait until each owns tokens: the first by itself, for the peer's do not stand a common start."""
    roles = list(start)

    def other(role: str) -> Other:
        return Other(start[role][0], 'benchmarks.idle_node', *start[role][1:], _WAIT_ON_ENTER)

    nodes = {roles[0]: stack.enter_context(other(roles[0]))}
    with ThreadPoolExecutor() as pool:
        nodes |= {role: stack.enter_context(node) for role, node in zip(roles[1:], pool.map(other, roles[1:]), strict=True)}
    while not all(node.run('tokens') for node in nodes.values()):
        time.sleep(0.5)
    say(f'{", ".join(nodes)} have entered')
    return nodes


def cell(figure: float | None, digits: int = 0) -> str:
    return '' if figure is None else f'{figure:.{digits}f}'


def table(costs: Mapping[str, Cost]) -> str:
    """The two kinds of node, ours and the peer's."""
    rows = []
    for what, leads in (('leader', True), ('follower', False)):
        ours, peer = (
            worst([cost for role, cost in costs.items() if role.startswith(who)], leads=leads) for who in ('ours', 'peer')
        )
        assert ours is not None
        cells = [what, ratio(peer.sent if peer else None, ours.sent), cell(ours.calls, 1), cell(ours.readings, 1)]
        cells.append(cell(ours.sent and ours.calls and ours.sent / ours.calls, 1))
        for name, digits in (('sent', 0), ('statements', 0), ('connections', 0), ('cpu_percent', 2), ('mb', 1)):
            cells += [cell(getattr(ours, name), digits), cell(getattr(peer, name, None), digits)]
        rows.append(cells)
    columns = ['a minute', 'sent: peer/ours', 'calls', 'of them readings', 'sent/call']
    columns += [f'{what}{who}' for what in ('sent', 'statements', 'connections', 'CPU %', 'MB') for who in ('', ', peer')]
    return markdown(columns, rows)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--backend', help='a URL; without it, a PostgreSQL server is started')
    parser.add_argument('--seconds', type=float, default=60, help='how long is measured')
    parser.add_argument('--settle', type=float, default=15, help='seconds between the last entry and the measurement')
    parser.add_argument('--peer-python', help="the python of the peer's environment; not with --backend")
    options = parser.parse_args(arguments)
    if options.backend and options.peer_python:
        parser.error('--peer-python needs the server that is started without --backend')
    ours, peers = ([f'{who}{number}' for number in range(_NODES)] for who in ('ours', 'peer'))
    with ExitStack() as stack:
        url, watch = options.backend, None
        if url is None:
            server = stack.enter_context(closing(PostgresServer()))
            port = admit(server, *ours, *peers)
            url, watch = f'postgresql://{{role}}:{{role}}@127.0.0.1:{port}/postgres', Watch(server)
        nodes = enter(stack, {role: (sys.executable, 'ours', url.replace('{role}', role), role) for role in ours})
        if options.peer_python:
            nodes |= enter(stack, {role: (options.peer_python, 'peer', port, role) for role in peers})
        time.sleep(options.settle)
        costs = measure(nodes, watch, options.seconds)
    print(machine(), table(costs), sep='\n\n')


if __name__ == '__main__':
    main(sys.argv[1:])
