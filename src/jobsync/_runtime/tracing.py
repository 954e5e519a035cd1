"""Spans of OpenTelemetry, for programs that trace: what a leader does.

A program that traces has imported the API and set a tracer provider. Otherwise there are no spans, and nothing is imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobsync._core.assignment import Plan

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ['commit_span', 'tracer']

_made: tuple[Any, Tracer | None] = (None, None)
"""The provider last found, and its tracer for this library."""


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
    """Trace a plan that is made, its commit in this block, and the hand-over that the commit ends, if it does.

    Args:
        node: the leader.
        plan: what is committed.
        planned_from: when planning began, on ``time.time_ns``.
    """
    found = tracer()
    if found is None:
        yield
        return
    about: dict[str, str | int] = {'jobsync.node': node, 'jobsync.reason': plan.reason, 'jobsync.moved': plan.moved}
    found.start_span('jobsync.plan', attributes=about, start_time=planned_from).end()
    with found.start_as_current_span('jobsync.commit', attributes=about):
        yield
    if plan.moved and plan.duration_ms:
        began = time.time_ns() - 1_000_000 * plan.duration_ms
        found.start_span('jobsync.hand_over', attributes=about, start_time=began).end()
