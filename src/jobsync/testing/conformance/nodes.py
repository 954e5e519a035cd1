"""``register``, ``heartbeat``, ``set_weight`` and ``deregister``: a node's own record."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest

from jobsync.backend import INITIAL, Node, NodeRef, NodeState, Registration, Revision, TokenGroup
from jobsync.errors import Evicted, NameTaken, TimelineChanged
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import GONE, SETTINGS, Scene

__all__ = ['DeregisterTests', 'HeartbeatTests', 'LongestTimeoutTests', 'RegisterTests', 'WeightTests']


class RegisterTests:
    """``register``."""

    def test_record_is_stored_whole(self, scene: Scene) -> None:
        """Every field of the registration is in the record, which begins JOINED, at heartbeat 0, holding nothing."""
        ref = scene.ref('a')
        replaces = frozenset({'old-1', 'old-2'})
        before = scene.backend.snapshot().now
        scene.backend.register(Registration(ref, 12.5, 0.75, replaces, 'host-1', 4321), scene.timeline, 0)
        node = scene.node('a')
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
        assert before <= node.last_heartbeat <= scene.backend.snapshot().now
        assert node.created_on.tzinfo is not None

    @pytest.mark.parametrize('ahead', [-1, 0, 1, 1000])
    def test_revision_is_lifted(self, scene: Scene, ahead: int) -> None:
        """The revision's number becomes one above the higher of itself and ``at_least``; the version stays."""
        scene.join('a')
        before = scene.revision
        scene.backend.register(Registration(scene.ref('b'), 15.0), scene.timeline, before.number + ahead)
        snapshot = scene.backend.snapshot()
        assert snapshot.revision.number == before.number + max(ahead, 0) + 1
        assert snapshot.revision.stamp != before.stamp
        assert snapshot.version == INITIAL

    def test_created_on_rises_strictly(self, scene: Scene) -> None:
        """Nodes that register one after the other have rising ``created_on``, and the snapshot lists them in that order."""
        names = [f'{letter}{i}' for i in range(10) for letter in 'zam']
        for name in names:
            scene.join(name)
        nodes = list(scene.nodes().values())
        assert [node.name for node in nodes] == names
        created = [node.created_on for node in nodes]
        assert created == sorted(set(created))

    def test_created_on_rises_past_removed_records(self, scene: Scene) -> None:
        """It is later than that of records which are gone, and of the one it takes the place of."""
        leader, ref = scene.leader(), scene.join('a')
        first = scene.node('a').created_on
        scene.join('a', replacing=(ref.incarnation, 0))
        second = scene.node('a').created_on
        scene.evict(leader, scene.node('a').ref)
        scene.join('a')
        third = scene.node('a').created_on
        scene.backend.renew_timeline(scene.timeline, 0)
        scene.timeline = scene.backend.snapshot().timeline
        scene.join('a')
        assert first < second < third < scene.node('a').created_on

    @needs(Ability.CLOCK)
    def test_created_on_rises_while_the_clock_goes_back(self, scene: Scene, harness: Harness) -> None:
        """``created_on`` is later than every one before it even if the store's clock is set back."""
        scene.join('a')
        harness.move_clock(dt.timedelta(hours=-1))
        scene.join('b')
        harness.move_clock(dt.timedelta(hours=-1))
        scene.join('c')
        assert list(scene.nodes()) == ['a', 'b', 'c']
        assert scene.node('a').created_on < scene.node('b').created_on < scene.node('c').created_on

    def test_taken_name_is_refused_with_its_record(self, scene: Scene) -> None:
        """A JOINED name is refused; the error carries the record as it is now, every field of it."""
        ref = scene.join('a', host='h', pid=5, weight=2.0, replaces=frozenset({'old'}))
        scene.beat(ref, Revision(3, 4), {1, 2})
        with scene.refused(NameTaken) as caught:
            scene.join('a')
        assert isinstance(caught.value, NameTaken)
        assert caught.value.record == scene.node('a')

    @pytest.mark.parametrize('wrong', ['incarnation', 'heartbeat before', 'heartbeat after'])
    def test_replacing_compares_incarnation_and_heartbeat(self, scene: Scene, wrong: str) -> None:
        """A JOINED name is taken over only from exactly the incarnation and heartbeat named."""
        ref = scene.join('a')
        scene.beat(ref)
        scene.beat(ref)
        replacing = {
            'incarnation': ('other', 2),
            'heartbeat before': (ref.incarnation, 1),
            'heartbeat after': (ref.incarnation, 3),
        }[wrong]
        with scene.refused(NameTaken):
            scene.join('a', replacing=replacing)

    def test_replacing_takes_the_name_over(self, scene: Scene) -> None:
        """The new record begins anew and adds the incarnation it replaced to what it knows to be over; the old is gone."""
        old = scene.join('a', replaces=frozenset({'older'}), host='h1')
        scene.beat(old, Revision(3, 4), {7})
        with scene.raises_revision():
            new = scene.join('a', replacing=(old.incarnation, 1), replaces=frozenset({'mine'}), host='h2')
        assert list(scene.nodes()) == ['a']
        node = scene.node('a')
        assert (node.ref, node.heartbeat, node.seen, node.holding, node.host) == (new, 0, INITIAL, frozenset(), 'h2')
        assert node.replaces == {'mine', old.incarnation}

    @pytest.mark.parametrize('replacing', [None, ('other', 9)])
    def test_a_name_that_left_is_free(self, scene: Scene, replacing: tuple[str, int] | None) -> None:
        """A record that is LEFT is registered over, and its incarnation is added to ``replaces``."""
        old = scene.join('a')
        scene.beat(old)
        scene.backend.deregister(old)
        new = scene.join('a', replacing=replacing)
        node = scene.node('a')
        assert (node.ref, node.state, node.heartbeat) == (new, NodeState.JOINED, 0)
        assert node.replaces == {old.incarnation}

    def test_a_free_name_replaces_nothing(self, scene: Scene) -> None:
        """``replacing`` with no record of the name registers, and adds nothing to ``replaces``."""
        ref = scene.join('a', replacing=('gone', 3))
        assert scene.node('a').ref == ref
        assert scene.node('a').replaces == frozenset()

    def test_another_timeline_is_refused(self, scene: Scene) -> None:
        """The timeline must be the caller's in every part, even where the name is taken too."""
        scene.join('a')
        for part in ({'generation': 7}, {'id': 'other'}, {'store': 'other'}):
            timeline = attrs.evolve(scene.timeline, **part)
            for name in ('a', 'b'):
                with scene.refused(TimelineChanged):
                    scene.backend.register(Registration(scene.ref(name), 15.0), timeline, 1000)

    def test_register_repeated_happens_once(self, scene: Scene) -> None:
        """The same call again is refused with the caller's own record."""
        registration = Registration(scene.ref('a'), 15.0)
        scene.backend.register(registration, scene.timeline, 0)
        with scene.refused(NameTaken) as caught:
            scene.backend.register(registration, scene.timeline, 0)
        assert isinstance(caught.value, NameTaken)
        assert caught.value.record.ref == registration.ref

    def test_replacing_repeated_happens_once(self, scene: Scene) -> None:
        """A take-over repeated is refused with the caller's own record."""
        old = scene.join('a')
        registration = Registration(scene.ref('a'), 15.0)
        scene.backend.register(registration, scene.timeline, 0, (old.incarnation, 0))
        with scene.refused(NameTaken) as caught:
            scene.backend.register(registration, scene.timeline, 0, (old.incarnation, 0))
        assert isinstance(caught.value, NameTaken)
        assert caught.value.record.ref == registration.ref


