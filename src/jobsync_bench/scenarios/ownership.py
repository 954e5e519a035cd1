"""The cost of ``can_claim_task``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from itertools import count, cycle, islice
from threading import Thread
from typing import Any

from xxhash import xxh3_64_intdigest

from jobsync import CoordinationConfig, Job, Task
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.scenarios.floors import empty_call, read_clock
from jobsync_bench.targets import Pick, Target
from jobsync_bench.timing import per_call

__all__ = ['KINDS', 'SCENARIO']

KINDS: dict[str, Callable[[int], Any]] = {'int': int, 'str': 'task-{}'.format, 'Task': Task}
_TOTAL, _CALLS, _DISTINCT = 10_000, 1_000, 1_000


def ids(kind: str, owned: bool, can_claim: Callable[[Any], bool]) -> list[Any]:
    """Return one id for each call, up to a thousand of them different, all owned by this worker or all not."""
    every = map(KINDS[kind], count(100_000))
    return list(islice(cycle(islice((task for task in every if can_claim(task) is owned), _DISTINCT)), _CALLS))


def enter(bench: Bench, locks: int = 0, **settings: Any) -> Job:
    """Start two workers that share the tokens, and return the first when both have entered. ``locks`` are of other tasks."""
    config = CoordinationConfig(backend=f'memory://{uuid.uuid4().hex}', minimum_nodes=2, total_tokens=_TOTAL, **settings)
    wanted = [(f'lock-{number}', 'one') for number in range(locks)]
    provider = (lambda job: job.register_task_locks_bulk(wanted)) if wanted else None
    jobs = [Job(name, coordination_config=config, wait_on_enter=30, lock_provider=provider) for name in ('one', 'two')]
    threads = [Thread(target=job.__enter__) for job in jobs]
    for thread, job in zip(threads, jobs, strict=True):
        bench.stack.push(job)
        thread.start()
    for thread in threads:
        thread.join()
    return jobs[0]


def bare_hash(kind: str) -> Callable[[Any], int]:
    """Return a function from an id to its token: text, encoding, hash, modulo. A ``Task`` already has its text."""
    digest = xxh3_64_intdigest
    match kind:
        case 'int':
            return lambda task: digest(str(task).encode()) % _TOTAL
        case 'str':
            return lambda task: digest(task.encode()) % _TOTAL
        case _:
            return lambda task: digest(task.key.encode()) % _TOTAL


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    jobs = {
        'ours': enter(bench),
        'ours, 1,000 locks': enter(bench, locks=1_000),
        'ours, double_sha256': enter(bench, hash_function='double_sha256'),
    }
    for kind in KINDS:
        for owned in (True, False):
            chosen = {who: ids(kind, owned, job.can_claim_task) for who, job in jobs.items()}
            ours = {who: partial(per_call, job.can_claim_task, chosen[who]) for who, job in jobs.items()}
            calls: dict[str, Callable[[Any], object]] = {
                'bare hash': bare_hash(kind),
                'empty call': empty_call,
                'clock': read_clock,
            }
            floors = {who: partial(per_call, call, chosen['ours']) for who, call in calls.items()}
            case = f'{kind}, {"owned" if owned else "not owned"}'
            bench.in_turns('call', case, ours, Rounds(5 if bench.quick else 99), floors=floors)


SCENARIO = Scenario(
    name='ownership',
    title='Is this task mine?',
    means="""
        The cost of each check of a task, of which most belong to other workers. Every worker checks every task: with ten
        workers and a million tasks that is ten million checks.
    """,
    bounds="""
        The id must be converted to text and hashed, and the lease compared with a clock that counts suspended time. All of
        this is in memory: no call of the store is made, and no mutex is taken.
    """,
    figures=(Figure('call', Unit.SECONDS, 'CPU time of one call of can_claim_task, over a thousand ids in a loop.'),),
    play=play,
    needs=Needs.NOTHING,
    targets=(
        Target('can_claim_task: times the peer', Pick('call', who='peer'), at_least=5, against=Pick('call')),
        Target(
            'can_claim_task: times the bare hash of the same id', Pick('call'), at_most=3, against=Pick('call', who='bare hash')
        ),
    ),
)
