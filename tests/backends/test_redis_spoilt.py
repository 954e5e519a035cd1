"""Records of a Redis namespace that a person has changed (rule R9): left out, reported, in nobody's way."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import attrs
import pytest
from tests.backends.redis_jobs import TASKS, Cluster
from tests.support.harnesses.redis import LOCK_FIELDS, NODE_FIELDS, SEAL, RedisHarness, with_field
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

from jobsync._cluster.reading import ClusterReader
from jobsync._core.assignment import TokenGroup
from jobsync._core.records import (
    Eviction,
    HistoryKind,
    LockEdit,
    LockFilter,
    Member,
    NodeRef,
    Pin,
    Registration,
    Settings,
    Unreadable,
)
from jobsync.backend import Backend
from jobsync.backends.redis.records import sealed
from jobsync.errors import BackendUnavailable, Evicted, SchemaMismatch
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace

pytestmark = pytest.mark.redis

NUMBERS = (
    'total_tokens', 'format', 'generation', 'revision', 'stamp', 'version', 'version_stamp', 'epoch', 'last_created',
    'locks_revision', 'lock_ids', 'base_size', 'log_size', 'longest_timeout', 'position',
)  # fmt: skip
COUNTS = ('member_count', 'pin_count')
TEXTS = ('hash_function', 'timeline', 'timeline_store', 'store', 'leader', 'leader_run', 'pins')
WRONG: list[object] = [None, '', 'x', 'Infinity', -1, 10**400, [], {}]


def key(kind: str) -> str:
    """The key that holds a kind of records."""
    return f'jobsync:{{sync_}}:{kind}'


def spoil(server: RedisServer, kind: str, name: str, change: Callable[[str], str]) -> None:
    """Change a record as somebody with redis-cli would."""
    server.ask('HSET', key(kind), name, change(server.ask('HGET', key(kind), name)))


def with_value(field: str | int, value: object) -> Callable[[str], str]:
    """What puts a value in the place of a field's."""
    return lambda raw: with_field(raw, field, value)


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def harness(server: RedisServer) -> Iterator[RedisHarness]:
    harness = RedisHarness(server)
    yield harness
    harness.close()


def unreadable(backend: Backend) -> list[tuple[str, str]]:
    """What is reported of the nodes."""
    reports = backend.snapshot().unreadable
    assert all(isinstance(report, Unreadable) and 'left out' in report.problem for report in reports)
    return [(report.kind, report.key) for report in reports]


class TestState:
    """The one key without a seal."""

    @pytest.mark.parametrize('field', NUMBERS + COUNTS + TEXTS)
    def test_any_field(self, namespace: Namespace, server: RedisServer, harness: RedisHarness, field: str) -> None:
        """What cannot be read is an outage for a node, and an error that says why for others; put back, all goes on."""
        ref, before = namespace.join('a'), server.ask('HGET', key('state'), field)
        newcomer = harness.connect()
        values = ('', 'x', 'nan', 'inf', '-1', '1' + '0' * 400)
        for value in values if field in COUNTS else (None, *values) if field in NUMBERS else (None,):
            server.ask(*(('HDEL', key('state'), field) if value is None else ('HSET', key('state'), field, value)))
            for call in (
                namespace.snapshot,
                lambda: namespace.beat(ref),
                lambda: namespace.join('b'),
                lambda: namespace.lock('x'),
                lambda: newcomer.open(SETTINGS, create=True),
                lambda: newcomer.open(None, create=False),
            ):
                with pytest.raises(BackendUnavailable, match=f'{field} was changed manually'):
                    call()
            server.ask('HSET', key('state'), field, before)
        assert [node.ref for node in namespace.snapshot().nodes] == [ref]

    def test_a_wait_for_a_revision_that_is_no_number(self, namespace: Namespace, server: RedisServer) -> None:
        """It lasts as long as any other, and raises nothing; put back, the revision is read."""
        namespace.join('a')
        before = server.ask('HGET', key('state'), 'revision')
        for value in ('x', '1' + '0' * 5000):
            server.ask('HSET', key('state'), 'revision', value)
            assert namespace.backend.wait(0, 0.01) == 0
        server.ask('HSET', key('state'), 'revision', before)
        assert namespace.backend.wait(0, 60.0) == int(before)

    @pytest.mark.parametrize('field', ['revision', 'version', 'epoch', 'last_created'])
    def test_a_number_that_no_script_can_count_on_from(self, namespace: Namespace, server: RedisServer, field: str) -> None:
        """Nobody remembers it, or writes a record with it: put back, all goes on."""
        ref, before = namespace.join('a'), server.ask('HGET', key('state'), field)
        server.ask('HSET', key('state'), field, '9223372036854775807')
        for call in (namespace.snapshot, lambda: namespace.beat(ref), lambda: namespace.join('b')):
            with pytest.raises(BackendUnavailable, match=f'{field} was changed manually'):
                call()
        server.ask('HSET', key('state'), field, before)
        assert [node.ref for node in namespace.snapshot().nodes] == [ref]


