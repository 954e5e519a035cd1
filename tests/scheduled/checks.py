"""What must hold: one owner, one worker at a task, no task of a batch twice or left out, no error that a user does not expect.

Of the ticks of ``job.every``: none is begun once it is recorded as complete, or by two workers at once; none is recorded by two;
with the misfire rule ``'skip'`` none is begun twice at all.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from tests.scheduled.virtual.threads import VirtualThread
    from tests.scheduled.worker import Worker
    from tests.scheduled.world import Schedule, World

__all__ = ['Checks', 'Effect', 'LogLines']

_STOPPED_SEC = 1e-3
"""A thread for which more time than this has passed since the lease's answer was stopped in between."""

_OF_USERS = ('node %r: %s raised', 'node %r: tick %s raised, and stays incomplete')
"""The lines about errors of the user's callbacks and scheduled functions, which a run has plenty of."""


@attrs.define(eq=False)
class Effect:
    """One worker's work at one task."""

    worker: Worker
    key: str
    is_alone: bool
    """Whether no second thread of the same worker may have the task."""
    begun_at: float
    """When it was begun: of a thread that was stopped since, when the lease answered that it may."""
    is_under_way: bool = True
    is_done: bool = False
    is_certain: bool = True
    """Whether the thread has met no error since that may keep what is done from being recorded."""


