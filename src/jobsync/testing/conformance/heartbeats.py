"""``heartbeat`` and the Pulse that it returns."""

from __future__ import annotations

import attrs
import pytest

from jobsync.backend import INITIAL, Leadership, Revision, TokenGroup
from jobsync.errors import Evicted
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['HeartbeatTests']

PIN = 2**40 + 7
"""The id of a pin: above any token."""


class HeartbeatTests:
    """``heartbeat``. A lease rests on its acknowledgement, and the suspicion of others on its counter (R1, R2)."""

    def test_heartbeat_writes_its_own_record_only(self, namespace: Namespace) -> None:
        """A heartbeat raises the counter by one and stores ``seen``, ``holding`` and the time; no other record changes.

        A repeated heartbeat raises the counter again and changes nothing else.
        """
        other, ref = namespace.join('other'), namespace.join('a')
        namespace.beat(other)
        before = namespace.state()
        large, other_stamp = Revision(2**40 + 1, 2**62 - 1), Revision(2**40 + 1, 9)
        for count, (seen, holding) in enumerate(
            [*[(Revision(5, 6), {3, 23, PIN})] * 2, (large, set()), (other_stamp, set()), (INITIAL, {0})], 1
        ):
            node, sent = namespace.node('a'), namespace.snapshot().now
            assert namespace.beat(ref, seen, holding).heartbeat == count
            expected = attrs.evolve(node, heartbeat=count, seen=seen, holding=frozenset(holding))
            after = namespace.node('a')
            assert attrs.evolve(after, last_heartbeat=node.last_heartbeat) == expected
            assert after.last_heartbeat is not None
            assert sent <= after.last_heartbeat <= namespace.snapshot().now
        assert namespace.state().without('nodes') == before.without('nodes')
        assert namespace.node('other') == before.snapshot.nodes[0]

    def test_pulse_shows_the_present_state(self, namespace: Namespace, harness: Harness) -> None:
        """A Pulse has the timeline, store, revision, version and leadership of a snapshot.

        Counters include this heartbeat; in the leader's own Pulse, ``heartbeat`` and ``leader_heartbeat`` both do.
        """
        leader, ref = namespace.leader(), namespace.join('a')
        namespace.commit(leader, TokenGroup(range(9), 'leader'))
        namespace.lock('x')
        for count in (2, 3, 4):
            pulse = namespace.beat(leader)
            assert pulse.heartbeat == pulse.leader_heartbeat == count
        pulse, snapshot = namespace.beat(ref), namespace.snapshot()
        assert pulse.heartbeat == namespace.node('a').heartbeat == 1
        assert pulse.timeline == snapshot.timeline
        assert pulse.store == snapshot.store
        assert (pulse.revision, pulse.version) == (snapshot.revision, snapshot.version)
        assert pulse.revision != pulse.version
        assert pulse.leadership == snapshot.leadership
        assert pulse.leader_heartbeat == namespace.node('leader').heartbeat == 4
        other = Namespace(harness.connect())
        assert other.beat(ref).leader_heartbeat == 4, 'a handle that has read of no leader before'

    @pytest.mark.parametrize('how', ['none yet', 'left', 'replaced', 'evicted'])
    def test_leader_heartbeat_is_none_without_a_leader(self, namespace: Namespace, how: str) -> None:
        """``leader_heartbeat`` is None unless the incarnation that the leadership names is JOINED."""
        ref = namespace.join('a')
        if how != 'none yet':
            leader = namespace.leader()
            if how == 'evicted':
                namespace.evict(leader, leader)
            else:
                namespace.end(leader, how)
        pulse = namespace.beat(ref)
        assert pulse.leadership == namespace.snapshot().leadership
        assert pulse.leadership == (Leadership(0, None) if how == 'none yet' else Leadership(1, leader))
        assert pulse.leader_heartbeat is None

    def test_heartbeat_stores_candidacy(self, namespace: Namespace) -> None:
        """Each heartbeat sets ``candidate``, by default to True, without a new revision."""
        ref = namespace.join('a')
        assert namespace.node('a').candidate
        with namespace.same_revision():
            for candidate in (False, False, True, False):
                namespace.beat(ref, candidate=candidate)
                assert namespace.node('a').candidate is candidate
            namespace.backend.heartbeat(ref, INITIAL, frozenset())
        assert namespace.node('a').candidate

    def test_candidacy_lasts(self, namespace: Namespace) -> None:
        """A commit, a new weight and ``deregister`` keep ``candidate``; another run of the name begins as a candidate."""
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

    def test_pulse_shows_whether_the_leader_is_a_candidate(self, namespace: Namespace) -> None:
        """``leader_is_candidate`` is read from the leader's record after this heartbeat, and True if the leader is not JOINED."""
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

    def test_heartbeat_of_a_gone_run_is_refused(self, namespace: Namespace) -> None:
        """A heartbeat of a run that is not JOINED is refused, or a node declared dead would go on claiming."""
        for how, ref in namespace.gone_runs():
            with namespace.refused(Evicted, how):
                namespace.beat(ref, Revision(5, 6), {1})