class TestNodes:
    """A node's record that was changed counts as absent for every method."""

    def check(self, namespace: Namespace, leader: NodeRef, spoilt: NodeRef) -> None:
        """Call everything that could stumble over the record, and put another in its place."""
        backend, name = namespace.backend, spoilt.name
        assert unreadable(backend) == [('node', name)]
        assert name not in namespace.nodes()
        before = namespace.revision
        for call in (
            lambda: namespace.beat(spoilt),
            lambda: backend.set_weight(spoilt, 2.0),
            lambda: backend.acquire_leadership(spoilt, 1),
            lambda: backend.append_claims(spoilt, ['x'], backend.snapshot().now.date()),
            lambda: backend.commit(spoilt, namespace.plan(), namespace.guard()),
        ):
            with pytest.raises(Evicted):
                call()
        backend.deregister(spoilt)
        assert namespace.revision == before
        assert namespace.beat(leader).leader_heartbeat == namespace.node('leader').heartbeat
        namespace.evict(leader, namespace.join('dead'))
        namespace.commit(leader, TokenGroup([1], 'leader'), absent=(spoilt,))
        assert unreadable(backend) == [('node', name)]
        again = namespace.join(name)
        assert unreadable(backend) == []
        assert namespace.beat(again).heartbeat == 1

    @pytest.mark.parametrize('field', NODE_FIELDS)
    def test_any_field(self, namespace: Namespace, server: RedisServer, field: str) -> None:
        """Whatever was put in the place of any field of it."""
        leader = namespace.leader()
        assert json.loads(server.ask('HGET', key('nodes'), 'leader')[SEAL:]).keys() == set(NODE_FIELDS)
        for value in WRONG:
            ref = namespace.join('a')
            spoil(server, 'nodes', 'a', with_value(field, value))
            self.check(namespace, leader, ref)
            namespace.backend.deregister(NodeRef('a', namespace.node('a').incarnation))

    @pytest.mark.parametrize('text', ['', 'x', '{}', '[]', 'null', 'x' * SEAL, 'x' * SEAL + '{}', '1' * 100_000])
    def test_any_text(self, namespace: Namespace, server: RedisServer, text: str) -> None:
        """Whatever was put in the place of it as a whole."""
        leader, ref = namespace.leader(), namespace.join('a')
        spoil(server, 'nodes', 'a', lambda raw: text)
        self.check(namespace, leader, ref)

    def test_no_text(self, namespace: Namespace, server: RedisServer) -> None:
        """Bytes that are no UTF-8, as record and as name."""
        leader, ref = namespace.leader(), namespace.join('a')
        script = "redis.call('HSET', KEYS[1], 'a', '\\255', '\\254', '\\255')"
        server.ask('EVAL', script, '1', key('nodes'))
        assert {name for _, name in unreadable(namespace.backend)} == {'a', '\N{REPLACEMENT CHARACTER}'}
        assert namespace.beat(leader).heartbeat == 1
        with pytest.raises(Evicted):
            namespace.beat(ref)

    def test_a_time_that_is_none(self, namespace: Namespace, server: RedisServer) -> None:
        """A record that was made while the highest time of all records was spoilt has a seal, and no time."""
        leader, ref = namespace.leader(), namespace.join('a')
        form = json.loads(server.ask('HGET', key('nodes'), 'a')[SEAL:]) | {'created_on': '9223372036854775808'}
        server.ask('HSET', key('nodes'), 'a', sealed(b'a', json.dumps(form).encode()).decode())
        assert unreadable(namespace.backend) == [('node', 'a')]
        assert 'a' not in namespace.nodes()
        assert namespace.beat(leader).heartbeat == 1
        namespace.backend.deregister(ref)
        namespace.join('a')
        assert unreadable(namespace.backend) == []

    def test_the_record_of_another(self, namespace: Namespace, server: RedisServer) -> None:
        """A record that jobsync wrote, copied to another name, is none of that name's."""
        leader, ref = namespace.leader(), namespace.join('a')
        spoil(server, 'nodes', 'a', lambda raw: server.ask('HGET', key('nodes'), 'leader'))
        self.check(namespace, leader, ref)

    def test_other_settings(self, namespace: Namespace, server: RedisServer) -> None:
        """A spoilt record keeps nobody from replacing the settings when no other node is registered."""
        namespace.join('a')
        spoil(server, 'nodes', 'a', lambda raw: 'x')
        other = Settings(total_tokens=TOKENS + 1, hash_function='xxh3')
        assert namespace.backend.open(other, create=False).settings == other


