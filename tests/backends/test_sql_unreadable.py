"""Rows that cannot be read (rule R9): the tables refuse them, and where they are there all the same nothing stops."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import attrs
import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.clusters import wait_until_whole
from tests.support.harnesses.sql import SqlHarness
from tests.support.harnesses.sqlite import SqliteHarness
from tests.support.timings import FAST

from jobsync.backend import HistoryKind, LockEdit, LockFilter, NodeRef, Pin, Registration, Revision, TokenGroup
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace

DAY = dt.date(2026, 3, 2)
NO_MOMENTS = {
    'sqlite': ("'infinity'", "'10000-01-01'", "'2026-02-31 00:00'", "'2026-01-01 24:00'", "'now'", '5', "x'00'"),
    'postgresql': ("'-infinity'", "'10000-01-01'", "'0044-03-15 BC'"),
}
NO_NUMBERS = {'sqlite': ('9e999', '-1', "'heavy'"), 'postgresql': ("'Infinity'", "'NaN'", '-1')}
NO_DAYS = {'sqlite': ("'infinity'", "'10000-01-01'", "'2026-02-31'", "'today'"), 'postgresql': ("'infinity'", "'10000-01-01'")}
NO_PATTERNS = ("'w%'", """'[["w%"]]'""", "'[]'", "'[1]'", """'{"a": 1}'""", "'null'", "''")


@pytest.fixture
def store(harness: SqlHarness) -> Iterator[Store]:
    """The store for jobs."""
    store = Store(harness.url)
    yield store
    store.close()


def refused(harness: SqlHarness, statement: str) -> None:
    """Run a statement that the tables must refuse."""
    with pytest.raises((sqlite3.Error, RuntimeError), match=r'_is_sound|CHECK|non-deterministic|invalid'):
        harness.execute(statement)


class TestRefused:
    """An operator's slip is refused where it is made."""

    def test_nodes(self, kind: str, harness: SqlHarness) -> None:
        """Weights, timeouts and times that mean nothing, and lists that are none."""
        namespace = Namespace(harness.connect())
        namespace.join('a')
        values = {
            'weight': NO_NUMBERS[kind],
            'timeout_sec': (*NO_NUMBERS[kind], '0', '1e9'),
            'created_on': (*NO_MOMENTS[kind], "'infinity'"),
            'last_heartbeat': (*NO_MOMENTS[kind], "'infinity'"),
            'holding': ("'[1, '", "'[[1]]'", """'["a"]'""", "'1'", "''"),
            'replaces': ('\'["a"\'', "'[[1]]'", "'[1]'", "''"),
        }
        with namespace.unchanged():
            for column, bad in values.items():
                for value in bad:
                    refused(harness, f'UPDATE sync_node SET {column} = {value}')

    def test_locks(self, kind: str, harness: SqlHarness) -> None:
        """Times that mean nothing, and patterns that are no list of texts."""
        namespace = Namespace(harness.connect())
        namespace.lock('x')
        values = {'expires_at': NO_MOMENTS[kind], 'created_at': NO_MOMENTS[kind], 'patterns': NO_PATTERNS}
        with namespace.unchanged():
            for column, bad in values.items():
                for value in bad:
                    refused(harness, f'UPDATE sync_lock SET {column} = {value}')
                    refused(harness, f"INSERT INTO sync_lock (task_id, node_pattern, {column}) VALUES ('y', 'a', {value})")

    def test_trails(self, kind: str, harness: SqlHarness) -> None:
        """Days and times that mean nothing."""
        namespace = Namespace(harness.connect())
        with namespace.unchanged():
            for table in ('claim', 'audit'):
                insert = f'INSERT INTO sync_{table} (item, node, date, created_on) VALUES'
                for day in NO_DAYS[kind]:
                    refused(harness, f"{insert} ('x', 'a', {day}, '2026-03-02 10:00')")
                for moment in (*NO_MOMENTS[kind], "'infinity'"):
                    refused(harness, f"{insert} ('x', 'a', '2026-03-02', {moment})")

    def test_what_people_write_is_accepted(self, kind: str, harness: SqlHarness) -> None:
        """Shorter times, other zones, patterns with blanks; on PostgreSQL a lock that expires at infinity does not expire."""
        namespace = Namespace(harness.connect())
        namespace.lock('x')
        for value in (
            "'2026-03-02'",
            "'2026-03-02 10:00'",
            "'2026-03-02T10:00:00+02:00'",
            "'9998-12-31'",
            'NULL',
            'CURRENT_TIMESTAMP',
        ):
            harness.execute(f'UPDATE sync_lock SET expires_at = {value}, created_at = {value}')
            assert namespace.backend.read_locks().unreadable == ()
        for value in ("""'["a", "b%"]'""", """' [ "a" ,"b%" ] '""", """'["a\\"\\\\\\u0041"]'"""):
            harness.execute(f'UPDATE sync_lock SET patterns = {value}')
            assert len(namespace.locks()['x'].patterns) == value.count(',') + 1
        if kind == 'postgresql':
            harness.execute("UPDATE sync_lock SET expires_at = 'infinity'")
            assert namespace.locks()['x'].expires_at is None


