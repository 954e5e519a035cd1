"""Spans of OpenTelemetry around the work on tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from jobsync._runtime.tracing import tracer
from jobsync.task import key_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

__all__ = ['AddedTasks', 'TurnSpan', 'task_span', 'tick_span', 'traced']

T = TypeVar('T')

_NO_SPAN = nullcontext()
_INCOMPLETE = 'the task stays incomplete'


def task_span(node: str, task: object) -> AbstractContextManager[None]:
    """Return a block that is traced as the work on a task, if the program traces."""
    found = tracer()
    return _NO_SPAN if found is None else TaskSpan(found, node, key_of(task))


def tick_span(node: str, tick: str) -> AbstractContextManager[None]:
    """Return a block that is traced as a tick of a scheduled function, given by its id, if the program traces."""
    found = tracer()
    return _NO_SPAN if found is None else TaskSpan(found, node, tick, 'jobsync.tick', 'the tick stays incomplete')


class TurnSpan:
    """The span of the turn that a worker has at a place, if it has one and the program traces."""

    def __init__(self, node: str, key: str) -> None:
        self._node, self._key = node, key
        self._span: TaskSpan | None = None

    def begin(self) -> None:
        """Begin a turn."""
        found = tracer()
        if found is not None:
            span = TaskSpan(found, self._node, self._key, 'jobsync.singleton', 'the turn ended by an error')
            span.__enter__()
            self._span = span

    def end(self, error: BaseException | None = None) -> None:
        """End the turn, with the error by which its block was left."""
        span, self._span = self._span, None
        if span is not None:
            error = error if isinstance(error, Exception) else None  # to leave a loop is no error
            span.__exit__(None if error is None else type(error), error, None)


class AddedTasks:
    """The spans of tasks that ``add_task`` has begun, until each is complete. None of them is the current span."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._spans: dict[str, Span] = {}

    def begin(self, key: str, started_at: int) -> None:
        """Begin the span of a task, unless it has one; ``started_at`` is on ``time.time_ns``."""
        found = tracer()
        if found is not None and key not in self._spans:
            about = {'jobsync.node': self._node, 'jobsync.task': key}
            self._spans[key] = found.start_span('jobsync.task', attributes=about, start_time=started_at)

    def end(self, is_open: Callable[[str], bool], key: str | None = None) -> None:
        """End the span of a task, or without one all spans, where the task is not open any more."""
        for each in [each for each in (list(self._spans) if key is None else [key]) if not is_open(each)]:
            if (span := self._spans.pop(each, None)) is not None:
                span.end()

    def give_up(self, key: str | None = None) -> None:
        """End the span of a task, or without one all spans, as errors: the work has ended, and the task is incomplete."""
        for each in list(self._spans) if key is None else [key]:
            if (span := self._spans.pop(each, None)) is not None:
                from opentelemetry.trace import StatusCode

                span.set_status(StatusCode.ERROR, _INCOMPLETE)
                span.end()


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

    def __init__(self, found: Tracer, node: str, key: str, name: str = 'jobsync.task', failed: str = _INCOMPLETE) -> None:
        from opentelemetry import context, trace

        self._trace, self._context, self._name, self._failed = trace, context, name, failed
        self._tracer, self._about = found, {'jobsync.node': node, 'jobsync.task': key}

    def __enter__(self) -> None:
        self._span: Span = self._tracer.start_span(self._name, attributes=self._about)
        self._token = self._context.attach(self._trace.set_span_in_context(self._span))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        # A loop may be left in another thread or asyncio task than the one in which the span was made the current one.
        if self._trace.get_current_span() is self._span:
            self._context.detach(self._token)
        if isinstance(error, Exception):
            self._span.record_exception(error)
        if error is not None:
            self._span.set_status(self._trace.StatusCode.ERROR, self._failed)
        self._span.end()