class TestLocks:
    """A task lock that was changed is left out, and can be put again or removed."""

    @pytest.mark.parametrize('field', range(len(LOCK_FIELDS)))
    def test_any_field(self, namespace: Namespace, server: RedisServer, field: int) -> None:
        """Whatever was put in the place of any field of it."""
        for number, value in enumerate(WRONG):
            namespace.lock('x', 'y', expires_in=None)
            before = namespace.locks()
            spoil(server, 'locks', 'x', with_value(field, value))
            self.check(namespace, highest=max(lock.id for lock in before.values()))
            assert number < 1 or before['x'].id > number

    @pytest.mark.parametrize('text', ['', 'x', '{}', '[]', 'null', 'x' * SEAL, 'x' * SEAL + '[]', '1' * 100_000])
    def test_any_text(self, namespace: Namespace, server: RedisServer, text: str) -> None:
        """Whatever was put in the place of it as a whole."""
        namespace.lock('x', 'y')
        spoil(server, 'locks', 'x', lambda raw: text)
        self.check(namespace, highest=2)

    def check(self, namespace: Namespace, highest: int) -> None:
        """Call everything that could stumble over the lock of x, and remove all."""
        edit = namespace.backend.edit_locks
        reading = namespace.backend.read_locks()
        assert [lock.task_id for lock in reading.locks] == ['y']
        assert [(report.kind, report.key) for report in reading.unreadable] == [('lock', 'x')]
        assert edit(LockEdit(remove=LockFilter(expired=True))) == 0
        assert edit(LockEdit(remove=LockFilter(created_by='you'))) == 0
        namespace.lock('x')
        assert namespace.backend.read_locks().unreadable == ()
        assert namespace.locks()['x'].id > highest
        assert edit(LockEdit(remove=LockFilter())) == 2

    def test_all_go(self, namespace: Namespace, server: RedisServer) -> None:
        """A lock that cannot be read goes where all go."""
        namespace.lock('x', 'y')
        spoil(server, 'locks', 'x', lambda raw: 'x')
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter())) == 2
        assert server.ask('EXISTS', key('locks')) == '0'


class TestTrails:
    """A row of a trail that jobsync did not write is left out."""

    @pytest.mark.parametrize(
        'row', ['', 'x', '2026-03-02', '10000-01-01\0x\0a', '2026-03-02\0x', 'infinity\0x\0a', '\0\0\0\0', '[]']
    )
    @pytest.mark.parametrize('score', ['1', '1.5', 'inf', '1e300'])
    def test_any_row(self, namespace: Namespace, server: RedisServer, row: str, score: str) -> None:
        """History, incomplete and purge go on, with it and with rows of a time that is none."""
        leader = namespace.leader()
        today = namespace.snapshot().now.date()
        namespace.backend.append_claims(leader, ['x', 'y'], today)
        namespace.backend.append_audits('leader', ['x'], today)
        namespace.commit(leader, TokenGroup([1], 'leader'), moved=1)
        for kind in ('claims', 'claims_by_date', 'open', 'audits', 'audits_by_date', 'rebalances'):
            server.ask('ZADD', key(kind), '0' if kind.endswith('by_date') else score, row)
        assert [claim.item for claim in namespace.claims()] == ['x', 'y']
        assert [claim.item for claim in namespace.claims(date=today)] == ['x', 'y']
        assert [audit.item for audit in namespace.audits(item='x')] == ['x']
        assert len(namespace.rebalances()) == 1
        assert [claim.item for claim in namespace.backend.incomplete(None, dt.timedelta(0))] == ['y']
        for trail in HistoryKind:
            namespace.purge(trail, namespace.snapshot().now)
        assert namespace.audits() == []


