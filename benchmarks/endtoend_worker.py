"""One worker of ours for ``endtoend.py``: ``Job.claim`` over tasks that do nothing. Each line of input is a verb with its round.

claim    over a sequence, so that claims and completions are recorded many at a time
stream   over an iterator, whose next task may be long in coming: they are recorded one at a time
steps    ``can_claim_task``, ``add_task`` and ``write_audit``, the loop of the guide and of the peer
fill, recorded    before and after a round: forget earlier ones; how many of its tasks the store has on record as complete
tokens   how many tokens this node has
profile  where the time of ``claim`` goes, as text
"""

from __future__ import annotations

import cProfile
import datetime as dt
import io
import pstats
import sys
import time
from collections.abc import Callable

from benchmarks.compare import serve
from benchmarks.noop_tasks import doing, numbers

from jobsync import CoordinationConfig, Job, Task
from jobsync.core.model import HistoryKind

_LINES = 40


def claim(job: Job, tasks: range, done: list[int]) -> None:
    for number in job.claim(tasks):
        done.append(number)  # noqa: PERF402  (the body of a user's loop)


def stream(job: Job, tasks: range, done: list[int]) -> None:
    for number in job.claim(iter(tasks)):
        done.append(number)  # noqa: PERF402


def steps(job: Job, tasks: range, done: list[int]) -> None:
    for number in tasks:
        task = Task(number)
        if job.can_claim_task(task):
            job.add_task(task)
            done.append(number)
    job.write_audit()


def forget(job: Job) -> float:
    """Seconds to delete the trail, so that no round has a longer one than the others."""
    start, tomorrow = time.perf_counter(), dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
        job._member.needed_backend.purge(kind, tomorrow)
    return time.perf_counter() - start


def recorded(job: Job, tasks: range) -> int:
    wanted = set(map(str, tasks))
    return len(wanted.intersection(row['item'] for row in job.get_audit()))


def profile(job: Job, tasks: range) -> str:
    profiler, text = cProfile.Profile(), io.StringIO()
    profiler.runcall(claim, job, tasks, [])
    pstats.Stats(profiler, stream=text).sort_stats('tottime').print_stats(_LINES).sort_stats('cumtime').print_stats(_LINES)
    return text.getvalue()


def main(url: str, namespace: str, node: str) -> None:
    config = CoordinationConfig(backend=url, appname=namespace, minimum_nodes=1)
    with Job(node, coordination_config=config, wait_on_enter=60) as job:
        loops = {'claim': claim, 'stream': stream, 'steps': steps}

        def run(line: str) -> object:
            verb, first, count = line.split()
            tasks = numbers(first, count)
            if verb in loops:
                return doing(lambda done: loops[verb](job, tasks, done))
            others: dict[str, Callable[[], object]] = {
                'fill': lambda: forget(job),
                'recorded': lambda: recorded(job, tasks),
                'tokens': lambda: len(job.my_tokens),
                'profile': lambda: profile(job, tasks),
            }
            return others[verb]()

        serve(node, run)


if __name__ == '__main__':
    main(*sys.argv[1:])
