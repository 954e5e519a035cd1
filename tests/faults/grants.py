"""What a worker would answer True for, logged at every change: the worker's side of the fault tests.

``record_grants`` makes the attribute ``Lease.grant`` a descriptor that writes a line to the worker's log whenever a thread of
jobsync sets it. ``can_claim_task`` reads that attribute and the clock, and nothing else, so the lines say for every instant what
the process would have answered, also while it is stopped. A line has the time before the change (``t0``), after it (``t1``), and
the end of the lease (``until``), all on the clock of ``jobsync.testing.worker_log``, and how many tasks that a lock pins, and how
many items, are this node's (``pins``, ``items``).

``log_answers`` checks that by asking: it calls ``can_claim_task`` for one task of each token, over and over.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any

from jobsync import Job
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.ownership import Grant
from jobsync._runtime import clock
from jobsync.testing.worker_log import LogWriter, now

__all__ = ['log_answers', 'record_grants', 'task_thing']

STOP_SEC = 0.5
"""A wait that takes longer than asked for by this is taken for a stop of the process."""


def task_thing(key: str) -> str:
    """Return the name of a task among the things that have an owner. A token's name is its number."""
    return f'task {key}'


class RecordedGrant:
    """``Lease.grant``, logged at each change. ``watched`` are keys of tasks whose owner is logged besides the tokens'."""

    def __init__(self, log: LogWriter, watched: Iterable[str]) -> None:
        self._log, self._watched = log, tuple(watched)
        self._ahead = lease_clock_ahead()
        self._known: frozenset[int | str] = frozenset()
        self._seen: tuple[Any, Any] = (None, None)
        self._pins = self._items = 0

    def __get__(self, lease: Lease, _owner: type[Lease]) -> Grant:
        grant: Grant = vars(lease)['grant']
        return grant

    def __set__(self, lease: Lease, grant: Grant) -> None:
        before = now()
        vars(lease)['grant'] = grant
        after = now()
        deadline, pins, mine = grant
        things = self._known
        if pins is not self._seen[0] or mine is not self._seen[1]:
            self._seen = pins, mine
            of = lease.assignment.pin_of if pins else {}
            self._items = sum(own and key in of and bool(of[key].group) for key, own in (pins or {}).items())
            self._pins = sum((pins or {}).values()) - self._items
            things = self._things(lease._token_of, pins or {}, mine)
        until = max(deadline - self._ahead, 0.0)
        gained, lost = things - self._known, self._known - things
        self._known = things
        changes = {'gained': sorted(gained, key=str), 'lost': sorted(lost, key=str)}
        self._log.write('grant', t0=before, t1=after, until=until, pins=self._pins, items=self._items, **changes)

    def _things(self, token_of: Callable[[str], int], pins: Any, mine: Any) -> frozenset[int | str]:
        owned: set[int | str] = {token for token, own in enumerate(mine) if own}
        keys = {*self._watched, *pins} if mine else set()
        return frozenset(owned | {task_thing(key) for key in keys if pins.get(key, mine[token_of(key)])})


def lease_clock_ahead() -> float:
    """Return by how much the clock of leases is ahead of that of the logs: never too little, and by microseconds too much."""
    found = []
    for _ in range(100):
        before = now()
        found.append(clock.now() - before)
    return min(found)


def record_grants(log: LogWriter, watched: Iterable[str]) -> None:
    """Log every change of what this process may claim, from here on."""
    Lease.grant = RecordedGrant(log, watched)  # type: ignore[assignment]


def log_answers(
    job: Job,
    token_of: Callable[[str], int],
    total_tokens: int,
    log: LogWriter,
    until: threading.Event,
    *,
    every_sec: float,
    late_sec: float,
) -> None:
    """Log the tokens for which ``can_claim_task`` answers True, every ``every_sec`` seconds. Run this on a thread of its own.

    It goes on ``late_sec`` seconds after the other threads of a process that was stopped.
    """
    samples = sample_tasks(token_of, total_tokens)
    known: list[int] | None = None
    number = 0
    while not until.is_set():
        before = now()
        tokens = [token for token, task in samples.items() if job.can_claim_task(task)]
        after = now()
        if tokens != known:
            known, number = tokens, number + 1
            log.write('answers', set=number, tokens=tokens)
        log.write('asked', set=number, before=before, after=after)
        until.wait(every_sec)
        if late_sec and now() - after > every_sec + STOP_SEC:
            until.wait(late_sec)


def sample_tasks(token_of: Callable[[str], int], total_tokens: int) -> dict[int, str]:
    """Return one task for each token."""
    found: dict[int, str] = {}
    for number in itertools.count():
        found.setdefault(token_of(f'sample-{number}'), f'sample-{number}')
        if len(found) == total_tokens:
            return found
    raise AssertionError('count() ends')
