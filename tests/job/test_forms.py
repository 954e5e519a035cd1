"""How a ``Job`` is made and entered: the forms of the user's guide."""

from __future__ import annotations

import datetime as dt
import types
from pathlib import Path

import pytest
from libb import Setting  # type: ignore[import-untyped]
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import FAST

from jobsync import Cluster, CoordinationConfig, Job, JobsyncError, SchemaMismatch, plugins
from jobsync.backend import BackendOptions

pytestmark = pytest.mark.any_store


def settings_module(store: Store) -> types.ModuleType:
    """A user's ``config.py``."""
    module = types.ModuleType('config')
    module.sync = types.SimpleNamespace(coordination=dict(FAST), backend=store.url)  # type: ignore[attr-defined]
    return module


def test_positional(store: Store) -> None:
    """``Job(node_name, site, config)`` by position, as the user's guide writes it."""
    with Job('worker-01', 'production', settings_module(store)) as job:
        assert (job.node_name, job.site) == ('worker-01', 'production')
        assert len(job.my_tokens) == FAST['total_tokens']


def test_by_name(store: Store) -> None:
    """Every argument of the user's guide, by name."""
    with Job(
        node_name='worker-01',
        site='production',
        config=settings_module(store),
        date=dt.datetime(2024, 1, 18, 12, 30),
        wait_on_enter=120,
        wait_on_exit=0,
        skip_db_init=False,
        lock_provider=lambda job: None,
        clear_existing_locks=True,
        coordination_config=None,
        on_rebalance=lambda: None,
    ) as job:
        assert job.date == dt.datetime(2024, 1, 18, 12, 30)
        assert job.am_i_healthy()


def test_a_name_of_a_class_of_its_own(store: Store) -> None:
    """A class of texts has no say in whether two names are one."""

    class Name(str):
        __slots__ = ()

        def __eq__(self, _: object) -> bool:
            return True

        __hash__ = str.__hash__

    with store.job(Name('a')) as a, store.job('b') as b:
        wait_until(lambda: bool(a.my_tokens and b.my_tokens), 'both own tokens')
        assert not a.my_tokens & b.my_tokens
        assert type(a.node_name) is str


def test_site_and_config_left_out(store: Store) -> None:
    """A node name and a ``coordination_config`` are enough; the date is today's then."""
    with Job('w1', coordination_config=store.config()) as job:
        assert job.site is None
        assert job.date == dt.date.today()


def test_coordination_config_goes_first(store: Store) -> None:
    """``coordination_config`` counts before ``config.sync.coordination``."""
    with Job('w1', 'test', settings_module(store), coordination_config=store.config(total_tokens=7)) as job:
        assert len(job.my_tokens) == 7


def test_libb_setting(store: Store) -> None:
    """``config`` may be an object that holds a libb ``Setting``, filled and locked as the user's guide does."""
    Setting.unlock()
    sync = Setting()
    for name, value in FAST.items():
        setattr(sync.coordination, name, value)
    sync.backend = store.url
    Setting.lock()
    try:
        with Job('w1', 'production', types.SimpleNamespace(sync=sync)) as job:
            assert len(job.my_tokens) == FAST['total_tokens']
    finally:
        Setting.unlock()


def test_a_mapping(store: Store) -> None:
    """``config`` may be a mapping."""
    with Job('w1', None, {'sync': {'coordination': FAST, 'backend': store.url}}) as job:
        assert len(job.my_tokens) == FAST['total_tokens']


def test_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no backend configured, ``JOBSYNC_BACKEND`` names it."""
    monkeypatch.setenv('JOBSYNC_BACKEND', store.url)
    with Job('w1', coordination_config=CoordinationConfig(**FAST)):
        assert store.node_names == ['w1']


def test_no_backend_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With no backend anywhere it is SQLite in the working directory, and one warning says who will not see it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('JOBSYNC_BACKEND', raising=False)
    with Job('w1', coordination_config=CoordinationConfig(**FAST)) as job:
        assert job.my_tokens
        assert (tmp_path / 'jobsync.db').exists()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    assert len([warning for warning in warnings if 'Workers on other machines' in warning]) == 1


def test_a_change_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done after the block is recorded in the file of the block, whatever the working directory is by then."""
    first, other = tmp_path / 'first', tmp_path / 'other'
    for folder in (first, other):
        folder.mkdir()
        monkeypatch.chdir(folder)
        with Job('w0', coordination_config=CoordinationConfig(backend='sqlite:///jobs.db', **FAST)):
            pass
    monkeypatch.chdir(first)
    job = Job('w1', coordination_config=CoordinationConfig(backend='sqlite:///jobs.db', **FAST))
    monkeypatch.chdir(other)
    with job:
        loop = job.claim(['x'])
        assert next(loop) == 'x'
    assert list(loop) == []
    with Cluster(f'sqlite:///{first}/jobs.db') as cluster:
        assert [audit['item'] for audit in cluster.audits()] == ['x']
    with Cluster(f'sqlite:///{other}/jobs.db') as cluster:
        assert cluster.audits() == []


def test_backend_instance_stays_open(store: Store) -> None:
    """A backend given as an object is the caller's to close."""
    backend = plugins.connect(store.url, BackendOptions())
    with store.job('w1', config={'backend': backend}) as job:
        assert job.my_tokens
    assert backend.snapshot().now
    backend.close()


def test_skip_db_init(shared_store: Store) -> None:
    """``skip_db_init`` makes no tables, and uses those that are there."""
    with pytest.raises(SchemaMismatch), shared_store.job('w1', skip_db_init=True):
        pass
    assert shared_store.handle.snapshot().nodes == ()
    with shared_store.job('w1', skip_db_init=True) as job:
        assert job.my_tokens


def test_once_only(store: Store) -> None:
    """A job is for one block: entering it again is refused, inside, where the block goes on, and after."""
    job = store.job()
    with job:
        with pytest.raises(JobsyncError, match='entered before'):
            job.__enter__()
        assert job.am_i_healthy()
    with pytest.raises(JobsyncError, match='entered before'):
        job.__enter__()


def test_appname_is_a_namespace(store: Store) -> None:
    """Two clusters with different ``appname`` share a store and do not see each other."""
    with store.job('w1', config={'appname': 'one_'}) as one, store.job('w1', config={'appname': 'two_'}) as two:
        assert len(one.my_tokens) == len(two.my_tokens) == FAST['total_tokens']
        one.register_task_lock(1, 'w%')
        assert two.list_locks() == []


def test_block_returns_the_job_and_lets_exceptions_out(store: Store) -> None:
    """An exception of the block comes out of it, and the node has left."""
    job = store.job()

    def use() -> None:
        with job as entered:
            assert entered is job
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert not job.can_claim_task(1)
    assert not job.am_i_healthy()
