"""What the leader's commit of a join and bulk writes cost on PostgreSQL, beside the peer's and beside bare statements.

    python -m benchmarks.store
    python -m benchmarks.store --peer-python /path/to/venv/bin/python

One server is started for all. A join, from ten nodes to eleven, is all that the leader does: two looks at the cluster, with a
reading, a decision and a commit each. The peer's is one ``distribute`` for the same change. Runs are made in turns; medians are
reported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import psycopg
from benchmarks.compare import Other, in_turns, machine, markdown, ratio
from benchmarks.rivals.peer import admit, url_of
from benchmarks.store_join import Leader
from benchmarks.store_trails import bare, trails

from jobsync.testing.servers import PostgresServer

_NODES = 10
_ROLE = 'peer'
_TRAILS = {
    'locks': ('register_task_locks_bulk', 'register_locks_bulk', 'locks'),
    'claims': ('set_claim, a list', 'set_claim, a list', 'claims'),
    'append_claims': ('backend.append_claims', '', 'claims'),
    'audits': ('write_audit', 'write_audit', 'claims'),
    'append_audits': ('backend.append_audits', '', 'claims'),
    'add_task': ('add_task, one by one', 'add_task, one by one', ''),
}
"""What each run calls, ours and the peer's, and the bare statement beside it."""


class Written:
    """Counts the rows that were written to a table, by the transaction each carries: exact, and nothing to wait for."""

    def __init__(self, url: str, table: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._table = table
        self._since = self._number('SELECT pg_current_xact_id()::text::bigint')

    def _number(self, query: str, *parameters: object) -> int:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None
        number: int = row[0]
        return number

    def count(self) -> int:
        """Rows written since the last call, without those that are gone again."""
        count = self._number(f'SELECT count(*) FROM {self._table} WHERE xmin::text::bigint > %s', self._since)  # noqa: S608
        self._since = self._number('SELECT pg_current_xact_id()::text::bigint')
        return count

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()


def cell(seconds: float | None) -> str:
    return '' if seconds is None else f'{1e3 * seconds:.4g}'


def joins(server: PostgresServer, python: str | None, tokens: int, rounds: int) -> list[str]:
    """The row of one size."""
    rows: dict[str, int] = {}
    with ExitStack() as stack:
        namespace = f'join{tokens}_'
        leader = stack.enter_context(closing(Leader(server.url(), namespace, tokens, _NODES)))
        written = stack.enter_context(closing(Written(server.url(), namespace + 'token')))

        def join() -> float:
            counts: list[int] = []
            written.count()
            took = leader.join(lambda: counts.append(written.count()))
            rows['ours'] = sum(counts)
            leader.leave()
            return took

        def nothing() -> float:
            written.count()
            took = leader.nothing()
            rows['ours, nothing'] = written.count()
            return took

        runs: dict[str, Callable[[], float]] = {'ours': join, 'ours, nothing': nothing}
        if python:
            arguments = ('joining', str(server.port), _ROLE, str(tokens), str(_NODES))
            peer = stack.enter_context(Other(python, 'benchmarks.rivals.peer_store', *arguments))
            peers = stack.enter_context(closing(Written(url_of(server.port, _ROLE), 'sync_token')))

            def peer_run(name: str, what: str) -> float:
                peers.count()
                took = peer.run(what)
                rows[name] = peers.count()
                return took

            def peer_join() -> float:
                took = peer_run('peer', 'join')
                peer.run('leave')
                return took

            runs |= {'peer': peer_join, 'peer, nothing': partial(peer_run, 'peer, nothing', 'nothing')}
        took = in_turns(runs, rounds)
    cells = [f'{tokens:,}', ratio(took.get('peer'), took['ours']), ratio(took.get('peer, nothing'), took['ours, nothing'])]
    for kind in ('ours', 'peer', 'ours, nothing', 'peer, nothing'):
        cells += [cell(took.get(kind)), f'{rows[kind]:,}' if kind in rows else '']
    return cells


def bulk(server: PostgresServer, python: str | None, number: int, rounds: int) -> Iterator[list[str]]:
    """The rows of the bulk writes, and of a round trip and a commit."""
    with ExitStack() as stack:
        ours = stack.enter_context(trails(server.url(), 'bulk_', number))
        floor = stack.enter_context(bare(server.url(), 'bulk_', number))
        runs = {f'ours {name}': run for name, run in ours.items()} | {f'bare {name}': run for name, run in floor.items()}
        if python:
            peer = stack.enter_context(
                Other(python, 'benchmarks.rivals.peer_store', 'trails', str(server.port), _ROLE, '10000', str(number))
            )
            runs |= {f'peer {name}': partial(peer.run, name) for name, (_, call, _) in _TRAILS.items() if call}
        took = in_turns(runs, rounds)
        quick = in_turns({name: floor[name] for name in ('SELECT 1', 'commit')}, 200)
    for name, (call, peers_call, beside) in _TRAILS.items():
        mine, theirs, floors = took[f'ours {name}'], took.get(f'peer {name}'), took.get(f'bare {beside}')
        yield [call, peers_call, ratio(theirs, mine), ratio(mine, floors), *map(cell, (mine, theirs, floors))]
    for name, what in (('SELECT 1', 'a round trip, SELECT 1'), ('commit', 'one row inserted, on disk')):
        yield [what, '', '', '', '', '', cell(quick[name])]


@contextmanager
def started(python: str | None) -> Iterator[PostgresServer]:
    with closing(PostgresServer()) as server:
        if python:
            admit(server, _ROLE)
        yield server


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tokens', type=int, nargs='*', default=[10_000, 100_000, 1_000_000])
    parser.add_argument('--tasks', type=int, default=10_000, help='in each bulk write; 0: none')
    parser.add_argument('--rounds', type=int, default=5, help='of joins; fewer from 1 M tokens on, and of bulk writes')
    parser.add_argument('--peer-python', help="the python of the peer's environment")
    options = parser.parse_args(arguments)
    python = options.peer_python
    print(machine(), flush=True)
    columns = ['tokens', 'peer/ours', 'nothing: peer/ours']
    columns += [f'{kind}{unit}' for kind in ('ours', 'peer', 'nothing: ours', 'nothing: peer') for unit in (' ms', ', rows')]
    rows = []
    for tokens in options.tokens:
        rounds = options.rounds if tokens < 1_000_000 else min(2, options.rounds)
        print(f'{tokens:,} tokens, {rounds} rounds', file=sys.stderr, flush=True)
        with started(python) as server:
            rows.append(joins(server, python, tokens, rounds))
    if rows:
        print('', markdown(columns, rows), sep='\n', flush=True)
    if options.tasks:
        with started(python) as server:
            made = list(bulk(server, python, options.tasks, min(3, options.rounds)))
        columns = [f'{options.tasks:,} of', "the peer's call", 'peer/ours', 'ours/bare', 'ours ms', 'peer ms', 'bare ms']
        print('', markdown(columns, made), sep='\n')


if __name__ == '__main__':
    main(sys.argv[1:])
