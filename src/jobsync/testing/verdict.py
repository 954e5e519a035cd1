"""What worker logs prove about ownership and work. Pure: logs in, figures out.

**Tasks worked on at once.** A worker logs *begin* after it has claimed a task and before it works, and *end* after the work. The
work lies wholly between the two, so work of two processes on one task at one instant cannot escape. Between begin and end the
process had that task, so each overlap found is real. An unfinished task of a killed worker lasts until just before the signal was
sent.

**Tokens owned at once.** ``log_tokens`` logs the clock before and after each reading of ``job.my_tokens``. ``my_tokens`` is one
object while nothing changes, and every change of ownership makes another. So a token of two successive readings of one object
was this process's from the end of the first reading to the start of the last. Only such certain spans are compared, so each
overlap found is real. An overlap shorter than the time between two readings can escape: ``widest_reading`` gives the longest
such time.

**Time without an owner.** The time between two readings, of any processes, that found the token owned. It is an upper bound: the
true time is shorter by up to two readings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import attrs

from jobsync.testing.worker_log import Sighting, Work, WorkerLog

__all__ = ['Gap', 'Overlap', 'finished', 'gaps', 'longest_gap', 'owned_at_once', 'widest_reading', 'worked_at_once']


@attrs.frozen
class Overlap:
    """Two processes had one thing at one time."""

    thing: str
    """A task, or ``token`` and its number."""
    nodes: tuple[str, str]
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long both had it."""
        return self.end - self.begin


@attrs.frozen
class Gap:
    """A time in which no process was seen to own a token."""

    token: int
    seconds: float
    before: str
    """The node that was last seen to own the token."""
    after: str
    """The next node that was seen to own the token; empty if none was until the end of the measurement."""


def worked_at_once(logs: Iterable[WorkerLog], deaths: Mapping[str, float] | None = None) -> tuple[Overlap, ...]:
    """Return the overlaps of work on one task by two nodes.

    ``deaths`` gives for each node that was killed the time just before: until then the node had its unfinished task.
    """
    deaths = deaths or {}
    spans: defaultdict[str, list[_Span]] = defaultdict(list)
    for log in logs:
        for work in log.works:
            end = work.end if work.end is not None else deaths.get(log.node, work.begin)
            spans[work.task].append(_Span(log.node, work.begin, end))
    return _overlaps(spans)


def owned_at_once(logs: Iterable[WorkerLog]) -> tuple[Overlap, ...]:
    """Return the overlaps of certain ownership of one token by two nodes."""
    spans: defaultdict[str, list[_Span]] = defaultdict(list)
    for log in logs:
        for sighting in log.sightings:
            if sighting.first < sighting.last:
                for token in sighting.tokens:
                    spans[f'token {token}'].append(_Span(log.node, sighting.first, sighting.last))
    return _overlaps(spans)


@attrs.frozen
class _Span:
    node: str
    begin: float
    end: float


def _overlaps(spans: Mapping[str, Iterable[_Span]]) -> tuple[Overlap, ...]:
    found: list[Overlap] = []
    for thing, unordered in spans.items():
        running: list[_Span] = []
        for span in sorted(unordered, key=lambda s: s.begin):
            running = [other for other in running if other.end > span.begin]
            found.extend(
                Overlap(thing, (other.node, span.node), span.begin, min(other.end, span.end))
                for other in running
                if other.node != span.node
            )
            running.append(span)
    return tuple(found)


def finished(logs: Iterable[WorkerLog]) -> Mapping[str, list[Work]]:
    """Return the finished works by task, each task's in order of their ends. A task that was never finished is not a key."""
    found: defaultdict[str, list[Work]] = defaultdict(list)
    works = [(work.end, work) for log in logs for work in log.works if work.end is not None]
    for _, work in sorted(works, key=lambda pair: pair[0]):
        found[work.task].append(work)
    return dict(found)


def gaps(logs: Iterable[WorkerLog], until: float | None = None, since: float = -math.inf) -> Iterator[Gap]:
    """Yield a gap for each two successive sightings of a token, and one from its last sighting to ``until``.

    Without ``until`` the measurement ends with the last reading of all logs. A gap has 0 seconds where two sightings meet or
    overlap. Sightings that begin after ``until`` are left out. A gap that ends before ``since`` is left out too, and one around
    ``since`` begins there.
    """
    logs = list(logs)
    until = _last_reading(logs) if until is None else until
    owned_until: dict[int, tuple[float, str]] = {}
    for sighting in _sightings(logs, until):
        last = min(sighting.last, until)
        for token in sighting.tokens:
            before, node = owned_until.get(token, (last, sighting.node))
            if token in owned_until and sighting.first > since:
                yield Gap(token, max(sighting.first - max(before, since), 0.0), node, sighting.node)
            if last >= before:
                owned_until[token] = (last, sighting.node)
    for token, (before, node) in owned_until.items():
        yield Gap(token, until - max(before, since), node, '')


def longest_gap(logs: Iterable[WorkerLog], until: float | None = None) -> Gap | None:
    """Return the longest time in which no process was seen to own a token, from its first owner on; None if none was ever owned.

    Without ``until`` the measurement ends with the last reading of all logs. The time between two successive readings of one
    owner counts too: the log has nothing on the token for that time.
    """
    logs = list(logs)
    until = _last_reading(logs) if until is None else until
    between = (Gap(token, s.widest, s.node, s.node) for s in _sightings(logs, until) for token in sorted(s.tokens)[:1])
    return max(chain(gaps(logs, until), between), key=lambda gap: gap.seconds, default=None)


def widest_reading(logs: Iterable[WorkerLog]) -> float:
    """Return the longest time between two successive readings of one set, in seconds: what ``owned_at_once`` can miss."""
    return max((s.widest for log in logs for s in log.sightings), default=0.0)


def _last_reading(logs: Iterable[WorkerLog]) -> float:
    return max((s.last for log in logs for s in log.sightings), default=0.0)


def _sightings(logs: Iterable[WorkerLog], until: float) -> list[Sighting]:
    return sorted((s for log in logs for s in log.sightings if s.first <= until), key=lambda s: s.first)
