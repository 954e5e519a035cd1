"""``open``, ``renew_timeline``, ``close`` and ``info``."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from jobsync.backend import (
    INITIAL,
    Backend,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockFilter,
    LockRequest,
    Member,
    NodeRef,
    Pin,
    Plan,
    Reach,
    Registration,
    Settings,
    Timeline,
    TokenGroup,
)
from jobsync.errors import Conflict, Evicted, SchemaMismatch
from jobsync.testing.conformance.harness import CALLED_FOR, Harness, check_not_called_for
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace

__all__ = ['InfoTests', 'OpeningTests', 'TimelineTests']

OTHERS = Settings(total_tokens=TOKENS + 5, hash_function='md5')


REF, DAY, NOW = NodeRef('a', '1'), dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NEEDS_A_NAMESPACE: dict[str, Callable[[Backend, Timeline], object]] = {
    'renew_timeline': lambda backend, timeline: backend.renew_timeline(timeline, 0),
    'register': lambda backend, timeline: backend.register(Registration(REF, 15.0), timeline, 0),
    'heartbeat': lambda backend, _: backend.heartbeat(REF, INITIAL, frozenset()),
    'set_weight': lambda backend, _: backend.set_weight(REF, 2.0),
    'deregister': lambda backend, _: backend.deregister(REF),
    'acquire_leadership': lambda backend, _: backend.acquire_leadership(REF, 0),
    'snapshot': lambda backend, _: backend.snapshot(),
    'read_assignment': lambda backend, _: backend.read_assignment(),
    'commit': lambda backend, timeline: backend.commit(REF, Plan('test'), Guard(timeline, 0, INITIAL)),
    'read_locks': lambda backend, _: backend.read_locks(),
    'edit_locks': lambda backend, _: backend.edit_locks(LockEdit(put=(LockRequest('x', ('a',), 'me'),))),
    'append_claims': lambda backend, _: backend.append_claims(REF, ['x'], DAY),
    'append_audits': lambda backend, _: backend.append_audits('a', ['x'], DAY),
    'history': lambda backend, _: backend.history(HistoryKind.CLAIM),
    'incomplete': lambda backend, _: backend.incomplete(DAY, dt.timedelta(0)),
    'purge': lambda backend, _: backend.purge(HistoryKind.CLAIM, NOW),
}
"""Every method but ``open``, ``close`` and ``wait``."""


class InfoTests:
    """What a backend declares of its store."""

    def test_info_is_constant(self, harness: Harness) -> None:
        """Two handles declare the same, before and after ``open``."""
        one, other = harness.connect(), harness.connect()
        before = one.info
        one.open(SETTINGS, create=True)
        assert one.info == before == other.info

    def test_info_is_complete(self, harness: Harness) -> None:
        """Each field has a value of its type."""
        info = harness.connect().info
        assert info.name
        assert isinstance(info.reach, Reach)
        assert info.max_tokens > 0
        assert info.max_removals > 0
        assert {type(info.durable), type(info.push), type(info.sql)} == {bool}

    def test_sql_is_offered_where_it_is_declared(self, namespace: Namespace) -> None:
        """A backend that declares ``sql`` shows its nodes to a query over ``connection()``, by the names in ``tables``."""
        backend: Any = namespace.backend
        if not backend.info.sql:
            pytest.skip('the backend does not declare sql')
        namespace.join('a')
        with contextlib.closing(backend.connection()) as connection:
            found = connection.exec_driver_sql(f'SELECT name FROM {backend.tables["Node"]}')  # noqa: S608 - a name of its own
            assert found.scalars().all() == ['a']

    def test_declarations_can_be_tested(self, harness: Harness) -> None:
        """Whatever the backend declares, its harness can put to the test."""
        if not harness.proves_declarations:
            pytest.skip('the harness does what its user has offered, and no more')
        for ability in set(CALLED_FOR) - harness.abilities:
            check_not_called_for(ability, harness.connect().info)


class OpeningTests:
    """``open`` and ``close``."""

    def test_open_without_create_needs_a_schema(self, harness: Harness) -> None:
        """A store without the schema is refused unless it may be made, and nothing is made."""
        for _ in range(2):
            with pytest.raises(SchemaMismatch):
                harness.connect().open(SETTINGS, create=False)

    @pytest.mark.parametrize('method', NEEDS_A_NAMESPACE)
    def test_a_namespace_must_have_been_opened(self, harness: Harness, method: str) -> None:
        """Whatever is asked of a namespace that is not there raises ``SchemaMismatch``."""
        timeline = Namespace(harness.connect(namespace='elsewhere_')).timeline
        with pytest.raises(SchemaMismatch):
            NEEDS_A_NAMESPACE[method](harness.connect(), timeline)

    def test_first_settings_are_stored(self, harness: Harness) -> None:
        """The first ``open`` stores its settings; later ones find them, with or without ``create``."""
        opened = harness.connect().open(SETTINGS, create=True)
        assert opened.settings == SETTINGS
        assert harness.connect().open(SETTINGS, create=False) == opened
        assert harness.connect().open(SETTINGS, create=True) == opened

    def test_a_new_namespace_is_empty(self, harness: Harness) -> None:
        """It has no nodes, no leader, no rows, no locks and no trail, at INITIAL, in generation 0 of this store."""
        namespace = Namespace(harness.connect())
        state = namespace.state()
        snapshot = state.snapshot
        assert (snapshot.revision, snapshot.version, snapshot.locks_revision) == (INITIAL, INITIAL, 0)
        assert (snapshot.nodes, snapshot.leadership) == ((), Leadership(0, None))
        assert (snapshot.timeline.generation, snapshot.timeline.store) == (0, snapshot.store)
        assert snapshot.timeline.id
        assert snapshot.store
        assert (state.pins, state.locks, state.claims, state.audits, state.rebalances) == ((), (), frozenset(), frozenset(), ())
        assert not state.members
        assert all(row.absent for row in state.rows)

    def test_open_again_changes_nothing(self, namespace: Namespace) -> None:
        """``open`` may be repeated at any time, by any handle."""
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'leader'))
        with namespace.unchanged():
            namespace.backend.open(SETTINGS, create=True)

    def test_other_settings_are_kept_while_a_node_is_joined(self, namespace: Namespace) -> None:
        """A newcomer with other settings gets those in force back, and changes nothing."""
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'leader'))
        with namespace.unchanged():
            opened = namespace.backend.open(OTHERS, create=True)
        assert opened.settings == SETTINGS
        assert opened.timeline == namespace.timeline

    @pytest.mark.parametrize('left', [False, True])
    def test_other_settings_replace_those_of_an_empty_cluster(self, harness: Harness, namespace: Namespace, left: bool) -> None:
        """With no node JOINED the settings are replaced and the timeline is renewed, the rows of the old pool with it."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'leader'))
        if left:
            namespace.backend.deregister(leader)
        else:
            other = namespace.leader('other')
            namespace.evict(other, leader)
            namespace.backend.deregister(other)
        with namespace.raises_revision():
            opened = harness.connect().open(OTHERS, create=True)
        assert opened.settings == OTHERS
        assert opened.timeline.generation == 1
        assert opened.timeline.id != namespace.timeline.id
        snapshot = namespace.snapshot()
        assert snapshot.nodes == ()
        assert snapshot.timeline == opened.timeline
        assert snapshot.version == snapshot.revision
        assert namespace.backend.read_assignment().groups == ()
        assert namespace.backend.open(OTHERS, create=True) == opened

    @pytest.mark.parametrize('beats', [0, 2])
    def test_other_settings_replace_those_of_a_dead_cluster(self, namespace: Namespace, beats: int) -> None:
        """Nodes that the caller knows to be dead, each by incarnation and heartbeat, do not keep the settings."""
        refs = [namespace.leader('a'), namespace.join('b')]
        namespace.backend.deregister(namespace.join('left'))
        namespace.commit(refs[0], TokenGroup(range(9), 'a'))
        for _ in range(beats):
            namespace.beat(refs[1])
        dead = [(refs[0].incarnation, 1), (refs[1].incarnation, beats), ('other', 5)]
        with namespace.raises_revision():
            opened = namespace.backend.open(OTHERS, True, dead)
        snapshot = namespace.snapshot()
        assert (opened.settings, opened.timeline.generation, snapshot.nodes) == (OTHERS, 1, ())
        assert snapshot.timeline == opened.timeline
        assert namespace.backend.read_assignment().groups == ()
        with pytest.raises(Evicted):
            namespace.beat(refs[1])

    @pytest.mark.parametrize('wrong', ['none', 'incarnation', 'heartbeat before', 'heartbeat after', 'one of two'])
    def test_settings_are_kept_unless_all_are_dead(self, namespace: Namespace, wrong: str) -> None:
        """A JOINED node at any other incarnation or heartbeat than those that are dead keeps the settings."""
        refs = [namespace.leader('a'), namespace.join('b')]
        for ref in refs:
            namespace.beat(ref)
        right = [(ref.incarnation, 1) for ref in refs]
        dead = {
            'none': [],
            'incarnation': [right[0], ('other', 1)],
            'heartbeat before': [right[0], (refs[1].incarnation, 0)],
            'heartbeat after': [right[0], (refs[1].incarnation, 2)],
            'one of two': right[1:],
        }[wrong]
        with namespace.unchanged():
            opened = namespace.backend.open(OTHERS, True, dead)
        assert (opened.settings, opened.timeline) == (SETTINGS, namespace.timeline)

    def test_the_same_settings_leave_the_dead_alone(self, namespace: Namespace) -> None:
        """Where nothing is to be replaced, knowing that all are dead changes nothing."""
        ref = namespace.leader('a')
        with namespace.unchanged():
            namespace.backend.open(SETTINGS, True, [(ref.incarnation, 0)])

    @pytest.mark.parametrize('changed', [{'total_tokens': 1}, {'hash_function': 'sha256'}, {'format': 2}])
    def test_every_setting_counts(self, namespace: Namespace, changed: dict[str, Any]) -> None:
        """Settings are others if any field differs."""
        wanted: Settings = attrs.evolve(SETTINGS, **changed)
        assert namespace.backend.open(wanted, create=True).settings == wanted
        assert namespace.snapshot().timeline.generation == 1

    def test_close_can_be_repeated(self, harness: Harness) -> None:
        """``close`` may come before ``open``, and twice."""
        backend = harness.connect()
        backend.close()
        backend.close()
        opened = harness.connect()
        opened.open(SETTINGS, create=True)
        opened.close()
        opened.close()

    def test_close_does_not_deregister(self, harness: Harness, namespace: Namespace) -> None:
        """What a handle registered stays when the handle is closed."""
        backend = harness.connect()
        ref = Namespace(backend).join('a')
        with namespace.unchanged():
            backend.close()
        assert namespace.node('a').ref == ref