class HeartbeatTests:
    """``heartbeat`` and the Pulse it brings back."""

    def test_heartbeat_writes_its_own_record_only(self, scene: Scene) -> None:
        """It raises the counter by one and stores ``seen``, ``holding`` and the time; nothing else changes."""
        other, ref = scene.join('other'), scene.join('a')
        scene.beat(other)
        before = scene.state()
        for count, (seen, holding) in enumerate(
            [(Revision(5, 6), {3, 23, PIN}), (Revision(2**40, 2**62), set()), (INITIAL, {0})], 1
        ):
            node = scene.node('a')
            assert scene.beat(ref, seen, holding).heartbeat == count
            expected = attrs.evolve(node, heartbeat=count, seen=seen, holding=frozenset(holding))
            after = scene.node('a')
            assert attrs.evolve(after, last_heartbeat=node.last_heartbeat) == expected
            assert after.last_heartbeat is not None
            assert node.last_heartbeat is not None
            assert node.last_heartbeat <= after.last_heartbeat <= scene.backend.snapshot().now
        after_all = scene.state()
        unchanged = attrs.evolve(after_all.snapshot, nodes=before.snapshot.nodes)
        assert attrs.evolve(after_all, snapshot=unchanged) == before
        assert scene.node('other') == before.snapshot.nodes[0]

    def test_pulse_tells_how_things_stand(self, scene: Scene) -> None:
        """Timeline, store, revision, version and leadership are those of a snapshot; the counters include this heartbeat."""
        leader, ref = scene.leader(), scene.join('a')
        scene.commit(leader, TokenGroup(range(9), 'leader'))
        scene.lock('x')
        for _ in range(3):
            scene.beat(leader)
        pulse, snapshot = scene.beat(ref), scene.backend.snapshot()
        assert pulse.heartbeat == scene.node('a').heartbeat == 1
        assert pulse.timeline == snapshot.timeline
        assert pulse.store == snapshot.store
        assert (pulse.revision, pulse.version) == (snapshot.revision, snapshot.version)
        assert pulse.revision != pulse.version
        assert pulse.leadership == snapshot.leadership
        assert pulse.leader_heartbeat == scene.node('leader').heartbeat == 4

    def test_pulse_of_the_leader_counts_its_own_heartbeat(self, scene: Scene) -> None:
        """The leader's own Pulse shows the counter it has after this heartbeat, twice."""
        pulse = scene.beat(scene.leader())
        assert pulse.heartbeat == pulse.leader_heartbeat == 1

    @pytest.mark.parametrize('how', ['none yet', 'left', 'replaced', 'evicted'])
    def test_leader_heartbeat_is_none_without_a_leader(self, scene: Scene, how: str) -> None:
        """It is None unless a node is JOINED in exactly the incarnation that the leadership names."""
        ref = scene.join('a')
        if how != 'none yet':
            leader = scene.leader()
            if how == 'left':
                scene.backend.deregister(leader)
            elif how == 'replaced':
                scene.join('leader', replacing=(leader.incarnation, 0))
            else:
                scene.evict(leader, leader)
        pulse = scene.beat(ref)
        assert pulse.leadership == scene.backend.snapshot().leadership
        assert pulse.leader_heartbeat is None

    def test_heartbeat_tells_of_candidacy(self, scene: Scene) -> None:
        """Each heartbeat sets ``candidate``, which is True at first and unless said otherwise; that is no structural change."""
        ref = scene.join('a')
        assert scene.node('a').candidate
        with scene.same_revision():
            for candidate in (False, False, True, False):
                scene.beat(ref, candidate=candidate)
                assert scene.node('a').candidate is candidate
            scene.backend.heartbeat(ref, INITIAL, frozenset())
        assert scene.node('a').candidate

    def test_candidacy_lasts(self, scene: Scene) -> None:
        """A commit, another weight and leaving leave ``candidate`` as it was; another run of the name begins as one."""
        ref = scene.leader('a')
        scene.beat(ref, candidate=False)
        scene.commit(ref)
        scene.backend.set_weight(ref, 2.0)
        assert not scene.node('a').candidate
        scene.backend.deregister(ref)
        assert not scene.node('a').candidate
        again = scene.join('a')
        assert scene.node('a').candidate
        scene.beat(again, candidate=False)
        scene.join('a', replacing=(again.incarnation, 1))
        assert scene.node('a').candidate

    def test_pulse_tells_whether_the_leader_is_a_candidate(self, scene: Scene) -> None:
        """It is what the leader's record says after this heartbeat, and True where no such record is JOINED."""
        ref = scene.join('a')
        assert scene.beat(ref, candidate=False).leader_is_candidate
        leader = scene.leader()
        assert scene.beat(ref, candidate=False).leader_is_candidate
        assert not scene.beat(leader, candidate=False).leader_is_candidate
        assert not scene.beat(ref).leader_is_candidate
        assert scene.beat(leader).leader_is_candidate
        assert scene.beat(ref, candidate=False).leader_is_candidate
        scene.beat(leader, candidate=False)
        scene.backend.deregister(leader)
        assert scene.beat(ref).leader_is_candidate

    @pytest.mark.parametrize('how', GONE)
    def test_heartbeat_of_a_gone_run_is_refused(self, scene: Scene, how: str) -> None:
        """Only an incarnation that is JOINED can beat; nothing revives another."""
        ref = scene.gone(how)
        with scene.refused(Evicted):
            scene.beat(ref, Revision(5, 6), {1})

    def test_heartbeat_repeated_only_counts(self, scene: Scene) -> None:
        """The same call again raises the counter and changes nothing else."""
        ref = scene.join('a')
        scene.beat(ref, Revision(5, 6), {1})
        before = scene.node('a')
        scene.beat(ref, Revision(5, 6), {1})
        after = scene.node('a')
        assert after == attrs.evolve(before, heartbeat=2, last_heartbeat=after.last_heartbeat)


