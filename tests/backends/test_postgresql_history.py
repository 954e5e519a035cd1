"""A PostgreSQL server that goes back in time, or answers readings alone: a server of the tests' own, for it is stopped."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.servers import PostgresServer, find_postgres

from jobsync._core.records import INITIAL, HistoryKind, LockEdit, LockRequest, NodeRef, Registration
from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.namespace import SETTINGS, Namespace

pytestmark = pytest.mark.postgres

DAY = dt.date(2026, 3, 2)
LONG_SEC, SHORT_SEC = 100.0, 5.0
REPEATED = '55P03'


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer(next(iter(find_postgres().values())))
    yield server
    server.close()


@pytest.fixture
def harness(server: PostgresServer) -> Iterator[PostgresqlHarness]:
    harness = PostgresqlHarness(server)
    yield harness
    harness.close()


def copy(server: PostgresServer) -> None:
    """Kill the server, keep a copy of its data, and start it again."""
    server.kill()
    shutil.copytree(server.folder / 'data', server.folder / 'copy', symlinks=True)
    server.start()


def put_back(server: PostgresServer) -> None:
    """Kill the server, put the copy in the place of its data, and start it again."""
    server.kill()
    shutil.rmtree(server.folder / 'data')
    (server.folder / 'copy').rename(server.folder / 'data')
    server.start()


def test_a_copy_put_back_is_told_by_its_position(harness: PostgresqlHarness, server: PostgresServer) -> None:
    """It has the identity and the timeline that the store had, and a shorter log; a restart, or a kill, does not shorten it."""
    namespace = Namespace(harness.connect(op_timeout_sec=LONG_SEC))
    ref = namespace.join('a')
    positions = [told(namespace, ref)]
    copy(server)
    positions.append(told(namespace, ref))
    for number in range(20):
        namespace.lock(f'x{number}')
        positions.append(told(namespace, ref))
    server.kill()
    server.start()
    positions.append(told(namespace, ref))
    assert positions == sorted(positions)
    before = namespace.snapshot()
    put_back(server)
    after = namespace.snapshot()
    assert (after.store, after.timeline) == (before.store, before.timeline)
    assert after.position is not None
    assert before.position is not None
    assert after.position < before.position
    assert told(namespace, ref) < before.position


def told(namespace: Namespace, ref: NodeRef) -> int:
    """The position that a heartbeat brings, once the server answers; a reading right after it has no lower one."""
    wait_until(lambda: answers(namespace), 'the server answers', LONG_SEC)
    position = namespace.beat(ref).position
    assert position is not None
    read = namespace.snapshot().position
    assert read is not None
    assert read >= position
    return position


def answers(namespace: Namespace) -> bool:
    """Whether the server answers a reading."""
    try:
        namespace.snapshot()
    except BackendUnavailable:
        return False
    return True


def test_a_standby_is_unavailable(harness: PostgresqlHarness, server: PostgresServer) -> None:
    """A server in recovery answers no call of the protocol, not even those that only read; promoted, it is another store."""
    namespace = Namespace(harness.connect(op_timeout_sec=LONG_SEC))
    leader = namespace.leader()
    before, plan, guard = namespace.snapshot(), namespace.plan(), namespace.guard()
    server.kill()
    (server.folder / 'data' / 'standby.signal').touch()
    server.start()
    backend = namespace.backend
    newcomer = Registration(NodeRef('b', 'x'), 15.0)
    calls: dict[str, Callable[[], object]] = {
        'open': partial(backend.open, SETTINGS, True),
        'skip_db_init': partial(backend.open, SETTINGS, False),
        'renew_timeline': partial(backend.renew_timeline, namespace.timeline, 0),
        'register': partial(backend.register, newcomer, namespace.timeline, 0),
        'heartbeat': partial(backend.heartbeat, leader, INITIAL, frozenset()),
        'set_weight': partial(backend.set_weight, leader, 2.0),
        'deregister': partial(backend.deregister, leader),
        'acquire_leadership': partial(backend.acquire_leadership, leader, 1),
        'snapshot': backend.snapshot,
        'read_assignment': backend.read_assignment,
        'commit': partial(backend.commit, leader, plan, guard),
        'read_locks': backend.read_locks,
        'edit_locks': partial(backend.edit_locks, LockEdit(put=(LockRequest('x', ('a',), 'me'),))),
        'append_claims': partial(backend.append_claims, leader, ['x'], DAY),
        'append_audits': partial(backend.append_audits, 'leader', ['x'], DAY),
        'history': partial(backend.history, HistoryKind.CLAIM),
        'incomplete': partial(backend.incomplete, None, DAY - DAY),
        'purge': partial(backend.purge, HistoryKind.AUDIT, before.now, 1000),
    }
    for name, call in calls.items():
        try:
            answer: object = call()
        except Exception as error:  # noqa: BLE001 - looked at below
            answer = error
        assert isinstance(answer, BackendUnavailable), (name, answer)
    server.psql('SELECT pg_promote()')
    wait_until(lambda: answers(namespace), 'the server is promoted', LONG_SEC)
    after = backend.snapshot()
    assert after.timeline == before.timeline
    assert after.store != before.store


def test_a_full_disk(harness: PostgresqlHarness) -> None:
    """What the server says when its disk is full, or its memory, is a matter of time, and never for good."""
    namespaces = {sec: Namespace(harness.connect(op_timeout_sec=sec)) for sec in (LONG_SEC, SHORT_SEC)}
    ref = namespaces[LONG_SEC].join('a')
    # What may be another transaction's lock is tried until the time is over.
    for code in ('53100', '53200', '53300', '58030', '57P03', REPEATED, '25006'):
        harness.execute(
            f"""CREATE OR REPLACE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{code}'; END $$""",
            'CREATE OR REPLACE TRIGGER full_disk BEFORE UPDATE ON sync_node FOR EACH ROW EXECUTE FUNCTION full()',
        )
        with pytest.raises(BackendUnavailable, match='no room'):
            namespaces[SHORT_SEC if code == REPEATED else LONG_SEC].beat(ref)
    harness.execute('DROP TRIGGER full_disk ON sync_node')
    assert namespaces[LONG_SEC].beat(ref).heartbeat == 1
