"""Examples of the chapter "Task Processing Patterns", and of what the best practices say of tasks."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.job.stores import Store, owned_tasks
from tests.job.waiting import wait_until
from tests.seed.clusters import ago
from tests.seed.pages import example
from tests.seed.running import TASKS, namespace
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import Job

pytestmark = pytest.mark.any_store  # the examples are about Job


@example('Basic Task Loop')
def test_basic_loop(store: Store, config: Any, code: str) -> None:
    """The tasks of its own tokens are done, saved and audited; the other worker's are not."""
    results: dict[int, str] = {}
    names = namespace(config, process_task='done {}'.format, save_result=results.__setitem__)
    names.run(code)
    with store.job('other') as other:
        names.simple_task_processing()
        assert 20 < len(results) < 80
        assert set(results.values()) == {f'done {task}' for task in results}
        assert sorted(store.audits, key=int) == [str(task) for task in results]
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'all is back')


@example('With Incomplete Task Recovery')
def test_recovery(store: Store, config: Any, code: str) -> None:
    """What a worker that is gone began more than five minutes ago is done again before the new tasks, and nothing else is."""
    names = namespace(config, get_new_tasks=lambda: ['new'])
    names.run(code)
    with store.job('gone') as gone:
        for task in ('done', 'lost', 'fresh'):
            assert gone.add_task(task)
            if task == 'done':
                gone.write_audit()
        db.execute(gone._cn, f"UPDATE sync_claim SET created_on = {ago(store, '6 minutes')} WHERE item <> 'fresh'")
    names.process_with_recovery()
    assert names.done == ['lost', 'new']
    assert set(store.audits) == {'done', 'lost', 'new'}
    with store.job('after') as after:
        assert names.get_incomplete_tasks(after) == []
        db.execute(after._cn, f'UPDATE sync_claim SET created_on = {ago(store, "6 minutes")}')
        assert [task.id for task in names.get_incomplete_tasks(after)] == ['fresh']


@example('Idempotent Task Processing')
def test_idempotent(store: Store, config: Any, code: str) -> None:
    """However often it runs, and if it fails midway, each task has one result, and is not computed again."""
    computed: list[int] = []
    broken = [True]

    def compute(task: int) -> str:
        computed.append(task)
        if broken and task == computed[0]:
            broken.clear()
            raise ZeroDivisionError
        return f'result of {task}'

    names = namespace(config, compute_expensive_result=compute)
    names.run(code)
    assert store.handle
    with db.connect(store.url) as cn:
        db.execute(
            cn, 'CREATE TABLE results (task_id INTEGER UNIQUE, result TEXT, completed_at TIMESTAMP WITH TIME ZONE NOT NULL)'
        )
        with pytest.raises(ZeroDivisionError):
            names.process_idempotent_tasks()
        assert db.select_scalar(cn, 'SELECT count(*) FROM results') == 0
        for _ in range(2):
            names.process_idempotent_tasks()
        assert sorted(db.select_column(cn, 'SELECT task_id FROM results')) == TASKS
        assert sorted(computed) == sorted([*TASKS, computed[0]])
        near = dt.datetime.now() - dt.timedelta(minutes=1), dt.datetime.now()
        assert db.select_scalar(cn, 'SELECT count(*) FROM results WHERE completed_at BETWEEN %s AND %s', *near) == len(TASKS)


@example('Batch Processing Pattern')
def test_batches(store: Store, config: Any, code: str) -> None:
    """Batches of 100 and the rest, all audited."""
    batches: list[list[int]] = []
    names = namespace(config, get_all_tasks=lambda: range(250), process_batch=lambda batch: batches.append(list(batch)))
    names.run(code)
    names.process_in_batches()
    assert list(map(len, batches)) == [100, 100, 50]
    assert [task for batch in batches for task in batch] == list(range(250))
    assert len(store.audits) == 250


@example('Continuous Processing Loop')
def test_continuous(store: Store, config: Any, code: str) -> None:
    """It goes on until there is nothing left that is its own, with an audit after each round, and asks for the job's date."""
    pending, rounds, pauses = set(TASKS), list[list[str]](), list[float]()

    class Clock:
        """Where the example waits for the next round."""

        @staticmethod
        def sleep(seconds: float) -> None:
            pauses.append(seconds)

    def get_pending(date: object) -> list[int]:
        assert date == dt.date.today()
        rounds.append(store.audits)
        return sorted(pending)[:40]

    names = namespace(config, get_pending_tasks=get_pending, process_task=pending.remove, time=Clock)
    names.run(code)
    names.continuous_processing()
    assert not pending
    assert list(map(len, rounds)) == [0, 40, 80, 100]
    assert pauses == [5, 5, 5]


@example('Implement Idempotent Processing')
def test_safely(store: Store, code: str) -> None:
    """What it saves in ``cn.transaction()`` is there as a whole, once; nothing if it fails midway."""
    with store.job('a') as job:
        cn = job._cn
        db.execute(cn, 'CREATE TABLE results (task_id INTEGER, part INTEGER)')
        fails = [True]

        def save(task: int, result: object) -> None:
            db.execute(cn, 'INSERT INTO results (task_id, part) VALUES (%s, 1)', task)
            if fails:
                fails.clear()
                raise ZeroDivisionError
            db.execute(cn, 'INSERT INTO results (task_id, part) VALUES (%s, 2)', task)

        def is_completed(task: int, given: db.Connection) -> bool:
            return bool(db.select_scalar(given, 'SELECT count(*) FROM results WHERE task_id = %s', task))

        names = namespace(None, save_result=save, is_completed=is_completed)
        names.run(code)
        with pytest.raises(ZeroDivisionError):
            names.process_task_safely(7, cn)
        assert db.select_scalar(cn, 'SELECT count(*) FROM results') == 0
        for _ in range(2):
            names.process_task_safely(7, cn)
        assert db.select_column(cn, 'SELECT part FROM results ORDER BY part') == [1, 2]


@example('Log Meaningful Information')
def test_logging(store: Store, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """What it logs is what the job did."""
    names = namespace(None)
    names.run(code)
    with store.job('a') as a, store.job('b'):
        wait_until(lambda: len(a.my_tokens) == TOKENS // 2, 'half')
        caplog.set_level('DEBUG', 'guide')
        names.process_tasks_with_logging(a)
        said = [record.getMessage() for record in caplog.records if record.name == 'guide']
        assert said == [
            f'Starting processing: {TOKENS // 2} tokens assigned',
            f'Completed {len(names.done)} tasks',
            f'Token version: {a.token_version}',
        ]
        assert names.done == [task for task in TASKS if a.can_claim_task(task)]


@example('Test in Staging First')
def test_staging(store: Store, config: Any, code: str) -> None:
    """The example is a function of its own name, with the settings of production."""
    seen: list[Job] = []

    def work(job: Job) -> None:
        seen.append(job)
        assert len(job.my_tokens) == 5000
        assert owned_tasks(job, 10)

    names = namespace(config, test_task_processing=work)
    names.run(code)
    with store.job('staging-worker-00', config={'total_tokens': 10_000}):
        names.test_coordination(config)
    assert [(job.node_name, job.site) for job in seen] == [('staging-worker-01', 'staging')]


@example('Use Descriptive Node Names')
def test_node_names(store: Store, code: str) -> None:
    """Either is a node's name."""
    names = namespace(None, region='eu', instance_id='i-12')
    for part, expected in zip(code.split('# BAD'), ('prod-worker-eu-i-12', 'worker-1'), strict=True):
        names.run('#' + part)
        assert names.node_name == expected
        with store.job(names.node_name) as job:
            assert job.node_name == expected
