"""``register``, ``heartbeat``, ``set_weight`` and ``deregister``: a node's own record."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest

from jobsync.backend import INITIAL, Node, NodeRef, NodeState, Registration, Revision, TokenGroup
from jobsync.errors import Evicted, NameTaken, TimelineChanged
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import GONE, SETTINGS, Namespace

__all__ = ['DeregisterTests', 'HeartbeatTests', 'LongestTimeoutTests', 'RegisterTests', 'WeightTests']


class RegisterTests:
    """``register``."""

    def test_record_is_stored_whole(self, namespace: Namespace) -> None:
        """Every field of the registration is in the record, which begins JOINED, at heartbeat 0, holding nothing."""
        ref = namespace.ref('a')
        replaces = frozenset({'old-1', 'old-2'})
        before = namespace.snapshot().now
        namespace.backend.register(Registration(ref, 12.5, 0.75, replaces, 'host-1', 4321), namespace.timeline, 0)
        node = namespace.node('a')
        assert node == Node(
            name='a',
            incarnation=ref.incarnation,
            heartbeat=0,
            seen=INITIAL,
            holding=frozenset(),
            state=NodeState.JOINED,
            replaces=replaces,
            weight=0.75,
            timeout_sec=12.5,
            host='host-1',
            pid=4321,
            created_on=node.created_on,
            last_heartbeat=node.last_heartbeat,
        )
        assert node.last_heartbeat is not None
        assert before <= node.last_heartbeat <= namespace.snapshot().now
        assert node.created_on.tzinfo is not None

    @pytest.mark.parametrize('ahead', [-1, 0, 1, 1000])
    def test_revision_is_lifted(self, namespace: Namespace, ahead: int) -> None:
        """The revision's number becomes one above the higher of itself and ``at_least``; the version stays."""
        namespace.join('a')
        before = namespace.revision
        namespace.backend.register(Registration(namespace.ref('b'), 15.0), namespace.timeline, before.number + ahead)
        snapshot = namespace.snapshot()
        assert snapshot.revision.number == before.number + max(ahead, 0) + 1
        assert snapshot.revision.stamp != before.stamp
        assert snapshot.version == INITIAL

    def test_created_on_rises_strictly(self, namespace: Namespace) -> None:
        """Nodes that register one after the other have rising ``created_on``, and the snapshot lists them in that order."""
        names = [f'{letter}{i}' for i in range(10) for letter in 'zam']
        for name in names:
            namespace.join(name)
        nodes = list(namespace.nodes().values())
        assert [node.name for node in nodes] == names
        created = [node.created_on for node in nodes]
        assert created == sorted(set(created))

    def test_created_on_rises_past_removed_records(self, namespace: Namespace) -> None:
        """It is later than that of records which are gone, and of the one it takes the place of."""
        leader, ref = namespace.leader(), namespace.join('a')
        first = namespace.node('a').created_on
        namespace.join('a', replacing=(ref.incarnation, 0))
        second = namespace.node('a').created_on
        namespace.evict(leader, namespace.node('a').ref)
        namespace.join('a')
        third = namespace.node('a').created_on
        namespace.renew_timeline()
        namespace.join('a')
        assert first < second < third < namespace.node('a').created_on

    @needs(Ability.CLOCK)
    def test_created_on_rises_while_the_clock_goes_back(self, namespace: Namespace, harness: Harness) -> None:
        """``created_on`` is later than every one before it even if the store's clock is set back."""
        namespace.join('a')
        harness.move_clock(dt.timedelta(hours=-1))
        namespace.join('b')
        harness.move_clock(dt.timedelta(hours=-1))
        namespace.join('c')
        assert list(namespace.nodes()) == ['a', 'b', 'c']
        assert namespace.node('a').created_on < namespace.node('b').created_on < namespace.node('c').created_on

    def test_taken_name_is_refused_with_its_record(self, namespace: Namespace) -> None:
        """A JOINED name is refused; the error carries the record as it is now, every field of it."""
        ref = namespace.join('a', host='h', pid=5, weight=2.0, replaces=frozenset({'old'}))
        namespace.beat(ref, Revision(3, 4), {1, 2})
        with namespace.refused(NameTaken) as caught:
            namespace.join('a')
        assert isinstance(caught.value, NameTaken)
        assert caught.value.record == namespace.node('a')

    @pytest.mark.parametrize('wrong', ['incarnation', 'heartbeat before', 'heartbeat after'])
    def test_replacing_compares_incarnation_and_heartbeat(self, namespace: Namespace, wrong: str) -> None:
        """A JOINED name is taken over only from exactly the incarnation and heartbeat named."""
        ref = namespace.join('a')
        namespace.beat(ref)
        namespace.beat(ref)
        replacing = {
            'incarnation': ('other', 2),
            'heartbeat before': (ref.incarnation, 1),
            'heartbeat after': (ref.incarnation, 3),
        }[wrong]
        with namespace.refused(NameTaken):
            namespace.join('a', replacing=replacing)

    def test_replacing_takes_the_name_over(self, namespace: Namespace) -> None:
        """The new record begins anew and adds the incarnation it replaced to what it knows to be over; the old is gone."""
        old = namespace.join('a', replaces=frozenset({'older'}), host='h1')
        namespace.beat(old, Revision(3, 4), {7})
        with namespace.raises_revision():
            new = namespace.join('a', replacing=(old.incarnation, 1), replaces=frozenset({'mine'}), host='h2')
        assert list(namespace.nodes()) == ['a']
        node = namespace.node('a')
        assert (node.ref, node.heartbeat, node.seen, node.holding, node.host) == (new, 0, INITIAL, frozenset(), 'h2')
        assert node.replaces == {'mine', old.incarnation}

    @pytest.mark.parametrize('replacing', [None, ('other', 9)])
    def test_a_name_that_left_is_free(self, namespace: Namespace, replacing: tuple[str, int] | None) -> None:
        """A record that is LEFT is registered over, and its incarnation is added to ``replaces``."""
        old = namespace.join('a')
        namespace.beat(old)
        namespace.backend.deregister(old)
        new = namespace.join('a', replacing=replacing)
        node = namespace.node('a')
        assert (node.ref, node.state, node.heartbeat) == (new, NodeState.JOINED, 0)
        assert node.replaces == {old.incarnation}

    def test_a_free_name_replaces_nothing(self, namespace: Namespace) -> None:
        """``replacing`` with no record of the name registers, and adds nothing to ``replaces``."""
        ref = namespace.join('a', replacing=('gone', 3))
        assert namespace.node('a').ref == ref
        assert namespace.node('a').replaces == frozenset()

    def test_another_timeline_is_refused(self, namespace: Namespace) -> None:
        """The timeline must be the caller's in every part, even where the name is taken too."""
        namespace.join('a')
        for part in ({'generation': 7}, {'id': 'other'}, {'store': 'other'}):
            timeline = attrs.evolve(namespace.timeline, **part)
            for name in ('a', 'b'):
                with namespace.refused(TimelineChanged):
                    namespace.backend.register(Registration(namespace.ref(name), 15.0), timeline, 1000)

    def test_register_repeated_happens_once(self, namespace: Namespace) -> None:
        """The same call again is refused with the caller's own record."""
        registration = Registration(namespace.ref('a'), 15.0)
        namespace.backend.register(registration, namespace.timeline, 0)
        with namespace.refused(NameTaken) as caught:
            namespace.backend.register(registration, namespace.timeline, 0)
        assert isinstance(caught.value, NameTaken)
        assert caught.value.record.ref == registration.ref

    def test_replacing_repeated_happens_once(self, namespace: Namespace) -> None:
        """A take-over repeated is refused with the caller's own record."""
        old = namespace.join('a')
        registration = Registration(namespace.ref('a'), 15.0)
        namespace.backend.register(registration, namespace.timeline, 0, (old.incarnation, 0))
        with namespace.refused(NameTaken) as caught:
            namespace.backend.register(registration, namespace.timeline, 0, (old.incarnation, 0))
        assert isinstance(caught.value, NameTaken)
        assert caught.value.record.ref == registration.ref