class LongestTimeoutTests:
    """The longest heartbeat timeout that any node of the namespace ever had."""

    def test_registering_raises_it(self, scene: Scene, harness: Harness) -> None:
        """It becomes the longest of itself, the newcomer's timeout and the longest the newcomer has read of."""
        assert scene.backend.snapshot().longest_timeout_sec == 0.0
        other = harness.connect()
        other.open(SETTINGS, create=True)
        for name, own, told, expected in (
            ('a', 15.0, 0.0, 15.0),
            ('b', 60.25, 0.0, 60.25),
            ('c', 5.0, 20.0, 60.25),
            ('d', 5.0, 90.5, 90.5),
            ('e', 90.0, 90.25, 90.5),
        ):
            scene.join(name, timeout_sec=own, longest_timeout_sec=told)
            assert (scene.node(name).timeout_sec, scene.backend.snapshot().longest_timeout_sec) == (own, expected)
            assert other.snapshot().longest_timeout_sec == expected

    def test_renewing_raises_it(self, scene: Scene) -> None:
        """A renewal keeps it, and raises it to what the caller remembers if that is more."""
        scene.join('a', timeout_sec=60.0)
        for told, expected in ((0.0, 60.0), (15.0, 60.0), (75.5, 75.5), (30.0, 75.5)):
            scene.backend.renew_timeline(scene.backend.snapshot().timeline, 0, told)
            snapshot = scene.backend.snapshot()
            assert (snapshot.longest_timeout_sec, snapshot.nodes) == (expected, ())

    def test_a_renewal_that_is_none_leaves_it(self, scene: Scene) -> None:
        """A renewal of another timeline changes nothing, and neither does a registration that is refused."""
        scene.join('a')
        with scene.unchanged():
            scene.backend.renew_timeline(attrs.evolve(scene.timeline, id='other'), 0, 900.0)
        with scene.refused(NameTaken):
            scene.join('a', timeout_sec=900.0, longest_timeout_sec=901.0)
        with scene.refused(TimelineChanged):
            registration = Registration(scene.ref('b'), 900.0, longest_timeout_sec=901.0)
            scene.backend.register(registration, attrs.evolve(scene.timeline, id='other'), 0)

    def test_nothing_lowers_it(self, scene: Scene) -> None:
        """It outlives the record of the node it came from, however that went, and a change of settings."""
        scene.join('a', timeout_sec=61.0)
        leader = scene.leader()
        scene.evict(leader, scene.node('a').ref)
        scene.join('a', timeout_sec=1.0)
        scene.join('a', replacing=scene.node('a').beat, timeout_sec=2.0)
        scene.beat(leader)
        scene.commit(leader, TokenGroup([1], 'a'))
        for name in ('a', 'leader'):
            scene.backend.deregister(scene.node(name).ref)
        assert scene.backend.snapshot().longest_timeout_sec == 61.0
        scene.backend.open(attrs.evolve(SETTINGS, hash_function='md5'), create=True)
        snapshot = scene.backend.snapshot()
        assert (snapshot.longest_timeout_sec, snapshot.timeline.generation) == (61.0, 1)


