"""``register``: how a node takes a name, and the longest timeout that it leaves behind."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest

from jobsync.backend import INITIAL, Node, NodeState, Registration, Revision, TokenGroup
from jobsync.errors import NameTaken, TimelineChanged
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import GONE, SETTINGS, Namespace

__all__ = ['LongestTimeoutTests', 'RegisterTests']


class RegisterTests:
    """``register``. If two runs held one name, both could own its tokens."""

    def test_record_is_stored_whole(self, namespace: Namespace) -> None:
        """A new record has every field of the registration, is JOINED, has heartbeat 0, and holds nothing."""
        ref = namespace.ref('a')
        replaces = frozenset({'old-1', 'old-2'})
        before = namespace.snapshot().now
        settings = '{"locks_enabled": false, "note": "é \\u20ac \'% %%"}'
        node = Registration(ref, 1 / 3, 2 / 3, replaces, 'host-1', 4_194_304, settings=settings)
        namespace.backend.register(node, namespace.timeline, 0)
        found = namespace.node('a')
        assert found == Node(
            name='a',
            incarnation=ref.incarnation,
            heartbeat=0,
            seen=INITIAL,
            holding=frozenset(),
            state=NodeState.JOINED,
            replaces=replaces,
            weight=2 / 3,
            timeout_sec=1 / 3,
            host='host-1',
            pid=4_194_304,
            created_on=found.created_on,
            last_heartbeat=found.last_heartbeat,
            settings=settings,
        )
        assert found.last_heartbeat is not None
        assert before <= found.last_heartbeat <= namespace.snapshot().now
        assert before <= found.created_on <= namespace.snapshot().now
        namespace.beat(ref)
        assert namespace.node('a').settings == settings

    def test_zero_and_nothing_are_stored_as_they_are(self, namespace: Namespace) -> None:
        """A weight of 0, an empty host, a pid of 0, no settings and an empty reason are no missing values."""
        namespace.join('a', weight=0.0, host='', pid=0, settings='{}')
        node = namespace.node('a')
        assert (node.weight, node.host, node.pid, node.settings) == (0.0, '', 0, '{}')
        namespace.lock('x', reason='')
        assert namespace.locks()['x'].reason == ''

    def test_revision_is_lifted(self, namespace: Namespace) -> None:
        """Registering raises the revision to one above the higher of its number and ``at_least``; the version stays."""
        namespace.join('a')
        for ahead in (-1, 0, 1, 1000, 2**40):
            before, name = namespace.revision, f'{ahead} ahead'
            namespace.backend.register(Registration(namespace.ref(name), 15.0), namespace.timeline, before.number + ahead)
            snapshot = namespace.snapshot()
            assert snapshot.revision.number == before.number + max(ahead, 0) + 1, name
            assert snapshot.revision.stamp != before.stamp
            assert snapshot.version == INITIAL
            namespace.lock(name)
            snapshot = namespace.snapshot()
            assert namespace.locks()[name].registered == snapshot.locks_revision == snapshot.revision.number, name

    def test_created_on_rises_strictly(self, namespace: Namespace) -> None:
        """Each node that registers has a later ``created_on`` than the one before, and the snapshot lists nodes in that order."""
        names = [f'{letter}{i}' for i in range(10) for letter in 'zam']
        for name in names:
            namespace.join(name)
        nodes = list(namespace.nodes().values())
        assert [node.name for node in nodes] == names
        created = [node.created_on for node in nodes]
        assert created == sorted(set(created))

    def test_created_on_rises_past_removed_records(self, namespace: Namespace) -> None:
        """A new ``created_on`` is later than those of removed records, and than that of the record it replaces."""
        leader, ref = namespace.leader(), namespace.join('a')
        first = namespace.node('a').created_on
        namespace.join('a', replacing=(ref.incarnation, 0))
        second = namespace.node('a').created_on
        namespace.evict(leader, namespace.node('a').ref)
        namespace.join('a')
        third = namespace.node('a').created_on
        namespace.backend.remove_node(namespace.node('a').ref)
        namespace.join('a')
        fourth = namespace.node('a').created_on
        namespace.renew_timeline()
        namespace.join('a')
        assert first < second < third < fourth < namespace.node('a').created_on

    @needs(Ability.CLOCK)
    def test_created_on_rises_while_the_clock_goes_back(self, namespace: Namespace, harness: Harness) -> None:
        """A new ``created_on`` is later than every one before it, even if the store's clock is set back."""
        namespace.join('a')
        harness.move_clock(dt.timedelta(hours=-1))
        other = Namespace(harness.connect())
        removed = other.join('b')
        harness.move_clock(dt.timedelta(hours=-1))
        namespace.join('c')
        assert list(namespace.nodes()) == ['a', 'b', 'c']
        first, second = namespace.node('a').created_on, namespace.node('b').created_on
        assert first < second < namespace.node('c').created_on
        last = namespace.node('c')
        namespace.backend.remove_node(last.ref)
        namespace.backend.remove_node(removed)
        other.join('d')
        assert namespace.node('d').created_on > last.created_on, 'a record that is gone counts too'

    @pytest.mark.parametrize(
        ('how', 'replacing'),
        [*((how, 'it') for how in (*GONE[2:], 'removed', 'died')), ('left', 'nothing'), ('left', 'another run')],
    )
    def test_a_new_run_begins_anew(self, namespace: Namespace, how: str, replacing: str) -> None:
        """However a run ends, the next one of its name has nothing of it, except its incarnation if its record was replaced.

        There is one record of the name, and ``replacing`` counts only where it is JOINED.
        """
        old = namespace.join('ghost', weight=2.0, host='h', pid=7, replaces=frozenset({'older'}), settings='{"old": 1}')
        namespace.beat(old, Revision(3, 4), {7}, candidate=False)
        namespace.backend.set_weight(old, 3.0, stalled=True)
        if how != 'replaced':
            namespace.end(old, how)
        beat = {'it': (old.incarnation, 1), 'another run': ('other', 9)}.get(replacing)
        with namespace.raises_revision():
            new = namespace.join('ghost', replacing=beat, replaces=frozenset({'mine'}), host='h2')
        (node,) = (node for node in namespace.snapshot().nodes if node.name == 'ghost')
        replaces = {'mine', old.incarnation} if how in ('left', 'died', 'replaced') else {'mine'}
        registration = Registration(new, 15.0, replaces=frozenset(replaces), host='h2')
        expected = registration.record(node.created_on, node.created_on, None)
        assert attrs.evolve(node, last_heartbeat=node.created_on) == expected
        assert namespace.beat(new).heartbeat == 1

    def test_taken_name_is_refused_with_its_record(self, namespace: Namespace) -> None:
        """Registering a JOINED name is refused, and the error has the present record with every field."""
        ref = namespace.join('a', host='h', pid=5, weight=2.0, replaces=frozenset({'old'}))
        namespace.beat(ref, Revision(3, 4), {1, 2})
        with namespace.refused(NameTaken) as caught:
            namespace.join('a')
        assert caught.value.record == namespace.node('a')

    def test_replacing_compares_incarnation_and_heartbeat(self, namespace: Namespace) -> None:
        """A JOINED name is taken over only from exactly the incarnation and heartbeat in ``replacing``."""
        ref = namespace.join('a')
        namespace.beat(ref)
        namespace.beat(ref)
        for replacing in (('other', 2), (ref.incarnation, 1), (ref.incarnation, 3)):
            with namespace.refused(NameTaken, replacing):
                namespace.join('a', replacing=replacing)

    @pytest.mark.parametrize('replacing', ['nothing', 'itself'])
    def test_a_run_that_left_does_not_come_back(self, namespace: Namespace, replacing: str) -> None:
        """An incarnation that is LEFT cannot register: its node had given the call up, and tokens given to it would lie idle."""
        registration = Registration(namespace.ref('a'), 15.0)
        namespace.backend.register(registration, namespace.timeline, 0)
        namespace.backend.deregister(registration.ref)
        beat = namespace.node('a').beat if replacing == 'itself' else None
        with namespace.refused(NameTaken) as caught:
            namespace.backend.register(registration, namespace.timeline, 0, beat)
        assert caught.value.record == namespace.node('a')

    def test_another_timeline_is_refused(self, namespace: Namespace) -> None:
        """Registering is refused unless the timeline equals the caller's in every part, even where the name is taken too."""
        namespace.join('a')
        for part in ({'generation': 7}, {'id': 'other'}, {'store': 'other'}):
            timeline = attrs.evolve(namespace.timeline, **part)
            for name in ('a', 'b'):
                with namespace.refused(TimelineChanged):
                    namespace.backend.register(Registration(namespace.ref(name), 15.0), timeline, 1000)

    @pytest.mark.parametrize('kind', ['new name', 'take-over'])
    def test_register_repeated_happens_once(self, namespace: Namespace, kind: str) -> None:
        """A repeated registration is refused with the caller's own record, by which the caller knows that it succeeded."""
        replacing = None if kind == 'new name' else (namespace.join('a').incarnation, 0)
        registration = Registration(namespace.ref('a'), 15.0)
        namespace.backend.register(registration, namespace.timeline, 0, replacing)
        with namespace.refused(NameTaken) as caught:
            namespace.backend.register(registration, namespace.timeline, 0, replacing)
        assert caught.value.record.ref == registration.ref