class HeartbeatTests:
    """``heartbeat`` and the Pulse it brings back."""

    def test_heartbeat_writes_its_own_record_only(self, namespace: Namespace) -> None:
        """It raises the counter by one and stores ``seen``, ``holding`` and the time; nothing else changes."""
        other, ref = namespace.join('other'), namespace.join('a')
        namespace.beat(other)
        before = namespace.state()
        for count, (seen, holding) in enumerate(
            [(Revision(5, 6), {3, 23, PIN}), (Revision(2**40, 2**62), set()), (INITIAL, {0})], 1
        ):
            node = namespace.node('a')
            assert namespace.beat(ref, seen, holding).heartbeat == count
            expected = attrs.evolve(node, heartbeat=count, seen=seen, holding=frozenset(holding))
            after = namespace.node('a')
            assert attrs.evolve(after, last_heartbeat=node.last_heartbeat) == expected
            assert after.last_heartbeat is not None
            assert node.last_heartbeat is not None
            assert node.last_heartbeat <= after.last_heartbeat <= namespace.snapshot().now
        after_all = namespace.state()
        unchanged = attrs.evolve(after_all.snapshot, nodes=before.snapshot.nodes)
        assert attrs.evolve(after_all, snapshot=unchanged) == before
        assert namespace.node('other') == before.snapshot.nodes[0]

    def test_pulse_tells_how_things_stand(self, namespace: Namespace) -> None:
        """Timeline, store, revision, version and leadership are those of a snapshot; the counters include this heartbeat."""
        leader, ref = namespace.leader(), namespace.join('a')
        namespace.commit(leader, TokenGroup(range(9), 'leader'))
        namespace.lock('x')
        for _ in range(3):
            namespace.beat(leader)
        pulse, snapshot = namespace.beat(ref), namespace.snapshot()
        assert pulse.heartbeat == namespace.node('a').heartbeat == 1
        assert pulse.timeline == snapshot.timeline
        assert pulse.store == snapshot.store
        assert (pulse.revision, pulse.version) == (snapshot.revision, snapshot.version)
        assert pulse.revision != pulse.version
        assert pulse.leadership == snapshot.leadership
        assert pulse.leader_heartbeat == namespace.node('leader').heartbeat == 4

    def test_pulse_of_the_leader_counts_its_own_heartbeat(self, namespace: Namespace) -> None:
        """The leader's own Pulse shows the counter it has after this heartbeat, twice."""
        pulse = namespace.beat(namespace.leader())
        assert pulse.heartbeat == pulse.leader_heartbeat == 1

    @pytest.mark.parametrize('how', ['none yet', 'left', 'replaced', 'evicted'])
    def test_leader_heartbeat_is_none_without_a_leader(self, namespace: Namespace, how: str) -> None:
        """It is None unless a node is JOINED in exactly the incarnation that the leadership names."""
        ref = namespace.join('a')
        if how != 'none yet':
            leader = namespace.leader()
            if how == 'left':
                namespace.backend.deregister(leader)
            elif how == 'replaced':
                namespace.join('leader', replacing=(leader.incarnation, 0))
            else:
                namespace.evict(leader, leader)
        pulse = namespace.beat(ref)
        assert pulse.leadership == namespace.snapshot().leadership
        assert pulse.leader_heartbeat is None

    def test_heartbeat_tells_of_candidacy(self, namespace: Namespace) -> None:
        """Each heartbeat sets ``candidate``, which is True at first and unless said otherwise; that is no structural change."""
        ref = namespace.join('a')
        assert namespace.node('a').candidate
        with namespace.same_revision():
            for candidate in (False, False, True, False):
                namespace.beat(ref, candidate=candidate)
                assert namespace.node('a').candidate is candidate
            namespace.backend.heartbeat(ref, INITIAL, frozenset())
        assert namespace.node('a').candidate

    def test_candidacy_lasts(self, namespace: Namespace) -> None:
        """A commit, another weight and leaving leave ``candidate`` as it was; another run of the name begins as one."""
        ref = namespace.leader('a')
        namespace.beat(ref, candidate=False)
        namespace.commit(ref)
        namespace.backend.set_weight(ref, 2.0)
        assert not namespace.node('a').candidate
        namespace.backend.deregister(ref)
        assert not namespace.node('a').candidate
        again = namespace.join('a')
        assert namespace.node('a').candidate
        namespace.beat(again, candidate=False)
        namespace.join('a', replacing=(again.incarnation, 1))
        assert namespace.node('a').candidate

    def test_pulse_tells_whether_the_leader_is_a_candidate(self, namespace: Namespace) -> None:
        """It is what the leader's record says after this heartbeat, and True where no such record is JOINED."""
        ref = namespace.join('a')
        assert namespace.beat(ref, candidate=False).leader_is_candidate
        leader = namespace.leader()
        assert namespace.beat(ref, candidate=False).leader_is_candidate
        assert not namespace.beat(leader, candidate=False).leader_is_candidate
        assert not namespace.beat(ref).leader_is_candidate
        assert namespace.beat(leader).leader_is_candidate
        assert namespace.beat(ref, candidate=False).leader_is_candidate
        namespace.beat(leader, candidate=False)
        namespace.backend.deregister(leader)
        assert namespace.beat(ref).leader_is_candidate

    @pytest.mark.parametrize('how', GONE)
    def test_heartbeat_of_a_gone_run_is_refused(self, namespace: Namespace, how: str) -> None:
        """Only an incarnation that is JOINED can beat; nothing revives another."""
        ref = namespace.gone(how)
        with namespace.refused(Evicted):
            namespace.beat(ref, Revision(5, 6), {1})

    def test_heartbeat_repeated_only_counts(self, namespace: Namespace) -> None:
        """The same call again raises the counter and changes nothing else."""
        ref = namespace.join('a')
        namespace.beat(ref, Revision(5, 6), {1})
        before = namespace.node('a')
        namespace.beat(ref, Revision(5, 6), {1})
        after = namespace.node('a')
        assert after == attrs.evolve(before, heartbeat=2, last_heartbeat=after.last_heartbeat)


