"""``acquire_leadership``: a leader term begins."""

from __future__ import annotations

import datetime as dt
import itertools

from jobsync.backend import Leadership, TokenGroup
from jobsync.errors import Evicted
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['LeadershipTests']


class LeadershipTests:
    """``acquire_leadership``. Two leaders under one epoch could both commit (R4)."""

    def test_the_epoch_rises_by_one(self, namespace: Namespace) -> None:
        """A node that compares the present epoch leads under the next one, and nothing else changes except the revision.

        Whether it is a candidate does not matter: where no node is one, the oldest leads.
        """
        a, b = namespace.join('a'), namespace.join('b')
        namespace.beat(b, candidate=False)
        for epoch, ref in enumerate([a, b, a, a, b]):
            with namespace.changes_only('leadership'):
                assert namespace.backend.acquire_leadership(ref, epoch) == Leadership(epoch + 1, ref)
            assert namespace.snapshot().leadership == Leadership(epoch + 1, ref)
            namespace.commit(ref, TokenGroup(range(9), ref.name))

    def test_another_epoch_changes_nothing(self, namespace: Namespace) -> None:
        """A call with another epoch than the present one returns the present leadership and changes nothing.

        So does the call that the leader has made, when it is repeated.
        """
        namespace.leader('a')
        leader, ref = namespace.leader('b'), namespace.join('c')
        for caller, epoch in itertools.product((leader, ref), (0, 1, 3, 100)):
            with namespace.unchanged((caller.name, epoch)):
                assert namespace.backend.acquire_leadership(caller, epoch) == Leadership(2, leader), (caller.name, epoch)

    def test_a_gone_run_cannot_lead(self, namespace: Namespace) -> None:
        """A run that is not JOINED cannot lead, whatever epoch it names."""
        for how, ref in namespace.gone_runs():
            epoch = namespace.snapshot().leadership.epoch
            for named in (epoch, epoch + 1):
                with namespace.refused(Evicted, (how, named)):
                    namespace.backend.acquire_leadership(ref, named)

    def test_the_epoch_is_never_reused(self, namespace: Namespace) -> None:
        """The epoch goes on rising after the leader leaves, after its eviction, and after a renewal."""
        namespace.backend.deregister(namespace.leader('a'))
        leader = namespace.leader('b')
        namespace.evict(leader, leader)
        assert namespace.snapshot().leadership == Leadership(2, leader)
        namespace.renew_timeline()
        ref = namespace.join('a')
        assert namespace.backend.acquire_leadership(ref, 2) == Leadership(3, ref)

    def test_leader_age_is_none_without_a_leader(self, namespace: Namespace) -> None:
        """``leader_age_sec`` is the seconds since the leader's last heartbeat, or None; always None without a leader."""
        ref = namespace.join('a')
        assert namespace.beat(ref).leader_age_sec is None
        leader = namespace.leader()
        for beating in (leader, ref):
            age = namespace.beat(beating).leader_age_sec
            assert age is None or age >= 0
        namespace.backend.deregister(leader)
        assert namespace.beat(ref).leader_age_sec is None

    @needs(Ability.CLOCK)
    def test_leader_age_is_measured_by_the_store_clock(self, namespace: Namespace, harness: Harness) -> None:
        """``leader_age_sec``, where it is not None, is a difference of two times of the store."""
        ref = namespace.join('a')
        namespace.beat(namespace.leader())
        harness.move_clock(dt.timedelta(hours=1))
        age = namespace.beat(ref).leader_age_sec
        assert age is None or 3600 <= age < 3700
