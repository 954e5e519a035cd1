"""Records that cannot be read: rule R9."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import attrs
import pytest

from jobsync.backend import Eviction, LockEdit, LockFilter, Node, Snapshot, TokenGroup
from jobsync.errors import Evicted, NameTaken
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.scene import SETTINGS, Scene

__all__ = ['UnreadableTests']

NAMESPACE = 'sync_'
OTHERS = attrs.evolve(SETTINGS, hash_function='md5')


class UnreadableTests:
    """A spoilt record is reported, and stops neither a reading nor any other node."""

    @needs(Ability.SPOIL)
    def test_a_spoilt_node_is_reported(self, scene: Scene, harness: Harness) -> None:
        """It is left out, or read with harmless values for weight, timeout and times; every other record is as before."""
        scene.leader()
        for way in harness.node_spoils:
            name = f'spoilt {way}'
            scene.join(name, weight=2.5, timeout_sec=3.5)
            before = scene.backend.snapshot()
            harness.spoil_node(NAMESPACE, name, way)
            after = scene.backend.snapshot()
            (report,) = (unreadable for unreadable in after.unreadable if unreadable.key == name)
            assert report.kind == 'node'
            assert report.problem
            assert others(after, name) == others(before, name)
            for node in after.nodes:
                if node.name == name:
                    check_harmless(node, next(node for node in before.nodes if node.name == name), after)
        assert len(scene.backend.snapshot().unreadable) == len(harness.node_spoils)

    @needs(Ability.SPOIL)
    def test_a_node_left_out_is_absent(self, scene: Scene, harness: Harness) -> None:
        """Its calls are refused as those of a node that is not there, and a new run registers in its place."""
        leader = scene.leader()
        for way in harness.node_spoils:
            name = f'spoilt {way}'
            ref = scene.join(name)
            harness.spoil_node(NAMESPACE, name, way)
            if name in scene.nodes():
                continue
            calls: list[Callable[[], object]] = [
                partial(scene.beat, ref),
                partial(scene.backend.set_weight, ref, 2.0),
                partial(scene.backend.acquire_leadership, ref, scene.backend.snapshot().leadership.epoch),
                partial(scene.commit, ref),
                partial(scene.backend.append_claims, ref, ['x'], dt.date(2026, 3, 2)),
            ]
            for call in calls:
                with scene.refused(Evicted):
                    call()
            with scene.unchanged():
                scene.backend.deregister(ref)
            scene.commit(leader, TokenGroup([1], 'leader'), absent=(ref,))
            new = scene.join(name)
            assert scene.node(name).ref == new
            assert name not in {unreadable.key for unreadable in scene.backend.snapshot().unreadable}
            assert scene.beat(new).heartbeat == 1

    @needs(Ability.SPOIL)
    def test_a_node_that_is_read_all_the_same_goes_on(self, scene: Scene, harness: Harness) -> None:
        """A record that is read with harmless values counts as JOINED for every method."""
        leader = scene.leader()
        for way in harness.node_spoils:
            name = f'spoilt {way}'
            ref = scene.join(name)
            harness.spoil_node(NAMESPACE, name, way)
            if name not in scene.nodes():
                continue
            assert scene.beat(ref).heartbeat == 1
            with pytest.raises(NameTaken) as caught:
                scene.join(name)
            assert isinstance(caught.value, NameTaken)
            assert caught.value.record.beat == (ref.incarnation, 1)
            scene.lead(ref)
            scene.commit(ref, TokenGroup([1], name))
            scene.lead(leader)
            scene.commit(leader, evictions=(Eviction(ref, 2),))
            assert name not in scene.nodes()
            assert name not in {unreadable.key for unreadable in scene.backend.snapshot().unreadable}

    @needs(Ability.SPOIL)
    def test_a_spoilt_node_stops_no_other(self, scene: Scene, harness: Harness) -> None:
        """The others beat, register, leave, lead and are removed; tokens are handed out; the timeline can be renewed."""
        leader, dead, left = scene.leader(), scene.join('dead'), scene.join('left')
        for way in harness.node_spoils:
            scene.join(f'spoilt {way}')
            harness.spoil_node(NAMESPACE, f'spoilt {way}', way)
        other = scene.join('other')
        scene.beat(other)
        scene.backend.set_weight(other, 2.0)
        scene.backend.deregister(left)
        scene.commit(leader, TokenGroup([1], 'other'), evictions=(Eviction(dead, 0),), departed=(left,), moved=1)
        scene.lead(other)
        scene.commit(other, TokenGroup([2], 'other'))
        scene.backend.append_claims(other, ['x'], dt.date(2026, 3, 2))
        assert {'leader', 'other'} <= set(scene.nodes()) <= {'leader', 'other', *(f'spoilt {way}' for way in harness.node_spoils)}
        assert (scene.row(1).owner, scene.row(2).owner) == ('other', 'other')
        scene.backend.renew_timeline(scene.timeline, 0)
        after = scene.backend.snapshot()
        assert (after.nodes, after.unreadable, after.timeline.generation) == ((), (), 1)

    @needs(Ability.SPOIL)
    def test_a_spoilt_leader_is_followed(self, scene: Scene, harness: Harness) -> None:
        """With the leader's record spoilt the others hear of no leader, or of one that goes on, and may take over."""
        follower = scene.join('follower')
        for way in harness.node_spoils:
            name = f'spoilt {way}'
            leader = scene.leader(name)
            harness.spoil_node(NAMESPACE, name, way)
            pulse = scene.beat(follower)
            assert pulse.leadership.node == leader
            assert pulse.leader_heartbeat == (0 if name in scene.nodes() else None)
            assert pulse.leader_is_candidate
            scene.lead(follower)
            scene.commit(follower, TokenGroup([1], 'follower'))

    @needs(Ability.SPOIL)
    def test_a_spoilt_node_does_not_keep_the_settings(self, scene: Scene, harness: Harness) -> None:
        """Other settings are stored as if a node that is left out were not there."""
        for way in harness.node_spoils:
            scene.join(f'spoilt {way}')
            harness.spoil_node(NAMESPACE, f'spoilt {way}', way)
        joined = [node.beat for node in scene.backend.snapshot().nodes]
        assert scene.backend.open(OTHERS, True, joined).settings == OTHERS
        assert scene.backend.snapshot().timeline.generation == 1

    @needs(Ability.SPOIL)
    def test_a_spoilt_lock_is_reported(self, scene: Scene, harness: Harness) -> None:
        """It is left out, and every other lock is read as before."""
        scene.lock('x', 'z')
        for way in harness.lock_spoils:
            task = f'spoilt {way}'
            scene.lock(task)
            before = scene.backend.read_locks()
            harness.spoil_lock(NAMESPACE, task, way)
            after = scene.backend.read_locks()
            (report,) = (unreadable for unreadable in after.unreadable if unreadable.key == task)
            assert report.kind == 'lock'
            assert report.problem
            assert after.locks == tuple(lock for lock in before.locks if lock.task_id != task)
        assert len(scene.backend.read_locks().unreadable) == len(harness.lock_spoils)

    @needs(Ability.SPOIL)
    def test_a_spoilt_lock_stops_no_other(self, scene: Scene, harness: Harness) -> None:
        """Other locks are put, changed and removed, by creator and by expiry too; nodes beat and plans are written."""
        scene.lock('x', 'y', created_by='them')
        scene.lock('old', expires_in=dt.timedelta(0))
        for way in harness.lock_spoils:
            scene.lock(f'spoilt {way}')
            harness.spoil_lock(NAMESPACE, f'spoilt {way}', way)
        highest = max(lock.id for lock in scene.backend.read_locks().locks)
        scene.lock('new')
        assert scene.locks()['new'].id > highest
        scene.backend.edit_locks(LockEdit(remove=LockFilter(expired=True)))
        assert set(scene.locks()) == {'x', 'y', 'new'}
        scene.lock('x', created_by='others')
        assert scene.backend.edit_locks(LockEdit(remove=LockFilter(created_by='them'))) == 1
        assert set(scene.locks()) == {'x', 'new'}
        scene.commit(scene.leader(), TokenGroup([1], 'leader'))

    @needs(Ability.SPOIL)
    def test_a_spoilt_lock_is_put_anew(self, scene: Scene, harness: Harness) -> None:
        """A lock for its task takes its place, and its id is no other's."""
        scene.lock('x')
        for way in harness.lock_spoils:
            task = f'spoilt {way}'
            scene.lock(task)
            harness.spoil_lock(NAMESPACE, task, way)
            with scene.raises_revision():
                scene.lock(task, reason='anew')
            reading = scene.backend.read_locks()
            assert reading.unreadable == ()
            assert scene.locks()[task].reason == 'anew'
            assert len({lock.id for lock in reading.locks}) == len(reading.locks)

    @needs(Ability.SPOIL)
    @pytest.mark.parametrize('by', ['name', 'all'])
    def test_a_spoilt_lock_is_removed(self, scene: Scene, harness: Harness, by: str) -> None:
        """An edit that removes its task by name removes it, and so does one that removes all."""
        for way in harness.lock_spoils:
            task = f'spoilt {way}'
            scene.lock('x', task)
            harness.spoil_lock(NAMESPACE, task, way)
            with scene.raises_revision():
                scene.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({task}) if by == 'name' else None)))
            assert scene.backend.read_locks().unreadable == ()
            assert set(scene.locks()) == ({'x'} if by == 'name' else set())


def others(snapshot: Snapshot, name: str) -> list[Node]:
    """The records of all nodes but one."""
    return [node for node in snapshot.nodes if node.name != name]


def check_harmless(found: Node, before: Node, snapshot: Snapshot) -> None:
    """The record must be as it was, but for harmless values."""
    assert found.weight in (before.weight, 1.0)
    assert found.timeout_sec in (before.timeout_sec, snapshot.longest_timeout_sec)
    fields = ('weight', 'timeout_sec', 'created_on', 'last_heartbeat')
    assert found == attrs.evolve(before, **{field: getattr(found, field) for field in fields})