class TestAllTheSame:
    """Rows that were written while the conditions were off."""

    def test_the_cluster_goes_on(self, kind: str, harness: SqlHarness, store: Store) -> None:
        """With every kind of spoilt node and lock in the tables, jobs join, leave and take over under every leader."""
        with ExitStack() as running:
            jobs = {name: running.enter_context(ExitStack()) for name in ('a', 'b', 'c')}
            a, b = (jobs[name].enter_context(store.job(name)) for name in 'ab')
            wait_until_whole(a, b)
            timeline = store.handle.snapshot().timeline
            for number, way in enumerate(harness.node_spoils):
                run = NodeRef(f'spoilt {way}', str(number))
                store.handle.register(Registration(run, timeout_sec=FAST['heartbeat_timeout_sec']), timeline, 0)
                harness.spoil_node('sync_', run.name, way)
            for way in harness.lock_spoils:
                a.register_task_lock(f'spoilt {way}', '%')
                harness.spoil_lock('sync_', f'spoilt {way}', way)
            c = jobs['c'].enter_context(store.job('c'))
            wait_until_whole(a, b, c)
            told = store.handle.read_locks().unreadable
            assert {report.key for report in told} == {f'spoilt {way}' for way in harness.lock_spoils}
            # The leader's own record, in a way that is read all the same and in one that is not.
            harness.spoil_node('sync_', 'a', 'weight')
            harness.spoil_node('sync_', 'a', 'holding')
            wait_until(lambda: len([node for node in store.handle.snapshot().nodes if node.name in 'abc']) == 3, 'a is back')
            wait_until_whole(a, b, c)
            jobs['a'].close()
            wait_until_whole(b, c)
            jobs['b'].close()
            wait_until_whole(c)

    def test_a_lock_whose_number_is_too_high(self, kind: str, harness: SqlHarness) -> None:
        """Left out, since its pin would have a still higher one. No other lock is made until both numbers are put right."""
        namespace = Namespace(harness.connect())
        highest = 2**63 - 1 - (SETTINGS.total_tokens if kind == 'postgresql' else 0)  # PostgreSQL refuses a higher one
        harness.execute(f"INSERT INTO sync_lock (id, task_id, node_pattern) VALUES ({highest}, 'x', '%')")
        reading = namespace.backend.read_locks()
        assert reading.locks == ()
        assert [report.key for report in reading.unreadable] == ['x']
        with pytest.raises(BackendUnavailable, match=rf'cannot be read \(last_lock is {highest}'):
            namespace.lock('y')
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'x'})))) == 1
        harness.execute('UPDATE sync_state SET last_lock = 0')
        namespace.lock('y')
        assert namespace.locks()['y'].id == 1

    def test_a_count_of_locks_that_is_behind(self, harness: SqlHarness) -> None:
        """As where the state of another cluster is replicated into this one: a new lock has no number that is in use."""
        namespace = Namespace(harness.connect(bulk_timeout_sec=1.0))
        namespace.lock('x')
        namespace.lock('y', group='feeds')
        namespace.commit(namespace.leader(), pins=(Pin(TOKENS + 3, 'of a lock that is gone', 'leader'),))
        for number, group in ((4, ''), (5, 'feeds')):
            harness.execute('UPDATE sync_state SET last_lock = 0')
            namespace.lock('z', group=group)
            assert [lock.id for lock in namespace.backend.read_locks().locks][-1] == number

    def test_a_version_that_is_gone_from_the_list(self, harness: SqlHarness) -> None:
        """Who reads what came after a version before it has every token as the last commit wrote it."""
        namespace = Namespace(harness.connect())
        ref = namespace.leader()
        namespace.commit(ref, TokenGroup(range(SETTINGS.total_tokens), 'a'))
        before = namespace.assignment()
        namespace.commit(ref, TokenGroup([1, 2], 'b'))
        namespace.commit(ref, TokenGroup([2, 3], 'c'))
        ((listed,),) = harness.query('SELECT builds_on FROM sync_state')
        *versions, _, last = json.loads(listed)
        harness.execute(f"UPDATE sync_state SET builds_on = '{json.dumps([*versions, last])}'")
        after = before.apply(namespace.backend.read_assignment(before.version))
        assert [after.row(token).owner for token in range(5)] == ['a', 'b', 'c', 'c', 'a']

    @pytest.mark.parametrize('table', ['claim', 'audit', 'rebalance'])
    def test_trails(self, kind: str, harness: SqlHarness, table: str) -> None:
        """What anybody can read is read by everybody, whatever else is there; what is asked for is given in full."""
        namespace = Namespace(harness.connect())
        ref = namespace.leader()
        namespace.commit(ref, moved=1)
        namespace.backend.append_claims(ref, ['x', 'y'], DAY)
        namespace.backend.append_audits('leader', ['y'], DAY)
        before = namespace.state()
        columns = 'item, node, date, created_on'
        if table == 'rebalance':
            columns = 'leader_node, trigger_reason, triggered_at, nodes_before, nodes_after, tokens_moved, duration_ms'
        forged = []
        for number, moment in enumerate((*NO_MOMENTS[kind], "'infinity'")):
            values = f"'{number}', 'a', '2026-03-02', {moment}" if table != 'rebalance' else f"'a', 'b', {moment}, 1, 1, 1, 1"
            forged.append(f'({values})')
        if table != 'rebalance':
            forged += [f"('z', 'a', {day}, '2026-03-02 10:00')" for day in NO_DAYS[kind]]
        unconditionally(harness, table, f'INSERT INTO sync_{table} ({columns}) VALUES {", ".join(forged)}')
        assert namespace.state() == before
        assert [claim.item for claim in namespace.backend.incomplete(None, dt.timedelta(0))] == ['x']
        for trail, count in ((HistoryKind.CLAIM, 2), (HistoryKind.AUDIT, 1), (HistoryKind.REBALANCE, 1)):
            assert len(namespace.backend.history(trail, limit=2)) == count
            assert namespace.purge(trail, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) >= 0
        assert namespace.backend.open(SETTINGS, create=True).settings == SETTINGS


