"""The peer's loop over tasks that do nothing, for the peer's own environment. Each line of input is a verb with its round.

steps    ``can_claim_task``, ``add_task``, and ``write_audit`` at the end: the loop of its guide
fill, recorded    before and after a round: forget earlier ones; how many of its tasks are on record as complete
tokens   how many tokens this node has
"""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg
from benchmarks.libraries.peer import settings, url_of
from benchmarks.libraries.rounds import doing, numbers
from benchmarks.libraries.serving import serve

_RECORDED = 'SELECT count(DISTINCT task_id) FROM sync_audit WHERE task_id::bigint >= %s AND task_id::bigint < %s'


def main(port: str, role: str, node: str) -> None:
    from jobsync import CoordinationConfig, Job, Task

    def steps(tasks: range, done: list[int]) -> None:
        for number in tasks:
            task = Task(number)
            if job.can_claim_task(task):
                job.add_task(task)
                done.append(number)
        job.write_audit()

    def fill() -> float:
        start = time.perf_counter()
        database.execute('TRUNCATE sync_claim, sync_audit')
        return time.perf_counter() - start

    def recorded(tasks: range) -> int:
        row = database.execute(_RECORDED, (tasks.start, tasks.stop)).fetchone()
        assert row is not None
        return int(row[0])

    def run(line: str) -> Any:
        verb, first, count = line.split()
        tasks = numbers(first, count)
        match verb:
            case 'steps':
                return doing(lambda done: steps(tasks, done))
            case 'fill':
                return fill()
            case 'recorded':
                return recorded(tasks)
            case 'tokens':
                return len(job.my_tokens)
        raise ValueError(line)

    config = CoordinationConfig(**settings(port, role))
    with (
        psycopg.connect(url_of(int(port), role), autocommit=True) as database,
        Job(node, coordination_config=config, wait_on_enter=5) as job,
    ):
        serve(node, run)


if __name__ == '__main__':
    main(*sys.argv[1:])
