"""What is not refused is right: a text of any form comes back from every store as it was given, and belongs to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bad_input.surroundings import MINE, surroundings
from tests.bad_input.values import texts
from tests.bad_input.watch import Refused, attempted, examples, within
from tests.job.stores import Store
from tests.support.timings import TOKENS

from jobsync import Job, UnsupportedOperation
from jobsync._core.hashing import tokenizer
from jobsync.backends.sql.postgresql.dialect import PostgresqlDialect

pytestmark = pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')  # of a long text that is shown

CONFIG = {'appname': MINE, 'shutdown_timeout_sec': 1}
"""Tasks are left unfinished, which a job waits for as it leaves."""
LONGEST = PostgresqlDialect.longest_id
"""Bytes of a task's id on PostgreSQL."""
some = st.lists(st.one_of(texts, st.integers()), min_size=1, max_size=3)


def on_a_job(place: Store, work: Callable[[Job], None]) -> None:
    """Let a test work with the only node of a namespace, and check that its neighbours are as before."""
    with surroundings(place.url) as content:
        before = content()
        with place.job('a', config=CONFIG) as job:
            work(job)
        assert content() == before


def test_tasks(place: Store, count: int) -> None:
    """A task is claimed and completed under its text, which is its key, and has the token that its text has."""
    token_of = tokenizer('xxh3', TOKENS)

    def work(job: Job) -> None:
        @examples(count // 2)
        @given(some)
        def attempt(tasks: list[Any]) -> None:
            for task in tasks:
                if isinstance(attempted(lambda task=task: job.can_claim_task(task)), Refused):  # type: ignore[misc]
                    continue
                assert job.task_to_token(task) == token_of(str(task))
                assert job.owner_of(task) == 'a'
                started = attempted(lambda task=task: job.add_task(task))  # type: ignore[misc]
                if isinstance(started, Refused):
                    assert isinstance(started.error, UnsupportedOperation)
                    assert 'postgresql' in place.url
                    assert len(str(task).encode()) > LONGEST
                    continue
                assert started
                assert job.fence(task) > 0
                within(lambda task=task: job.complete(task))  # type: ignore[misc]
                assert str(task) in {row['item'] for row in job.get_audit()}

        attempt()

    on_a_job(place, work)


def test_locks(place: Store, count: int) -> None:
    """A task lock has the task, patterns and reason that were given; by its creator it is removed, by another name it is not."""

    def work(job: Job) -> None:
        @examples(count // 2)
        @given(texts, st.lists(texts, min_size=1, max_size=3), texts, texts)
        def attempt(task: str, patterns: list[str], reason: str, other: str) -> None:
            result = attempted(lambda: job.register_task_lock(task, patterns, reason))
            found = job.list_locks()
            if isinstance(result, Refused):
                assert found == []
                return
            assert [(row['task_id'], list(row['patterns']), row['reason']) for row in found] == [(task, patterns, reason)]
            assert other == 'a' or attempted(lambda: job.clear_locks_by_creator(other)) != 1
            assert job.clear_locks_by_creator('a') == 1

        attempt()

    on_a_job(place, work)


def test_items(place: Store, count: int) -> None:
    """A group has the items that were declared, and no other group has them."""

    def work(job: Job) -> None:
        @examples(count // 2)
        @given(texts, texts, some)
        def attempt(group: str, other: str, ids: list[Any]) -> None:
            if isinstance(attempted(lambda: job.declare_items(group, ids)), Refused):
                return
            assert [row['item'] for row in job.list_items(group)] == sorted(set(map(str, ids)))
            found = attempted(lambda: job.list_items(other))
            assert isinstance(found, Refused) or other == group or found == []
            job.declare_items(group, [])

        attempt()

    on_a_job(place, work)


def test_node_names(place: Store, count: int) -> None:
    """A node of any name that is allowed enters, owns, is listed by its name, and leaves."""
    with surroundings(place.url) as content:
        before = content()

        @examples(count // 10 + 2)
        @given(texts)
        def attempt(name: str) -> None:
            def enter() -> None:
                with place.job(name, config=CONFIG) as job:
                    assert name in [row['name'] for row in job.nodes]
                    assert job.owner_of('x') == name

            attempted(enter)

        attempt()
        assert content() == before