PIN = 1_000_007
"""The id of a pin: above any token."""


class WeightTests:
    """``set_weight``."""

    def test_set_weight_changes_the_record(self, scene: Scene) -> None:
        """The weight is another, down to nothing, and the rest of the record as it was, its counter included."""
        ref = scene.join('a')
        scene.beat(ref, Revision(5, 6), {1})
        before = scene.node('a')
        for weight in (2.5, 0.0):
            with scene.raises_revision():
                scene.backend.set_weight(ref, weight)
            assert scene.node('a') == attrs.evolve(before, weight=weight)

    def test_set_weight_leaves_the_others_alone(self, scene: Scene) -> None:
        """Every other node, the leadership and the version stay."""
        scene.leader()
        ref, before = scene.join('a'), scene.backend.snapshot()
        scene.backend.set_weight(ref, 3.0)
        after = scene.backend.snapshot()
        assert (after.nodes[0], after.leadership, after.version) == (before.nodes[0], before.leadership, before.version)

    def test_the_same_weight_changes_nothing(self, scene: Scene) -> None:
        """Repeated, it leaves the revision alone."""
        ref = scene.join('a')
        scene.backend.set_weight(ref, 2.0)
        with scene.unchanged():
            scene.backend.set_weight(ref, 2.0)

    @pytest.mark.parametrize('how', GONE)
    def test_set_weight_of_a_gone_run_is_refused(self, scene: Scene, how: str) -> None:
        """Only an incarnation that is JOINED has a weight to change; whoever has the name now keeps his."""
        ref = scene.gone(how)
        with scene.refused(Evicted):
            scene.backend.set_weight(ref, 7.0)