ASSIGNMENT: dict[str, Callable[[RedisServer], object]] = {
    'member': lambda server: spoil(server, 'members', 'a', with_value(0, 'another')),
    'member as text': lambda server: server.ask('HSET', key('members'), 'a', 'x'),
    'member added': lambda server: server.ask('HSET', key('members'), 'z', '["run", 1.0, 0]'),
    'pin': lambda server: spoil(server, 'pins', str(TOKENS + 1), with_value(2, 'b')),
    'pin added': lambda server: server.ask('HSET', key('pins'), '99', ''),
    'entry': lambda server: server.ask('LSET', key('log'), '0', 'x'),
    'base': lambda server: server.ask('SET', key('base'), 'x'),
    'last entry gone': lambda server: [server.ask('RPOP', key(kind)) for kind in ('log', 'versions')],
}


class TestAssignment:
    """Without a row of the assignment a token could be given to another while its owner is at work: a new timeline begins."""

    @pytest.mark.parametrize('what', ASSIGNMENT)
    def test_a_complete_reading(self, harness: RedisHarness, namespace: Namespace, server: RedisServer, what: str) -> None:
        """The reading that finds it ends the timeline, and the next one is well."""
        leader = namespace.leader()
        members = {name: Member('run', 15.0) for name in 'ab'}
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), members=members, pins=(Pin(TOKENS + 1, 'x', 'a'),))
        ASSIGNMENT[what](server)
        with closing(harness.connect()) as other:
            with pytest.raises(BackendUnavailable, match='new timeline'):
                other.read_assignment()
            changes, after = other.read_assignment(), other.snapshot()
        assert (changes.groups, changes.pins, changes.members, changes.base) == ((), (), {}, None)
        assert after.timeline.generation == namespace.timeline.generation + 1
        assert after.longest_timeout_sec == 15.0
        with pytest.raises(Evicted):
            namespace.beat(leader)

    @pytest.mark.parametrize('commits', [0, 1], ids=['nothing written since', 'a commit since'])
    @pytest.mark.parametrize('kind', ['members', 'pins', 'versions', 'log', 'base'])
    def test_a_part_that_was_dropped(self, harness: RedisHarness, namespace: Namespace, kind: str, commits: int) -> None:
        """A key that the server has evicted, or a person deleted, is missed by who reads everything, and ends the timeline."""
        leader = namespace.leader()
        members = {name: Member('run', 15.0) for name in 'ab'}
        pins = tuple(Pin(TOKENS + number, f'task {number}', 'a') for number in (1, 2))
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), members=members, pins=pins)
        fold(namespace.backend)
        namespace.commit(leader, TokenGroup([1], 'b'))
        plan, guard = namespace.plan(TokenGroup([2], 'b'), members={'c': Member('run', 15.0)}, pins=pins[:1]), namespace.guard()
        harness.server.ask('DEL', key(kind))
        for _ in range(commits):
            namespace.backend.commit(leader, plan, guard)
        with closing(harness.connect()) as other:
            with pytest.raises(BackendUnavailable, match=rf"'(log|{kind})' is missing, so that a new timeline begins"):
                other.read_assignment()
            assert other.read_assignment().groups == ()
        with pytest.raises(Evicted):
            namespace.beat(leader)

    def test_a_part_that_was_dropped_is_found_by_a_command(self, harness: RedisHarness, namespace: Namespace) -> None:
        """A command that shows the cluster leaves it as it is: nodes that have read the part go on until one has to read it."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), members={'a': Member('run', 15.0)})
        harness.server.ask('DEL', key('members'))
        with closing(harness.connect()) as other:
            with pytest.raises(BackendUnavailable, match="'members' is missing, so that the next node"):
                ClusterReader(other).read()
            namespace.beat(leader)
            assert namespace.snapshot().timeline == namespace.timeline
            other.open(namespace.settings, create=False)  # a node uses this handle too
            other.open(None, create=False)
            with pytest.raises(BackendUnavailable, match="'members' is missing, so that a new timeline begins"):
                other.read_assignment()
        with pytest.raises(Evicted):
            namespace.beat(leader)

    def test_a_difference_without_its_entry(self, namespace: Namespace, server: RedisServer) -> None:
        """A node that reads what was written after its version is not shown less than that, though the log was begun anew."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), members={name: Member('run', 15.0) for name in 'ab'})
        known = namespace.commit(leader, TokenGroup([1], 'b'))
        plan, guard = namespace.plan(TokenGroup([2], 'b')), namespace.guard()
        server.ask('DEL', key('log'))
        namespace.backend.commit(leader, plan, guard)
        with pytest.raises(BackendUnavailable, match='new timeline'):
            namespace.backend.read_assignment(known)

    @pytest.mark.parametrize('kind', ['members', 'pins', 'log', 'versions', 'rebalances'])
    def test_a_commit_is_written_as_a_whole_or_not_at_all(self, namespace: Namespace, server: RedisServer, kind: str) -> None:
        """A plan that fails at a key of another program's leaves nothing: once the key is put right, nobody reads of it."""
        leader, dead = namespace.leader(), namespace.join('dead')
        pins = tuple(Pin(TOKENS + number, f'task {number}', 'a') for number in (1, 2))
        members = {name: Member('run', 15.0) for name in 'abc'}
        known = namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), members=members, pins=pins[:1], moved=1)
        evictions, guard = (Eviction(dead, 0),), namespace.guard()
        plan = namespace.plan(TokenGroup([1], 'b'), evictions=evictions, members={'b': None}, pins=pins[1:], moved=1)
        server.ask('RENAME', key(kind), key('kept'))
        server.ask('SET', key(kind), 'x')
        with pytest.raises(SchemaMismatch, match='WRONGTYPE'):
            namespace.backend.commit(leader, plan, guard)
        server.ask('RENAME', key('kept'), key(kind))
        assert 'dead' in namespace.nodes()
        namespace.commit(leader, TokenGroup([2], 'c'))
        changes = namespace.backend.read_assignment(known)
        assert [(group.owner, [*group.tokens]) for group in changes.groups] == [('c', [2])]
        assert (changes.members, [pin.id for pin in changes.pins]) == ({}, [pins[0].id])
        assert len(namespace.rebalances()) == 1

    def test_all_members_and_pins_go(self, namespace: Namespace) -> None:
        """Parts that the leader has emptied are not missing."""
        leader = namespace.leader()
        pin = Pin(TOKENS + 1, 'x', 'a')
        namespace.commit(leader, TokenGroup(range(TOKENS), 'a'), members={'a': Member('run', 15.0)}, pins=(pin,))
        namespace.commit(leader, members={'a': Member('another', 15.0)}, pins=(attrs.evolve(pin, owner=None),))
        namespace.commit(leader, TokenGroup(range(TOKENS), None), members={'a': None}, unpinned=frozenset({pin.id}))
        namespace.commit(leader, members={'a': None}, unpinned=frozenset({pin.id}))
        fold(namespace.backend)
        changes = namespace.backend.read_assignment()
        assert (changes.members, changes.pins) == ({}, ())


