"""What the logs prove. Pure: logs in, figures out. The package's docstring says what each figure means."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import attrs

from jobsync_demo.files import Digest
from jobsync_demo.log import WorkerLog

__all__ = ['Clash', 'Gap', 'Share', 'Verdict', 'judge', 'longest_gap', 'owned_at_once', 'widest_reading', 'worked_at_once']


@attrs.frozen
class Clash:
    """Two processes had one thing at one time."""

    thing: str
    nodes: tuple[str, str]
    begin: float
    end: float


@attrs.frozen
class Gap:
    """A time in which nobody was seen to own a token."""

    token: int
    seconds: float
    before: str
    """Who was seen to own it before,"""
    after: str
    """and after. Empty if nobody until the end of the measurement."""


@attrs.frozen
class Share:
    """What one worker did."""

    node: str
    pid: int
    files: int
    most_tokens: int
    killed: bool


@attrs.frozen
class Verdict:
    """The figures of one demo."""

    files: int
    done: int
    """Files with a result equal to the one that was computed afterwards."""
    done_twice: tuple[str, ...]
    """Files that were finished more than once, one after the other or not."""
    redone_after_kill: int
    """Those of them where all but the last were finished by a worker that was killed."""
    missed: tuple[str, ...]
    """Files nobody finished."""
    wrong: tuple[str, ...]
    """Files with a result that differs from the one computed afterwards."""
    worked_at_once: tuple[Clash, ...]
    owned_at_once: tuple[Clash, ...]
    gap: Gap | None
    widest_reading_sec: float
    shares: tuple[Share, ...]
    faults: tuple[str, ...] = ()
    """What went wrong with a process: an end that nobody asked for, a standstill."""

    @property
    def ok(self) -> bool:
        """Every file done rightly, nothing had by two processes at once, no process failed."""
        clean = not self.worked_at_once and not self.owned_at_once and not self.faults
        return clean and self.done == self.files


@attrs.frozen
class _Span:
    node: str
    begin: float
    end: float


def _clashes(spans: Mapping[str, Iterable[_Span]]) -> tuple[Clash, ...]:
    found: list[Clash] = []
    for thing, unordered in spans.items():
        running: list[_Span] = []
        for span in sorted(unordered, key=lambda s: s.begin):
            running = [other for other in running if other.end > span.begin]
            found.extend(
                Clash(thing, (other.node, span.node), span.begin, min(other.end, span.end))
                for other in running
                if other.node != span.node
            )
            running.append(span)
    return tuple(found)


def worked_at_once(logs: Iterable[WorkerLog], deaths: Mapping[str, float]) -> tuple[Clash, ...]:
    """Files that two processes worked on at one instant.

    ``deaths`` gives for each worker that was killed the time just before: until then it had the file it did not finish.
    """
    spans: defaultdict[str, list[_Span]] = defaultdict(list)
    for log in logs:
        for work in log.works:
            end = work.end if work.end is not None else deaths.get(log.node, work.begin)
            spans[work.file].append(_Span(log.node, work.begin, end))
    return _clashes(spans)


def owned_at_once(logs: Iterable[WorkerLog]) -> tuple[Clash, ...]:
    """Tokens that were certainly in the sets of two processes at one instant."""
    spans: defaultdict[str, list[_Span]] = defaultdict(list)
    for log in logs:
        for sighting in log.sightings:
            if sighting.first < sighting.last:
                for token in sighting.tokens:
                    spans[f'token {token}'].append(_Span(log.node, sighting.first, sighting.last))
    return _clashes(spans)


def longest_gap(logs: Iterable[WorkerLog], until: float) -> Gap | None:
    """The longest time in which nobody was seen to own a token, from its first owner on; None if no token was ever owned.

    An upper bound: see the package's docstring. Readings after ``until`` are not looked at, as the workers leave then.
    """
    sightings = sorted((s for log in logs for s in log.sightings if s.first <= until), key=lambda s: s.first)
    seen_until: dict[int, tuple[float, str]] = {}
    gaps: list[Gap] = []

    def consider(token: int, seconds: float, before: str, after: str) -> None:
        if not gaps or seconds > gaps[-1].seconds:
            gaps.append(Gap(token, max(seconds, 0.0), before, after))

    for sighting in sightings:
        last = min(sighting.last, until)
        for token in sighting.tokens:
            before, node = seen_until.get(token, (sighting.first, sighting.node))
            consider(token, sighting.first - before, node, sighting.node)
            consider(token, sighting.widest, sighting.node, sighting.node)
            if last > before or token not in seen_until:
                seen_until[token] = (last, sighting.node)
    for token, (before, node) in seen_until.items():
        consider(token, until - before, node, '')
    return gaps[-1] if gaps else None


def widest_reading(logs: Iterable[WorkerLog]) -> float:
    """The longest time between two readings of a process that found the same tokens: what ``owned_at_once`` can miss."""
    return max((s.widest for log in logs for s in log.sightings), default=0.0)


def judge(
    expected: Mapping[str, Digest],
    logs: Sequence[WorkerLog],
    *,
    deaths: Mapping[str, float],
    until: float,
    faults: Sequence[str] = (),
) -> Verdict:
    """All figures: ``expected`` holds for each file what is found in it by another process, after the fact."""
    finished: defaultdict[str, list[tuple[float, str, Digest]]] = defaultdict(list)
    for log in logs:
        for work in log.works:
            if work.end is not None and work.result is not None:
                finished[work.file].append((work.end, log.node, work.result))
    twice = tuple(sorted(file for file, times in finished.items() if len(times) > 1))
    wrong = tuple(sorted(f for f, digest in expected.items() if f in finished and any(r != digest for _, _, r in finished[f])))
    missed = tuple(sorted(file for file in expected if file not in finished))
    return Verdict(
        files=len(expected),
        done=len(expected) - len(missed) - len(wrong),
        done_twice=twice,
        redone_after_kill=sum(all(node in deaths for _, node, _ in sorted(finished[f], key=_time)[:-1]) for f in twice),
        missed=missed,
        wrong=wrong,
        worked_at_once=worked_at_once(logs, deaths),
        owned_at_once=owned_at_once(logs),
        gap=longest_gap(logs, until),
        widest_reading_sec=widest_reading(logs),
        shares=_shares(logs, deaths),
        faults=tuple(faults),
    )


def _time(entry: tuple[float, str, Digest]) -> float:
    return entry[0]


def _shares(logs: Iterable[WorkerLog], deaths: Mapping[str, float]) -> tuple[Share, ...]:
    files = Counter(work.node for log in logs for work in log.works if work.end is not None)
    return tuple(
        Share(
            node=log.node,
            pid=log.pid,
            files=files[log.node],
            most_tokens=max((len(s.tokens) for s in log.sightings), default=0),
            killed=log.node in deaths,
        )
        for log in logs
    )
