"""The statements that show nodes, tokens and the leader."""

from __future__ import annotations

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.clusters import ago, register_silent, undone, wait_until_shown, wait_until_whole
from tests.seed.pages import statement

import jobsync.database as db
from jobsync import Job


@statement('Active Nodes')
def test_active_nodes(queried: Store, cn: db.Connection, sql: str) -> None:
    """Oldest first, each with the age of its heartbeat; one that is silent for 15 seconds is dead, and so is one that left."""
    with queried.job('b') as b, queried.job('a') as a:
        register_silent(queried, 'silent')
        db.execute(cn, f"UPDATE sync_node SET last_heartbeat = {ago(queried, '20 seconds')} WHERE name = 'silent'")
        rows = db.select(cn, sql).to_dict('records')
        assert [(row['name'], row['status']) for row in rows] == [('b', 'ACTIVE'), ('a', 'ACTIVE'), ('silent', 'DEAD')]
        on_sqlite = 'seconds_since_heartbeat' in rows[0]
        seconds = [row['seconds_since_heartbeat'] if on_sqlite else row['time_since_heartbeat'].total_seconds() for row in rows]
        assert -1 < seconds[0] < 15
        assert 20 <= seconds[2] < 35
        assert a.am_i_healthy()
        assert b.am_i_healthy()
    left = {row['name']: row for row in db.select(cn, sql)}['b']
    assert (left['status'], left['last_heartbeat']) == ('DEAD', None)


@statement('Token Distribution')
def test_token_distribution(queried: Store, cn: db.Connection, sql: str) -> None:
    """What each node owns, pins included, and what nobody owns, as the jobs themselves say."""
    with queried.job('a') as a, queried.job('b', config={'weight': 2}) as b:
        wait_until(lambda: len(b.my_tokens) == 40, 'b has its share')
        a.register_task_locks_bulk([(number, 'a') for number in range(3)])
        wait_until(lambda: len(a.my_tokens) + len(b.my_tokens) == 63, 'three pins')
        wait_until_shown(cn, a, b)
        found = db.select(cn, sql).to_dict('records')
        expected = sorted((a, b), key=lambda job: -len(job.my_tokens))
        assert [(row['node'], row['token_count'], float(row['pct']), row['min_token'], row['max_token']) for row in found] == [
            (job.node_name, len(mine), round(100 * len(mine) / 63, 1), min(mine), max(mine))
            for job in expected
            for mine in [job.my_tokens]
        ]


def lock_what_no_node_matches(cn: db.Connection, job: Job, *others: Job) -> None:
    """Twelve tasks that nobody may do, their pins nobody's, and all nodes settled."""
    job.register_task_locks_bulk([(f'waiting {number}', 'nobody-%') for number in range(12)])
    wait_until(lambda: len(db.select(cn, 'SELECT token_id FROM sync_unowned')) == 12, "their pins are nobody's")
    assert not any(each.can_claim_task('waiting 1') for each in (job, *others))
    wait_until_shown(cn, job, *others)


@statement('Token Distribution')
def test_distribution_while_locks_wait(queried: Store, cn: db.Connection, sql: str) -> None:
    """Tasks that no node may do belong to no node, and change nobody's share."""
    with queried.job('a') as a, queried.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == 30, 'balanced')
        lock_what_no_node_matches(cn, a, b)
        rows = db.select(cn, sql).to_dict('records')
        assert {(row['node'], row['token_count'], float(row['pct'])) for row in rows} == {('a', 30, 50.0), ('b', 30, 50.0)}


@statement('Token Distribution Balance')
def test_balance_while_locks_wait(queried: Store, cn: db.Connection, sql: str) -> None:
    """Tasks that no node may do are no node that has few tokens: two nodes with 30 each are balanced."""
    with queried.job('a') as a, queried.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == 30, 'balanced')
        lock_what_no_node_matches(cn, a, b)
        row = db.select_row(cn, sql)
        assert row is not None
        assert (row['max_imbalance'], float(row['avg_tokens'])) == (0, 30.0)


