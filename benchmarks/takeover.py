"""How long tokens are without an owner, and whether one ever has two: joins, leaves and kills of real processes.

    python -m benchmarks.takeover
    python -m benchmarks.takeover --peer-python /path/to/venv/bin/python
    python -m benchmarks.takeover --backend sqlite:////tmp/takeover.db --fast

Three workers with default settings and ``wait_on_enter=5``. A fourth joins and leaves, another joins and is killed, another joins
and the leader is killed; that is one round. Each worker asks ``can_claim_task`` for a thousand tasks of different tokens, over
and over, and what it hears is all that counts.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

from benchmarks.compare import machine, markdown, ratio
from benchmarks.rivals.peer import admit
from benchmarks.takeover_cluster import Cluster, Outcome, median

from jobsync.testing.servers import PostgresServer

_NODES = 3
_ROUND = ('join', 'leave', 'join', 'kill follower', 'join', 'kill leader')


def play(who: str, cluster: Cluster, rounds: int) -> dict[str, list[Outcome]]:
    """What each kind of event led to."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    cluster.form(_NODES)
    events = {
        'join': cluster.join,
        'leave': cluster.leave,
        'kill follower': cluster.kill_follower,
        'kill leader': cluster.kill_leader,
    }
    for name in _ROUND * rounds:
        outcome = events[name]()
        outcomes[name].append(outcome)
        settled, unowned = outcome.settled_sec, outcome.unowned_sec
        told = f'{who}: {name}: settled after {settled:.2f} s, unowned up to {unowned:.2f} s, {outcome.doubles} owned by two'
        print(told, file=sys.stderr, flush=True)
    return outcomes


def cells(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return ['', '', '', '']
    return [f'{outcome.settled_sec:.2f}', f'{outcome.unowned_sec:.2f}', str(outcome.doubles), f'{outcome.doubled_sec:.2f}']


def table(ours: Mapping[str, Sequence[Outcome]], peers: Mapping[str, Sequence[Outcome]]) -> str:
    """A row for each kind of event."""
    rows = []
    for name, outcomes in ours.items():
        mine, theirs = median(outcomes), median(peers[name]) if name in peers else None
        ratios = (
            [ratio(theirs.settled_sec, mine.settled_sec), ratio(theirs.unowned_sec, mine.unowned_sec)] if theirs else ['', '']
        )
        rows.append([name, *ratios, *cells(mine), *cells(theirs)])
    columns = ['event', 'settled: peer/ours', 'unowned: peer/ours']
    columns += [f'{who}{what}' for who in ('', 'peer: ') for what in ('settled s', 'unowned s', 'owned by two', 'for s')]
    return markdown(columns, rows)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--backend', help='a URL; without it, a PostgreSQL server is started')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--fast', action='store_true', help='intervals of a second and a heartbeat timeout of three')
    parser.add_argument('--peer-python', help="the python of the peer's environment")
    parser.add_argument('--peer-rounds', type=int, default=1)
    options = parser.parse_args(arguments)
    fast = ['fast'] if options.fast else []
    peers: Mapping[str, Sequence[Outcome]] = {}
    with ExitStack() as stack:
        url, port = options.backend, ''
        if url is None or options.peer_python:
            server = stack.enter_context(closing(PostgresServer()))
            url, port = url or server.url(), admit(server, 'peer')
        worker = ('-m', 'benchmarks.takeover_worker')
        with Cluster(sys.executable, *worker, 'ours', url, options=fast) as cluster:
            ours = play('ours', cluster, options.rounds)
        if options.peer_python:
            with Cluster(options.peer_python, *worker, 'peer', port, options=fast) as cluster:
                peers = play('peer', cluster, options.peer_rounds)
    print(machine(), table(ours, peers), sep='\n\n')


if __name__ == '__main__':
    main(sys.argv[1:])