class Checks:
    """Checks a world, and remembers what broke."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.findings: list[str] = []
        self.figures: Counter[str] = Counter()
        self.effects: defaultdict[str, list[Effect]] = defaultdict(list)
        self._last: dict[VirtualThread, Effect] = {}

    def found(self, text: str) -> None:
        """Record that something broke, with the trace up to the first such moment."""
        world = self._world
        if text in self.findings:
            return
        world.note(f'BROKEN {text}')
        if not self.findings:
            world.kept_trace = tuple(world.trace)
        self.findings.append(text)

    # --- P1 -----------------------------------------------------------------------------------------------------------------

    def claims(self, worker: Worker) -> set[str]:
        """Return the tasks for which a process would answer True at this moment."""
        lease = None if worker.process.is_killed or worker.job is None else worker.job._session.lease
        if lease is None:
            return set()
        deadline, pins, mine = lease.grant
        if worker.process.now() >= deadline:
            return set()
        tokens = self._world.tokens
        if pins is None:
            return {key for key, token in tokens.items() if mine[token]}
        return {key for key, token in tokens.items() if pins.get(key, mine[token])}

    def one_owner(self) -> None:
        """Check P1 for all processes at this moment."""
        owners: dict[str, Worker] = {}
        for worker in self._world.workers:
            for key in self.claims(worker):
                if (other := owners.setdefault(key, worker)) is not worker:
                    self.found(f'P1: {key} is owned by {other} and {worker}')
        for worker in self._world.workers:
            for other in self._world.workers if worker.revoking is not None else ():
                if other is not worker and (early := self._early(worker, other)):
                    self.found(f'R3: {other} has {sorted(early)}, while on_revoke of {worker} runs for them')

    def _early(self, worker: Worker, other: Worker) -> frozenset[int]:
        """Return the tokens that another worker may claim, though the ``on_revoke`` for them has not returned and has time."""
        revoking = worker.revoking  # read once: the steps below are those of a thread, and others may come between them
        lease = None if other.process.is_killed or other.job is None else other.job._session.lease
        if revoking is None or lease is None or other.process.now() >= lease.deadline:
            return frozenset()
        tokens, deadline, since = revoking
        is_over = worker.is_ending or worker.process.now() >= deadline or worker.is_excused_since(since)
        hashed = range(self._world.coordination.total_tokens)  # a pin goes when its lock is removed
        return frozenset() if is_over else tokens & lease.ownership.tokens & frozenset(hashed)

    def after_call(self, name: str, args: Iterable[Any]) -> None:
        """Check P1 after an effect in the store."""
        if name not in ('heartbeat', 'snapshot', 'read_assignment'):
            self.one_owner()
        if name == 'append_audits':
            _, items, *_ = args
            for item in items:
                nodes = self._world.completed_by(item) if self._world.schedule_of(item) else []
                if len(nodes) > 1:
                    self.found(f'every: {item} is recorded as complete by {nodes}')

    def answered(self) -> None:
        """Take the moment at which a lease has answered True to the present thread."""
        thread = self._world.host.thread
        if thread is not None:
            self._world.answered_at[thread] = self._world.host.now
            self.one_owner()

    def begin(self, worker: Worker, key: str, *, is_alone: bool = True, is_once: bool = False) -> Effect:
        """Check P1, and that no other worker works at a task that a loop has yielded or ``add_task`` has returned True for.

        The owner of a tick is that of its schedule.
        """
        world, host = self._world, self._world.host
        assert host.thread is not None
        # t=20  the lease answers True, so the task is in flight; the thread is stopped
        # t=25  the node has been evicted, and registers as a new run, which has no task in flight
        # t=26  the thread goes on: it works by the answer of t=20, and nothing holds the task since t=25
        answered_at = world.answered_at.get(host.thread, -1.0)
        was_stopped = host.now - answered_at > _STOPPED_SEC
        world.note(f'begins {key}' + (', stopped since the answer of its lease' if was_stopped else ''))
        self.figures['stopped' if was_stopped else 'begun'] += 1
        effect = Effect(worker, key, is_alone, answered_at if was_stopped else host.now)
        schedule = world.schedule_of(key)
        if schedule is not None:
            self._compare_tick(effect, schedule, was_stopped=was_stopped)
        if not was_stopped:
            self.one_owner()
            for other in world.workers:
                if other is not worker and (key if schedule is None else schedule.place) in self.claims(other):
                    self.found(f'P1: {key} is begun by {worker}, and owned by {other}')
            for before in self.effects[key]:
                self._compare(before, effect, is_once=is_once)
        self.effects[key].append(effect)
        self._last[host.thread] = effect
        return effect

    def cut_short(self) -> None:
        """Take it that the present thread meets an error now."""
        thread = self._world.host.thread
        if thread is not None and (effect := self._last.get(thread)) is not None:
            effect.is_certain = False

    def left_behind(self, worker: Worker) -> list[str]:
        """Return what the worker has in flight or checked out, except what its program may have left open and ticks."""
        job = worker.job
        lease = None if job is None else job._session.lease
        if job is None or lease is None or worker.is_ending:
            return []
        marks = {
            'in flight': [start.key for start in lease.in_flight],
            'unrecorded': lease.unrecorded,
            'checked out': job._task_log._checked_out.keys(),
            'waiting': ['a loop'] * len(lease.waiting),
        }
        added = self._world.added
        return [
            f'{worker}: {key} {mark}'
            for mark, keys in marks.items()
            for key in keys
            if key not in added and not key.startswith('every:')
        ]

    def _compare(self, before: Effect, effect: Effect, *, is_once: bool) -> None:
        other, key = before.worker, effect.key
        # Two threads of one worker may have a task by add_task, and the first to complete it ends the other's claim to it.
        if before.is_under_way and before.is_alone and (other is not effect.worker or effect.is_alone):
            handover_sec = self._world.coordination.handover_timeout_sec
            if self._world.host.now - before.begun_at < handover_sec and not other.is_excused_since(before.begun_at):
                self.found(f'R3: {key} is begun by {effect.worker}, while {other} works at it')
        since = before.begun_at
        if (
            is_once
            and before.is_done
            and before.is_certain
            and not (other.is_excused_since(since) or effect.worker.is_excused_since(since))
        ):
            self.found(f'batch: {key} is begun by {effect.worker}, and was done by {other} at {since:.3f}')

    def _compare_tick(self, effect: Effect, schedule: Schedule, *, was_stopped: bool) -> None:
        key, worker = effect.key, effect.worker
        self.figures['ticks'] += 1
        if schedule.misfire == 'skip' and self.effects[key]:
            self.found(f'every: {key} is begun by {worker}, and was by {self.effects[key][0].worker}')
        # A process that is stopped here goes on with what the next owner has done meanwhile.
        if not was_stopped and (nodes := self._world.completed_by(key)):
            self.found(f'every: {key} is begun by {worker}, and is recorded as complete by {nodes}')
        for before in self.effects[key]:
            is_other = before.worker is not worker and before.is_under_way and not before.worker.is_excused_since(before.begun_at)
            if is_other and not was_stopped:
                self.found(f'every: {key} is begun by {worker}, while {before.worker} works at it')

    def ticks_missing(self, since: float) -> list[str]:
        """Return the schedules of which no tick was begun since, and done."""
        done = {
            schedule.place
            for key, effects in self.effects.items()
            if (schedule := self._world.schedule_of(key)) and any(each.is_done and each.begun_at >= since for each in effects)
        }
        return [each.place for each in self._world.schedules if each.place not in done]

    def end(self, effect: Effect, *, is_done: bool) -> None:
        """Take the end of the work at a task."""
        effect.is_under_way, effect.is_done = False, is_done
        self._world.note(f'{"ends" if is_done else "leaves"} {effect.key}')

    def is_complete(self, keys: Iterable[str], worker: Worker) -> None:
        """Check that no task of a batch was left out, whose loop has come to its end."""
        recorded = self._world.recorded()
        left = [key for key in keys if key not in recorded]
        if left:
            self.found(f'batch: {worker} has come to its end, and left out {left}')
        undone = [key for key in keys if not any(effect.is_done for effect in self.effects[key])]
        if undone:
            self.found(f'batch: {undone} are recorded, and no worker has done them')


class LogLines(logging.Handler):
    """Takes jobsync's log lines into the trace, blocks where a worker's log is blocked, and finds errors that are no fault's."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def createLock(self) -> None:  # noqa: N802 - the name in ``logging``
        """Have no lock: a handler that blocks would keep the other processes of the host waiting."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        world, host = self._world, self._world.host
        worker = world.worker_of(host.process)
        while worker is not None and host.now < worker.log_blocked_until:
            host.sleep(1.0)
        world.note(f'log: {record.getMessage()}')
        if record.exc_info and record.msg not in _OF_USERS and not isinstance(record.exc_info[1], MemoryError):
            world.checks.found(f'log: {record.getMessage()}: {record.exc_info[1]!r}')