class LongestTimeoutTests:
    """The longest heartbeat timeout that any node of the namespace ever had."""

    def test_registering_raises_it(self, namespace: Namespace, harness: Harness) -> None:
        """It becomes the longest of itself, the newcomer's timeout and the longest the newcomer has read of."""
        assert namespace.snapshot().longest_timeout_sec == 0.0
        other = harness.connect()
        other.open(SETTINGS, create=True)
        for name, own, told, expected in (
            ('a', 15.0, 0.0, 15.0),
            ('b', 60.25, 0.0, 60.25),
            ('c', 5.0, 20.0, 60.25),
            ('d', 5.0, 90.5, 90.5),
            ('e', 90.0, 90.25, 90.5),
        ):
            namespace.join(name, timeout_sec=own, longest_timeout_sec=told)
            assert (namespace.node(name).timeout_sec, namespace.snapshot().longest_timeout_sec) == (own, expected)
            assert other.snapshot().longest_timeout_sec == expected

    def test_renewing_raises_it(self, namespace: Namespace) -> None:
        """A renewal keeps it, and raises it to what the caller remembers if that is more."""
        namespace.join('a', timeout_sec=60.0)
        for told, expected in ((0.0, 60.0), (15.0, 60.0), (75.5, 75.5), (30.0, 75.5)):
            namespace.backend.renew_timeline(namespace.snapshot().timeline, 0, told)
            snapshot = namespace.snapshot()
            assert (snapshot.longest_timeout_sec, snapshot.nodes) == (expected, ())

    def test_a_renewal_that_is_none_leaves_it(self, namespace: Namespace) -> None:
        """A renewal of another timeline changes nothing, and neither does a registration that is refused."""
        namespace.join('a')
        with namespace.unchanged():
            namespace.backend.renew_timeline(attrs.evolve(namespace.timeline, id='other'), 0, 900.0)
        with namespace.refused(NameTaken):
            namespace.join('a', timeout_sec=900.0, longest_timeout_sec=901.0)
        with namespace.refused(TimelineChanged):
            registration = Registration(namespace.ref('b'), 900.0, longest_timeout_sec=901.0)
            namespace.backend.register(registration, attrs.evolve(namespace.timeline, id='other'), 0)

    def test_nothing_lowers_it(self, namespace: Namespace) -> None:
        """It outlives the record of the node it came from, however that went, and a change of settings."""
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


