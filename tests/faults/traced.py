"""The workers of a fault run write the events of ``tests.traces``: the worker's side of ``tests.faults.trace``.

A worker's log has a line ``traced`` for each event of its agent. For each call that changes the store it has a line ``call``
before it, and a line ``done`` after it, unless the call has failed in such a way that it may have been carried out. ``begin`` and
``end`` are on the clock of leases, which all processes of the machine share.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from tests.traces.recorder import Recorder, completed, event_of, recorded_agents

from jobsync._runtime import clock
from jobsync.backend import Backend
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.testing.worker_log import LogWriter

__all__ = ['TracedBackend', 'traced_agents']

_numbers = itertools.count()
"""Numbers of calls: a process may have one backend after the other."""


def traced_agents(log: LogWriter, tasks: Mapping[str, int]) -> AbstractContextManager[None]:
    """Write the events of this process' agents. ``tasks``: those whose owner is of interest, with their hash tokens."""

    def write(event: dict[str, Any]) -> None:
        log.write('traced', begin=event['clock'], end=clock.now(), event=event)

    return recorded_agents(Recorder(write, tasks))


class TracedBackend:
    """A backend whose calls are written with when they began and ended."""

    def __init__(self, inner: Backend, log: LogWriter) -> None:
        self._inner, self._log = inner, log

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name.startswith('_'):
            return found

        def call(*arguments: Any, **rest: Any) -> Any:
            event = event_of(name, *arguments, **rest)
            if event is None:
                return found(*arguments, **rest)
            number = next(_numbers)
            self._log.write('call', number=number, begin=clock.now(), event=event)
            changed: dict[str, Any] | None = None
            try:
                result = found(*arguments, **rest)
                changed = completed(event, result)
            except BackendUnavailable:
                raise
            except JobsyncError:
                self._log.write('done', number=number, end=clock.now(), event=None)
                raise
            self._log.write('done', number=number, end=clock.now(), event=changed)
            return result

        return call