def unconditionally(harness: SqlHarness, table: str, statement: str) -> None:
    """Run a statement with the table's conditions off."""
    if isinstance(harness, SqliteHarness):
        harness.execute('PRAGMA ignore_check_constraints = ON', statement)
        return
    named = harness.query(f"SELECT conname FROM pg_constraint WHERE conrelid = 'sync_{table}'::regclass AND contype = 'c'")
    harness.execute(*(f'ALTER TABLE sync_{table} DROP CONSTRAINT {name}' for (name,) in named), statement)


def test_errors_of_the_driver_are_told_apart(harness: SqlHarness) -> None:
    """A refusal by a condition is for good: it is never called unavailable."""
    namespace = Namespace(harness.connect())
    with pytest.raises(JobsyncError) as caught:
        namespace.join('a', weight=float('nan'))
    assert type(caught.value).__name__ == 'SchemaMismatch'


NUMBERS = (
    'schema_version', 'total_tokens', 'format', 'generation', 'revision', 'stamp', 'version', 'version_stamp', 'epoch',
    'locks_revision', 'longest_timeout_sec', 'last_created',
)  # fmt: skip
NO_MEMBERS = (
    'x', '[]', '{"a": 7}', '{"a": [1, 2, 3, 4, 5, 6, 7, 8, 9]}', '{"a": [5, 15.0, 0]}', '{"a": ["r", "x", 0]}',
    '{"a": ["r", null, 0]}', '{"a": ["r", NaN, 0]}', '{"a": ["r", 1e9, 0]}', '{"a": ["r", -1, 0]}', '{"a": ["r", 15.0, "x"]}',
    '{"a": ["r", 15.0, null]}', '[' * 100_000,
)  # fmt: skip
NO_STATE = {
    **dict.fromkeys(NUMBERS, ('9223372036854775807', '-1')),
    'longest_timeout_sec': ('9223372036854775807', '1e300', '-1'),
    'last_created': ("'9999-12-31 23:59:59.999999'",),
    'schema_version': (),
    'format': ('-1',),
}
"""What the columns take, and no node can count on from, or compare with what it has read."""


