"""Items: sets that the nodes share out exactly."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import pytest
from tests.job.stores import SQL, Store, kinds
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import CoordinationConfig, Job
from jobsync.errors import ConfigError

FEEDS = [f'feed-{number}' for number in range(7)]


def shares(group: str, *jobs: Job) -> list[list[str]]:
    return [job.items(group) for job in jobs]


def is_shared(group: str, ids: list[str], *jobs: Job) -> bool:
    """Whether each item is in one node's share, and the shares differ by one at most."""
    found = shares(group, *jobs)
    sizes = [len(share) for share in found]
    return sorted(chain(*found)) == sorted(ids) and max(sizes) - min(sizes) <= 1


def test_a_share_is_what_may_be_claimed(store: Store) -> None:
    """Shares differ by at most one, and ``can_claim_task`` agrees; other tasks are anybody's by hash, as before."""
    with store.job('a') as a, store.job('b') as b, store.job('c') as c:
        a.declare_items('feeds', FEEDS)
        wait_until(lambda: is_shared('feeds', FEEDS, a, b, c), 'the feeds are shared out')
        for job in (a, b, c):
            assert [feed for feed in FEEDS if job.can_claim_task(feed)] == job.items('feeds')
            assert job.items('other') == []
        assert {token for job in (a, b, c) for token in job.my_tokens if token < TOKENS} == set(range(TOKENS))
        owners = {row['item']: row['owner'] for row in b.list_items('feeds')}
        assert owners == {feed: job.node_name for job in (a, b, c) for feed in job.items('feeds')}
        assert b.list_items('other') == []
        assert b.list_locks() == []
        assert b.clear_all_locks() == 0
        with a.task(a.items('feeds')[0]) as feed:
            assert a.fence(feed) > 0


@pytest.mark.any_store
def test_a_set_is_replaced(store: Store) -> None:
    """Another set takes the place of a group's, an empty one removes it, and a set that is there changes nothing."""
    with store.job('a') as a, store.job('b') as b:
        a.declare_items('feeds', FEEDS)
        wait_until(lambda: is_shared('feeds', FEEDS, a, b), 'the feeds are shared out')
        revision = store.handle.snapshot().revision
        b.declare_items('feeds', reversed(FEEDS))
        assert store.handle.snapshot().revision == revision
        b.declare_items('feeds', [*FEEDS[2:], 1, '1', 2], cost={1: 2})
        wanted = [*FEEDS[2:], '1', '2']
        wait_until(lambda: sorted(chain(*shares('feeds', a, b))) == sorted(wanted), 'the new set is shared out')
        assert {row['item']: row['cost'] for row in a.list_items()} == {**dict.fromkeys(wanted, 1.0), '1': 2.0}
        assert a.can_claim_task(1) != b.can_claim_task(1)
        b.declare_items('feeds', [])
        wait_until(lambda: shares('feeds', a, b) == [[], []], 'the group is gone')
        wait_until(lambda: a.can_claim_task(1) != b.can_claim_task(1), 'its tasks go by their hash')
        assert a.list_items() == []


@pytest.mark.any_store
def test_patterns_and_locks_of_items(store: Store) -> None:
    """Items go to nodes that match their pattern; a task lock holds instead; both without ``locks_enabled``."""
    with store.job('a') as a, store.job('b') as b:
        a.declare_items('feeds', FEEDS, pattern=['x%', 'b'])
        wait_until(lambda: shares('feeds', a, b) == [[], FEEDS], 'the items are where they may be')
        a.register_task_lock(FEEDS[0], 'a')
        wait_until(lambda: shares('feeds', a, b) == [FEEDS[:1], FEEDS[1:]], 'the lock holds')
        (row,) = a.list_locks()
        assert row['token_id'] == a.task_to_token(FEEDS[0])
        assert a.clear_all_locks() == 1
        wait_until(lambda: shares('feeds', a, b) == [[], FEEDS], 'the pattern holds again')


@pytest.mark.any_store
def test_declared_while_entering(store: Store) -> None:
    """What ``lock_provider`` declares is shared out from the first distribution on, with ``locks_enabled`` off or on."""
    provider = lambda job: job.declare_items('feeds', FEEDS)  # noqa: E731 - as a user writes it
    with store.job('a', lock_provider=provider) as a:
        assert a.items('feeds') == FEEDS
        assert set(map(a.task_to_token, FEEDS)) <= a.my_tokens
    assert a.items('feeds') == []


