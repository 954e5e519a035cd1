"""The statements that show task locks."""

from __future__ import annotations

from tests.job.stores import Store, owned_tasks
from tests.job.waiting import wait_until
from tests.seed.clusters import ago, register_silent, undone, wait_until_shown
from tests.seed.pages import statement

import jobsync.database as db
from jobsync import Job


def register_and_leave(store: Store, name: str, *locks: tuple[str, str, str]) -> None:
    """Locks of a node that is gone."""
    with store.job(name, lock_provider=lambda job: job.register_task_locks_bulk(locks)):
        pass


@statement('View All Locks')
def test_view_all_locks(queried: Store, cn: db.Connection, sql: str) -> None:
    """Locks gathered by pattern, reason and expiry, with all that registered them."""
    with queried.job('a') as a, queried.job('b') as b:
        a.register_task_locks_bulk([(number, 'a', 'memory') for number in range(3)])
        b.register_task_locks_bulk([(number, 'a', 'memory') for number in range(3, 5)])
        b.register_task_lock('x', 'b', 'disk', expires_in_days=1)
        b.register_task_lock('y', 'b', 'disk', expires_in_days=2)
        with undone(cn):
            db.execute(cn, f"UPDATE sync_lock SET expires_at = {ago(queried, '1 hours')} WHERE task_id = 'y'")
            rows = db.select(cn, sql).to_dict('records')
        found = [(row['node_pattern'], row['locked_token_count'], row['reason'], row['status']) for row in rows]
        assert found[0] == ('a', 5, 'memory', 'never')
        assert sorted(found[1:]) == [('b', 1, 'disk', 'EXPIRED'), ('b', 1, 'disk', 'active')]
        assert [sorted(row['registered_by'].split(',')) for row in rows] == [['a', 'b'], ['b'], ['b']]


@statement('Orphaned Locks (by dead creator node)')
def test_orphaned_locks(queried: Store, cn: db.Connection, sql: str) -> None:
    """Those of a node that is gone, and of one that is silent for an hour; not those of one that lives."""
    with queried.job('a') as a:
        register_and_leave(queried, 'gone', ('1', 'a', 'left'))
        wait_until(lambda: queried.node_names == ['a'], 'it is forgotten')
        register_and_leave(queried, 'silent', ('2', 'a', 'dead'))
        wait_until(lambda: queried.node_names == ['a'], 'it is forgotten')
        a.register_task_lock('3', 'a', 'alive')
        register_silent(queried, 'silent')
        assert [row['created_by'] for row in db.select(cn, sql)] == ['gone']
        with undone(cn):
            db.execute(cn, f"UPDATE sync_node SET last_heartbeat = {ago(queried, '2 hours')} WHERE name = 'silent'")
            rows = db.select(cn, sql).to_dict('records')
        assert [(row['created_by'], row['node_pattern'], row['reason']) for row in rows] == [
            ('gone', 'a', 'left'),
            ('silent', 'a', 'dead'),
        ]
        assert rows[0]['created_at'] < rows[1]['created_at']


@statement('Incorrectly Assigned Locks')
def test_incorrectly_assigned_locks(queried: Store, cn: db.Connection, sql: str) -> None:
    """Nothing in a settled cluster, whatever the patterns; a task that waits for the node that is busy with it is shown."""
    with queried.job('prod-1') as one, queried.job('west-gpu') as two:
        patterns = ['prod-1', 'prod-%', '%-gpu', '%st%', 'p___-1', '%', ['nobody', 'west%'], ['west-gpu', 'prod-1'], 'nobody-%']
        one.register_locks_bulk([(f'{number}', pattern, 'why') for number, pattern in enumerate(patterns)])
        wait_until(lambda: len(one.my_tokens | two.my_tokens) == 60 + len(patterns) - 1, 'all but one are placed')

        def settled() -> bool:
            return db.select_column(cn, 'SELECT task_id FROM sync_unowned') == ['8']

        wait_until(settled, 'the one that nobody matches is known')
        assert db.select(cn, sql).to_dict('records') == []
        busy_is_shown(cn, sql, one, two)
        assert db.select(cn, sql).to_dict('records') == []


def busy_is_shown(cn: db.Connection, sql: str, one: Job, two: Job) -> None:
    """A task in the hands of ``one`` is locked to ``two``."""
    task = owned_tasks(one, among=range(100, 1000))[0]
    assert one.add_task(task)
    two.register_task_lock(task, 'west-gpu', 'moved')
    wait_until(lambda: len(db.select(cn, sql)) == 1, 'it is on its way')
    (row,) = db.select(cn, sql)
    assert row == {
        'token_id': next(lock['token_id'] for lock in one.list_locks() if lock['task_id'] == str(task)),
        'node_pattern': 'west-gpu',
        'actual_node': 'prod-1',
        'reason': 'moved',
        'created_by': 'west-gpu',
    }
    one.write_audit()
    wait_until(lambda: two.can_claim_task(task), 'it has arrived')
    wait_until_shown(cn, one, two)
