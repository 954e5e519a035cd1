"""What the workers' logs prove, from the logs alone. Pure: events in, figures out.

**Owned twice.** A *span* is a time in which one process certainly owned one thing: from after the change that gave it to before
the change that took it, and at most until the end of the lease, or the death of the process. So each overlap of two spans is
real. A process that is stopped still owns: resumed, it would answer True. Readings of ``can_claim_task`` are compared with the
spans of others too: a reading that found True inside a span of another process is real as well.

**Unowned.** The time in which no span covers a thing: an upper bound, by the microseconds that a change takes.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import attrs

from jobsync.testing.verdict import Overlap
from jobsync.testing.worker_log import LoggedEvent, Work, summarise

__all__ = [
    'LEASE',
    'Log',
    'Span',
    'Twice',
    'answered_twice',
    'gaps',
    'last_change',
    'missed',
    'moves',
    'owned_twice',
    'read',
    'worked_twice',
]

LEASE = 'lease'
"""The thing that a process owns as long as its lease runs."""

Thing = int | str


@attrs.frozen
class Span:
    """One process certainly owned one thing, from ``begin`` to ``end``."""

    run: str
    begin: float
    end: float


@attrs.frozen
class Log:
    """The log of one process."""

    run: str
    spans: Mapping[Thing, Sequence[Span]]
    works: Sequence[Work]
    asked: Sequence[tuple[float, float]]
    """Begin and end of each reading of ``can_claim_task`` for all tokens, in order."""
    answers: Sequence[frozenset[int]]
    """What each reading found."""
    end: float
    """When the process ended, or the log."""


def read(run: str, events: Sequence[LoggedEvent], death: float | None = None, until: float = float('inf')) -> Log:
    """Collect the events of one log.

    Args:
        run: the name of the process.
        events: the lines of its log.
        death: just before the process was killed; None if it has ended by itself, or runs.
        until: the end of the measurement. A process that has not ended owns until then what it last owned.
    """
    has_left = any(event['what'] == 'left' for event in events)
    last = max((event['t'] for event in events), default=0.0)
    end = max(death, last) if death is not None else last if has_left else until
    known: set[Thing] = set()
    open_since: dict[Thing, float] = {}
    spans: defaultdict[Thing, list[Span]] = defaultdict(list)
    deadline = 0.0
    asked: list[tuple[float, float]] = []
    answers: list[frozenset[int]] = []
    tokens: frozenset[int] = frozenset()

    def close(things: Iterable[Thing], at: float) -> None:
        for thing in things:
            begin = open_since.pop(thing)
            if begin < at:
                spans[thing].append(Span(run, begin, at))

    for event in events:
        match event:
            case {'what': 'grant', 't0': t0, 't1': t1, 'until': next_deadline}:
                after = (known - set(event['lost'])) | set(event['gained']) | {LEASE}
                if deadline <= t0:  # the lease had ended before
                    close(list(open_since), min(t0, deadline))
                elif next_deadline <= t1:
                    close(list(open_since), t0)
                else:
                    close([thing for thing in open_since if thing not in after], t0)
                if next_deadline > t1:
                    for thing in after:
                        open_since.setdefault(thing, t1)
                known, deadline = after, next_deadline
            case {'what': 'answers'}:
                tokens = frozenset(event['tokens'])
            case {'what': 'asked'}:
                asked.append((event['before'], event['after']))
                answers.append(tokens)
    close(list(open_since), min(deadline, end))
    return Log(run, dict(spans), summarise(run, events).works, asked, answers, min(end, until))


def owned_twice(logs: Iterable[Log]) -> tuple[Overlap, ...]:
    """Return each time in which two processes owned one thing."""
    by_thing: defaultdict[Thing, list[Span]] = defaultdict(list)
    for log in logs:
        for thing, spans in log.spans.items():
            if thing != LEASE:
                by_thing[thing] += spans
    found = []
    for thing, spans in by_thing.items():
        running: list[Span] = []
        for span in sorted(spans, key=lambda each: each.begin):
            running = [other for other in running if other.end > span.begin]
            found += [
                Overlap(str(thing), (other.run, span.run), span.begin, min(other.end, span.end))
                for other in running
                if other.run != span.run
            ]
            running.append(span)
    return tuple(found)


def answered_twice(logs: Sequence[Log]) -> tuple[Overlap, ...]:
    """Return readings of ``can_claim_task`` that found True while another process owned the token: one for each span at most."""
    found = []
    for log in logs:
        runs = _runs(log)
        for other in logs:
            for thing, spans in other.spans.items() if other.run != log.run else ():
                if isinstance(thing, int) and thing in runs:
                    found += [
                        Overlap(str(thing), (other.run, log.run), *reading)
                        for span in spans
                        if (reading := _reading_in(log.asked, runs[thing], span)) is not None
                    ]
    return tuple(found)


def _runs(log: Log) -> Mapping[int, list[tuple[int, int]]]:
    """Return for each token the runs of successive readings that found True, as pairs of positions."""
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    last: frozenset[int] | None = None
    for position, tokens in enumerate(log.answers):
        for token in tokens:
            if tokens is last:
                found[token][-1] = (found[token][-1][0], position)
            else:
                found[token].append((position, position))
        last = tokens
    return found


def _reading_in(asked: Sequence[tuple[float, float]], runs: Sequence[tuple[int, int]], span: Span) -> tuple[float, float] | None:
    """Return a reading of one of the runs that lies inside the span."""
    for first, last in runs:
        position = max(first, bisect.bisect_left(asked, (span.begin, 0.0)))
        if position <= last and asked[position][1] <= span.end:
            return asked[position]
    return None


@attrs.frozen
class Twice:
    """Work of two processes on one task at one time."""

    overlap: Overlap
    is_late: bool
    """True if the lease of the first process was over when the second began: the write that a fence refuses."""


def worked_twice(logs: Sequence[Log]) -> tuple[Twice, ...]:
    """Return each time in which two processes worked on one task."""
    works: defaultdict[str, list[tuple[Log, Work]]] = defaultdict(list)
    for log in logs:
        for work in log.works:
            works[work.task].append((log, work))
    found = []
    for task, of_task in works.items():
        in_order = sorted(of_task, key=lambda pair: pair[1].begin)
        for position, (log, work) in enumerate(in_order):
            end = log.end if work.end is None else work.end
            for other_log, other in in_order[position + 1 :]:
                if other.begin < end and other_log.run != log.run:
                    other_end = other_log.end if other.end is None else other.end
                    overlap = Overlap(task, (log.run, other_log.run), other.begin, min(end, other_end))
                    has_lease = any(span.begin <= other.begin < span.end for span in log.spans.get(LEASE, ()))
                    found.append(Twice(overlap, not has_lease))
    return tuple(found)


def gaps(logs: Iterable[Log], tokens: Iterable[int], begin: float, end: float) -> Mapping[int, list[tuple[float, float]]]:
    """Return for each token the times between ``begin`` and ``end`` in which no process owned it."""
    by_token: Mapping[int, list[Span]] = {token: [] for token in tokens}
    for log in logs:
        for token, spans in by_token.items():
            spans += log.spans.get(token, ())
    found: dict[int, list[tuple[float, float]]] = {}
    for token, spans in by_token.items():
        covered = begin
        found[token] = []
        for span in sorted(spans, key=lambda each: each.begin):
            if span.begin >= end:
                break
            if span.begin > covered:
                found[token].append((covered, span.begin))
            covered = max(covered, span.end)
        if covered < end:
            found[token].append((covered, end))
    return found


def moves(logs: Iterable[Log], begin: float, end: float) -> int:
    """Return how often a token passed from one process to another, from ``begin`` to ``end``."""
    by_token: defaultdict[Thing, list[Span]] = defaultdict(list)
    for log in logs:
        for thing, spans in log.spans.items():
            if isinstance(thing, int):
                by_token[thing] += spans
    return sum(
        before.run != after.run and begin <= after.begin < end
        for spans in by_token.values()
        for before, after in pairwise(sorted(spans, key=lambda each: each.begin))
    )


def last_change(logs: Iterable[Log], tokens: Iterable[int], begin: float, end: float) -> float:
    """Return the last time from ``begin`` to ``end`` at which a token had no owner or got one; ``begin`` if there is none."""
    logs = list(logs)
    unowned = [stop for times in gaps(logs, tokens, begin, end).values() for _, stop in times]
    gained = [span.begin for log in logs for thing, spans in log.spans.items() if isinstance(thing, int) for span in spans]
    return max([*unowned, *(at for at in gained if begin <= at < end)], default=begin)


def missed(logs: Iterable[Log], tasks: Iterable[str]) -> list[str]:
    """Return the tasks that no process has finished."""
    done = {work.task for log in logs for work in log.works if work.end is not None}
    return [task for task in tasks if task not in done]
