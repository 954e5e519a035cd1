"""``Job.purge`` and ``retention_days``: what is old and complete goes, on request or by itself."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import FAST

from jobsync import Cluster, ConfigError, CoordinationConfig, Job
from jobsync.backend import HistoryKind
from jobsync.backends._common.values import utc_now
from jobsync.backends.memory import MemoryBackend, MemoryStore

HOUR = dt.timedelta(hours=1)


def test_purge_deletes_what_is_complete(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims and audits of complete tasks go, incomplete tasks stay, and the number of each kind is returned."""
    monkeypatch.setattr('jobsync._worker.purging._LIMIT', 1)  # so that there are several portions
    with store.job('a') as job:
        assert list(job.claim(['x', 'y'])) == ['x', 'y']
        assert job.add_task('open')
        job._task_log.completions.flush()
        soon = store.handle.snapshot().now + HOUR
        assert job.purge(before=soon - 2 * HOUR) == {'claim': 0, 'audit': 0, 'rebalance': 0}
        assert job.purge(older_than=HOUR, kinds=['claim', 'audit']) == {'claim': 0, 'audit': 0}
        deleted = job.purge(before=soon)
        assert (deleted['claim'], deleted['audit']) == (2, 2)
        assert deleted['rebalance'] >= 1
        assert (store.claims, store.audits) == (['open'], [])
        words = ', '.join(f'{number} {kind}s' for kind, number in deleted.items())
        events = [(event['by'], event['details']) for event in Cluster(store.handle).history() if event['event'] == 'purge']
        assert events == [('a', words)]
        assert [task.id for task in job.get_incomplete_tasks(0)] == ['open']


@pytest.mark.any_store
def test_async_purge(store: Store) -> None:
    """``AsyncJob.purge`` does as ``Job.purge``, awaited."""

    async def main() -> dict[str, int]:
        async with store.async_job('a') as job:
            assert await job.add_task('x')
            await job.write_audit()
            return await job.purge(before=store.handle.snapshot().now + HOUR, kinds=('claim', 'audit'))

    assert asyncio.run(main()) == {'claim': 1, 'audit': 1}


@pytest.mark.any_store
@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({}, 'before and older_than'),
        ({'before': dt.datetime.now(dt.UTC), 'older_than': 1}, 'before and older_than'),
        ({'before': dt.datetime(2026, 1, 1)}, 'a timezone'),
        ({'before': '2026-01-01'}, 'a timezone'),
        ({'older_than': dt.timedelta(days=-30)}, 'must be 0 or more'),
        ({'before': dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))}, 'between the years 1 and 9999 in UTC'),
        ({'older_than': -1}, '0 or more'),
        ({'older_than': 1, 'kinds': 'claim'}, "'claim', 'audit', 'rebalance'"),
        ({'older_than': 1, 'kinds': ['lock']}, "'claim', 'audit', 'rebalance'"),
        ({'older_than': 1, 'kinds': []}, "'claim', 'audit', 'rebalance'"),
    ],
)
def test_purge_refuses(store: Store, given: dict[str, Any], words: str) -> None:
    """Arguments that leave open what is to be deleted are refused."""
    with store.job('a') as job, pytest.raises(ConfigError, match=words):
        job.purge(**given)


def test_the_leader_keeps_the_history_short() -> None:
    """With ``retention_days`` a running leader deletes what is older, by the store's clock, and nothing else."""
    ahead = [dt.timedelta(0)]
    backend = MemoryBackend(MemoryStore(clock=lambda: utc_now() + ahead[0]))
    config = CoordinationConfig(backend=backend, retention_days=0.0002, **FAST)
    with Job('a', coordination_config=config) as job:
        assert list(job.claim(['x', 'y'])) == ['x', 'y']
        assert job.add_task('open')
        job._task_log.completions.flush()
        ahead[0] = HOUR
        wait_until(lambda: not backend.history(HistoryKind.AUDIT), 'old audits are deleted')
        assert [claim.item for claim in backend.history(HistoryKind.CLAIM)] == ['open']  # type: ignore[union-attr]
