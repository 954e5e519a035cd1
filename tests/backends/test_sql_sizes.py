"""The largest plans: no limit of a database on parameters, texts or announcements stands in their way."""

from __future__ import annotations

import pytest
from tests.support.harnesses.sql import SqlHarness

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import Eviction, LockEdit, LockRequest, Member, NodeRef, Pin, Settings
from jobsync.backends.sql import commits
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.postgresql import store
from jobsync.testing import Namespace

MANY = 10_000
LONG = 'x' * 200
"""Names as long as hosts' may be make the whole larger than any one limit."""
NUMBERS = {
    'sqlite': f'(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY - 1}) SELECT i FROM n)',
    'postgresql': f'(SELECT i FROM generate_series(0, {MANY - 1}) AS i) AS n',
}
NODE = (
    'name, created_on, state, incarnation, heartbeat, seen, seen_stamp, holding, replaces, weight, timeout_sec, host, pid, '
    'candidate'
)


@pytest.fixture(autouse=True)
def much_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a process much time between two statements: on a starved machine it may need that."""
    monkeypatch.setattr(store, 'IDLE_SEC', 600.0)


def test_many_of_everything_in_one_commit(harness: SqlHarness) -> None:
    """Ten thousand evictions and as many members, a token for each, and twenty thousand pins of locked tasks."""
    namespace = Namespace(harness.connect(op_timeout_sec=100.0, bulk_timeout_sec=600.0), Settings(MANY, 'xxh3'))
    leader = namespace.leader()
    kind = namespace.backend.info.name
    values = f"'{LONG}' || i, '2026-03-02 10:00', 'joined', 'run-' || i, i, 0, 0, '[]', '[]', 1, 15, '', 0, {{}}"
    harness.execute(f'INSERT INTO sync_node ({NODE}) SELECT {values.format("1 = 1")} FROM {NUMBERS[kind]}')
    refs = [NodeRef(f'{LONG}{number}', f'run-{number}') for number in range(MANY)]
    requests = tuple(LockRequest(f'{LONG}{number}', (f'{LONG}%', LONG), LONG, LONG) for number in range(2 * MANY))
    namespace.backend.edit_locks(LockEdit(put=requests))
    locks = namespace.backend.read_locks().locks
    assert len(locks) == 2 * MANY
    pins = tuple(
        Pin(MANY + lock.id, lock.task_id, refs[at % MANY].name, home=LONG, pattern=LONG) for at, lock in enumerate(locks)
    )
    members = {ref.name: Member(ref.incarnation, 15.0, 1) for ref in refs}
    groups = tuple(TokenGroup([at], ref.name, home=LONG) for at, ref in enumerate(refs))
    version = namespace.commit(
        leader,
        *groups,
        pins=pins,
        members=members,
        evictions=tuple(Eviction(ref, number) for number, ref in enumerate(refs)),
        absent=tuple(NodeRef(f'ghost {LONG}{number}', 'x') for number in range(MANY)),
        moved=3 * MANY,
    )
    assert list(namespace.nodes()) == ['leader']
    found = namespace.assignment()
    assert found.version == version
    assert found.members == members
    assert len(found.pins) == 2 * MANY
    assert {found.row(at).owner for at in range(MANY)} == set(members)
    later = namespace.commit(leader, members=dict.fromkeys(members), unpinned=frozenset(found.pins), moved=1)
    changes = namespace.backend.read_assignment(version)
    assert changes.base == version
    after = found.apply(changes)
    assert (after.version, after.members, after.pins) == (later, {}, {})


def test_the_log_has_what_differences_need(harness: SqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference builds on each of the versions that are remembered, and the log keeps at most twice as many."""
    monkeypatch.setattr(commits, 'REMEMBERED', 2)
    backend = harness.connect()
    assert isinstance(backend, SqlBackend)
    namespace = Namespace(backend)
    leader = namespace.leader()
    for _ in range(9):
        before = namespace.snapshot().version
        version = namespace.commit(leader, TokenGroup([0], 'leader'))
        for since in (before, version):
            assert backend.read_assignment(since).base == since
        with backend.connection() as connection:
            logged = connection.exec_driver_sql('SELECT count(DISTINCT revision) FROM sync_change').scalar_one()
        assert logged <= 4
