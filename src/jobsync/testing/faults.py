"""A backend that fails on request, before or after the effect of a call."""

from __future__ import annotations

import enum
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import attrs

from jobsync.backend import Backend, BackendInfo, Space
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


def _faulty(method: Callable[Concatenate[Backend, P], T]) -> Callable[Concatenate[FaultyBackend, P], T]:
    """Make a method that calls the inner backend's of the same name, unless a fault applies."""

    def call(self: FaultyBackend, /, *args: P.args, **kwargs: P.kwargs) -> T:
        inner: Callable[P, T] = getattr(self.inner, method.__name__)
        return self._call(inner, *args, **kwargs)

    return functools.update_wrapper(call, method)


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

    open = _faulty(Backend.open)
    renew_timeline = _faulty(Backend.renew_timeline)
    register = _faulty(Backend.register)
    heartbeat = _faulty(Backend.heartbeat)
    set_weight = _faulty(Backend.set_weight)
    deregister = _faulty(Backend.deregister)
    remove_node = _faulty(Backend.remove_node)
    acquire_leadership = _faulty(Backend.acquire_leadership)
    snapshot = _faulty(Backend.snapshot)
    read_assignment = _faulty(Backend.read_assignment)
    commit = _faulty(Backend.commit)
    read_locks = _faulty(Backend.read_locks)
    edit_locks = _faulty(Backend.edit_locks)
    append_claims = _faulty(Backend.append_claims)
    forget_attempts = _faulty(Backend.forget_attempts)
    lost_attempts = _faulty(Backend.lost_attempts)
    append_audits = _faulty(Backend.append_audits)
    history = _faulty(Backend.history)
    incomplete = _faulty(Backend.incomplete)
    purge = _faulty(Backend.purge)
    wait = _faulty(Backend.wait)
