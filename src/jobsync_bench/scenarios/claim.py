"""The cost of a task in the loop that workers run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from jobsync import CoordinationConfig, Job
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']

_WAIT_SEC = 60.0
Pass = Callable[[Iterable[int]], Iterator[int]]


@contextmanager
def two_nodes(bench: Bench) -> Iterator[tuple[Job, Job]]:
    """Enter two nodes of one cluster, and wait until each has its share."""
    config = CoordinationConfig(backend=bench.store.url, appname=bench.store.namespace(), minimum_nodes=1)
    with Job('other', coordination_config=config) as other, Job('one', coordination_config=config) as one:
        deadline = time.monotonic() + _WAIT_SEC
        while abs(len(one.my_tokens) - len(other.my_tokens)) > 1 or not one.my_tokens:
            bench.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f'two nodes have {len(one.my_tokens)} and {len(other.my_tokens)} tokens')
            time.sleep(0.02)
        yield one, other


def ids_of(job: Job, number: int, numbers: Iterator[int]) -> list[int]:
    """Return so many new ids that a node owns."""
    return [task for task, _ in zip(filter(job.can_claim_task, numbers), range(number), strict=False)]


def whole(tasks: Iterable[int], loop: Pass) -> float:
    """Return the seconds of a whole loop."""
    start = time.perf_counter()
    for _ in loop(tasks):
        pass
    return time.perf_counter() - start


def first(tasks: Iterable[int], loop: Pass) -> float:
    """Return the seconds until the loop's first task."""
    start = time.perf_counter()
    found = loop(tasks)
    next(found)
    took = time.perf_counter() - start
    for _ in found:
        pass
    return took


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    number = 1_000 if bench.quick else 5_000
    rounds = Rounds(5 if bench.quick else 30, least=3, seconds=1 if bench.quick else 2)
    with two_nodes(bench) as (job, other):
        numbers = count()
        done, foreign = ids_of(job, number, numbers), ids_of(other, number, numbers)
        whole(done, job.claim)
        job.write_audit()
        tasks: dict[str, Callable[[], float]] = {
            'its own, many at a time': lambda: whole(ids_of(job, number, numbers), job.claim) / number,
            'its own, one at a time': lambda: whole(iter(ids_of(job, 50, numbers)), job.claim) / 50,
            "another node's": lambda: whole(foreign, job.claim) / number,
            'done before, once=True': lambda: whole(done, partial(job.claim, once=True)) / number,
        }
        for case, run in tasks.items():
            bench.in_turns('task', case, {'ours': run}, rounds)
        firsts: dict[str, Callable[[], float]] = {
            'of a list of 1,000': lambda: first(ids_of(job, 1_000, numbers), job.claim),
            'of an iterator': lambda: first(iter(ids_of(job, 5, numbers)), job.claim),
        }
        for case, run in firsts.items():
            bench.in_turns('first', case, {'ours': run}, rounds)


SCENARIO = Scenario(
    name='claim',
    title='A task in the loop',
    means="""
        The time that the claim loop adds to each task, and the wait for its first task. One node of two, in one process: half of
        all tasks are its own. How many tasks several processes do in a second, beside other libraries, is in the scenario tasks.
    """,
    bounds="""
        A claim is written before its task is yielded: one call of the store, for up to a thousand tasks at a time where their
        number is known, and for one where it is not. A task of another node costs the look at its owner, without a call.
        once=True asks with the claim whether the task is complete.
    """,
    figures=(
        Figure('task', Unit.SECONDS, 'Elapsed time of a loop without work, divided by its tasks.'),
        Figure('first', Unit.SECONDS, 'From the call of claim to its first task.', tail=True),
    ),
    play=play,
    targets=(
        Target("claim: a task that is another node's", Pick('task', case="another node's"), at_most=20e-6),
        Target('claim, once=True: a task that is done', Pick('task', case='done before, once=True'), at_most=200e-6),
        Target('claim: the wait for the first of 1,000 tasks, median', Pick('first', case='of a list of 1,000'), at_most=0.2),
    ),
)