@pytest.mark.any_store
def test_an_id_is_in_one_group(store: Store) -> None:
    """An item of another group is refused, and nothing is declared."""
    with store.job('a') as a:
        a.declare_items('feeds', FEEDS)
        with pytest.raises(ConfigError, match=r"item 'feed-3' .*of group 'more': is in group 'feeds'"):
            a.declare_items('more', ['feed-x', 'feed-3'])
        assert {row['group'] for row in a.list_items()} == {'feeds'}


@pytest.mark.any_store
def test_bad_arguments(store: Store) -> None:
    """What cannot be meant is refused before the store is reached."""
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (('', ['x']), {}, 'group'),
        ((None, ['x']), {}, 'group'),
        (('g\0h', ['x']), {}, 'group'),
        (('#drained', ['x']), {}, 'group'),
        (('g', 'xyz'), {}, 'ids'),
        (('g', 5), {}, 'ids'),
        (('g', [None]), {}, 'task id'),
        (('g', ['x']), {'cost': 0}, 'cost'),
        (('g', ['x']), {'cost': True}, 'cost'),
        (('g', ['x']), {'cost': {'x': -1}}, "cost of 'x'"),
        (('g', ['x']), {'cost': {'y': 1}}, "cost has 'y'"),
        (('g', ['x']), {'cost': float('nan')}, 'cost'),
        (('g', ['x']), {'pattern': ''}, 'pattern'),
        (('g', ['x']), {'pattern': []}, 'pattern'),
    ]
    with store.job('a') as a:
        for arguments, named, says in wrong:
            with pytest.raises(ConfigError, match=says):
                a.declare_items(*arguments, **named)
        for ask in (a.items, a.list_items):
            with pytest.raises(ConfigError, match='group'):
                ask('')
        assert a.list_items() == []


@pytest.mark.parametrize('store', kinds(SQL), indirect=True)
def test_items_edited_by_statements(store: Store) -> None:
    """Rows of items that statements insert, change and delete count within moments; statements about locks spare them."""
    with store.job('a') as a, store.job('b') as b:
        for feed in FEEDS[:2]:
            db.execute(a._cn, 'INSERT INTO sync_item (item_group, task_id) VALUES (%s, %s)', 'feeds', feed)
        wait_until(lambda: is_shared('feeds', FEEDS[:2], a, b), 'the items are shared out')
        assert [(row['cost'], row['patterns']) for row in a.list_items()] == [(1.0, ['%'])] * 2
        a.register_task_lock('x', '%')
        assert db.execute(a._cn, 'DELETE FROM sync_lock') == 1
        db.execute(a._cn, "UPDATE sync_item SET node_pattern = 'b'")
        wait_until(lambda: shares('feeds', a, b) == [[], FEEDS[:2]], 'the items are where they may be')
        with pytest.raises(Exception, match=r'(?i)check|sound|constraint'):
            db.execute(a._cn, 'UPDATE sync_item SET cost = 0')
        db.execute(a._cn, "DELETE FROM sync_item WHERE item_group = 'feeds'")
        wait_until(lambda: shares('feeds', a, b) == [[], []], 'the items are gone')


def test_without_coordination() -> None:
    """With coordination off a job has all that it has declared."""
    with Job('a', coordination_config=CoordinationConfig(enabled=False)) as job:
        job.declare_items('feeds', [3, *FEEDS])
        assert job.items('feeds') == ['3', *FEEDS]
        assert all(map(job.can_claim_task, job.items('feeds')))


@pytest.mark.any_store
def test_on_an_event_loop(store: Store) -> None:
    """``AsyncJob`` has the same."""

    async def work() -> None:
        async with store.async_job('a') as job:
            await job.declare_items('feeds', FEEDS)
            for _ in range(500):
                if job.items('feeds') == FEEDS:
                    break
                await asyncio.sleep(0.05)
            assert [row['owner'] for row in await job.list_items('feeds')] == ['a'] * len(FEEDS)

    asyncio.run(work())