class TimelineTests:
    """``renew_timeline``."""

    def test_renewal_removes_nodes_leader_and_assignment(self, namespace: Namespace) -> None:
        """No nodes, no leader, no rows, no pins, no members; the generation and the id are new, the epoch stays."""
        leader = namespace.leader()
        members = {'leader': Member(leader.incarnation, 15.0)}
        namespace.commit(
            leader, TokenGroup(range(9), 'leader', home='b'), pins=(Pin(TOKENS + 1, 'x', 'leader'),), members=members
        )
        before = namespace.snapshot()
        namespace.backend.renew_timeline(namespace.timeline, 0)
        after = namespace.snapshot()
        assert after.timeline.generation == before.timeline.generation + 1
        assert after.timeline.id != before.timeline.id
        assert after.timeline.store == after.store == before.store
        assert after.nodes == ()
        assert after.leadership == Leadership(before.leadership.epoch, None)
        changes = namespace.backend.read_assignment()
        assert (changes.groups, changes.pins, dict(changes.members)) == ((), (), {})

    def test_renewal_keeps_locks_settings_and_trails(self, namespace: Namespace) -> None:
        """Locks with their ids and revision, settings, claims, audits and rebalances stay, and so does the ids' numbering."""
        leader = namespace.leader()
        namespace.lock('x', 'y')
        highest = max(lock.id for lock in namespace.backend.read_locks().locks)
        namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'y'}))))
        namespace.commit(leader, TokenGroup(range(9), 'leader'), moved=9)
        namespace.backend.append_claims(leader, ['x'], dt.date(2026, 1, 1))
        namespace.backend.append_audits('leader', ['x'], dt.date(2026, 1, 1))
        before = namespace.state()
        namespace.backend.renew_timeline(namespace.timeline, 0)
        after = namespace.state()
        for field in ('settings', 'locks', 'claims', 'audits', 'rebalances'):
            assert getattr(after, field) == getattr(before, field), field
        assert after.snapshot.locks_revision == before.snapshot.locks_revision
        namespace.lock('z')
        assert namespace.locks()['z'].id > highest

    @pytest.mark.parametrize('ahead', [-1, 0, 1, 1000])
    def test_renewal_raises_revision_above_both(self, namespace: Namespace, ahead: int) -> None:
        """Revision and version become one revision, one above the higher of the present number and ``at_least``."""
        namespace.commit(namespace.leader(), TokenGroup(range(9), 'leader'))
        before = namespace.revision
        namespace.backend.renew_timeline(namespace.timeline, before.number + ahead)
        snapshot = namespace.snapshot()
        assert snapshot.revision.number == before.number + max(ahead, 0) + 1
        assert snapshot.revision.stamp != before.stamp
        assert snapshot.version == snapshot.revision == namespace.backend.read_assignment().version

    def test_renewal_compares_the_timeline(self, namespace: Namespace) -> None:
        """Nothing happens unless the present timeline is the expected one in every part."""
        namespace.leader()
        for part in ({'generation': 7}, {'id': 'other'}, {'store': 'other'}):
            with namespace.unchanged():
                namespace.backend.renew_timeline(attrs.evolve(namespace.timeline, **part), 1000)

    def test_renewal_repeated_happens_once(self, namespace: Namespace) -> None:
        """The same call again finds another timeline and does nothing."""
        namespace.backend.renew_timeline(namespace.timeline, 5)
        with namespace.unchanged():
            namespace.backend.renew_timeline(namespace.timeline, 5)

    def test_plan_of_the_old_timeline_is_refused(self, namespace: Namespace) -> None:
        """What was planned before a renewal cannot be committed after it, and old versions cannot be built on."""
        old = namespace.timeline
        version = namespace.commit(namespace.leader(), TokenGroup(range(9), 'leader'))
        namespace.backend.renew_timeline(old, 0)
        namespace.timeline = namespace.snapshot().timeline
        leader = namespace.leader('other')
        with namespace.refused(Conflict):
            namespace.backend.commit(leader, namespace.plan(), namespace.guard(timeline=old))
        assert namespace.backend.read_assignment(version).base is None