class DeregisterTests:
    """``deregister``."""

    def test_deregister_marks_the_record(self, scene: Scene) -> None:
        """The record stays as LEFT, holds nothing and has no ``last_heartbeat``; the rest of it is as it was."""
        ref = scene.join('a', host='h')
        scene.beat(ref, Revision(5, 6), {1, 2})
        before = scene.node('a')
        with scene.raises_revision():
            scene.backend.deregister(ref)
        assert scene.node('a') == attrs.evolve(before, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None)

    def test_deregister_gives_nothing_away(self, scene: Scene) -> None:
        """Leadership, members, rows, pins and the other nodes are as before."""
        leader, other = scene.leader(), scene.join('a')
        scene.beat(other, Revision(5, 6), {1})
        scene.commit(leader, TokenGroup(range(9), 'leader'), moved=9)
        before = scene.state()
        scene.backend.deregister(leader)
        after = scene.state()
        assert after.snapshot.leadership == before.snapshot.leadership
        assert after.snapshot.version == before.snapshot.version
        assert (after.rows, after.pins, after.members) == (before.rows, before.pins, before.members)
        assert after.snapshot.nodes[1] == before.snapshot.nodes[1]

    def test_deregister_repeated_happens_once(self, scene: Scene) -> None:
        """The same call again changes nothing, the revision included."""
        ref = scene.join('a')
        scene.backend.deregister(ref)
        with scene.unchanged():
            scene.backend.deregister(ref)

    @pytest.mark.parametrize('how', GONE)
    def test_deregister_of_a_gone_run_does_nothing(self, scene: Scene, how: str) -> None:
        """An incarnation that is not JOINED has nothing to leave; whoever has the name now stays."""
        ref = scene.gone(how)
        with scene.unchanged():
            scene.backend.deregister(ref)

    def test_deregister_unknown_name(self, scene: Scene) -> None:
        """A name that was never registered is no error."""
        with scene.unchanged():
            scene.backend.deregister(NodeRef('nobody', 'x'))