PIN = 1_000_007
"""The id of a pin: above any token."""


class WeightTests:
    """``set_weight``."""

    def test_set_weight_changes_the_record(self, namespace: Namespace) -> None:
        """The weight is another, down to nothing, and the rest of the record as it was, its counter included."""
        ref = namespace.join('a')
        namespace.beat(ref, Revision(5, 6), {1})
        before = namespace.node('a')
        for weight in (2.5, 0.0):
            with namespace.raises_revision():
                namespace.backend.set_weight(ref, weight)
            assert namespace.node('a') == attrs.evolve(before, weight=weight)

    def test_set_weight_leaves_the_others_alone(self, namespace: Namespace) -> None:
        """Every other node, the leadership and the version stay."""
        namespace.leader()
        ref, before = namespace.join('a'), namespace.snapshot()
        namespace.backend.set_weight(ref, 3.0)
        after = namespace.snapshot()
        assert (after.nodes[0], after.leadership, after.version) == (before.nodes[0], before.leadership, before.version)

    def test_the_same_weight_changes_nothing(self, namespace: Namespace) -> None:
        """Repeated, it leaves the revision alone."""
        ref = namespace.join('a')
        namespace.backend.set_weight(ref, 2.0)
        with namespace.unchanged():
            namespace.backend.set_weight(ref, 2.0)

    @pytest.mark.parametrize('how', GONE)
    def test_set_weight_of_a_gone_run_is_refused(self, namespace: Namespace, how: str) -> None:
        """Only an incarnation that is JOINED has a weight to change; whoever has the name now keeps his."""
        ref = namespace.gone(how)
        with namespace.refused(Evicted):
            namespace.backend.set_weight(ref, 7.0)


