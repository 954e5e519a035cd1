"""What the logs of ``rolling.py`` prove. Pure: logs in, figures out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from benchmarks.rolling_worker import ROUND_SEC, round_of, tasks_of
from jobsync.testing.verdict import finished, gaps, owned_at_once, worked_at_once
from jobsync.testing.worker_log import WorkerLog

__all__ = ['Figures', 'judge', 'passes']

_READINGS_SEC = 0.5
"""A token whose last reading is no older than this at the end still has its owner."""


@attrs.frozen
class Figures:
    """The figures of one scene."""

    tasks: int
    """Tasks in all judged rounds."""
    worked_by_two: int
    owned_by_two: int
    """Tokens that two processes certainly had at one instant."""
    missed: tuple[str, ...]
    """Tasks that no process finished while their round was open."""
    twice: int
    """Tasks that were finished more than once, one after the other."""
    gap_sec: float
    """The longest time that a token was seen without an owner."""
    median_gap_sec: float
    """The median of the tokens' longest gaps, over all tokens that changed their owner."""

    @property
    def ok(self) -> bool:
        """True if nothing belonged to two processes at once, and no task was missed."""
        return not (self.worked_by_two or self.owned_by_two or self.missed)


def judge(logs: Sequence[WorkerLog], *, origin: float, tasks: int, open_sec: float, first: float, until: float) -> Figures:
    """Judge the rounds that began after ``first`` and were over by ``until``, and the tokens between these times."""
    done = finished(logs)
    rounds = range(int((first - origin) / ROUND_SEC) + 1, int((until - open_sec - origin) / ROUND_SEC) + 1)
    expected = [task for number in rounds for task in tasks_of(number, tasks)]

    def is_missed(task: str) -> bool:
        over = origin + ROUND_SEC * round_of(task) + open_sec
        return all(work.end is not None and work.end > over for work in done.get(task, ()))

    longest = longest_gaps(logs, first, until)
    return Figures(
        tasks=len(expected),
        worked_by_two=len(worked_at_once(logs)),
        owned_by_two=len({overlap.thing for overlap in owned_at_once(logs)}),
        missed=tuple(filter(is_missed, expected)),
        twice=sum(len(works) > 1 for works in done.values()),
        gap_sec=max(longest.values(), default=0.0),
        median_gap_sec=statistics.median(longest.values()) if longest else 0.0,
    )


def longest_gaps(logs: Iterable[WorkerLog], first: float, until: float) -> Mapping[int, float]:
    """Return the longest gap, in seconds, of each token that changed its owner or had none; an upper bound, by two readings."""
    longest: dict[int, float] = {}
    for gap in gaps(logs, until, first):
        counts = gap.seconds > _READINGS_SEC if not gap.after else gap.before != gap.after or gap.seconds > 0
        if counts:
            longest[gap.token] = max(longest.get(gap.token, 0.0), gap.seconds)
    return longest


def passes(logs: Iterable[WorkerLog], until: float) -> Iterator[tuple[str, str]]:
    """Yield the former and the new owner's name for each time that a token was seen to pass from one node to another."""
    for gap in gaps(logs, until):
        before, after = (run.partition('.')[0] for run in (gap.before, gap.after))
        if after and before != after:
            yield before, after
