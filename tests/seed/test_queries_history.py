"""The statements that show rebalances and tasks."""

from __future__ import annotations

import datetime as dt

from tests.job.stores import Store, owned_tasks
from tests.job.waiting import wait_until
from tests.seed.clusters import ago, wait_until_shown
from tests.seed.pages import statement
from tests.support.timings import TOKENS

import jobsync.database as db

INSERT = """INSERT INTO sync_rebalance
    (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms)
    VALUES ({}, 'earlier', 'x', 1, 1, 1, 1)"""


@statement('Recent Rebalances')
def test_recent_rebalances(queried: Store, cn: db.Connection, sql: str) -> None:
    """Newest first, ten at most; a token that changed its owner counts once, however many steps its hand-over took."""
    for hours in range(10):
        db.execute(cn, INSERT.format(ago(queried, f'{hours + 1} hours')))
    with queried.job('a') as a:
        busy = owned_tasks(a, 20)
        for task in busy:
            assert a.add_task(task)
        with queried.job('b', wait_on_enter=0.5) as b:
            # What a is busy with comes later than the rest.
            assert len(b.my_tokens) < TOKENS // 2
            a.write_audit()
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has its share')
            wait_until_shown(cn, a, b)
            rows = db.select(cn, sql).to_dict('records')
            assert len(rows) == 10
            times = [row['triggered_at'] for row in rows]
            assert times == sorted(times, reverse=True)
            joined = [row for row in rows if 'joined: b' in row['trigger_reason']]
            assert sum(row['tokens_moved'] for row in joined) == TOKENS // 2
            assert {(row['leader_node'], row['nodes_before'], row['nodes_after']) for row in joined} == {('a', 1, 2)}
            assert all(row['duration_ms'] >= 0 for row in joined)
        wait_until(lambda: len(a.my_tokens) == TOKENS, 'all is back')
        (newest, *_) = db.select(cn, sql)
        assert (newest['tokens_moved'], newest['nodes_before'], newest['nodes_after']) == (TOKENS // 2, 2, 1)
        assert 'left: b' in newest['trigger_reason']


@statement('Rebalance Frequency')
def test_rebalance_frequency(queried: Store, cn: db.Connection, sql: str) -> None:
    """One row for each hour of the last day in which there were any, with their number."""
    for time in ('25 hours', '5 hours', '5 hours', '3 hours'):
        db.execute(cn, INSERT.format(ago(queried, time)))
    rows = db.select(cn, sql).to_dict('records')
    assert [row['rebalance_count'] for row in rows] == [1, 2]
    hours = [row['hour'] if isinstance(row['hour'], dt.datetime) else dt.datetime.fromisoformat(row['hour']) for row in rows]
    assert hours[0] - hours[1] == dt.timedelta(hours=2)
    with queried.job('a'):
        assert sum(row['rebalance_count'] for row in db.select(cn, sql)) == 4


def begin_tasks(store: Store, cn: db.Connection) -> tuple[str, list[int]]:
    """Two jobs have begun tasks, one has completed two of its three; and there are records of other days."""
    with store.job('a') as a, store.job('b') as b:
        mine = owned_tasks(a, 3)
        for task in mine:
            assert a.add_task(task)
            if task == mine[1]:
                a.write_audit()
        other = owned_tasks(b)[0]
        assert b.add_task(other)
        yesterday = dt.date.today() - dt.timedelta(days=1)
        with store.job('c', date=yesterday) as c:
            old = owned_tasks(c)[0]
            assert c.add_task(old)
            db.execute(cn, f"UPDATE sync_claim SET created_on = {ago(store, '2 days')} WHERE node = 'c'")
            c.write_audit()
        return str(mine[2]), [other]


@statement('Tasks by Node')
def test_tasks_by_node(queried: Store, cn: db.Connection, sql: str) -> None:
    """How many tasks each node began today, with the first and last time."""
    begin_tasks(queried, cn)
    rows = db.select(cn, sql).to_dict('records')
    assert [(row['node'], row['task_count']) for row in rows] == [('a', 3), ('b', 1)]
    assert rows[0]['first_claim'] < rows[0]['last_claim']
    assert rows[1]['first_claim'] == rows[1]['last_claim']


@statement('Incomplete Tasks')
def test_incomplete_tasks(queried: Store, cn: db.Connection, sql: str) -> None:
    """What was begun today and not completed today, oldest first."""
    own, others = begin_tasks(queried, cn)
    rows = db.select(cn, sql).to_dict('records')
    assert [(row['item'], row['node']) for row in rows] == [(own, 'a'), (str(others[0]), 'b')]
    ages = [row['age'].total_seconds() if 'age' in row else row['age_seconds'] for row in rows]
    assert all(-1 < age < 60 for age in ages)


@statement('Task Completion Rate')
def test_completion_rate(queried: Store, cn: db.Connection, sql: str) -> None:
    """Two of four; no division by nothing where nothing was begun."""
    assert queried.handle
    row = db.select_row(cn, sql)
    assert row == {'claimed_count': 0, 'audited_count': 0, 'incomplete_count': 0, 'completion_pct': None}
    begin_tasks(queried, cn)
    row = db.select_row(cn, sql)
    assert row is not None
    assert (row['claimed_count'], row['audited_count'], row['incomplete_count']) == (4, 2, 2)
    assert float(row['completion_pct']) == 50.0
