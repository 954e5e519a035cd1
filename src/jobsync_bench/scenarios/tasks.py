"""Tasks a second, from end to end."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

from jobsync import plugins
from jobsync._core.records import HistoryKind
from jobsync.backend import Backend, BackendOptions
from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.processes.child import ChildProcess, child_processes, request_all
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO', 'case_of']

_TOKENS = 10_000
_SETTLE_SEC = 60.0
_LOOPS = {'ours, over an iterator': 'stream', 'ours, add_task and write_audit': 'steps'}
"""Other ways to write the loop."""


def case_of(processes: int) -> str:
    """The case of so many processes."""
    return f'{processes} process{"es" if processes > 1 else ""}'


class Team:
    """Workers that do rounds of tasks together."""

    def __init__(self, members: Sequence[ChildProcess], backend: Backend) -> None:
        self._members, self._backend = members, backend
        self._next = 0

    def settle(self) -> None:
        """Wait until each has its share."""
        deadline = time.monotonic() + _SETTLE_SEC
        while True:
            shares = request_all(self._members, 'tokens')
            if sum(shares) == _TOKENS and max(shares) - min(shares) <= 1:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f'{len(shares)} workers have {shares} tokens after {_SETTLE_SEC:.0f} s')
            time.sleep(0.05)

    def round(self, number: int, loop: str = 'claim') -> float:
        """Tasks a second. Raises ``RuntimeError`` unless each was done exactly once, and is on record as done."""
        self._forget()
        first, self._next = self._next, self._next + number
        answers = request_all(self._members, 'work', loop, first, number)
        times = Counter(task for answer in answers for task in answer['done'])
        recorded = {row.item for row in self._backend.history(HistoryKind.AUDIT)}  # type: ignore[union-attr]
        if not (len(times) == sum(times.values()) == len(recorded) == number):
            told = f'{sum(times.values())} times, {len(times)} different ones, and {len(recorded)} are on record as done'
            raise RuntimeError(f'of {number} tasks some were done {told}')
        took: float = max(answer['ended'] for answer in answers) - min(answer['began'] for answer in answers)
        return number / took

    def _forget(self) -> None:
        """Delete the trail, so that no round has a longer one than the others."""
        tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
            self._backend.purge(kind, tomorrow)


@contextmanager
def team(bench: Bench, processes: int) -> Iterator[Team]:
    """Workers that have settled."""
    url, namespace = bench.store.url, bench.store.namespace()
    place = {'url': url, 'namespace': namespace, 'tokens': _TOKENS, 'nodes': processes}
    with (
        child_processes('claimer', ({'node': f'worker-{number}', **place} for number in range(processes))) as members,
        closing(plugins.connect(url, BackendOptions(namespace))) as backend,
    ):
        made = Team(members, backend)
        made.settle()
        made.round(1_000)  # so that everything is warm
        yield made


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    number = 5_000 if bench.quick else 20_000
    for processes in (1, 4) if bench.quick else (1, 2, 4, 8):
        with team(bench, processes) as workers:
            rounds = Rounds(3 if bench.quick else 7, least=2, seconds=7)
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
        The most tasks that workers get through when the tasks themselves take no time: finding out whose each one is, recording
        that it began and that it is done. Every round counts only if each task was done by exactly one worker and is on record.
    """,
    bounds="""
        Two rows for each task, on the disk before the work begins and after it has ended; claim writes them up to a thousand at
        a time, so most of the time is the store's own. Every worker looks at every task.
    """,
    figures=(
        Figure('rate', Unit.PER_SECOND, 'Tasks of a round by the time from the first worker\'s beginning to the last one\'s end.',
               axis='processes'),
    ),
    play=play,
    needs=Needs.PROCESSES,
    targets=(_against('peer', 10), _against('skip-locked, one', 5)),
)  # fmt: skip
