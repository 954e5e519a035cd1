"""A finite set of tasks, worked through by several processes until all is complete."""

from __future__ import annotations

from functools import partial

from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.scenarios.tasks import Team, case_of, team
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']

_PROCESSES = 4


def one_round(workers: Team, number: int, ends: list[float]) -> float:
    """Play a round, note the time of its end, and return the tasks per second."""
    rate = workers.round(number, 'batch')
    ends.append(workers.tail_sec)
    return rate


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    number = 2_000 if bench.quick else 10_000
    case, ends, rounds = case_of(_PROCESSES), list[float](), Rounds(3 if bench.quick else 7, least=3, seconds=5)
    with team(bench, _PROCESSES) as workers:
        bench.in_turns('rate', case, {'ours': partial(one_round, workers, number, ends)}, rounds)
    bench.record('end', case, ends)


SCENARIO = Scenario(
    name='batch',
    title='A pile that ends',
    means="""
        job.batch works through a finite set together with the other nodes, until every task is complete, wherever it was done.
        The tasks take no time, so the whole cost is that of jobsync. A round counts only if each task was done by exactly one
        worker and is recorded as complete.
    """,
    bounds="""
        Two rows for each task, as for claim. At its end each process has to learn that the others are done: the record of the
        last tasks is written within a second, and the others read it then. So a pile of tasks that take no time ends when its
        last record has been read.
    """,
    figures=(
        Figure('rate', Unit.PER_SECOND, 'Tasks of a round, divided by the time from the first begin to the last end.'),
        Figure('end', Unit.SECONDS, 'From the last task of all workers to the end of the last loop.', tail=True),
    ),
    play=play,
    needs=Needs.PROCESSES,
    targets=(Target('batch: from the last task to the end of all loops, median', Pick('end'), at_most=2.0),),
)  # fmt: skip
