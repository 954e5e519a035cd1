"""Two processes that share a pool of up to a million tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.processes.child import ChildProcess, child_processes, request_all
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO', 'case_of']

_FIRST, _SECOND = 'the first node', 'the second node'
_JOIN_SEC = 240.0


def case_of(tokens: int, who: str = '') -> str:
    """Return the case of a number of tokens, of one node or of both."""
    return f'{tokens:,} tokens' + (f', {who}' if who else '')


def share(bench: Bench, nodes: Sequence[ChildProcess], shares: Sequence[int]) -> list[dict[str, Any]]:
    """Wait until the nodes have these shares, and return their states."""
    start = time.monotonic()
    states: list[dict[str, Any]] = request_all(nodes, 'state')
    while [state['share'] for state in states] != shares:
        bench.check()
        if time.monotonic() > start + _JOIN_SEC:
            raise TimeoutError(f'{states} after {_JOIN_SEC:.0f} s')
        time.sleep(0.05)
        states = request_all(nodes, 'state')
    return states


def measure(bench: Bench, tokens: int) -> None:
    """Let two nodes enter, one after the other, and record their memory and time."""
    namespace, used = bench.store.namespace(), bench.store.cpu_seconds
    place = {'url': bench.store.url, 'namespace': namespace, 'tokens': tokens}
    with child_processes('sharer', [{**place, 'node': f'node-{number}'} for number in (1, 2)]) as nodes:
        start = time.monotonic()
        nodes[0].request('enter')
        share(bench, nodes[:1], [tokens])
        bench.record('first', case_of(tokens), [time.monotonic() - start], at=tokens)
        before, store = request_all(nodes, 'state'), used() if used else 0.0
        start = time.monotonic()
        nodes[1].request('enter')
        after = share(bench, nodes, [tokens - tokens // 2, tokens // 2])
        bench.record('join', case_of(tokens), [time.monotonic() - start], at=tokens)
        if used:
            bench.record('store cpu', case_of(tokens), [used() - store], at=tokens)
        for who, then, now in zip((_FIRST, _SECOND), before, after, strict=True):
            bench.record('cpu', case_of(tokens, who), [now['cpu'] - then['cpu']], at=tokens)
            bench.record('peak', case_of(tokens, who), [now['peak']], at=tokens)
            bench.record('imported', case_of(tokens, who), [now['imported']], at=tokens)


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for tokens in (10_000, 100_000) if bench.quick else (10_000, 100_000, 1_000_000):
        measure(bench, tokens)


_MILLION = case_of(1_000_000)

SCENARIO = Scenario(
    name='pool',
    title='A pool of a million tokens',
    means="""
        What a large pool costs a worker in memory, and how long a second worker waits for its half. Two workers, one process
        each, with default settings and no tasks.
    """,
    bounds="""
        Memory: the imports, 16 bytes per token for the assignment, and 8 for the answers of can_claim_task, which a version that
        changes them takes twice for a moment. A join: half a second in which the leader waits for further nodes, two commits
        that name each token that moves, and three readings of the assignment. On PostgreSQL and SQLite a commit writes a row for
        each of half a million tokens, so that SQL can show them. A busy machine has the CPU to wait for too, so the CPU is
        given beside the time.
    """,
    figures=(
        Figure('join', Unit.SECONDS, 'From the start of the second node until both own their half.', axis='tokens'),
        Figure('first', Unit.SECONDS, 'From the start of the first node until it owns all tokens.', axis='tokens'),
        Figure('cpu', Unit.SECONDS, 'CPU of the process while the second node joins.', axis='tokens'),
        Figure('store cpu', Unit.SECONDS, 'CPU of the processes of the store while the second node joins.', axis='tokens'),
        Figure(
            'peak', Unit.MEGABYTES, 'The most resident memory of the whole process, until both own their half.', axis='tokens'
        ),
        Figure(
            'imported', Unit.MEGABYTES, 'The most resident memory before the node is started, with all imports.', axis='tokens'
        ),
    ),
    play=play,
    needs=Needs.PROCESSES,
    targets=(
        Target(
            "a million tokens: a worker's memory at its peak", Pick('peak', case=f'{_MILLION}*', statistic='most'), at_most=150
        ),
        Target('a million tokens: a second node joins', Pick('join', case=_MILLION, statistic='most'), at_most=8),
    ),
)
