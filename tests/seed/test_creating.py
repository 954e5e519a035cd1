"""Examples of the chapters "Overview", "Basic Job Creation" and "Coordination Configuration"."""

from __future__ import annotations

import datetime as dt
import sys
import types
from typing import Any

import pytest
from libb import Setting  # type: ignore[import-untyped]
from tests.job.stores import Store
from tests.seed.pages import example
from tests.seed.running import TASKS, namespace
from tests.support.timings import FAST

import jobsync.database
from jobsync import CoordinationConfig, Job

pytestmark = pytest.mark.any_store  # the examples are about Job


@example('Common Imports')
def test_imports(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are there; ``database`` is ``jobsync.database``."""
    monkeypatch.setitem(sys.modules, 'database', jobsync.database)
    names = namespace(None)
    names.run(code)
    assert names.db is jobsync.database
    assert names.Job is Job


@example('Simple Job Without Locks')
def test_simple(store: Store, config: Any, code: str) -> None:
    """Of two workers each does its own tasks, all are done once between them, and recorded as complete."""
    names = namespace(config)
    names.run(code)
    with store.job('other') as other:
        names.process_daily_tasks()
        others = [task for task in TASKS if task not in names.done]
        assert 20 < len(names.done) < 80
        assert len(names.done) == len(set(names.done))
        for task in others:
            assert other.add_task(task)
        other.write_audit()
    assert sorted(store.audits, key=int) == [str(task) for task in TASKS]


@example('Job with Date-Based Processing')
def test_date_based(store: Store, config: Any, code: str) -> None:
    """The pending tasks of that date are done, and their claims and audits are of that date."""
    results: dict[int, str] = {}
    names = namespace(config, save_result=results.__setitem__)
    names.run(code)
    assert store.handle
    with jobsync.database.connect(store.url) as cn:
        jobsync.database.execute(cn, 'CREATE TABLE tasks (task_id INTEGER, date DATE, status TEXT)')
        rows = [(1, dt.date(2024, 1, 18), 'pending'), (2, dt.date(2024, 1, 18), 'done'), (3, dt.date(2024, 1, 19), 'pending')]
        columns = ('task_id', 'date', 'status')
        jobsync.database.insert_rows(cn, 'tasks', [dict(zip(columns, row, strict=True)) for row in rows])
        # SQLite keeps a date and a moment as different texts.
        names.process_historical_date(dt.date(2024, 1, 18) if store.handle.info.name == 'sqlite' else dt.datetime(2024, 1, 18))
        assert results == {1: 'result of 1'}
        for table in ('sync_claim', 'sync_audit'):
            (found,) = jobsync.database.select(cn, f'SELECT item, date FROM {table}')
            assert (found['item'], str(found['date'])) == ('1', '2024-01-18')


@example('Basic Customization')
def test_custom(store: Store, config: Any, code: str) -> None:
    """The config given outright is in force as a whole: 5,000 tokens, which a cluster of 60 would refuse."""
    seen: list[Any] = []
    names = namespace(config, process_tasks=lambda job: seen.append(job.get_coordination_status()))
    names.run(code)
    with store.job('first', config={'total_tokens': 5000}) as first:
        names.process_with_custom_config()
        assert [(status['total_tokens'], status['token_count'], status['is_healthy']) for status in seen] == [(5000, 2500, True)]
        assert first.am_i_healthy()


@example('Disabling Coordination')
def test_disabled(store: Store, config: Any, code: str) -> None:
    """All tasks are this node's, beside any other, and no node is registered."""
    names = namespace(config)
    names.run(code)
    with store.job('other'):
        names.process_without_coordination()
        assert store.node_names == ['other']
    assert names.done == TASKS


def tuned(code: str) -> CoordinationConfig:
    """The config that a snippet makes."""
    names = namespace(None)
    names.run(code)
    config: CoordinationConfig = names.coord_config
    return config


@example('Large Cluster (10+ nodes)')
def test_large(store: Store, code: str) -> None:
    """50,000 tokens, and a cluster works with it."""
    check_tuned(store, tuned(code), 50_000, 10)


@example('Stable Cluster (rarely changes)')
def test_stable(store: Store, code: str) -> None:
    """Slow polls, and a cluster works with it."""
    check_tuned(store, tuned(code), 10_000, 30)


@example('High-Churn Environment (Kubernetes, spot instances)')
def test_high_churn(store: Store, code: str) -> None:
    """Fast polls, and a cluster works with it."""
    check_tuned(store, tuned(code), 10_000, 9)


def check_tuned(store: Store, config: CoordinationConfig, tokens: int, timeout: float) -> None:
    """Two workers of a config share its tokens; a third gets its share from both."""
    import attrs

    assert (config.total_tokens, config.heartbeat_timeout_sec) == (tokens, timeout)
    placed = attrs.evolve(config, backend=store.url, minimum_nodes=1)
    with Job('a', coordination_config=placed) as a, Job('b', coordination_config=placed) as b:
        assert len(b.my_tokens) == tokens // 2
        assert not a.my_tokens & b.my_tokens


@example('Configuration via Config Module')
def test_config_module(store: Store, code: str) -> None:
    """``config.py`` with libb's ``Setting`` is read; what it does not say has its default."""
    module, use = code.split('# Then use without coordination_config parameter:\n')
    config = types.ModuleType('config')
    seen: list[Any] = []
    locked = Setting._locked
    try:
        exec(compile(module, 'config.py', 'exec'), vars(config))  # noqa: S102 - the user's own document
        assert Setting._locked
        Setting.unlock()
        config.sync.backend = store.url
        Setting.lock()
        with store.job('first', config={'total_tokens': 5000}):
            names = namespace(config, process_tasks=lambda job: seen.append(job._config))
            names.run(use)
    finally:
        Setting._locked = locked
    (used,) = seen
    assert (used.total_tokens, used.heartbeat_interval_sec, used.heartbeat_timeout_sec) == (5000, 10, 30)
    assert used.token_refresh_steady_interval_sec == 30
    assert FAST['total_tokens'] != 5000
