"""Tasks per second, from end to end."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions, HistoryKind
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.processes.child import ChildProcess, child_processes, request_all
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO', 'Team', 'case_of', 'team']

_TOKENS = 10_000
_SETTLE_SEC = 60.0
_LOOPS = {'ours, over an iterator': 'stream', 'ours, add_task and write_audit': 'steps'}
"""Other forms of the loop."""


def case_of(processes: int) -> str:
    """Return the case of a number of processes."""
    return f'{processes} process{"es" if processes > 1 else ""}'


class Team:
    """Workers that do rounds of tasks together."""

    def __init__(self, workers: Sequence[ChildProcess], backend: Backend) -> None:
        self._processes, self._backend = workers, backend
        self._next = 0
        self.tail_sec = 0.0
        """The time of the last round from the last task to the end of all loops."""

    def settle(self) -> None:
        """Wait until each worker has its share."""
        deadline = time.monotonic() + _SETTLE_SEC
        while True:
            shares = request_all(self._processes, 'tokens')
            if sum(shares) == _TOKENS and max(shares) - min(shares) <= 1:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f'{len(shares)} workers have {shares} tokens after {_SETTLE_SEC:.0f} s')
            time.sleep(0.05)

    def round(self, number: int, loop: str = 'claim') -> float:
        """Play a round, and return the tasks per second.

        Raises ``RuntimeError`` unless each task was done exactly once and is recorded as complete.
        """
        self._forget()
        first, self._next = self._next, self._next + number
        answers = request_all(self._processes, 'work', loop, first, number)
        times = Counter(task for answer in answers for task in answer['done'])
        recorded = {row.item for row in self._backend.history(HistoryKind.AUDIT)}  # type: ignore[union-attr]
        if not (len(times) == sum(times.values()) == len(recorded) == number):
            counts = f'{sum(times.values())} times, {len(times)} different ones, and {len(recorded)} are on record as done'
            raise RuntimeError(f'of {number} tasks some were done {counts}')
        ended: float = max(answer['ended'] for answer in answers)
        self.tail_sec = ended - max(answer['last'] for answer in answers)
        began: float = min(answer['began'] for answer in answers)
        return number / (ended - began)

    def _forget(self) -> None:
        """Delete the history, so that no round has a longer one than the others."""
        tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
            resume = None
            while resume != '':
                resume = self._backend.purge(kind, tomorrow, 100_000, resume or '').resume


@contextmanager
def team(bench: Bench, processes: int) -> Iterator[Team]:
    """Start workers, and yield them when each has its share."""
    url, namespace = bench.store.url, bench.store.namespace()
    place = {'url': url, 'namespace': namespace, 'tokens': _TOKENS, 'nodes': processes}
    with (
        child_processes('claimer', ({'node': f'worker-{number}', **place} for number in range(processes))) as workers,
        closing(plugins.connect(url, BackendOptions(namespace))) as backend,
    ):
        made = Team(workers, backend)
        made.settle()
        made.round(1_000)  # a first round, so that caches are warm
        yield made


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    number = 5_000 if bench.quick else 10_000
    for processes in (1, 4) if bench.quick else (1, 2, 4, 8):
        with team(bench, processes) as workers:
            rounds = Rounds(2 if bench.quick else 5, least=2, seconds=5)
            ours = {'ours': partial(workers.round, number)}
            if processes == 1:
                ours |= {who: partial(workers.round, number // 20, loop) for who, loop in _LOOPS.items()}
            bench.in_turns('rate', case_of(processes), ours, rounds, at=processes)


def _against(who: str, least: float) -> Target:
    case, stores = case_of(1), ('postgresql',)
    return Target(
        f'tasks a second, one process, PostgreSQL: times {who}',
        Pick('rate', case=case, stores=stores),
        at_least=least,
        against=Pick('rate', who=who, case=case),
    )


SCENARIO = Scenario(
    name='tasks',
    title='Tasks a second, from end to end',
    means="""
        The most tasks that workers can do when the tasks themselves take no time: the check of the owner, the claim and the
        audit. A round counts only if each task was done by exactly one worker and is recorded as complete.
    """,
    bounds="""
        Two rows for each task, on the disk before the work begins and after its end. claim writes up to a thousand at a time,
        so most of the time is spent in the store. Every worker checks every task.
    """,
    figures=(
        Figure('rate', Unit.PER_SECOND, 'Tasks of a round, divided by the time from the first begin of a worker to the last end.',
               axis='processes'),
    ),
    play=play,
    needs=Needs.PROCESSES,
    targets=(_against('peer', 10), _against('skip-locked, one', 5)),
)  # fmt: skip
