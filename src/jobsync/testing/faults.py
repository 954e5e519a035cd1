"""A backend that fails on request, before or after the effect of a call."""

from __future__ import annotations

import datetime as dt
import enum
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import attrs

from jobsync.backend import (
    Audit,
    Backend,
    BackendInfo,
    Changes,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
    Opened,
    Plan,
    Pulse,
    Purged,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Space,
    Timeline,
    Unclaimed,
)
from jobsync.errors import BackendUnavailable

__all__ = ['Fault', 'FaultyBackend', 'When']

P = ParamSpec('P')
T = TypeVar('T')


class When(enum.Enum):
    """On which side of its effect a call fails. The caller sees the same error."""

    BEFORE = 'before'
    AFTER = 'after'
    NEVER = 'never'
    """The call does not fail: only the delay of the fault applies."""


@attrs.define
class Fault:
    """A failure, a delay, or both, for the next calls of a method."""

    method: str | None = None
    """Name of a method of ``Backend``; None for every method."""
    when: When = When.BEFORE
    skip: int = 0
    """How many calls succeed before the first one that is hit."""
    times: int = 1
    """How many calls are hit after that."""
    delay_sec: float = 0.0
    """Seconds that a call that is hit waits before anything else happens."""


class FaultyBackend:
    """A ``Backend`` that forwards every call to ``inner``, unless one of ``faults`` applies to the call.

    Of several faults that apply the first is used, and its ``times`` falls by one. A test may append to ``faults`` at any time.
    ``calls`` lists the names of the methods called, failed calls included.

    Args:
        inner: The backend that receives the calls.
        faults: The first faults.
        sleep: Waits for ``Fault.delay_sec``; a test may pass a function that only records the seconds.
    """

    def __init__(self, inner: Backend, *faults: Fault, sleep: Callable[[float], None] = time.sleep) -> None:
        self.inner = inner
        self.faults = list(faults)
        self.calls: list[str] = []
        self._sleep = sleep
        self._lock = threading.Lock()

    def _fault(self, method: str) -> Fault | None:
        with self._lock:
            self.calls.append(method)
            for fault in self.faults:
                if fault.method not in (None, method) or fault.times <= 0:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
            return None

    def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        name = method.__name__
        fault = self._fault(name)
        if fault is None:
            return method(*args, **kwargs)
        if fault.delay_sec:
            self._sleep(fault.delay_sec)
        if fault.when is When.BEFORE:
            raise BackendUnavailable(f'{name} was not done, because a fault is set')
        result = method(*args, **kwargs)
        if fault.when is When.AFTER:
            raise BackendUnavailable(f'{name} was done, and its answer is lost, because a fault is set')
        return result

    @property
    def info(self) -> BackendInfo:
        """Return the declarations of the inner backend."""
        return self.inner.info

    def close(self) -> None:
        """Close the inner backend; no fault applies."""
        self.inner.close()

    def read_space(self) -> Space:
        """See ``BackendInfo.space``."""
        inner: Any = self.inner
        space: Space = self._call(inner.read_space)
        return space

    def read_namespaces(self, limit: int) -> list[str]:
        """See ``BackendInfo.namespaces``."""
        inner: Any = self.inner
        names: list[str] = self._call(inner.read_namespaces, limit)
        return names

    # The protocol, method by method

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        return self._call(self.inner.open, settings, create, dead)

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        self._call(self.inner.renew_timeline, expected, at_least, longest_timeout_sec)

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        self._call(self.inner.register, node, timeline, at_least, replacing)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        return self._call(self.inner.heartbeat, ref, seen, holding, candidate)

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        self._call(self.inner.set_weight, ref, weight, stalled)

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        self._call(self.inner.deregister, ref, died)

    def remove_node(self, ref: NodeRef) -> bool:
        return self._call(self.inner.remove_node, ref)

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        return self._call(self.inner.acquire_leadership, ref, epoch)

    def snapshot(self) -> Snapshot:
        return self._call(self.inner.snapshot)

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        return self._call(self.inner.read_assignment, since, tokens)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        return self._call(self.inner.commit, ref, plan, guard)

    def read_locks(self) -> LockReading:
        return self._call(self.inner.read_locks)

    def edit_locks(self, edit: LockEdit) -> int:
        return self._call(self.inner.edit_locks, edit)

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        return self._call(self.inner.append_claims, ref, items, date, tolerated)

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        self._call(self.inner.forget_attempts, items, date, ref)

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        return self._call(self.inner.lost_attempts, date, at_least)

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        self._call(self.inner.append_audits, node, items, date)

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        return self._call(self.inner.history, kind, limit=limit, date=date, item=item)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        return self._call(self.inner.incomplete, date, older_than)

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        return self._call(self.inner.purge, kind, before, limit, after)

    def wait(self, revision: int, timeout: float) -> int:
        return self._call(self.inner.wait, revision, timeout)
