"""Loops that pass over what is complete, when the store goes back in time: to a standby that is behind, or to a backup."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.job.waiting import wait_until
from tests.support.timings import FAST, TOKENS

from jobsync import CoordinationConfig, Job
from jobsync._worker import shared_batch
from jobsync.backends.memory import MemoryBackend
from jobsync.testing.editable_store import EditableStore

DEADLINE_SEC = 120


def config_of(store: EditableStore) -> CoordinationConfig:
    """Nodes on this store."""
    return CoordinationConfig(backend=MemoryBackend(store), **FAST)


def audited(job: Job) -> set[str]:
    """The tasks that are complete by the store."""
    return {row['item'] for row in job.get_audit()}


def has_noticed(job: Job, earlier: object) -> bool:
    """Whether the node has another timeline by now."""
    runtime = job._session.runtime
    return runtime is not None and runtime.agent.timeline not in (None, earlier)


def timeline_of(job: Job) -> object:
    """The node's timeline."""
    assert job._session.runtime is not None
    return job._session.runtime.agent.timeline


def test_what_was_lost_is_done_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes have done a batch but for one task, and the store has the first ten of it: they do the rest again, and end."""
    monkeypatch.setattr(shared_batch, '_REPORT_SEC', 0.2)
    store, took, may_end = EditableStore(), list[str](), threading.Event()
    tasks = [f'task-{number}' for number in range(30)]
    with Job('a', coordination_config=config_of(store)) as a, Job('b', coordination_config=config_of(store)) as b:
        assert list(a.batch([])) == []
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        slow = [task for task in tasks if b.can_claim_task(task)][-1]  # what comes behind it would wait for it

        def work(job: Job, some: list[str]) -> None:
            for task in job.batch(some):
                took.append(task)
                if task == slow:
                    assert may_end.wait(DEADLINE_SEC)

        def started(some: list[str]) -> list[threading.Thread]:
            threads = [threading.Thread(target=work, args=(job, some)) for job in (a, b)]
            for thread in threads:
                thread.start()
            return threads

        for thread in started(tasks[:10]):
            thread.join(DEADLINE_SEC)
        image = store.image()
        threads = started(tasks)
        wait_until(lambda: audited(a) == {*tasks} - {slow}, 'all is complete but the slow task')
        with caplog.at_level(logging.INFO, 'jobsync.job'):
            one = 'for 1 of a batch of 30 tasks'
            wait_until(
                lambda: any("node 'a' has waited" in line and one in line for line in caplog.messages), 'it has learned that'
            )
            assert 'went back' not in caplog.text
            earlier = timeline_of(b)
            store.restore(image, 'another')
            wait_until(lambda: has_noticed(b, earlier), 'the second node is in another timeline')
            may_end.set()
            for thread in threads:
                thread.join(DEADLINE_SEC)
                assert not thread.is_alive()
            wait_until(lambda: "node 'a': the store went back in time, and no longer has 19 tasks" in caplog.text, 'it says so')
    counts = Counter(took)
    assert {task for task, count in counts.items() if count > 1} == {*tasks[10:]} - {slow}
    assert max(counts.values()) == 2
    with Job('c', coordination_config=config_of(store)) as c:
        assert audited(c) == {*tasks}
        assert list(c.batch(tasks)) == []


def test_a_loop_over_an_endless_source_begins_it_again() -> None:
    """What ``once`` has passed over is begun when it comes again, if the store has no record of it any more."""
    store = EditableStore()
    with Job('a', coordination_config=config_of(store)) as job:
        image = store.image()

        def source() -> Iterator[str]:
            yield 'x'
            wait_until(lambda: audited(job) == {'x'}, 'it is recorded')
            yield 'x'
            earlier = timeline_of(job)
            store.restore(image, 'another')
            wait_until(lambda: has_noticed(job, earlier) and job.can_claim_task('x'), 'the node has its tokens again')
            yield 'x'

        assert list(job.claim(source(), once=True, batch=1)) == ['x', 'x']
        wait_until(lambda: audited(job) == {'x'}, 'it is recorded again')


def test_it_says_what_to_do_about_a_worker_that_has_gone_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch waits since then for a node whose own batch has ended, until that node does it once more."""
    monkeypatch.setattr(shared_batch, '_REPORT_SEC', 0.2)
    store, may_end, took = EditableStore(), threading.Event(), list[str]()
    with Job('a', coordination_config=config_of(store)) as a, Job('b', coordination_config=config_of(store)) as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        image, tasks = store.image(), [f'task-{number}' for number in range(TOKENS)]
        own, other = next(filter(a.can_claim_task, tasks)), next(filter(b.can_claim_task, tasks))

        def work() -> None:
            for task in a.batch([own, other]):
                took.append(task)
                assert may_end.wait(DEADLINE_SEC)

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: took, 'a task is in hand')
        assert list(b.batch([other])) == [other]
        earlier = timeline_of(a)
        store.restore(image, 'another')
        wait_until(lambda: has_noticed(a, earlier), 'the node is in another timeline')
        with caplog.at_level(logging.INFO, 'jobsync.job'):
            may_end.set()
            wait_until(lambda: 'if the worker that owns it has gone on to another batch' in caplog.text, 'it says so')
        again = threading.Thread(target=lambda: took.extend(b.batch([own, other])))
        again.start()
        for each in (thread, again):
            each.join(DEADLINE_SEC)
            assert not each.is_alive()
    assert {*took} == {own, other}