class DeregisterTests:
    """``deregister``."""

    def test_deregister_marks_the_record(self, namespace: Namespace) -> None:
        """The record stays as LEFT, holds nothing and has no ``last_heartbeat``; the rest of it is as it was."""
        ref = namespace.join('a', host='h')
        namespace.beat(ref, Revision(5, 6), {1, 2})
        before = namespace.node('a')
        with namespace.raises_revision():
            namespace.backend.deregister(ref)
        assert namespace.node('a') == attrs.evolve(before, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None)

    def test_deregister_gives_nothing_away(self, namespace: Namespace) -> None:
        """Leadership, members, rows, pins and the other nodes are as before."""
        leader, other = namespace.leader(), namespace.join('a')
        namespace.beat(other, Revision(5, 6), {1})
        namespace.commit(leader, TokenGroup(range(9), 'leader'), moved=9)
        before = namespace.state()
        namespace.backend.deregister(leader)
        after = namespace.state()
        assert after.snapshot.leadership == before.snapshot.leadership
        assert after.snapshot.version == before.snapshot.version
        assert (after.rows, after.pins, after.members) == (before.rows, before.pins, before.members)
        assert after.snapshot.nodes[1] == before.snapshot.nodes[1]

    def test_deregister_repeated_happens_once(self, namespace: Namespace) -> None:
        """The same call again changes nothing, the revision included."""
        ref = namespace.join('a')
        namespace.backend.deregister(ref)
        with namespace.unchanged():
            namespace.backend.deregister(ref)

    @pytest.mark.parametrize('how', GONE)
    def test_deregister_of_a_gone_run_does_nothing(self, namespace: Namespace, how: str) -> None:
        """An incarnation that is not JOINED has nothing to leave; whoever has the name now stays."""
        ref = namespace.gone(how)
        with namespace.unchanged():
            namespace.backend.deregister(ref)

    def test_deregister_unknown_name(self, namespace: Namespace) -> None:
        """A name that was never registered is no error."""
        with namespace.unchanged():
            namespace.backend.deregister(NodeRef('nobody', 'x'))
