"""What jobsync records while a transaction of the user's has written and is open: SQLite allows one writer at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until

import jobsync.database as db
from jobsync import AsyncJob, CoordinationConfig, Job, UnsupportedOperation

INSERT = "INSERT INTO results VALUES ('done')"
COUNT = 'SELECT count(*) FROM results'


def config(folder: Path, **settings: float) -> CoordinationConfig:
    return CoordinationConfig(backend=f'sqlite:///{folder}/jobs.db', minimum_nodes=1, total_tokens=20, **settings)  # type: ignore[arg-type]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A job on SQLite with a table of the user's."""
    with Job('a', coordination_config=config(tmp_path)) as job:
        db.execute(job._cn, 'CREATE TABLE results (result TEXT)')
        yield job


def block(job: Job) -> None:
    with job.task('x'):
        pass


ACTIONS: dict[str, Callable[[Job], object]] = {
    'claim': lambda job: list(job.claim(['x'])),
    'batch': lambda job: list(job.batch(['x'])),
    'add_task': lambda job: job.add_task('x'),
    'set_claim': lambda job: job.set_claim(['x']),
    'task': block,
    'complete': lambda job: job.complete('begun'),
    'write_audit': lambda job: job.write_audit(),
    'register_task_lock': lambda job: job.register_task_lock('x', 'a'),
}


@pytest.mark.parametrize('name', ACTIONS)
def test_what_would_wait_for_its_own_caller_is_refused_at_once(job: Job, name: str) -> None:
    """The error says what to do. After the transaction the same succeeds, and nothing was recorded of the first attempt."""
    assert job.add_task('begun')
    with pytest.raises(UnsupportedOperation, match='outside of the transaction'), job._cn.transaction():
        db.execute(job._cn, INSERT)
        ACTIONS[name](job)
    assert db.select_scalar(job._cn, COUNT) == 0
    assert job.get_audit() == []
    assert job.list_locks() == []
    ACTIONS[name](job)
    with job._cn.transaction():
        ACTIONS['claim'](job)
        db.execute(job._cn, 'SELECT 1')


WRITES = [
    "INSERT INTO results VALUES ('done')",
    "  -- a comment\n  REPLACE INTO results VALUES ('done')",
    "WITH two AS (SELECT 'a' UNION SELECT 'b') INSERT INTO results SELECT * FROM two RETURNING result",
    "UPDATE results SET result = 'never' WHERE result = 'no such'",
    'DELETE FROM results',
    'CREATE TABLE more (x)',
    'DROP TABLE results',
    'ALTER TABLE results ADD COLUMN two INTEGER',
    'CREATE INDEX an_index ON results (result)',
    'PRAGMA user_version = 7',
]


@pytest.mark.parametrize('statement', WRITES)
def test_every_statement_that_writes_counts(job: Job, statement: str) -> None:
    """Whatever its form, also one that changes no row: it has made its transaction the one writer."""
    with pytest.raises(UnsupportedOperation, match='outside of the transaction'), job._cn.transaction():
        db.execute(job._cn, 'SELECT 1')
        db.execute(job._cn, statement)
        job.add_task('x')


def test_rows_that_are_inserted_count(job: Job) -> None:
    """``insert_rows`` and values are no other way past it; no row is no write, and an error is the statement's own."""
    with job._cn.transaction():
        db.insert_rows(job._cn, 'results', [])
        with pytest.raises(Exception, match='no such table'):
            db.execute(job._cn, 'INSERT INTO nowhere VALUES (%s)', 'x')
        assert job.add_task('x')
    with pytest.raises(UnsupportedOperation), job._cn.transaction():
        db.insert_rows(job._cn, 'results', [{'result': 'one'}, {'result': 'two'}])
        job.add_task('y')
    with pytest.raises(UnsupportedOperation), job._cn.transaction():
        db.execute(job._cn, 'INSERT INTO results VALUES (%s)', 'x')
        job.add_task('y')


def test_work_that_is_rolled_back_is_not_complete(job: Job) -> None:
    """A task that was written about in a transaction around it, which has not ended, is done again."""
    with pytest.raises(UnsupportedOperation), job._cn.transaction():
        for _ in job.claim(['x', 'y']):
            db.execute(job._cn, INSERT)
    with pytest.raises(UnsupportedOperation), job._cn.transaction(), job.task('z'):
        db.execute(job._cn, INSERT)
    assert list(job.claim(['other'])) == ['other']  # whose end records all that is finished
    assert [row['item'] for row in job.get_audit()] == ['other']
    assert db.select_scalar(job._cn, COUNT) == 0


def test_a_transaction_for_each_task_is_as_it_should_be(store: Store) -> None:
    """Within the loop, one transaction for each task records nothing but the user's rows; so do statements by themselves."""
    with store.job('a') as job:
        db.execute(job._cn, 'CREATE TABLE results (result TEXT)')
        for _ in job.claim(['x', 'y']):
            with job._cn.transaction():
                db.execute(job._cn, INSERT)
            with suppress(ZeroDivisionError), job._cn.transaction():
                db.execute(job._cn, INSERT)
                raise ZeroDivisionError
            db.execute(job._cn, INSERT)
        assert len(job.get_audit()) == 2
        assert db.select_scalar(job._cn, COUNT) == 4


def test_a_temporary_table_keeps_no_writer_out(job: Job) -> None:
    """What is written outside of the file is no reason to refuse anything."""
    with job._cn.transaction():
        db.execute(job._cn, 'CREATE TEMPORARY TABLE scratch (task TEXT)')
        db.execute(job._cn, "INSERT INTO scratch VALUES ('x')")
        assert list(job.claim(['x'])) == ['x']


def test_another_thread_may_write_after_it(job: Job) -> None:
    """A thread without a transaction waits for that of another one, and then records."""
    with job._cn.transaction():
        db.execute(job._cn, INSERT)
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.extend(job.claim([7])))
        thread.start()
    thread.join()
    assert found == [7]


def test_an_event_loop_is_refused_too(tmp_path: Path) -> None:
    """A coroutine that has written does not wait for itself in another thread."""

    async def work() -> None:
        async with AsyncJob('a', coordination_config=config(tmp_path)) as job:
            db.execute(job._cn, 'CREATE TABLE results (result TEXT)')
            with pytest.raises(UnsupportedOperation), job._cn.transaction():
                db.execute(job._cn, INSERT)
                async for _ in job.claim(['x']):
                    pass
            assert [task async for task in job.claim(['x'])] == ['x']

    asyncio.run(work())


def test_a_heartbeat_that_has_waited_names_the_transaction(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The warning says which thread of this process keeps the node from writing."""
    with (
        caplog.at_level(logging.WARNING, 'jobsync'),
        Job('a', coordination_config=config(tmp_path, op_timeout_sec=0.2, heartbeat_interval_sec=0.2)) as job,
    ):
        db.execute(job._cn, 'CREATE TABLE results (result TEXT)')
        with job._cn.transaction():
            db.execute(job._cn, INSERT)
            name = threading.current_thread().name
            wait_until(lambda: f"thread '{name}' has written in it" in caplog.text, 'the heartbeat says so')
        wait_until(job.am_i_healthy, 'it writes again')
