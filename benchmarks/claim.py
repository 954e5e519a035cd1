"""What ``can_claim_task`` costs, beside the peer's, the bare hash of the same id, and a call of nothing.

    python -m benchmarks.claim
    python -m benchmarks.claim --peer-python /path/to/venv/bin/python

Two workers share the tokens, and one is asked about ids of its own and of the other's. The peer is jobsync 1.3.14 from PyPI, in
a virtual environment of its own, on a PostgreSQL started for it; ours is on the memory store: neither touches its store in the
call. All runs are made in turns; medians are reported.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from threading import Thread
from typing import Any

from benchmarks.claim_ids import KINDS, ids
from benchmarks.compare import Other, in_turns, machine, markdown, per_call, ratio
from benchmarks.rivals.peer import admit

from jobsync import CoordinationConfig, Job, Task
from jobsync.core.hashing import tokenizer
from jobsync.testing.servers import PostgresServer

_TOTAL = 10_000
_CLOCK = getattr(time, 'CLOCK_BOOTTIME', time.CLOCK_MONOTONIC)


def enter(stack: ExitStack, store: str, locks: int = 0, **settings: Any) -> Job:
    """A worker that shares the tokens with another one, once both have entered; with task locks, of other tasks."""
    config = CoordinationConfig(backend=f'memory://claim-{store}', minimum_nodes=2, total_tokens=_TOTAL, **settings)
    wanted = [(f'lock-{number}', 'one') for number in range(locks)]
    provider = (lambda job: job.register_task_locks_bulk(wanted)) if wanted else None
    jobs = [Job(name, coordination_config=config, wait_on_enter=30, lock_provider=provider) for name in ('one', 'two')]
    threads = [Thread(target=job.__enter__) for job in jobs]
    for thread, job in zip(threads, jobs, strict=True):
        stack.push(job)
        thread.start()
    for thread in threads:
        thread.join()
    return jobs[0]


def bare_hash(kind: str) -> Callable[[Any], int]:
    """Id to token and nothing else: str, encode, hash, modulo; in one function call. A ``Task`` has its text at hand."""
    from xxhash import xxh3_64_intdigest as digest

    match kind:
        case 'int':
            return lambda task: digest(str(task).encode()) % _TOTAL
        case 'str':
            return lambda task: digest(task.encode()) % _TOTAL
        case _:
            return lambda task: digest(task.key.encode()) % _TOTAL


def nothing(_: object) -> bool:
    return False


def read_clock(_: object) -> float:
    return time.clock_gettime(_CLOCK)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=99)
    parser.add_argument('--calls', type=int, default=1_000, help='in each run')
    parser.add_argument('--peer-python', help="the python of the peer's environment")
    options = parser.parse_args(arguments)
    assert bare_hash('int')(7) == tokenizer('xxh3', _TOTAL)('7')
    rows = []
    with ExitStack() as stack:
        ours = enter(stack, 'plain')
        locked = enter(stack, 'locked', locks=1_000)
        as_peer = enter(stack, 'peer', hash_function='double_sha256')
        peer = None
        if options.peer_python:
            port = admit(stack.enter_context(closing(PostgresServer())), 'peer')
            peer = stack.enter_context(
                Other(options.peer_python, 'benchmarks.rivals.peer_claim', port, 'peer', str(options.calls))
            )
        for kind in KINDS:
            for owned in (True, False):
                runs: dict[str, Callable[[], float]] = {}
                for name, job in (('ours', ours), ('locked', locked), ('double', as_peer)):
                    chosen = ids(kind, owned, options.calls, job.can_claim_task, Task)
                    runs[name] = partial(per_call, job.can_claim_task, chosen)
                chosen = ids(kind, owned, options.calls, ours.can_claim_task, Task)
                runs['bare'] = partial(per_call, bare_hash(kind), chosen)
                runs['empty'] = partial(per_call, nothing, chosen)
                runs['clock'] = partial(per_call, read_clock, chosen)
                if peer:
                    runs['peer'] = partial(peer.run, f'{kind} {int(owned)}')
                took = in_turns(runs, options.rounds)
                theirs = took.get('peer')
                ratios = [ratio(theirs, took[name]) for name in ('ours', 'locked', 'double')]
                ratios.append(ratio(took['ours'], took['bare']))
                times = (took['ours'], took['locked'], took['double'], theirs, took['bare'], took['empty'], took['clock'])
                rows.append([f'{kind}, {"" if owned else "not "}owned', *ratios, *(f'{1e9 * t:.0f}' if t else '' for t in times)])
    columns = ['id', 'peer/ours', 'peer/locks', "peer/peer's hash", 'ours/bare']
    columns += [f'{name} ns' for name in ('ours', 'locks', "peer's hash", 'peer', 'bare hash', 'empty call', 'clock')]
    print(machine(), markdown(columns, rows), sep='\n\n')


if __name__ == '__main__':
    main(sys.argv[1:])
