"""Spans of OpenTelemetry, as the SDK's exporter receives them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.job.waiting import DEADLINE_SEC, wait_until

from jobsync import AsyncJob, CoordinationConfig, Job, Tick
from jobsync._core.assignment import Plan
from jobsync._runtime import tracing
from jobsync._runtime.tracing import commit_span
from jobsync._worker.tracing import AddedTasks
from jobsync.aio.claim_loop import Claims
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.errors import Conflict


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What a program exports that has set a provider."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, 'get_tracer_provider', lambda: provider)
    yield exporter
    provider.shutdown()


def config(store: MemoryStore) -> CoordinationConfig:
    return CoordinationConfig(backend=MemoryBackend(store), minimum_nodes=1, total_tokens=20, rebalance_delay_sec=0)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    found = [span for span in exporter.get_finished_spans() if span.name == f'jobsync.{name}']
    return sorted(found, key=lambda span: span.start_time or 0)


def task_of(span: object) -> object:
    assert isinstance(span, ReadableSpan)
    assert span.attributes is not None
    return span.attributes['jobsync.task']


def test_plans_commits_and_hand_overs(exporter: InMemorySpanExporter) -> None:
    """The leader traces each plan that it commits, the commit, and the hand-over that a commit ends."""
    store = MemoryStore()
    with Job('w1', coordination_config=config(store)), Job('w2', coordination_config=config(store)) as other:
        wait_until(lambda: len(other.my_tokens) == 10, 'the newcomer has its share')
        wait_until(lambda: bool(named(exporter, 'hand_over')), 'its spans are exported')
        reasons = [span.attributes['jobsync.reason'] for span in named(exporter, 'commit') if span.attributes]
        assert reasons[:2] == ['first distribution', 'node joined: w2']
        assert [span.attributes for span in named(exporter, 'plan')][: len(reasons)] == [
            span.attributes for span in named(exporter, 'commit')
        ]
        (hand_over,) = named(exporter, 'hand_over')
        assert hand_over.attributes == {'jobsync.node': 'w1', 'jobsync.reason': 'node joined: w2', 'jobsync.moved': 10}
        assert (hand_over.start_time or 0) < (hand_over.end_time or 0)


def test_a_refused_commit(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The span of a commit that the store refuses is an error."""
    commit, refusals = MemoryBackend.commit, [Conflict('the plan is outdated')]

    def refuse(*args: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return commit(*args)

    monkeypatch.setattr(MemoryBackend, 'commit', refuse)
    with Job('w1', coordination_config=config(MemoryStore())):
        wait_until(lambda: len(named(exporter, 'commit')) >= 2, 'both are exported')
    assert [span.status.is_ok for span in named(exporter, 'commit')][:2] == [False, True]


@pytest.mark.parametrize('hangs', [False, True])
def test_no_plan_waits_for_a_processor_of_spans(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """The leader distributes tokens though a program's own processor of spans hangs, or raises."""
    over, called = threading.Event(), threading.Event()

    def fail(*_: object, **__: object) -> None:
        called.set()
        if hangs:
            over.wait()
        raise ValueError('no span')

    monkeypatch.setattr(SimpleSpanProcessor, 'on_start', fail)
    try:
        with Job('w1', coordination_config=config(MemoryStore())) as job:
            assert len(job.my_tokens) == 20
            assert called.wait(600)
    finally:
        over.set()


@pytest.mark.usefixtures('exporter')
def test_a_processor_that_hangs_keeps_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further plans have no spans: with a thread for each, a leader would end with as many as its process may have."""
    over, begun, plan = threading.Event(), threading.Semaphore(0), Plan('node left: b')

    def hang(*_: object, **__: object) -> None:
        begun.release()
        over.wait()

    def commit() -> None:
        with commit_span('hangs', plan, 0):
            pass

    monkeypatch.setattr(SimpleSpanProcessor, 'on_start', hang)
    monkeypatch.setattr(tracing, '_MOST', 2)
    wait_until(lambda: not tracing._under_way, 'the spans of the tests before are made')
    try:
        for _ in range(2):
            commit()
            assert begun.acquire(timeout=DEADLINE_SEC)
        commit()
        assert len([thread for thread in threading.enumerate() if thread.name == 'jobsync-spans-hangs']) == 2
    finally:
        over.set()
    wait_until(lambda: not tracing._under_way, 'they have ended')
    while begun.acquire(blocking=False):
        pass
    commit()
    assert begun.acquire(timeout=DEADLINE_SEC)


def test_tasks(exporter: InMemorySpanExporter) -> None:
    """A task's span is current in the body of the loop or block, and an error where the task stays incomplete."""
    with Job('w1', coordination_config=config(MemoryStore())) as job:
        for task in job.claim(range(3)):
            assert task_of(trace.get_current_span()) == str(task)
        for _ in job.batch(['a', 'b']):
            break
        with pytest.raises(ValueError, match='broken'), job.task('c'):
            assert task_of(trace.get_current_span()) == 'c'
            raise ValueError('broken')
        with job.task('d'):
            pass
        assert not trace.get_current_span().is_recording()
    spans = named(exporter, 'task')
    assert [task_of(span) for span in spans[:3]] == ['0', '1', '2']
    assert [span.status.is_ok for span in spans] == [True, True, True, False, False, True]
    assert [event.name for event in spans[4].events] == ['exception']


def test_tasks_of_an_event_loop(exporter: InMemorySpanExporter) -> None:
    """``AsyncJob`` has the same, though threads call the store."""

    async def work() -> None:
        async with AsyncJob('w1', coordination_config=config(MemoryStore())) as job:
            async for task in job.claim(range(3)):
                assert task_of(trace.get_current_span()) == str(task)
            claims = job.claim(['a', 'b'])
            assert isinstance(claims, Claims)
            async for _ in claims:
                break
            await claims.aclose()
            async with job.task('c'):
                assert task_of(trace.get_current_span()) == 'c'
            assert not trace.get_current_span().is_recording()

    asyncio.run(work())
    assert [span.status.is_ok for span in named(exporter, 'task')] == [True, True, True, False, True]


def test_added_tasks(exporter: InMemorySpanExporter) -> None:
    """A task's span lasts from ``add_task`` until it is complete, and is never current; one that stays open is an error."""
    with Job('w1', coordination_config=config(MemoryStore())) as job:
        for task in 'abcd':
            assert job.add_task(task)
            assert job.add_task(task)
        assert not trace.get_current_span().is_recording()
        job.complete('b')
        assert [task_of(span) for span in named(exporter, 'task')] == ['b']
        job.write_audit()
        assert sorted(str(task_of(span)) for span in named(exporter, 'task')) == ['a', 'b', 'c', 'd']
        job.add_task('e')
    spans = named(exporter, 'task')
    assert [span.status.is_ok for span in spans] == [True] * 4 + [False]
    assert all((span.start_time or 0) < (span.end_time or 0) for span in spans)


def test_a_completion_asks_of_no_other_task(exporter: InMemorySpanExporter) -> None:
    """To complete one of thousands of added tasks takes no longer than to complete one of a few."""
    added, asked = AddedTasks('w1'), list[str]()

    def is_open(task: str) -> bool:
        asked.append(task)
        return False

    for task in 'abc':
        added.begin(task, 1)
    added.end(is_open, 'b')
    assert asked == ['b']
    assert [task_of(span) for span in named(exporter, 'task')] == ['b']


def test_turns(exporter: InMemorySpanExporter) -> None:
    """A turn's span is current in its block, also on an event loop; an error of the block is one, to leave a loop is none."""
    with Job('w1', coordination_config=config(MemoryStore())) as job:
        for _ in job.singleton('place'):
            assert task_of(trace.get_current_span()) == 'singleton:place'
            break
        with pytest.raises(ValueError, match='broken'), job.singleton('place') as turn:
            assert turn
            raise ValueError('broken')

    async def work() -> None:
        async with AsyncJob('w2', coordination_config=config(MemoryStore())) as job:
            async for _ in job.singleton('place'):
                assert task_of(trace.get_current_span()) == 'singleton:place'
                break
            with pytest.raises(ValueError, match='broken'):
                async with job.singleton('place'):
                    raise ValueError('broken')
            assert not trace.get_current_span().is_recording()

    asyncio.run(work())
    spans = named(exporter, 'singleton')
    assert [span.status.is_ok for span in spans if (span.attributes or {})['jobsync.node'] == 'w2'] == [True, False]
    assert [span.status.is_ok for span in spans][:2] == [True, False]
    assert [event.name for event in spans[1].events] == ['exception']


def test_a_turn_whose_span_cannot_begin_is_given_back(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a program's own processor of spans fails, its error is raised, and the place may be taken again."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError('no span')

    async def work() -> None:
        async with AsyncJob('w1', coordination_config=config(MemoryStore())) as job:
            with monkeypatch.context() as patch:
                patch.setattr(SimpleSpanProcessor, 'on_start', refuse)
                with pytest.raises(ValueError, match='no span'):
                    await job.singleton('place').__aenter__()
            async with job.singleton('place') as turn:
                assert turn

    with Job('w1', coordination_config=config(MemoryStore())) as job:
        kept = job.singleton('kept')
        with monkeypatch.context() as patch:
            patch.setattr(SimpleSpanProcessor, 'on_start', refuse)
            with pytest.raises(ValueError, match='no span'), job.singleton('place'):
                pass
            with pytest.raises(ValueError, match='no span'), kept:
                pass
        for place in (job.singleton('place'), kept):
            with place as turn:
                assert turn
    asyncio.run(work())
    assert len(named(exporter, 'singleton')) == 3


def test_ticks(exporter: InMemorySpanExporter) -> None:
    """A tick's span is current in its function; it is an error if the function raises."""
    current: list[object] = []
    with Job('w1', coordination_config=config(MemoryStore())) as job:

        @job.every(0.2)
        def work(tick: Tick) -> None:
            current.append(task_of(trace.get_current_span()))
            if len(current) == 2:
                raise ValueError('broken')

        wait_until(lambda: len(named(exporter, 'tick')) >= 3, 'three ticks have run')
    spans = named(exporter, 'tick')[:3]
    assert [task_of(span) for span in spans] == current[:3]
    assert [span.status.is_ok for span in spans] == [True, False, True]


def test_nothing_is_imported_for_a_program_that_does_not_trace() -> None:
    """Without a provider there is no span, and the API is not even imported."""
    code = """
import sys
from jobsync import CoordinationConfig, Job
config = CoordinationConfig(backend='memory://', minimum_nodes=1, total_tokens=20)
with Job('w1', coordination_config=config) as job:
    assert list(job.claim(range(3))) == [0, 1, 2]
assert 'opentelemetry' not in sys.modules
"""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)