class LongestTimeoutTests:
    """The longest heartbeat timeout that any node of the namespace ever had. After a rollback nodes wait that long (R8)."""

    def test_registering_raises_the_longest_timeout(self, namespace: Namespace, harness: Harness) -> None:
        """Registering raises the longest timeout to the newcomer's own and to the longest that the newcomer has read."""
        assert namespace.snapshot().longest_timeout_sec == 0.0
        other = Namespace(harness.connect()).backend
        for name, own, told, expected in (
            ('a', 15.0, 0.0, 15.0),
            ('b', 60.25, 0.0, 60.25),
            ('c', 5.0, 20.0, 60.25),
            ('d', 5.0, 90 + 1 / 3, 90 + 1 / 3),
            ('e', 90.0, 90.25, 90 + 1 / 3),
            ('f', 500_000 / 3, 0.0, 500_000 / 3),
            ('g', 5.0, 604_800.0, 604_800.0),
        ):
            namespace.join(name, timeout_sec=own, longest_timeout_sec=told)
            assert (namespace.node(name).timeout_sec, namespace.snapshot().longest_timeout_sec) == (own, expected)
            assert other.snapshot().longest_timeout_sec == expected

    def test_renewing_raises_the_longest_timeout(self, namespace: Namespace) -> None:
        """A renewal keeps the longest timeout, or raises it to the caller's."""
        namespace.join('a', timeout_sec=60.0)
        for told, expected in ((0.0, 60.0), (15.0, 60.0), (500_000 / 3, 500_000 / 3), (30.0, 500_000 / 3)):
            namespace.backend.renew_timeline(namespace.snapshot().timeline, 0, told)
            snapshot = namespace.snapshot()
            assert (snapshot.longest_timeout_sec, snapshot.nodes) == (expected, ())

    def test_a_refused_call_keeps_the_longest_timeout(self, namespace: Namespace) -> None:
        """A renewal of another timeline and a refused registration leave the longest timeout as it is."""
        namespace.join('a')
        with namespace.unchanged():
            namespace.backend.renew_timeline(attrs.evolve(namespace.timeline, id='other'), 0, 900.0)
        with namespace.refused(NameTaken):
            namespace.join('a', timeout_sec=900.0, longest_timeout_sec=901.0)
        with namespace.refused(TimelineChanged):
            registration = Registration(namespace.ref('b'), 900.0, longest_timeout_sec=901.0)
            namespace.backend.register(registration, attrs.evolve(namespace.timeline, id='other'), 0)

    def test_nothing_lowers_the_longest_timeout(self, namespace: Namespace) -> None:
        """The longest timeout outlives the record of its node, however that was removed, and a change of settings."""
        namespace.join('a', timeout_sec=61.0)
        leader = namespace.leader()
        namespace.evict(leader, namespace.node('a').ref)
        namespace.join('a', timeout_sec=1.0)
        namespace.join('a', replacing=namespace.node('a').beat, timeout_sec=2.0)
        namespace.beat(leader)
        namespace.commit(leader, TokenGroup([1], 'a'))
        for name in ('a', 'leader'):
            namespace.backend.deregister(namespace.node(name).ref)
        assert namespace.snapshot().longest_timeout_sec == 61.0
        namespace.backend.open(attrs.evolve(SETTINGS, hash_function='md5'), create=True)
        snapshot = namespace.snapshot()
        assert (snapshot.longest_timeout_sec, snapshot.timeline.generation) == (61.0, 1)
