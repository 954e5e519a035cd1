"""The peer's side of ``claim.py``, for the peer's own environment. Two of its workers enter at once and share the tokens.

Lines of input: a kind of id (int, str, Task) and whether it is owned (1 or 0), over which ``can_claim_task`` is called.
"""

from __future__ import annotations

import sys
from threading import Thread

from benchmarks.libraries.ids import KINDS, ids
from benchmarks.libraries.peer import settings
from benchmarks.libraries.serving import per_call, serve


def main(port: str, role: str, calls: str) -> None:
    from jobsync import CoordinationConfig, Job, Task

    config = CoordinationConfig(**settings(port, role))
    jobs = [Job(name, coordination_config=config, wait_on_enter=5) for name in ('one', 'two')]
    threads = [Thread(target=job.__enter__) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job = jobs[0]
    tasks = {
        f'{kind} {int(owned)}': ids(kind, owned, int(calls), job.can_claim_task, Task)
        for kind in KINDS
        for owned in (True, False)
    }
    serve(f'{len(job.my_tokens)} tokens of {config.total_tokens}', lambda line: per_call(job.can_claim_task, tasks[line]))
    for each in jobs:
        each.__exit__(None, None, None)


if __name__ == '__main__':
    main(*sys.argv[1:])