def fold(backend: Any) -> None:
    """Fold the log into the base, as a commit does once the log is long."""
    backend._assignment._fold(backend._namespace.deadline(bulk=True))


class TestJobs:
    """Real jobs at work while records are spoilt."""

    def test_records_of_nodes(self, harness: RedisHarness, server: RedisServer) -> None:
        """Each node whose record it is registers again, and a node that is dead or new is dealt with as ever."""
        with Cluster(harness.url, 'abc') as cluster, closing(harness.connect()) as handle:
            eventually(lambda: cluster.is_shared_out)
            before = runs(handle)
            server.ask('HSET', key('nodes'), 'ghost', '{"state": "joined"}')
            for name in 'abc':
                spoil(server, 'nodes', name, with_value('weight', 'Infinity'))
            eventually(lambda: all(runs(handle).get(name, run) != run for name, run in before.items()))
            eventually(lambda: cluster.is_shared_out)
            handle.register(Registration(NodeRef('dead', 'run'), timeout_sec=2.5), handle.snapshot().timeline, 0)
            eventually(lambda: 'dead' in handle.read_assignment().members)
            eventually(lambda: 'dead' not in runs(handle))
            cluster.add('d')
            eventually(lambda: cluster.is_shared_out)
            assert unreadable(handle) == [('node', 'ghost')]
            assert cluster.watch.clashes == []

    def test_a_member(self, harness: RedisHarness, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """All nodes begin a new timeline when a new one reads it, and everything is shared out again."""
        monkeypatch.setattr('jobsync.backends.redis.layers.MOST_ENTRIES', 2)  # so that a new node cannot read the log alone
        with Cluster(harness.url, 'ab') as cluster, closing(harness.connect()) as handle:
            eventually(lambda: cluster.is_shared_out)
            ASSIGNMENT['member'](server)
            cluster.add('c')
            eventually(lambda: cluster.is_shared_out)
            assert handle.snapshot().timeline.generation > 0
            assert cluster.watch.clashes == []

    def test_dropped_pins(self, harness: RedisHarness, server: RedisServer) -> None:
        """No newcomer works on a task by its hash while the owner of the pin does, whose record the server has dropped."""
        with Cluster(harness.url, 'ab') as cluster, closing(harness.connect()) as handle:
            eventually(lambda: cluster.is_shared_out)
            cluster.jobs[0].register_task_locks_bulk([(task, ['b'], 'test') for task in TASKS])
            eventually(lambda: set(map(tuple, cluster.owners().values())) == {('b',)})
            server.ask('DEL', key('pins'))
            cluster.add('c')
            eventually(lambda: handle.snapshot().timeline.generation > 0)
            eventually(lambda: set(map(tuple, cluster.owners().values())) == {('b',)})
            assert cluster.watch.clashes == []


def runs(backend: Backend) -> dict[str, str]:
    """The run of each node that can be read."""
    return {node.name: node.incarnation for node in backend.snapshot().nodes}


@pytest.mark.parametrize('is_node_left_over', [False, True])
def test_a_newcomer_waits_for_leases_of_before_the_state_was_deleted(harness: RedisHarness, is_node_left_over: bool) -> None:
    """Nodes that have not noticed yet own their tokens: only generation 0 of a durable store is given away at once."""
    namespace = Namespace(harness.connect())
    if is_node_left_over:
        namespace.join('a', timeout_sec=99.5)
        namespace.join('b', timeout_sec=2.0)
    else:
        harness.server.ask('DEL', key('versions'))
    harness.server.ask('DEL', key('state'))
    made = Namespace(harness.connect())
    assert made.timeline.generation == is_node_left_over
    assert made.snapshot().longest_timeout_sec == 99.5 * is_node_left_over
    assert not made.nodes()


def test_names_in_another_encoding(harness: RedisHarness, server: RedisServer) -> None:
    """Keys of another program that look like a namespace's, and attempts that jobsync did not write, are left out."""
    namespace, day = Namespace(harness.connect()), dt.date(2026, 3, 2)
    ref = namespace.join('a')
    backend: Any = namespace.backend
    backend.append_claims(ref, ['x'], day, 9)
    backend.remove_node(ref)
    server.ask('EVAL', r"redis.call('SET', KEYS[1] .. '\233}:state', 'x')", '1', 'jobsync:{caf')
    server.ask('EVAL', r"redis.call('HSET', KEYS[1], '2026-03-02\0caf\233', 'a\0run\0')", '1', key('attempts'))
    assert backend.read_namespaces(9) == ['sync_']
    assert backend.lost_attempts(day) == {'x': 1}
