"""Spans of OpenTelemetry, for programs that trace: what a leader does.

A program that traces has imported the API and set a tracer provider. Otherwise there are no spans, and nothing is imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from jobsync._core.assignment import Plan
from jobsync._event_log import EventLogger
from jobsync._runtime import threads

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ['commit_span', 'tracer']

_logger = EventLogger('jobsync.node')
_made: tuple[Any, Tracer | None] = (None, None)
"""The provider last found, and its tracer for this library."""
_MOST = 10
"""How many plans have their spans made at a time. Where a processor hangs, each of them keeps a thread for ever."""
_under_way: list[int] = []
"""The process of each plan whose spans are being made: a fork has none of its parent's threads."""


def tracer() -> Tracer | None:
    """Return the tracer; None if the program has set no provider."""
    global _made
    trace = sys.modules.get('opentelemetry.trace')
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if provider is not _made[0]:
        is_set = not isinstance(provider, trace.ProxyTracerProvider)
        _made = provider, trace.get_tracer('jobsync', tracer_provider=provider) if is_set else None
    return _made[1]


@contextmanager
def commit_span(node: str, plan: Plan, planned_from: int) -> Iterator[None]:
    """Trace a leader's plan, its commit in this block, and the hand-over that the commit ends, if it does.

    ``planned_from`` is when planning began, on ``time.time_ns``.
    """
    found = tracer()
    if found is None:
        yield
        return
    # t=0  a worker has died; the leader plans, and ends a span: the exporter waits ten seconds for a server that is away
    # t=1  the tokens of the dead worker have no owner meanwhile; and for ever, if a processor of spans raises
    # So the spans are made afterwards, on a thread of their own.
    write = partial(_write_spans, found, node, plan, planned_from, time.time_ns())
    try:
        yield
    except Exception as error:
        _start(node, partial(write, time.time_ns(), error))
        raise
    _start(node, partial(write, time.time_ns(), None))


def _start(node: str, write: Callable[[], object]) -> None:
    if _under_way.count(os.getpid()) < _MOST:
        with suppress(RuntimeError):  # the process can start no thread now
            threads.start(node, 'spans', partial(_try, node, write))


def _try(node: str, write: Callable[[], object]) -> None:
    process = os.getpid()
    _under_way.append(process)
    try:
        write()
    except Exception:
        _logger.exception('node %r: a plan has no spans, since tracing raised', node)
    finally:
        _under_way.remove(process)


def _write_spans(
    found: Tracer, node: str, plan: Plan, planned_from: int, sent_at: int, ended_at: int, error: Exception | None
) -> None:
    """Make the spans of a plan and its commit. All times are on ``time.time_ns``."""
    about: dict[str, str | int] = {'jobsync.node': node, 'jobsync.reason': plan.reason, 'jobsync.moved': plan.moved}
    found.start_span('jobsync.plan', attributes=about, start_time=planned_from).end(sent_at)
    commit = found.start_span('jobsync.commit', attributes=about, start_time=sent_at)
    if error is not None:
        from opentelemetry.trace import StatusCode

        commit.record_exception(error)
        commit.set_status(StatusCode.ERROR, f'{type(error).__name__}: {error}')
    commit.end(ended_at)
    if error is None and plan.moved and plan.duration_ms:
        began = ended_at - 1_000_000 * plan.duration_ms
        found.start_span('jobsync.hand_over', attributes=about, start_time=began).end(ended_at)
