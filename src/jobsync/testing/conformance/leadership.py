"""``acquire_leadership``: who leads, and the term."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest

from jobsync.backend import Leadership, TokenGroup
from jobsync.errors import Evicted
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import GONE, Scene

__all__ = ['LeadershipTests']


class LeadershipTests:
    """``acquire_leadership``."""

    def test_the_epoch_rises_by_one(self, scene: Scene) -> None:
        """Each node that compares the present epoch leads with the next one, and the snapshot shows it."""
        a, b = scene.join('a'), scene.join('b')
        for epoch, ref in enumerate([a, b, a, a, b]):
            with scene.raises_revision():
                assert scene.backend.acquire_leadership(ref, epoch) == Leadership(epoch + 1, ref)
            assert scene.backend.snapshot().leadership == Leadership(epoch + 1, ref)

    def test_only_leadership_and_revision_change(self, scene: Scene) -> None:
        """Nodes, assignment, version and locks are as before."""
        leader, ref = scene.leader(), scene.join('a')
        scene.commit(leader, TokenGroup(range(9), 'leader'))
        before = scene.state()
        scene.lead(ref)
        after = scene.state()
        same = attrs.evolve(after.snapshot, leadership=before.snapshot.leadership, revision=before.snapshot.revision)
        assert attrs.evolve(after, snapshot=same) == before

    @pytest.mark.parametrize('epoch', [0, 1, 3, 100])
    def test_another_epoch_changes_nothing(self, scene: Scene, epoch: int) -> None:
        """Unless the epoch is the present one, the leadership that stands is returned and nothing changes."""
        scene.leader('a')
        leader, ref = scene.leader('b'), scene.join('c')
        with scene.unchanged():
            assert scene.backend.acquire_leadership(ref, epoch) == Leadership(2, leader)

    @pytest.mark.parametrize('how', GONE)
    def test_a_gone_run_cannot_lead(self, scene: Scene, how: str) -> None:
        """Only an incarnation that is JOINED leads; another is refused, whatever epoch it names."""
        ref = scene.gone(how)
        epoch = scene.backend.snapshot().leadership.epoch
        for named in (epoch, epoch + 1):
            with scene.refused(Evicted):
                scene.backend.acquire_leadership(ref, named)

    def test_acquire_repeated_happens_once(self, scene: Scene) -> None:
        """The same call again returns the leadership that the first one made, and changes nothing."""
        ref = scene.join('a')
        leadership = scene.backend.acquire_leadership(ref, 0)
        with scene.unchanged():
            assert scene.backend.acquire_leadership(ref, 0) == leadership

    def test_the_epoch_is_never_reused(self, scene: Scene) -> None:
        """Neither the leader's leaving, nor its eviction, nor a renewal sets the epoch back."""
        scene.backend.deregister(scene.leader('a'))
        leader = scene.leader('b')
        scene.evict(leader, leader)
        assert scene.backend.snapshot().leadership == Leadership(2, leader)
        scene.backend.renew_timeline(scene.timeline, 0)
        scene.timeline = scene.backend.snapshot().timeline
        ref = scene.join('a')
        assert scene.backend.acquire_leadership(ref, 2) == Leadership(3, ref)

    def test_the_leaders_age(self, scene: Scene) -> None:
        """A Pulse that tells it gives seconds since the leader's last heartbeat, none of them if nobody leads."""
        ref = scene.join('a')
        assert scene.beat(ref).leader_age_sec is None
        leader = scene.leader()
        for beating in (leader, ref):
            age = scene.beat(beating).leader_age_sec
            assert age is None or age >= 0
        scene.backend.deregister(leader)
        assert scene.beat(ref).leader_age_sec is None

    @needs(Ability.CLOCK)
    def test_the_leaders_age_goes_by_the_stores_time(self, scene: Scene, harness: Harness) -> None:
        """If told, it is the difference of the store's times."""
        ref = scene.join('a')
        scene.beat(scene.leader())
        harness.move_clock(dt.timedelta(hours=1))
        age = scene.beat(ref).leader_age_sec
        assert age is None or 3600 <= age < 3700
