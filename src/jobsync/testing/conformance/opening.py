"""``open``, ``close`` and ``info``."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobsync._core.hashing import HASH_FUNCTIONS
from jobsync.backend import INITIAL, Backend, Leadership, NodeRef, Opened, Reach, Settings, Space, TokenGroup
from jobsync.errors import BackendUnavailable, Evicted, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.calls import CALLS
from jobsync.testing.conformance.harness import CALLED_FOR, Harness, check_not_called_for
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC, LinesOfCalls, race

__all__ = ['InfoTests', 'OpeningTests']

CALLS_AMID_CLOSE = 20
"""Calls of each thread, most of them after the handle is closed."""
OTHERS = Settings(total_tokens=TOKENS + 5, hash_function='md5')


class InfoTests:
    """The declarations of a backend about its store."""

    def test_info_is_constant(self, harness: Harness) -> None:
        """The declarations of two handles are equal, before and after ``open``."""
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
        assert {type(info.durable), type(info.push), type(info.sql), type(info.space), type(info.namespaces)} == {bool}
        assert info.folder is None or (info.reach is not Reach.NETWORK and Path(info.folder).is_absolute())

    def test_sql_is_offered_where_it_is_declared(self, namespace: Namespace) -> None:
        """A backend that declares ``sql`` shows its nodes to a query over ``connection()``, by the names in ``tables``."""
        backend: Any = namespace.backend
        if not backend.info.sql:
            pytest.skip('the backend does not declare sql')
        namespace.join('a')
        with contextlib.closing(backend.connection()) as connection:
            found = connection.exec_driver_sql(f'SELECT name FROM {backend.tables["Node"]}')  # noqa: S608 - a name of its own
            assert found.scalars().all() == ['a']
            backend.check_no_writer_here()

    def test_space_is_offered_where_it_is_declared(self, namespace: Namespace) -> None:
        """A backend that declares ``space`` counts what heartbeats write, and is not above its quota."""
        backend: Any = namespace.backend
        if not backend.info.space:
            pytest.skip('the backend does not declare space')
        ref = namespace.join('a')
        before: Space = backend.read_space()
        for _ in range(5):
            namespace.beat(ref)
        after: Space = backend.read_space()
        assert 0 < after.used_bytes <= after.quota_bytes
        assert after.heartbeat_bytes > 0
        assert after.versions >= before.versions + 5

    def test_namespaces_are_listed_where_it_is_declared(self, harness: Harness) -> None:
        """A backend that declares ``namespaces`` lists those there are, sorted; one that was not opened is none."""
        backend: Any = harness.connect()
        if not backend.info.namespaces:
            pytest.skip('the backend does not declare namespaces')
        with contextlib.suppress(SchemaMismatch):
            backend.read_namespaces(10_000)  # of a store that may not be there yet
        other: Any = harness.connect(namespace='elsewhere_')
        Namespace(other)
        before = backend.read_namespaces(10_000)
        assert any(name.endswith('elsewhere_') for name in before)
        Namespace(backend)
        for handle in (backend, other):
            after = handle.read_namespaces(10_000)
            assert after == sorted(after)
            assert len(set(after) - set(before)) == 1
            assert handle.read_namespaces(1) == after[:1]

    def test_declarations_can_be_tested(self, harness: Harness) -> None:
        """Every declaration of the backend can be tested with its harness."""
        if not harness.proves_declarations:
            pytest.skip('the harness has only the abilities that its user gave commands for')
        check_not_called_for([ability for ability in CALLED_FOR if ability not in harness.abilities], harness.connect().info)


class OpeningTests:
    """``open`` and ``close``."""

    def test_open_without_settings_only_reads(self, harness: Harness) -> None:
        """Without settings, ``open`` returns those in force, replaces none, and makes no namespace."""
        with pytest.raises(SchemaMismatch):
            harness.connect().open(None, create=False)
        namespace = Namespace(harness.connect())
        with namespace.unchanged():
            assert harness.connect().open(None, create=False) == Opened(SETTINGS, namespace.timeline)

    def test_open_without_create_needs_a_schema(self, harness: Harness) -> None:
        """Without ``create``, ``open`` refuses a store that has no schema, and makes none."""
        for _ in range(2):
            with pytest.raises(SchemaMismatch):
                harness.connect().open(SETTINGS, create=False)

    def test_a_namespace_must_have_been_opened(self, harness: Harness) -> None:
        """Every call on a namespace that does not exist raises ``SchemaMismatch``, as the first call of its handle too."""
        timeline = Namespace(harness.connect(namespace='elsewhere_')).timeline
        for method, call in CALLS.items():
            (ended,) = race([partial(call, harness.connect(), timeline, NodeRef('a', '1'))])
            assert isinstance(ended, SchemaMismatch), f'{method} of a namespace that was not opened: {ended!r}'

    def test_wait_and_close_need_no_namespace(self, harness: Harness) -> None:
        """Before ``open``, and without a namespace, ``wait`` returns its argument, and neither ``wait`` nor ``close`` raises."""
        Namespace(harness.connect(namespace='elsewhere_'))
        backend = harness.connect()
        assert backend.wait(5, 0.0) == 5
        backend.close()
        backend.close()

    def test_first_settings_are_stored(self, harness: Harness) -> None:
        """The first ``open`` stores its settings; later calls return them, with or without ``create``."""
        for number, hash_function in enumerate(HASH_FUNCTIONS):
            settings = Settings(TOKENS + number, hash_function)
            opened = harness.connect(namespace=f'{hash_function}_').open(settings, create=True)
            assert opened.settings == settings
            assert harness.connect(namespace=f'{hash_function}_').open(settings, create=False) == opened
            assert harness.connect(namespace=f'{hash_function}_').open(settings, create=True) == opened

    def test_a_new_namespace_is_empty(self, harness: Harness) -> None:
        """A new namespace has no nodes, leader, rows, locks or history, at INITIAL, in generation 0 of this store."""
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
        assert [row for row in state.rows if not row.absent] == []

    def test_open_again_changes_nothing(self, namespace: Namespace) -> None:
        """``open`` may be repeated at any time, and changes nothing, even if the caller names all nodes as dead."""
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'leader'))
        with namespace.unchanged():
            namespace.backend.open(SETTINGS, create=True)
            namespace.backend.open(SETTINGS, True, [(leader.incarnation, 1)])

    @pytest.mark.parametrize(
        ('weight', 'stalled', 'candidate'), [(1.0, False, True), (0.0, False, True), (1.0, True, True), (1.0, False, False)]
    )
    def test_other_settings_are_kept_while_a_node_is_joined(
        self, namespace: Namespace, weight: float, stalled: bool, candidate: bool
    ) -> None:
        """While a node is JOINED, ``open`` with other settings returns those in force, and changes nothing.

        This node may take no tokens or may not lead; it owns tokens until it has let them go, and reads what is in force.
        """
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup(range(9), 'leader'))
        namespace.beat(leader, candidate=candidate)
        namespace.backend.set_weight(leader, weight, stalled)
        with namespace.unchanged():
            opened = namespace.backend.open(OTHERS, create=True)
        assert opened.settings == SETTINGS
        assert opened.timeline == namespace.timeline

    def test_a_caller_that_may_not_replaces_no_settings(self, harness: Harness, namespace: Namespace) -> None:
        """With ``dead`` None other settings are kept, though no node is JOINED; those of a new namespace are stored."""
        namespace.backend.deregister(namespace.join('a'))
        with namespace.unchanged():
            opened = harness.connect().open(OTHERS, True, None)
        assert (opened.settings, opened.timeline) == (SETTINGS, namespace.timeline)
        assert harness.connect(namespace='other_').open(OTHERS, True, None).settings == OTHERS

    @pytest.mark.parametrize('how', ['left', 'evicted', 'dead', 'dead after heartbeats'])
    def test_other_settings_replace_those_of_an_empty_cluster(self, harness: Harness, namespace: Namespace, how: str) -> None:
        """With no node JOINED, except those that the caller names as dead, each by incarnation and heartbeat, the settings are
        replaced and the timeline is renewed, which removes nodes and the rows of the old pool.
        """
        leader, ref, dead, beats = namespace.leader(), namespace.join('a'), list[tuple[str, int]](), 2 * (how != 'dead')
        namespace.commit(leader, TokenGroup(range(9), 'leader'))
        for _ in range(beats):
            namespace.beat(ref)
        if how == 'evicted':
            namespace.evict(namespace.lead(ref), leader)
        elif how == 'left':
            namespace.backend.deregister(leader)
        if how in ('left', 'evicted'):
            namespace.backend.deregister(ref)
        else:
            namespace.backend.deregister(namespace.join('left'))
            dead = [(leader.incarnation, 1), (ref.incarnation, beats), ('other', 5)]
        with namespace.raises_revision():
            opened = harness.connect().open(OTHERS, True, dead)
        assert opened.settings == OTHERS
        assert opened.timeline.generation == 1
        assert opened.timeline.id != namespace.timeline.id
        snapshot = namespace.snapshot()
        assert snapshot.nodes == ()
        assert snapshot.timeline == opened.timeline
        assert snapshot.version == snapshot.revision
        assert namespace.backend.read_assignment().groups == ()
        assert namespace.backend.open(OTHERS, create=True) == opened
        with pytest.raises(Evicted):
            namespace.beat(ref)

    def test_settings_are_kept_unless_all_are_dead(self, namespace: Namespace) -> None:
        """A JOINED node whose incarnation or heartbeat is not among the dead keeps the settings."""
        refs = [namespace.leader('a'), namespace.join('b')]
        for ref in refs:
            namespace.beat(ref)
        right = [(ref.incarnation, 1) for ref in refs]
        for wrong, dead in {
            'none': [],
            'incarnation': [right[0], ('other', 1)],
            'heartbeat before': [right[0], (refs[1].incarnation, 0)],
            'heartbeat after': [right[0], (refs[1].incarnation, 2)],
            'one of two': right[1:],
        }.items():
            with namespace.unchanged(wrong):
                opened = namespace.backend.open(OTHERS, True, dead)
            assert (opened.settings, opened.timeline) == (SETTINGS, namespace.timeline), wrong

    @pytest.mark.parametrize('changed', [{'total_tokens': 1}, {'hash_function': 'sha256'}, {'format': 2}])
    def test_every_setting_counts(self, namespace: Namespace, changed: dict[str, Any]) -> None:
        """Settings that differ in any field are other settings."""
        wanted: Settings = attrs.evolve(SETTINGS, **changed)
        assert namespace.backend.open(wanted, create=True).settings == wanted
        assert namespace.snapshot().timeline.generation == 1

    def test_close_can_be_repeated(self, harness: Harness) -> None:
        """``close`` may be called before ``open``, and twice."""
        backend = harness.connect()
        backend.close()
        backend.close()
        opened = Namespace(harness.connect()).backend
        opened.close()
        opened.close()

    def test_a_closed_handle_raises_no_error_of_the_driver(self, harness: Harness, namespace: Namespace) -> None:
        """A call of a closed handle is answered or raises an error of jobsync: a thread may make one while its program ends."""
        ref, backend = namespace.leader(), Namespace(harness.connect()).backend
        backend.close()
        for method, call in CALLS.items():
            (ended,) = race([partial(call, backend, namespace.timeline, ref)])
            is_right = not isinstance(ended, Exception) or isinstance(ended, JobsyncError)
            assert is_right, f'{method} of a closed handle raises {ended!r}, where BackendUnavailable is right'
        backend.close()

    def test_calls_wait_for_no_log(self, harness: Harness, namespace: Namespace) -> None:
        """No call hands a line to ``logging`` in its own thread, whether it is answered, refused or made after ``close``."""
        closed, absent = Namespace(harness.connect()).backend, harness.connect(namespace='absent_')
        closed.close()
        with LinesOfCalls():
            for backend, ref in (
                (namespace.backend, namespace.gone('left')),
                (namespace.backend, namespace.leader()),
                (absent, namespace.ref('a')),
                (closed, namespace.ref('a')),
            ):
                for call in CALLS.values():
                    race([partial(call, backend, namespace.timeline, ref)])

    def test_close_amid_calls_raises_no_error_of_the_driver(self, harness: Harness, namespace: Namespace) -> None:
        """A call that is under way while another thread closes its handle is answered or raises an error of jobsync."""
        ref = namespace.join('a')

        def beat(backend: Backend, begun: threading.Event) -> None:
            with contextlib.suppress(BackendUnavailable):
                for _ in range(CALLS_AMID_CLOSE):
                    backend.heartbeat(ref, INITIAL, frozenset())
                    begun.set()

        def close(backend: Backend, begun: threading.Event) -> None:
            begun.wait(DEADLINE_SEC)
            backend.close()

        for _ in range(harness.rounds):
            backend, begun = Namespace(harness.connect()).backend, threading.Event()
            jobs = [partial(close, backend, begun), *[partial(beat, backend, begun)] * 3]
            assert race(jobs) == [None] * 4, 'where BackendUnavailable is right'

    def test_close_does_not_deregister(self, harness: Harness, namespace: Namespace) -> None:
        """A node stays registered when the handle that registered it is closed."""
        backend = harness.connect()
        ref = Namespace(backend).join('a')
        with namespace.unchanged():
            backend.close()
        assert namespace.node('a').ref == ref
