"""Spans of OpenTelemetry around the work on tasks."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from jobsync._runtime.tracing import tracer
from jobsync.task import key_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

__all__ = ['task_span', 'traced']

T = TypeVar('T')

_NO_SPAN = nullcontext()


def task_span(node: str, task: object) -> AbstractContextManager[None]:
    """Return a block that is traced as the work on a task, if the program traces."""
    found = tracer()
    return _NO_SPAN if found is None else TaskSpan(found, node, key_of(task))


def traced(tasks: Generator[T], node: str) -> Generator[T]:
    """Return these tasks, each with a span until the next one is requested, if the program traces."""
    found = tracer()
    return tasks if found is None else _traced(found, tasks, node)


def _traced(found: Tracer, tasks: Generator[T], node: str) -> Generator[T]:
    with closing(tasks):
        for task in tasks:
            with TaskSpan(found, node, key_of(task)):
                yield task


class TaskSpan:
    """A block with a span, which is the current one of this thread or asyncio task."""

    def __init__(self, found: Tracer, node: str, key: str) -> None:
        from opentelemetry import context, trace

        self._trace, self._context = trace, context
        self._tracer, self._about = found, {'jobsync.node': node, 'jobsync.task': key}

    def __enter__(self) -> None:
        self._span: Span = self._tracer.start_span('jobsync.task', attributes=self._about)
        self._token = self._context.attach(self._trace.set_span_in_context(self._span))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        # A loop may be left in another thread or asyncio task than the one in which the span was made the current one.
        if self._trace.get_current_span() is self._span:
            self._context.detach(self._token)
        if isinstance(error, Exception):
            self._span.record_exception(error)
        if error is not None:
            self._span.set_status(self._trace.StatusCode.ERROR, 'the task stays incomplete')
        self._span.end()
