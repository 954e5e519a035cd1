"""Many task locks, claims and audits at once."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import count

from jobsync import CoordinationConfig, Job, plugins
from jobsync.backend import BackendOptions, NodeRef, Registration, Settings
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Scenario
from jobsync_bench.targets import Pick, Target
from jobsync_bench.timing import seconds

__all__ = ['SCENARIO', 'number_of']

_QUIET_SEC = 1.0
_CASES = ('locks', 'claims', 'audits')
_MANY, _FEW, _ONE_BY_ONE = 10_000, 2_000, 100
_rounds = count()
"""Numbers of rounds, so that no two rounds write the same items."""


def number_of(bench: Bench) -> int:
    """Return the number of tasks per call."""
    return _FEW if bench.quick else _MANY


def items(number: int) -> list[str]:
    """Return new task ids."""
    this_round = next(_rounds)
    return [f'task-{this_round}-{each}' for each in range(number)]


def wait_until_quiet(job: Job) -> None:
    """Wait until the leader, which is this process, has pinned the locked tasks and has nothing left to do."""
    known, since = job.token_version, time.monotonic()
    while time.monotonic() < since + _QUIET_SEC:
        time.sleep(0.05)
        if job.token_version != known:
            known, since = job.token_version, time.monotonic()


def begin(job: Job, tasks: Sequence[str]) -> None:
    """Begin all tasks at once, as ``claim`` does. ``write_audit`` completes them."""
    task_log, tokens = job._task_log, {task: job.task_to_token(task) for task in tasks}
    run = task_log.claims.record_owned(tokens)
    for task, token in tokens.items():
        assert task_log.start_claimed(task, token, run)


def of_a_job(bench: Bench, namespace: str, number: int) -> dict[str, Callable[[], float]]:
    """Return the calls of a user, on a job that owns all tokens."""
    config = CoordinationConfig(backend=bench.store.url, appname=namespace, minimum_nodes=1)
    job = bench.stack.enter_context(Job('node-0000', coordination_config=config))

    def locks() -> float:
        took = seconds(job.register_task_locks_bulk, [(item, 'node%', 'benchmark') for item in items(number)])
        job.clear_all_locks()
        wait_until_quiet(job)
        return took

    def audits() -> float:
        begin(job, items(number))
        return seconds(job.write_audit)

    def one_by_one() -> float:
        tasks = items(_ONE_BY_ONE)
        took = seconds(lambda: [job.add_task(task) for task in tasks])
        job.write_audit()
        return took / _ONE_BY_ONE

    return {
        'locks': locks,
        'claims': lambda: seconds(job.set_claim, items(number)),
        'audits': audits,
        'one by one': one_by_one,
    }


def of_the_backend(bench: Bench, namespace: str, number: int) -> dict[str, Callable[[], float]]:
    """Return the calls of the backend without a job."""
    backend = bench.stack.enter_context(closing(plugins.connect(bench.store.url, BackendOptions(namespace))))
    timeline = backend.open(Settings(10_000, 'xxh3', 1), create=True).timeline
    ref, date = NodeRef('node-0000', 'run'), dt.datetime.now(dt.UTC).date()
    backend.register(Registration(ref, 15), timeline, 0)
    return {
        'claims': lambda: seconds(backend.append_claims, ref, items(number), date),
        'audits': lambda: seconds(backend.append_audits, ref.name, items(number), date),
    }


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    number = number_of(bench)
    rounds = Rounds(2, least=2) if bench.quick else Rounds(7, least=3, seconds=25)
    jobs = of_a_job(bench, bench.store.namespace(), number)
    backends = of_the_backend(bench, bench.store.namespace(), number)
    for case in _CASES:
        ours = {'ours': jobs[case]} | ({'ours, the backend alone': backends[case]} if case in backends else {})
        bench.in_turns('bulk', case, ours, rounds)
    bench.in_turns('task', 'add_task', {'ours': jobs['one by one']}, rounds)


SCENARIO = Scenario(
    name='bulk',
    title='Many task locks, claims and audits at once',
    means="""
        The cost of a list of ten thousand tasks that are locked to nodes, begun or completed in one call:
        register_task_locks_bulk, set_claim, write_audit. And the cost of one task that is begun alone.
    """,
    bounds="""
        One row for each task, in one statement or script. A task that is begun alone needs one round trip and one write to
        the disk. Before and after the call, the job checks for each task that it owns the task.
    """,
    figures=(
        Figure('bulk', Unit.SECONDS, f'One call with {_MANY:,} tasks, {_FEW:,} in a quick run.'),
        Figure('task', Unit.SECONDS, f'One of {_ONE_BY_ONE} calls of add_task, one after the other.'),
    ),
    play=play,
    targets=(
        *(
            Target(
                f'bulk {case}, PostgreSQL: times the peer',
                Pick('bulk', who='peer', case=case),
                at_least=25,
                against=Pick('bulk', case=case),
            )
            for case in _CASES
        ),
        *(
            Target(
                f'bulk {case}, PostgreSQL: times one bare statement',
                Pick('bulk', case=case),
                at_most=3,
                against=Pick('bulk', who='bare statement', case=case),
            )
            for case in _CASES
        ),
    ),
)
