"""What the tables hold, read with plain SQL as an operator would, and what happens when an operator changes them."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import NOBODY, HistoryKind, LockEdit, LockFilter, LockRequest, NodeRef, Pin, Revision, Settings
from jobsync.backend import Backend
from jobsync.backends.sql.commits import REMEMBERED
from jobsync.errors import Conflict, Evicted
from jobsync.testing.conformance.namespace import TOKENS, Namespace


def today() -> dt.date:
    """The date by the clock of SQLite, which may be another one than when the tests were collected."""
    return dt.datetime.now(dt.UTC).date()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


def lock(task: str, *patterns: str, by: str = 'me', hours: float | None = None) -> LockRequest:
    return LockRequest(task, patterns, by, 'why', None if hours is None else dt.timedelta(hours=hours))


def put(backend: Backend, *requests: LockRequest) -> None:
    backend.edit_locks(LockEdit(put=requests))


class TestNodes:
    """``sync_node``."""

    def test_times_are_text_that_sqlite_understands(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """UTC to the microsecond; they compare as text, and SQLite's date functions take them."""
        namespace.join('a')
        ((created, beaten, fresh),) = harness.query(
            "SELECT created_on, last_heartbeat, last_heartbeat > datetime('now', '-15 seconds') FROM sync_node"
        )
        for text in (created, beaten):
            parsed = dt.datetime.strptime(str(text), '%Y-%m-%d %H:%M:%S.%f').replace(tzinfo=dt.UTC)
            assert abs(parsed - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        assert fresh == 1
        assert harness.query("SELECT (julianday('now') - julianday(last_heartbeat)) * 86400 < 60 FROM sync_node") == [(1,)]

    def test_active_nodes(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A node that left has no last heartbeat; one that is silent is shown as such."""
        harness.move_clock(dt.timedelta(seconds=-60))
        namespace.join('silent')
        harness.move_clock(dt.timedelta(seconds=60))
        namespace.join('alive')
        namespace.backend.deregister(namespace.join('left'))
        rows = harness.query("""
            SELECT name, CASE WHEN last_heartbeat > datetime('now', '-15 seconds') THEN 'ACTIVE' ELSE 'DEAD' END
            FROM sync_node ORDER BY created_on""")
        assert rows == [('silent', 'DEAD'), ('alive', 'ACTIVE'), ('left', 'DEAD')]

    def test_current_leader(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """The oldest node with a fresh heartbeat, whatever the clock did between the registrations."""
        namespace.join('first')
        harness.move_clock(dt.timedelta(seconds=-5))
        namespace.join('second')
        rows = harness.query("""
            SELECT name FROM sync_node WHERE last_heartbeat > datetime('now', '-15 seconds') ORDER BY created_on LIMIT 1""")
        assert rows == [('first',)]

    def test_stale_nodes_are_removed(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """The seed's first maintenance statement: the node's next heartbeat is refused, and every node sees a new revision."""
        harness.move_clock(dt.timedelta(hours=-2))
        stale = namespace.join('stale')
        harness.move_clock(dt.timedelta(hours=2))
        fresh = namespace.join('fresh')
        with namespace.raises_revision():
            harness.execute("DELETE FROM sync_node WHERE last_heartbeat < datetime('now', '-1 hour')")
        with pytest.raises(Evicted):
            namespace.beat(stale)
        namespace.beat(fresh)

    def test_a_changed_node_is_noticed(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """An edit of what others go by is a new revision; one of a time that is only for people is none."""
        namespace.join('a')
        for change in ("state = 'left'", 'weight = 2', "incarnation = 'x'", 'timeout_sec = 9', "replaces = '[]'", "name = 'b'"):
            with namespace.raises_revision():
                harness.execute(f'UPDATE sync_node SET {change}')
        with namespace.same_revision():
            harness.execute('UPDATE sync_node SET last_heartbeat = NULL')

    @pytest.mark.parametrize(
        'change',
        [
            "state = 'gone'",
            "created_on = 'yesterday'",
            "created_on = '12:00'",
            "holding = '[1'",
            "replaces = 'x'",
            'incarnation = NULL',
        ],
    )
    def test_slips_are_refused(self, harness: SqliteHarness, namespace: Namespace, change: str) -> None:
        """A value that no node could read is refused to the operator who writes it."""
        namespace.join('a')
        with pytest.raises(sqlite3.IntegrityError):
            harness.execute(f'UPDATE sync_node SET {change}')
        namespace.snapshot()

    def test_heartbeats_are_no_edits(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """What the backend itself writes never counts as an edit by hand."""
        ref = namespace.leader()
        put(namespace.backend, lock('x', 'l%'))
        version = namespace.commit(ref, TokenGroup(range(9), 'leader'), pins=(Pin(TOKENS + 1, 'x', 'leader'),))
        for _ in range(3):
            assert namespace.beat(ref, version, [1, 2]).revision == version
        namespace.commit(ref, TokenGroup(range(9), 'b'), unpinned=frozenset({TOKENS + 1}))
        assert namespace.backend.read_assignment(version).base == version
        assert namespace.revision.number == version.number + 1
        assert harness.query('SELECT writer FROM sync_state') == [(0,)]


class TestTokens:
    """``sync_token``."""

    def test_distribution(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """One row per token and per pin that has an owner; what is nobody's is in a table of its own."""
        leader = namespace.leader()
        namespace.commit(
            leader,
            TokenGroup(range(10), 'a'),
            TokenGroup(range(10, 20), 'b', target='a'),
            TokenGroup(range(20, TOKENS), None, home='b'),
            TokenGroup([0], 'a', target=NOBODY),
            pins=(Pin(TOKENS + 1, 'x', 'a'), Pin(TOKENS + 2, 'y', None)),
        )
        rows = harness.query('SELECT node, count(*), min(token_id), max(token_id) FROM sync_token GROUP BY node ORDER BY 1')
        assert rows == [('a', 11, 0, 25), ('b', 10, 10, 19)]
        assert harness.query('SELECT task_id FROM sync_token WHERE task_id IS NOT NULL') == [('x',)]
        rows = harness.query('SELECT token_id, home, task_id FROM sync_unowned ORDER BY 1')
        assert rows == [*((token, 'b', None) for token in range(20, TOKENS)), (TOKENS + 2, None, 'y')]

    def test_only_changed_rows_are_written(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A commit that changes three tokens writes three rows; one that changes none writes none."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'))
        number = namespace.commit(leader, TokenGroup([1, 2, 3], 'b')).number
        namespace.commit(leader)
        rows = harness.query(f'SELECT token_id FROM sync_token WHERE changed >= {number}')
        assert rows == [(1,), (2,), (3,)]

    def test_orphaned_tokens_are_cleaned(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """The seed's statement deletes the rows of absent nodes; each node reads all anew and finds those tokens absent."""
        leader = namespace.leader()
        version = namespace.commit(leader, TokenGroup(range(12), 'leader'), TokenGroup(range(12, TOKENS), 'gone'))
        guard, plan = namespace.guard(), namespace.plan()
        harness.execute('DELETE FROM sync_token WHERE node NOT IN (SELECT name FROM sync_node)')
        snapshot = namespace.snapshot()
        assert snapshot.version == snapshot.revision != version
        assert namespace.backend.read_assignment(version).base is None
        assert [namespace.row(token).absent for token in range(TOKENS)] == [False] * 12 + [True] * 12
        with pytest.raises(Conflict):
            namespace.backend.commit(leader, plan, guard)

    def test_an_owner_changed_by_hand_gets_a_new_fence(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A new owner never has an older fence than the one before it, however it came to be."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'a'))
        fences = [namespace.row(token).version for token in range(9)]
        harness.execute("UPDATE sync_token SET node = 'b' WHERE token_id < 3", 'DELETE FROM sync_token WHERE token_id = 8')
        harness.execute("INSERT INTO sync_token (token_id, node) VALUES (8, 'c')")
        rows = [namespace.row(token) for token in range(9)]
        assert [row.owner for row in rows] == ['b'] * 3 + ['a'] * 5 + ['c']
        assert [row.version > fence for row, fence in zip(rows, fences, strict=True)] == [True] * 3 + [False] * 5 + [True]

    def test_rows_that_are_no_tokens_are_not_read(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Rows beyond the pool do no harm."""
        namespace.commit(namespace.leader(), TokenGroup([0, 1], 'a'))
        harness.execute("INSERT INTO sync_token (token_id, node) VALUES (-1, 'a'), (100000, 'a')")
        assert list(namespace.assignment().owned_by('a')) == [0, 1]

    @pytest.mark.parametrize(
        'edit',
        [
            "UPDATE sync_token SET node = '' WHERE token_id = 1",
            'UPDATE sync_token SET node = NULL WHERE token_id = 1',
            "INSERT INTO sync_token (token_id, node) VALUES (9, 'a')",
            'UPDATE sync_token SET token_id = 9 WHERE token_id = 1',
            'INSERT INTO sync_unowned (token_id, version) VALUES (1, 1)',
            'DELETE FROM sync_unowned',
            'UPDATE sync_unowned SET task_id = NULL',
            'DELETE FROM sync_change',
        ],
    )
    def test_nobody_but_the_leader_makes_an_owner_nobody(self, harness: SqliteHarness, namespace: Namespace, edit: str) -> None:
        """By hand no token becomes nobody's, none that is nobody's becomes a node's, and no change is hidden from a reader."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup([0, 1], 'a'), TokenGroup([9], None), pins=(Pin(TOKENS + 1, 'x', None),))
        namespace.commit(leader, TokenGroup([0], 'b'))
        with namespace.unchanged(), pytest.raises(sqlite3.IntegrityError):
            harness.execute(edit)

    def test_pins_stay_whatever_is_tried(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Neither a deletion nor another number or task takes a pin away."""
        namespace.commit(namespace.leader(), TokenGroup([0], 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),))
        pins = namespace.pins()
        harness.execute('DELETE FROM sync_token')
        harness.execute('UPDATE sync_token SET token_id = 1')
        harness.execute('UPDATE sync_token SET task_id = NULL')
        assert namespace.pins() == pins
        assert namespace.row(0).absent


class TestLocks:
    """``sync_lock``."""

    def test_one_row_holds_all_alternatives(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """``patterns`` has them in order, ``node_pattern`` the first, ``token_id`` the pin's number."""
        put(namespace.backend, lock('x', 'gpu-%', 'big_%'))
        rows = harness.query('SELECT token_id, task_id, node_pattern, patterns, reason, created_by, expires_at FROM sync_lock')
        assert rows == [(TOKENS + 1, 'x', 'gpu-%', '["gpu-%", "big_%"]', 'why', 'me', None)]

    def test_the_pattern_in_effect_is_shown(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A pin that a fallback placed is not listed as incorrectly assigned, and the policy stays as it was."""
        put(namespace.backend, lock('x', 'gpu-%', 'w%'), lock('y', 'w%'))
        leader = namespace.leader()
        incorrect = """SELECT l.token_id, l.node_pattern, t.node FROM sync_lock l JOIN sync_token t ON l.token_id = t.token_id
            WHERE NOT (t.node LIKE l.node_pattern) ORDER BY l.token_id"""
        pins = [Pin(TOKENS + number, task, 'w1', pattern='w%') for number, task in ((1, 'x'), (2, 'y'))]
        namespace.commit(leader, pins=(*pins,))
        assert harness.query(incorrect) == []
        assert namespace.locks()['x'].patterns == ('gpu-%', 'w%')
        namespace.commit(leader, pins=(Pin(TOKENS + 1, 'x', 'gpu-1', pattern='gpu-%'),))
        assert harness.query(incorrect) == []
        assert harness.query('SELECT node_pattern FROM sync_lock') == [('gpu-%',), ('w%',)]
        namespace.commit(leader, pins=(Pin(TOKENS + 2, 'y', 'other'),))
        assert harness.query(incorrect) == [(TOKENS + 2, 'w%', 'other')]

    def test_a_lock_put_again_changes_nothing(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A provider that runs at every start causes no revision, though a fallback is in effect."""
        put(namespace.backend, lock('x', 'gpu-%', 'w%'))
        namespace.commit(namespace.leader(), pins=(Pin(TOKENS + 1, 'x', 'w1', pattern='w%'),))
        with namespace.unchanged():
            put(namespace.backend, lock('x', 'gpu-%', 'w%'))
        assert harness.query('SELECT node_pattern FROM sync_lock') == [('w%',)]

    def test_orphaned_and_expired_locks_are_cleaned(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """The seed's two statements: what they delete is gone for every node, as a new revision of the locks."""
        namespace.join('me')
        put(namespace.backend, lock('mine', 'a'), lock('orphan', 'a', by='gone'))
        harness.move_clock(dt.timedelta(hours=-2))
        put(namespace.backend, lock('expired', 'a', hours=1))
        harness.move_clock(dt.timedelta(hours=2))
        for statement, left in (
            (
                """DELETE FROM sync_lock WHERE created_by IN (SELECT l.created_by FROM sync_lock l
                LEFT JOIN sync_node n ON l.created_by = n.name WHERE n.name IS NULL)""",
                {'mine', 'expired'},
            ),
            ("DELETE FROM sync_lock WHERE expires_at < datetime('now')", {'mine'}),
        ):
            with namespace.raises_revision():
                harness.execute(statement)
            snapshot = namespace.snapshot()
            assert snapshot.locks_revision == snapshot.revision.number
            assert set(namespace.locks()) == left

    def test_a_lock_written_by_hand(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A task and a pattern are enough: the rest is filled in, unless it is given, and its id is above all before it."""
        put(namespace.backend, lock('x', 'a'), lock('y', 'a'))
        harness.execute('DELETE FROM sync_lock')
        with namespace.raises_revision():
            harness.execute("INSERT INTO sync_lock (task_id, node_pattern) VALUES ('z', 'gpu-%')")
        found = namespace.locks()['z']
        assert (found.id, found.patterns, found.registered, found.expires_at) == (3, ('gpu-%',), 0, None)
        assert abs(found.created_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        assert harness.query('SELECT token_id FROM sync_lock') == [(TOKENS + 3,)]
        given = """('w', 'a', '["a", "b"]', '2026-01-01 00:00:00')"""
        harness.execute(f'INSERT INTO sync_lock (task_id, node_pattern, patterns, created_at) VALUES {given}')
        found = namespace.locks()['w']
        assert (found.patterns, found.created_at) == (('a', 'b'), dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        put(namespace.backend, lock('new', 'a'))
        assert namespace.locks()['new'].id == 5

    def test_a_pattern_changed_by_hand_counts(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Whoever changes the pattern that is shown means the policy."""
        put(namespace.backend, lock('x', 'a', 'b'))
        with namespace.raises_revision():
            harness.execute("UPDATE sync_lock SET node_pattern = 'c%'")
        assert namespace.locks()['x'].patterns == ('c%',)
        harness.execute("""UPDATE sync_lock SET node_pattern = 'd', patterns = '["d", "e"]'""")
        assert namespace.locks()['x'].patterns == ('d', 'e')

    def test_an_expiry_in_any_form_of_sqlites(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Times as SQLite's own functions write them are read, and count."""
        put(namespace.backend, lock('x', 'a'), lock('y', 'a'), lock('z', 'a'))
        harness.execute(
            "UPDATE sync_lock SET expires_at = datetime('now', '-1 hour') WHERE task_id = 'x'",
            "UPDATE sync_lock SET expires_at = date('now', '+1 day') WHERE task_id = 'y'",
        )
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(expired=True))) == 1
        assert set(namespace.locks()) == {'y', 'z'}
        with pytest.raises(sqlite3.IntegrityError):
            harness.execute("UPDATE sync_lock SET expires_at = 'tomorrow'")

    @pytest.mark.parametrize('separator', [' ', 'T'])
    @pytest.mark.parametrize('zone', ['', 'Z', '+00:00', '-05:00', '+05:00'])
    def test_an_expiry_in_any_form_of_iso_8601(
        self, harness: SqliteHarness, namespace: Namespace, separator: str, zone: str
    ) -> None:
        """A lock is removed once its moment has come, and not before, though its text sorts in another way."""
        put(namespace.backend, lock('over', 'a'), lock('in force', 'a'))
        there = dt.timezone(dt.timedelta(hours=int(zone[:3]))) if ':' in zone else dt.UTC
        for task, minutes in (('over', -1), ('in force', 1)):
            moment = (dt.datetime.now(there) + dt.timedelta(minutes=minutes)).replace(tzinfo=None)
            text = moment.isoformat(separator, 'seconds') + zone
            harness.execute(f"UPDATE sync_lock SET expires_at = '{text}' WHERE task_id = '{task}'")
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(expired=True))) == 1
        assert set(namespace.locks()) == {'in force'}

    def test_other_settings_renumber_the_pins(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """``token_id`` follows ``total_tokens``."""
        put(namespace.backend, lock('x', 'a'))
        namespace.backend.open(Settings(1000, 'xxh3'), create=True)
        assert harness.query('SELECT token_id FROM sync_lock') == [(1001,)]


class TestTrails:
    """``sync_claim``, ``sync_audit`` and ``sync_rebalance``."""

    def test_tasks(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Tasks by node, incomplete tasks and the rate of completion, as the seed asks for them."""
        a, b = namespace.join('a'), namespace.join('b')
        namespace.backend.append_claims(a, ['1', '2', '3'], today())
        namespace.backend.append_claims(b, ['4'], today())
        namespace.backend.append_audits('a', ['1', '2'], today())
        assert harness.query("""SELECT node, count(*) FROM sync_claim WHERE date(created_on) = date('now')
            GROUP BY node ORDER BY 2 DESC""") == [('a', 3), ('b', 1)]
        assert harness.query("""SELECT c.item, c.node FROM sync_claim c
            LEFT JOIN sync_audit a ON c.item = a.item AND a.date = date('now')
            WHERE date(c.created_on) = date('now') AND a.item IS NULL ORDER BY c.item""") == [('3', 'a'), ('4', 'b')]
        assert harness.query("""SELECT round(100.0 * (SELECT count(DISTINCT item) FROM sync_audit WHERE date = date('now'))
            / (SELECT count(DISTINCT item) FROM sync_claim WHERE date(created_on) = date('now')), 1)""") == [(50.0,)]

    def test_a_claim_is_one_row_for_each_day(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Beginning again at the same date renews the row; a later day's claim is another."""
        ref = namespace.join('a')
        for date in (today(), today(), today() + dt.timedelta(days=1)):
            namespace.backend.append_claims(ref, ['x'], date)
        assert harness.query('SELECT item, node, date FROM sync_claim ORDER BY date') == [
            ('x', 'a', str(today())),
            ('x', 'a', str(today() + dt.timedelta(days=1))),
        ]

    def test_rebalances(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Recent rebalances, and the statement that cleans old ones."""
        leader = namespace.leader()
        harness.move_clock(dt.timedelta(days=-40))
        namespace.commit(leader, TokenGroup([1], 'a'), moved=1, reason='old')
        harness.move_clock(dt.timedelta(days=40))
        namespace.commit(leader, TokenGroup([1], 'b'), moved=1, reason='new', nodes_before=1, nodes_after=2, duration_ms=3)
        namespace.commit(leader, reason='nothing moved')
        columns = 'trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms'
        harness.execute("DELETE FROM sync_rebalance WHERE triggered_at < datetime('now', '-30 days')")
        assert harness.query(f'SELECT {columns} FROM sync_rebalance ORDER BY triggered_at DESC LIMIT 10') == [
            ('new', 'leader', 1, 2, 1, 3)
        ]
        assert len(namespace.backend.history(HistoryKind.REBALANCE)) == 1


class TestNamespaces:
    """Several clusters in one file."""

    def test_prefixes_of_each_other(self, harness: SqliteHarness) -> None:
        """Neither tables, indexes nor triggers of one are taken for the other's."""
        namespaces = {
            name: Namespace(harness.connect(name)) for name in ('app', 'app_', 'app_2', 'app_node', 'appXnode', 'app_claim')
        }
        for name, namespace in namespaces.items():
            namespace.commit(namespace.leader(), TokenGroup([1], name))
        revisions = {name: namespace.revision for name, namespace in namespaces.items()}
        harness.execute('DELETE FROM app_token', 'DELETE FROM app_nodenode')
        for name, namespace in namespaces.items():
            assert (namespace.revision != revisions[name]) == (name in ('app_', 'app_node')), name
            assert namespace.row(1).absent == (name == 'app_')

    def test_names_for_sql(self, harness: SqliteHarness) -> None:
        """``tables`` names all of them, and each is there."""
        backend = harness.connect('my_app_')
        Namespace(backend)
        tables = backend.tables  # type: ignore[attr-defined]
        assert list(tables) == ['Node', 'Token', 'Unowned', 'Change', 'Lock', 'Item', 'Rebalance', 'Claim', 'Audit', 'State']
        there = {name for (name,) in harness.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert set(tables.values()) <= there
        assert tables['Node'] == 'my_app_node'

    def test_a_users_connection_is_a_hand(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """What is changed over ``connection()`` is noticed like any edit, and reading over it blocks nobody."""
        namespace.join('a')
        with namespace.backend.connection() as connection:  # type: ignore[attr-defined]
            assert connection.exec_driver_sql('SELECT count(*) FROM sync_node').scalar_one() == 1
            namespace.join('b')
            with namespace.raises_revision():
                connection.exec_driver_sql("DELETE FROM sync_node WHERE name = 'b'")
                connection.commit()
            namespace.join('c')
            assert connection.exec_driver_sql('SELECT count(*) FROM sync_node').scalar_one() == 2


class TestDifferences:
    """Readings after an edit."""

    def test_a_version_of_another_history_is_not_built_on(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """The number alone does not do: the stamp must be of this history too."""
        leader = namespace.leader()
        version = namespace.commit(leader, TokenGroup([1, 2], 'a'))
        namespace.commit(leader, TokenGroup([2], 'b'))
        assert namespace.backend.read_assignment(version).base == version
        assert namespace.backend.read_assignment(Revision(version.number, version.stamp + 1)).base is None

    def test_only_so_many_versions_are_kept(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """A node that slept through very many commits reads everything."""
        leader = namespace.leader()
        versions = [namespace.commit(leader, TokenGroup([1, 2], 'a'))]
        for number in range(2 * REMEMBERED + 20):
            versions.append(namespace.commit(leader, TokenGroup([2], f'b{number}')))
        changes = namespace.backend.read_assignment(versions[0])
        assert changes.base is None
        assert sorted(token for group in changes.groups for token in group.tokens) == [1, 2]
        assert namespace.backend.read_assignment(versions[1 - REMEMBERED]).base == versions[1 - REMEMBERED]
        assert len(harness.query('SELECT DISTINCT revision FROM sync_change')) <= 2 * REMEMBERED

    def test_a_difference_has_the_latest_of_each_token(self, harness: SqliteHarness, namespace: Namespace) -> None:
        """Only what was written since, each token once, as the last commit left it."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'a'))
        version = namespace.commit(leader, TokenGroup([8], 'c'))
        first = namespace.commit(leader, TokenGroup([1, 2, 3], 'b')).number
        namespace.commit(leader, TokenGroup([2], 'b', target='c'), TokenGroup([4], 'a', home='x'))
        last = namespace.commit(leader, TokenGroup([3], 'c')).number
        changes = namespace.backend.read_assignment(version)
        rows = {token: (g.owner, g.target, g.home, g.version) for g in changes.groups for token in g.tokens}
        assert changes.base == version
        assert rows == {
            1: ('b', None, None, first),
            2: ('b', 'c', None, first),
            3: ('c', None, None, last),
            4: ('a', None, 'x', version.number - 1),
        }
        assert sum(len(group.tokens) for group in changes.groups) == 4

    def test_a_node_never_heard_of_is_no_leader(self, namespace: Namespace) -> None:
        """The record of the leadership names a run, which need not be registered any more."""
        ref = namespace.leader()
        namespace.backend.renew_timeline(namespace.timeline, 0)
        with pytest.raises(Evicted):
            namespace.backend.acquire_leadership(NodeRef('leader', ref.incarnation), 1)

    def test_a_second_transaction_that_only_reads(self, namespace: Namespace) -> None:
        """A transaction that only reads keeps nothing from being recorded, though an earlier one over its connection wrote."""
        with namespace.backend.connection() as connection:  # type: ignore[attr-defined]
            for statement in ('CREATE TABLE results (result TEXT)', 'BEGIN', 'DELETE FROM results', 'COMMIT', 'BEGIN'):
                connection.exec_driver_sql(statement)
            assert connection.exec_driver_sql('SELECT * FROM results').all() == []
            namespace.backend.append_audits('a', ['1'], today())
            connection.exec_driver_sql('COMMIT')