@statement('Token Distribution Balance')
def test_balance_of_nobodys_tokens(queried: Store, cn: db.Connection, sql: str) -> None:
    """While every node is drained no node has anything: there is nothing to be in balance, as before the first distribution."""
    nothing = {'max_imbalance': None, 'avg_tokens': None}
    assert queried.handle
    assert db.select_row(cn, sql).items() >= nothing.items()  # type: ignore[union-attr]
    with queried.job('a') as a:
        a.set_weight(0)
        wait_until(lambda: not a.my_tokens, 'drained')
        wait_until(lambda: not db.select(cn, 'SELECT node FROM sync_token'), 'and shown so')
        assert db.select_row(cn, sql).items() >= nothing.items()  # type: ignore[union-attr]
        a.set_weight(1)
        wait_until_whole(a)
        assert db.select_row(cn, sql)['max_imbalance'] == 0  # type: ignore[index]


@statement('Token Distribution Balance')
def test_balance(queried: Store, cn: db.Connection, sql: str) -> None:
    """61 tokens on three nodes: 21, 20 and 20; and what it is with a fourth that has few."""
    with queried.job('a', config={'total_tokens': 61}) as a, queried.job('b', config={'total_tokens': 61}) as b:
        with queried.job('c', config={'total_tokens': 61}) as c:
            wait_until(lambda: sorted(len(job.my_tokens) for job in (a, b, c)) == [20, 20, 21], 'balanced')
            wait_until_shown(cn, a, b, c)
            row = db.select_row(cn, sql)
            assert row is not None
            assert row['max_imbalance'] == 1
            assert float(row['avg_tokens']) == pytest.approx(61 / 3)
            deviation = float(row['stddev_tokens']) if 'stddev_tokens' in row else float(row['variance_tokens']) ** 0.5
            assert deviation == pytest.approx(3**-0.5)
        wait_until(lambda: len(a.my_tokens) + len(b.my_tokens) == 61, 'c is gone')
        with queried.job('light', config={'total_tokens': 61, 'weight': 0.1}) as light:
            wait_until(lambda: len(light.my_tokens) == 3, 'it has its share')
            wait_until_shown(cn, a, b, light)
            assert db.select_row(cn, sql)['max_imbalance'] == 26  # type: ignore[index]


@statement('Current Leader')
def test_current_leader(queried: Store, cn: db.Connection, sql: str) -> None:
    """The node that leads, from the moment that the one before it has left; the next one, if the oldest is silent."""
    with queried.job('b') as b, queried.job('z') as z, queried.job('a') as a:
        assert b.am_i_leader()
        assert db.select_scalar(cn, sql) == 'b'
        with undone(cn):
            db.execute(cn, f"UPDATE sync_node SET last_heartbeat = {ago(queried, '20 seconds')} WHERE name = 'b'")
            assert db.select_scalar(cn, sql) == 'z'
        b.__exit__(None, None, None)
        assert db.select_scalar(cn, sql) == 'z'
        wait_until(z.am_i_leader, 'z leads')
        wait_until(lambda: 'b' not in queried.node_names, 'b is forgotten')
        with queried.job('b') as again:
            assert db.select_scalar(cn, sql) == 'z'
            assert not again.am_i_leader()
        assert not a.am_i_leader()
    assert db.select_scalar(cn, sql) is None


def test_the_prefix_is_replaced(queried: Store, cn: db.Connection, source: str) -> None:
    """With another ``appname`` every statement works once its prefix is replaced, and shows that cluster."""
    from tests.seed.conftest import SOURCES
    from tests.seed.pages import blocks

    kind, page = SOURCES[source]
    found = [block for block in blocks(page, 'sql') if block.label.lower() == kind or source == 'guide']
    with queried.job('mine', config={'appname': 'app_'}) as mine:
        wait_until_whole(mine)
        answers = [db.select(cn, block.text.replace('sync_', 'app_')) for block in found]
        assert len(answers) == 17
        assert db.select_scalar(cn, next(b.text for b in found if b.title == 'Active Nodes').replace('sync_', 'app_')) == 'mine'
        wait_until_whole(mine)