def test_a_state_that_cannot_be_read(kind: str, harness: SqlHarness) -> None:
    """What a person has changed there is an outage for a node, and an error that says why for others; put back, all goes on."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    namespace.commit(leader, TokenGroup([0], 'leader'))

    def found() -> tuple[object, ...]:
        # A heartbeat may count all the same: on PostgreSQL it is committed with the reading that follows it.
        state = namespace.state()
        (node,) = state.snapshot.nodes
        return attrs.evolve(state, snapshot=attrs.evolve(state.snapshot, nodes=())), node.ref

    before = found()
    spoils = [('members', f"'{text}'") for text in NO_MEMBERS]
    spoils += [(column, value) for column, values in NO_STATE.items() for value in values]
    if kind == 'sqlite':  # PostgreSQL refuses these
        spoils += [(column, value) for column in NUMBERS for value in ("'x'", "x'00'", '1.25', '1e300')]
        spoils.remove(('longest_timeout_sec', '1.25'))
        spoils += [('last_lock', value) for value in ("'x'", '1.25')]
    harness.execute('CREATE TABLE kept AS SELECT * FROM sync_state')
    for column, value in spoils:
        harness.execute(f'UPDATE sync_state SET {column} = {value}')
        readings: list[Callable[[], object]] = [namespace.backend.read_assignment]
        if column == 'last_lock':
            readings = [lambda: namespace.lock('x')]
        elif column != 'members':
            readings += [namespace.backend.snapshot, lambda: namespace.beat(leader), lambda: namespace.join('b')]
            readings += [lambda: namespace.lock('x'), lambda: namespace.backend.open(SETTINGS, create=True)]
        for call in readings:
            with pytest.raises(
                BackendUnavailable,
                match='changed manually and cannot be read' if column == 'members' else rf'cannot be read \({column} is',
            ):
                call()
                pytest.fail(f'{column} = {value} was read')
        harness.execute(f'UPDATE sync_state SET {column} = (SELECT {column} FROM kept)')
        assert found() == before


@pytest.mark.parametrize('text', ['', 'x', '{}', '[1]', '[["a", 2]]', 'null', pytest.param('[' * 100_000, id='nested')])
def test_what_differences_build_on_cannot_be_read(harness: SqlHarness, text: str) -> None:
    """Commits write it anew; until then everything is read."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    namespace.commit(leader, TokenGroup([0], 'leader'))
    harness.execute(f"UPDATE sync_state SET builds_on = '{text}'")
    found = namespace.backend.read_assignment(Revision(0, 0))
    assert found.base is None
    assert [group.owner for group in found.groups if 0 in group.tokens] == ['leader']
    namespace.commit(leader, TokenGroup([1], 'leader'))
    version = namespace.backend.snapshot().version
    namespace.commit(leader, TokenGroup([2], 'leader'))
    assert namespace.backend.read_assignment(version).base == version
