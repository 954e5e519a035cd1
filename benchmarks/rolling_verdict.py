"""What the logs of ``rolling.py`` prove. Pure: logs in, figures out."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
from benchmarks.rolling_worker import ROUND_SEC, round_of, tasks_of

from jobsync_demo.log import WorkerLog
from jobsync_demo.verdict import owned_at_once, worked_at_once

__all__ = ['Figures', 'judge', 'longest_gaps', 'passes']


@attrs.frozen
class Figures:
    """Of one scenario."""

    tasks: int
    """In all rounds that were judged."""
    worked_by_two: int
    owned_by_two: int
    """Tokens that two processes certainly had at one instant."""
    missed: tuple[str, ...]
    """Tasks that nobody finished while their round was open."""
    twice: int
    """Tasks that were finished more than once, one after the other."""
    gap_sec: float
    """The longest time that a token was seen with no owner."""
    median_gap_sec: float
    """Of the longest such times of each token that passed from one process to another."""

    @property
    def ok(self) -> bool:
        """Nothing by two at once, nothing missed."""
        return not (self.worked_by_two or self.owned_by_two or self.missed)


def judge(logs: Sequence[WorkerLog], *, origin: float, tasks: int, open_sec: float, first: float, until: float) -> Figures:
    """Judge the rounds that began after ``first`` and were over by ``until``, and the tokens between these times."""
    finished: defaultdict[str, list[float]] = defaultdict(list)
    for log in logs:
        for work in log.works:
            if work.end is not None:
                finished[work.file].append(work.end)
    rounds = range(int((first - origin) / ROUND_SEC) + 1, int((until - open_sec - origin) / ROUND_SEC) + 1)
    expected = [task for number in rounds for task in tasks_of(number, tasks)]

    def is_missed(task: str) -> bool:
        over = origin + ROUND_SEC * round_of(task) + open_sec
        return all(end > over for end in finished[task])

    gaps = longest_gaps(logs, first, until)
    return Figures(
        tasks=len(expected),
        worked_by_two=len(worked_at_once(logs, {})),
        owned_by_two=len({clash.thing for clash in owned_at_once(logs)}),
        missed=tuple(filter(is_missed, expected)),
        twice=sum(len(ends) > 1 for ends in finished.values()),
        gap_sec=max(gaps.values(), default=0.0),
        median_gap_sec=statistics.median(gaps.values()) if gaps else 0.0,
    )


def longest_gaps(logs: Iterable[WorkerLog], first: float, until: float) -> Mapping[int, float]:
    """For each token that changed hands: the longest time in which nobody was seen to own it; an upper bound, by two readings."""
    sightings = sorted((s for log in logs for s in log.sightings if s.first <= until), key=lambda s: s.first)
    seen_until: dict[int, tuple[float, str]] = {}
    gaps: dict[int, float] = {}
    for sighting in sightings:
        for token in sighting.tokens:
            before, node = seen_until.get(token, (sighting.first, sighting.node))
            if sighting.first > first and (node != sighting.node or sighting.first > before):
                gaps[token] = max(gaps.get(token, 0.0), sighting.first - max(before, first))
            if sighting.last >= before:
                seen_until[token] = (sighting.last, sighting.node)
    for token, (before, _) in seen_until.items():
        if before < until - 0.5:
            gaps[token] = max(gaps.get(token, 0.0), until - before)
    return gaps


def passes(logs: Iterable[WorkerLog], until: float) -> Iterator[tuple[str, str]]:
    """For each time that a token was seen to pass from one node to another: who had it before, and after."""
    had: dict[int, str] = {}
    for sighting in sorted((s for log in logs for s in log.sightings if s.first <= until), key=lambda s: s.first):
        node = sighting.node.partition('.')[0]
        for token in sighting.tokens:
            if had.get(token, node) != node:
                yield had[token], node
            had[token] = node
