"""The peer's side of ``store.py``, for the peer's own environment: a node among nodes that are rows, and bulk writes.

Each line of input is one run: ``join``, ``leave`` or ``nothing`` of a leader; ``locks``, ``claims``, ``audits``, or ``add_task``
(how long adding took for the last audits). Its monitors are told to look once an hour, so that nothing else happens meanwhile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.libraries.peer import settings
from benchmarks.libraries.serving import serve

_RARELY: dict[str, Any] = dict.fromkeys(
    ('heartbeat_interval_sec', 'rebalance_check_interval_sec', 'dead_node_check_interval_sec', 'health_check_interval_sec',
     'token_refresh_initial_interval_sec', 'token_refresh_steady_interval_sec'),
    3600,
)  # fmt: skip

_FIRST_LOOKS_SEC = 3.0
"""The wait for the first pass of all monitors. One that read the rows of new nodes would distribute during a measurement."""


def seconds(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def joining(job: Any, nodes: int) -> dict[str, Callable[[], float]]:
    """Return the runs of a job that leads ``nodes`` nodes."""

    def distribute() -> None:
        job.tokens.distribute(job.locks, job.cluster, 'membership_change')

    def add(*numbers: int) -> None:
        for number in numbers:
            insert = 'INSERT INTO sync_node (name, created_on, last_heartbeat) VALUES (:name, now(), now())'
            job.db.execute(insert, {'name': f'node-{number:04}'})

    def join() -> float:
        add(nodes)
        return seconds(distribute)

    def leave() -> float:
        job.db.execute('DELETE FROM sync_node WHERE name = :name', {'name': f'node-{nodes:04}'})
        return seconds(distribute)

    time.sleep(_FIRST_LOOKS_SEC)
    add(*range(1, nodes))
    distribute()
    return {'join': join, 'leave': leave, 'nothing': lambda: seconds(distribute)}


def trails(job: Any, count: int) -> dict[str, Callable[[], float]]:
    """Return the runs of a job that owns all tokens."""
    round_number, added = 0, 0.0

    def items() -> list[str]:
        nonlocal round_number
        round_number += 1
        return [f'task-{round_number}-{number}' for number in range(count)]

    def locks() -> float:
        took = seconds(job.register_locks_bulk, [(item, 'node%', 'benchmark') for item in items()])
        job.clear_all_locks()
        return took

    def audits() -> float:
        nonlocal added
        tasks = items()
        added = seconds(lambda: [job.add_task(task) for task in tasks])
        return seconds(job.write_audit)

    return {
        'locks': locks,
        'claims': lambda: seconds(job.set_claim, items()),
        'audits': audits,
        'add_task': lambda: added,
    }


def main(what: str, port: str, role: str, tokens: str, number: str) -> None:
    from jobsync import CoordinationConfig, Job

    config = CoordinationConfig(**settings(port, role), **_RARELY, heartbeat_timeout_sec=7200, total_tokens=int(tokens))
    with Job('node-0000', coordination_config=config, wait_on_enter=1) as job:
        runs = {'joining': joining, 'trails': trails}[what](job, int(number))
        serve(what, lambda line: runs[line]())


if __name__ == '__main__':
    main(*sys.argv[1:])
