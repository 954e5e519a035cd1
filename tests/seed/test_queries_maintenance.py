"""The statements that clean up: what they delete, and that a running cluster heals after each by itself."""

from __future__ import annotations

from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.clusters import ago, wait_until_whole
from tests.seed.pages import statement
from tests.seed.test_queries_history import INSERT
from tests.seed.test_queries_locks import register_and_leave
from tests.support.timings import TOKENS

import jobsync.database as db


@statement('Remove Stale Nodes')
def test_remove_stale_nodes(queried: Store, cn: db.Connection, sql: str) -> None:
    """Nobody who beats is removed; one that seemed stale and is alive registers anew, the leader too."""
    with queried.job('a') as a, queried.job('b') as b:
        assert db.execute(cn, sql) == 0
        for name in 'ba':
            with cn.transaction():
                db.execute(cn, f"UPDATE sync_node SET last_heartbeat = {ago(queried, '2 hours')} WHERE name = '{name}'")
                assert db.execute(cn, sql) == 1
            wait_until(lambda: sorted(queried.node_names) == ['a', 'b'], 'it has registered anew')
            wait_until_whole(a, b)


@statement('Clean Orphaned Tokens')
def test_clean_orphaned_tokens(queried: Store, cn: db.Connection, sql: str) -> None:
    """No token of a registered node is deleted; those of one that is not are owned again, those of its locked tasks too."""
    with queried.job('a') as a, queried.job('b') as b:
        a.register_task_lock('x', 'b')
        wait_until(lambda: b.can_claim_task('x'), 'it is placed')
        assert db.execute(cn, sql) == 0
        with cn.transaction():
            db.execute(cn, "DELETE FROM sync_node WHERE name = 'b'")
            # The row of the locked task stays, and does not count.
            deleted = db.execute(cn, sql)
            assert deleted == TOKENS - db.select_scalar(cn, 'SELECT count(*) FROM sync_token WHERE task_id IS NULL')
            assert db.select_scalar(cn, 'SELECT count(*) FROM sync_token') < TOKENS
        owned = 'SELECT count(*) FROM sync_token WHERE node IS NOT NULL AND task_id IS NULL'
        wait_until(lambda: db.select_scalar(cn, owned) == TOKENS, "every token is somebody's again")
        wait_until_whole(a, b)
        wait_until(lambda: b.can_claim_task('x') and not a.can_claim_task('x'), 'the locked task is where it belongs')


@statement('Clean Old Rebalance Records')
def test_clean_old_rebalances(queried: Store, cn: db.Connection, sql: str) -> None:
    """What is older than 30 days goes."""
    with queried.job('a') as a:
        for time in ('31 days', '29 days'):
            db.execute(cn, INSERT.format(ago(queried, time)))
        assert db.execute(cn, sql) == 1
        assert db.select_column(cn, 'SELECT trigger_reason FROM sync_rebalance ORDER BY triggered_at') == [
            'earlier',
            'first distribution',
        ]
        wait_until_whole(a)


@statement('Clean Orphaned Locks')
def test_clean_orphaned_locks(queried: Store, cn: db.Connection, sql: str) -> None:
    """Locks of nodes that are gone go, and their tasks are one node's, by their hash; those of the living hold."""
    with queried.job('a') as a, queried.job('b') as b:
        register_and_leave(queried, 'gone', *((str(number), 'nobody', 'why') for number in range(20)))
        a.register_task_lock('kept', 'b')
        wait_until(lambda: queried.node_names == ['a', 'b'], 'it is forgotten')
        wait_until(lambda: b.can_claim_task('kept') and not any(map(a.can_claim_task, range(20))), 'all locks hold')
        assert db.execute(cn, sql) == 20
        wait_until(lambda: all(a.can_claim_task(task) != b.can_claim_task(task) for task in range(20)), "each task is one node's")
        assert [lock['task_id'] for lock in a.list_locks()] == ['kept']
        assert not a.can_claim_task('kept')
        wait_until_whole(a, b)


@statement('Clean Expired Locks')
def test_clean_expired_locks(queried: Store, cn: db.Connection, sql: str) -> None:
    """Expired locks go; those without an end and those whose end is to come hold."""
    with queried.job('a') as a, queried.job('b') as b:
        a.register_task_locks_bulk([('forever', 'b'), ('tomorrow', 'b', None, 1), ('over', 'nobody', None, 1)])
        wait_until(lambda: b.can_claim_task('forever') and b.can_claim_task('tomorrow'), 'they hold')
        wait_until(lambda: not a.can_claim_task('over') and not b.can_claim_task('over'), 'it holds, too')
        with cn.transaction():
            db.execute(cn, f"UPDATE sync_lock SET expires_at = {ago(queried, '1 hours')} WHERE task_id = 'over'")
            assert db.execute(cn, sql) == 1
        wait_until(lambda: a.can_claim_task('over') != b.can_claim_task('over'), "the task is one node's")
        assert {lock['task_id'] for lock in a.list_locks()} == {'forever', 'tomorrow'}
        assert b.can_claim_task('forever')
        assert b.can_claim_task('tomorrow')
        wait_until_whole(a, b)
