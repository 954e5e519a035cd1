"""The figures of one demo. Pure: logs in, figures out. ``jobsync.testing.verdict`` says what each figure proves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

from jobsync.testing.verdict import Gap, Overlap, finished, longest_gap, owned_at_once, widest_reading, worked_at_once
from jobsync.testing.worker_log import WorkerLog
from jobsync_demo.files import Digest

__all__ = ['Share', 'Verdict', 'judge']


@attrs.frozen
class Share:
    """The work of one worker."""

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
    """Files of ``done_twice`` that were finished by killed workers all times but the last."""
    missed: tuple[str, ...]
    """Files that no worker finished."""
    wrong: tuple[str, ...]
    """Files with a result that differs from the one computed afterwards."""
    worked_at_once: tuple[Overlap, ...]
    owned_at_once: tuple[Overlap, ...]
    gap: Gap | None
    widest_reading_sec: float
    shares: tuple[Share, ...]
    faults: tuple[str, ...] = ()
    """Faults of processes: an unexpected end, a standstill."""

    @property
    def ok(self) -> bool:
        """True if every file was done rightly, nothing belonged to two processes at once, and no process failed."""
        clean = not self.worked_at_once and not self.owned_at_once and not self.faults
        return clean and self.done == self.files


def judge(
    expected: Mapping[str, Digest],
    logs: Sequence[WorkerLog],
    *,
    deaths: Mapping[str, float],
    until: float,
    faults: Sequence[str] = (),
) -> Verdict:
    """Return all figures. ``expected`` has the digest of each file, computed by another process after the work."""
    done = finished(logs)
    twice = tuple(sorted(file for file, works in done.items() if len(works) > 1))
    wrong = tuple(sorted(f for f, digest in expected.items() if any(Digest(**work.result) != digest for work in done.get(f, ()))))
    missed = tuple(sorted(file for file in expected if file not in done))
    return Verdict(
        files=len(expected),
        done=len(expected) - len(missed) - len(wrong),
        done_twice=twice,
        redone_after_kill=sum(all(work.node in deaths for work in done[f][:-1]) for f in twice),
        missed=missed,
        wrong=wrong,
        worked_at_once=worked_at_once(logs, deaths),
        owned_at_once=owned_at_once(logs),
        gap=longest_gap(logs, until),
        widest_reading_sec=widest_reading(logs),
        shares=_shares(logs, deaths),
        faults=tuple(faults),
    )


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
